"""The run folder: what happens around the steps of `fit`.

    WORKDIR/config.json    the configuration        WORKDIR/metrics.jsonl, tensorboard/
    WORKDIR/checkpoints/   see checkpoint.py        WORKDIR/samples/000500.png   fixed keys, averaged parameters
"""

import dataclasses
import fcntl
import json
import os
import pathlib
from collections.abc import Callable

import jax

from scoresde.errors import ConfigError, Interrupted, NumericError, ResourceError
from scoresde.progress import Progress
from scoresde.train.checkpoint import Checkpoints
from scoresde.train.log import MetricsLog
from scoresde.train.signals import StopRequest
from scoresde.train.step import MAX_SKIPPED, TrainState


@dataclasses.dataclass(frozen=True)
class Cadence:
    """Every how many steps; the last step counts too."""

    log: int = 50
    checkpoint: int = 1000
    sample: int = 1000


class Run:
    """Restores, logs, saves, draws and stops. `fit` calls `begin`, then `after_step`, then `end`.

    Args:
      folder: the run folder.
      meta: JSON stored with every checkpoint (configuration, versions, data).
      accept: raises CheckpointError if a stored meta is not of this run.
      cadence: when to log, save and draw.
      draw: (state, path) -> None, writes the picture of samples; called on every process.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        meta: dict,
        accept: Callable[[dict], None],
        cadence: Cadence,
        draw: Callable[[TrainState, pathlib.Path], None],
    ):
        self.folder, self._meta, self._accept = pathlib.Path(folder), meta, accept
        self._cadence, self._draw = cadence, draw
        self._main = jax.process_index() == 0
        self.checkpoints = Checkpoints(self.folder / "checkpoints", report=self._say)
        self._log = self._progress = self._lock = None
        self._stop = StopRequest()
        self._saved = -1

    def __enter__(self):
        self._lock = lock(self.folder) if self._main else None
        self._stop.__enter__()
        return self

    def __exit__(self, *error):
        self._stop.__exit__(*error)
        self.checkpoints.close()
        for part in (self._log, self._progress, self._lock):
            if part is not None:
                part.close()

    def begin(self, state: TrainState, *, steps: int, batch_size: int) -> TrainState:
        """The state to continue from: the newest good checkpoint, or `state` if there is none."""
        restored = self.checkpoints.restore(state, accept=self._accept, set_aside=True)
        if restored is not None:
            state = restored[0]
        step = int(state.step)
        self._saved = step if restored is not None else -1
        if self._main:
            self._log = MetricsLog(self.folder, step)
            self._progress = Progress(step, steps, items=batch_size)
        if self._main:
            scratch = self.folder / "config.tmp"
            scratch.write_text(json.dumps(self._meta["config"], indent=1) + "\n", encoding="utf-8")
            os.replace(scratch, self.folder / "config.json")
        if restored is not None:
            self._say(f"resumed at step {step}")
        if step < steps and step == 0:
            self._picture(state)
        self._first, self._last = step + 1, steps
        return state

    def after_step(self, step: int, state: TrainState, metrics: dict) -> None:
        """Called with the number of steps done.

        Raises:
          NumericError: too many steps in a row were not finite. Interrupted: a signal came; the state is saved.
        """
        if step == self._first and self._progress is not None:
            jax.block_until_ready(metrics)
            self._progress.restart(step)
        log, save, draw = (self._due(step, every) for every in dataclasses.astuple(self._cadence))
        if log or save or step % MAX_SKIPPED == 0:
            if int(metrics["skipped_in_a_row"]) >= MAX_SKIPPED:
                self._give_up(step)
        if log:
            self._write(step, metrics)
        if save:
            self._save(step, state)
        if draw:
            try:
                self._picture(state)
            except Exception:  # whatever it is, the steps since the last checkpoint are worth keeping
                self._save(step, state)
                self.checkpoints.wait()
                raise
        if self._stop.reached(step) and step < self._last:
            if int(metrics["skipped_in_a_row"]) >= MAX_SKIPPED:
                self._give_up(step)
            self._save(step, state)
            self._leave(step)

    def end(self, state: TrainState) -> None:
        """Everything is on disk when this returns."""
        if self._saved != int(state.step):
            self._save(int(state.step), state)
        self.checkpoints.wait()
        if self._stop.asked:  # in the last step or its picture
            self._leave(int(state.step))

    def _leave(self, step: int) -> None:
        self.checkpoints.wait()
        raise Interrupted(f"interrupted and saved at step {step}; resume with the same command")

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self._last

    def _write(self, step: int, metrics: dict) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        if self._main:
            self._log.write(step, values | {"steps_per_second": self._progress.rate(step)})
            skipped = f"  skipped {values['skipped']:.0f}" if values["skipped"] else ""
            self._progress.show(step, f"loss {values['loss']:.5g}{skipped}")

    def _save(self, step: int, state: TrainState) -> None:
        if self._saved != step:
            self.checkpoints.save(step, state, self._meta)
            self._saved = step

    def _picture(self, state: TrainState) -> None:
        path = self.folder / "samples" / f"{int(state.step):06}.png"
        if self._main:
            path.parent.mkdir(exist_ok=True)
        self._draw(state, path)

    def _give_up(self, step: int) -> None:
        self.checkpoints.wait()
        steps = self.checkpoints.steps()
        kept = f"the checkpoint at step {steps[0]} is kept" if steps else "no checkpoint had been written yet"
        raise NumericError(
            f"loss or gradient was not finite {MAX_SKIPPED} times in a row, at step {step}; {kept}; "
            "look at the data, lower optim.learning_rate or optim.grad_clip"
        )

    def _say(self, text: str) -> None:
        if self._main:
            (self._progress.say if self._progress is not None else print)(text)


def lock(folder: pathlib.Path):
    """Hold the run folder for this process; the lock goes with the process, however it ends.

    Raises:
      ConfigError: another process holds it. ResourceError: the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")
    except OSError as error:
        raise ResourceError(f"cannot write in {folder}: {error.strerror}; choose another --workdir") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigError(f"another process is training in {folder}; wait for it, or choose another --workdir") from error
    return file
