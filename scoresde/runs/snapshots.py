"""Snapshots of the averages by power functions: WORKDIR/averages/STEP, by Orbax and with a CRC-32 per leaf, see
checkpoint.py.

From them `scoresde.workflows.posthoc` computes the average of any other width after the run. All are kept. A snapshot
is on disk before a later checkpoint is begun, so a run that resumes from that checkpoint misses no snapshot. Later
snapshots belong to steps that are repeated, and are removed. An interrupted run ends with the same snapshots as an
uninterrupted one.
"""

import pathlib
from collections.abc import Callable

from scoresde.runs.checkpoint import Checkpoints
from scoresde.train.average import is_power
from scoresde.train.step import TrainState

FOLDER = "averages"


def snapshots(folder: pathlib.Path, report: Callable[[str], None] = print) -> Checkpoints:
    """Open the snapshots in a run folder; each contains {name of the average: parameters}."""
    return Checkpoints(folder / FOLDER, report=lambda text: report(f"{FOLDER}: {text}"), keep=None)


class Snapshots:
    """Snapshots of a run. Call every method on every process.

    Args:
      folder: run folder.
      report: function called with one line of text per message.
    """

    def __init__(self, folder: pathlib.Path, report: Callable[[str], None]):
        self._checkpoints = snapshots(folder, report)

    def begin(self, step: int) -> None:
        """Remove the snapshots after the step from which the run continues."""
        # This is called on every process, because the processes synchronise here, and one process may list the folder
        # while another one deletes from it.
        self._checkpoints.remove([found for found in self._checkpoints.steps() if found > step])

    def take(self, step: int, state: TrainState, meta: dict) -> None:
        """Write the averages by power functions, if there are any, and wait for the disk.

        Raises:
          ResourceError: the snapshot could not be written.
        """
        if averages := {name: average for name, average in state.ema.items() if is_power(name)}:
            self._checkpoints.save(step, averages, meta)
            self._checkpoints.wait()

    def close(self) -> None:
        self._checkpoints.close()
