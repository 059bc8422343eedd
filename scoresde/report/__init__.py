"""Reports of runs: report.html and report.md in the run folder, pages that compare runs, and charts of calibration."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__, {"calibration": "sbc_charts tarp_chart", "page": "compare svg write_report"}
)
