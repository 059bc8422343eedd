"""The run folder: checkpoints, logs, goodput, trackers, preemption, and stores of samples."""

from scoresde.runs.run import Cadence, Run

__all__ = ["Cadence", "Run"]
