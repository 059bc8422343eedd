"""What a run looks like on one page: report.html and report.md in its folder, and pages that compare runs."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {"page": "compare write_report"})
