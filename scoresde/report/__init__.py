"""What a run looks like on one page: report.html and report.md in its folder, and pages that compare runs."""

from scoresde.report.page import compare, write_report

__all__ = ["compare", "write_report"]
