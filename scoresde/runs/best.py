"""Checkpoint with the lowest value of a metric, stored in WORKDIR/best/STEP in addition to the newest checkpoints.

The value is stored in the checkpoint itself, under its CRC, so no other file can contradict it wherever a run is
interrupted. `best.json` repeats it for readers. A run that resumes from an older checkpoint computes the same values
again, and ends with the same best checkpoint as an uninterrupted run.
"""

import json
import math
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from scoresde.runs.checkpoint import Checkpoints
from scoresde.runtime.files import write_text

FOLDER = "best"


class Best:
    """Storage of the checkpoint whose metric is lowest.

    Args:
      folder: run folder.
      metric: name of a metric; "" keeps no checkpoint.
      report: function called with one line of text per message.
    """

    def __init__(self, folder: pathlib.Path, metric: str, report: Callable[[str], None]):
        self.metric, self._report = metric, report
        self._folder, self._checkpoints = folder / FOLDER, Checkpoints(folder / FOLDER, report=report, keep=None)
        self._lowest = _lowest(self._checkpoints, metric) if metric else None

    def offer(self, step: int, values: dict[str, float], state: PyTree, meta: dict) -> None:
        """Save the state if its value is below all earlier values.

        Call this on every process; only the `values` of the main process are used.

        Raises:
          ResourceError: the checkpoint could not be written.
        """
        if not self.metric:
            return
        value = _of_main(values.get(self.metric, math.nan))
        if not math.isfinite(value) or (self._lowest is not None and value >= self._lowest[0]):
            return
        record = {"metric": self.metric, "value": value}
        before = self._checkpoints.steps()
        if step in before:  # an interrupted session wrote this step, and its value may differ
            self._checkpoints.remove([step])
        self._checkpoints.save(step, state, meta | {"best": record})
        self._checkpoints.wait()
        self._checkpoints.remove([other for other in before if other != step])  # after the new one is on disk
        self._lowest = (value, step)
        if jax.process_index() == 0:
            _write(self._folder.parent / "best.json", record | {"step": step})
        self._report(f"step {step}: {self.metric} {value:.5g}, the best so far; kept in {self._folder}")

    def close(self) -> None:
        self._checkpoints.close()


def lowest(checkpoints: Checkpoints) -> int | None:
    """Return the step of the best checkpoint; a run that was killed during a replacement may have two checkpoints."""
    found = {step: meta["best"]["value"] for step, meta in checkpoints.metas(_check).items()}
    return min(found, key=found.get, default=None)


def _check(meta: dict) -> None:
    """Check that a meta contains the record of a best checkpoint, and raise a ValueError if the record is missing."""
    best = meta.get("best")
    if (
        not isinstance(best, dict)
        or not isinstance(best.get("metric"), str)
        or not isinstance(best.get("value"), int | float)
    ):
        raise ValueError("its meta has no metric and value")


def _lowest(checkpoints: Checkpoints, metric: str) -> tuple[float, int] | None:
    """Return (value, step) of the best checkpoint by a metric; damaged checkpoints and those of another metric are
    ignored."""
    records = [
        (meta["best"]["value"], step)
        for step, meta in checkpoints.metas(_check).items()
        if meta["best"]["metric"] == metric
    ]
    return min(records, default=None)


def _of_main(value: float) -> float:
    """Broadcast the value of the main process to every process, so that all processes agree whether to save."""
    if jax.process_count() == 1:
        return value
    return float(multihost_utils.broadcast_one_to_all(np.float64(value)))


def _write(path: pathlib.Path, record: dict) -> None:
    write_text(path, json.dumps(record) + "\n")
