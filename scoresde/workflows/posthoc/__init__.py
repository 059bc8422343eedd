"""Averages of the parameters computed after a run from its snapshots: `python -m scoresde.average --workdir RUN
--sigma-rel 0.075`.

profiles    averages as weights over time, and their least squares
posthoc     the same combination of the snapshots, and a run folder of it
"""

from scoresde.workflows.posthoc.posthoc import PostHoc, reconstruct, write

__all__ = ["PostHoc", "reconstruct", "write"]
