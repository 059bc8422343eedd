"""Averages of the parameters computed after a run from its snapshots: `python -m scoresde.average --workdir RUN
--sigma-rel 0.075`.

profiles    represents averages as weights over time and fits them by least squares
posthoc     combines the snapshots with the fitted coefficients and writes a run folder
"""

from scoresde.workflows.posthoc.posthoc import PostHoc, reconstruct, write

__all__ = ["PostHoc", "reconstruct", "write"]
