"""Run folders: checkpoints, logs, goodput, trackers, preemption, and stores of samples."""

from scoresde.runs.run import Intervals, Run

__all__ = ["Intervals", "Run"]
