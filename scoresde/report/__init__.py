"""Reports of runs: report.html and report.md in the run folder, and pages that compare runs."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {"page": "compare write_report"})
