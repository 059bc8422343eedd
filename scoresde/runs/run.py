"""Run folder: restoring, logging, saving and monitoring around the steps of `fit`.

    WORKDIR/config.json    the configuration        WORKDIR/metrics.jsonl, tensorboard/   see metrics_log.py
    WORKDIR/checkpoints/   see checkpoint.py        WORKDIR/best/                         see best.py
    WORKDIR/ledger.json    see goodput.py           WORKDIR/averages/                     see snapshots.py
    WORKDIR/samples/000500.png   samples of fixed keys, from averaged parameters

The order after a step is: log, monitor, take a snapshot, save. A checkpoint at a step therefore implies that its
metrics, picture and snapshot were written.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator

import jax

from scoresde.errors import Interrupted, NumericError
from scoresde.runs.best import Best
from scoresde.runs.checkpoint import Checkpoints
from scoresde.runs.folder import hold
from scoresde.runs.goodput import GoodputTimer
from scoresde.runs.metrics_log import MetricsLog
from scoresde.runs.preemption import StopRequest
from scoresde.runs.snapshots import Snapshots
from scoresde.runs.trackers import AbstractTracker, Trackers
from scoresde.runtime.files import write_text
from scoresde.runtime.progress import Progress
from scoresde.train.step import MAX_SKIPPED, TrainState

WATCH = "watch/"  # prefix of the metrics of `watch` in the logs


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Numbers of steps between actions, which also take place at the last step."""

    log: int = 50
    checkpoint: int = 1000
    sample: int = 1000
    snapshot: int = 1000


def _nothing() -> None:
    pass


class Run:
    """Run in a folder. `fit` calls `begin`, `reading`, then `after_step`, then `end`.

    Args:
      folder: run folder.
      meta: JSON stored with every checkpoint (configuration, versions, data).
      accept: function that raises CheckpointError if a stored meta does not belong to this run.
      cadence: numbers of steps between logs, checkpoints, pictures, and snapshots of averages by power functions.
      watch: function (state, path) -> metrics, which writes the picture of samples to `path` and returns metrics by
        name. It is called on every process and must contain no collective operation, because only the main process has
        to do the work. Only the result of the main process is used.
      report: function that writes the report, called on the main process. Exceptions are printed as a one-line warning.
      ledger: timer of wall time; the default is one in the folder.
      learning_rate: function of the number of previous updates, for the logs.
      keep_best: name of a metric of `watch`; the checkpoint where it is lowest is kept. "" keeps none.
      trackers: classes by name, see trackers.py.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        meta: dict,
        accept: Callable[[dict], None],
        cadence: Intervals,
        watch: Callable[[TrainState, pathlib.Path], dict[str, float]],
        report: Callable[[], None] = _nothing,
        ledger: GoodputTimer | None = None,
        learning_rate: Callable | None = None,
        keep_best: str = "",
        trackers: dict[str, Callable[..., AbstractTracker]] | None = None,
    ):
        self.folder, self._meta, self._accept = pathlib.Path(folder), meta, accept
        self._cadence, self._watch_state, self._report = cadence, watch, report
        self._learning_rate, self._tracker_classes = learning_rate, trackers or {}
        self._main = jax.process_index() == 0
        self.ledger = ledger or GoodputTimer(self.folder / "ledger.json" if self._main else None)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", report=self._say)
        self._best = Best(self.folder, keep_best, report=self._say)
        self._snapshots = Snapshots(self.folder, self._say)
        self._log = self._progress = self._lock = self._trackers = None
        self._stop = StopRequest()
        self._saved, self._pending = -1, None

    def __enter__(self):
        self._lock = hold(self.folder)
        self._stop.__enter__()
        return self

    def __exit__(self, *error):
        self._stop.__exit__(*error)
        self.checkpoints.close()
        self._best.close()
        self._snapshots.close()
        if self._log is not None:
            self.ledger.write()
            if error[0] is not None:
                self._say(self.ledger.text())
        for part in (self._log, self._trackers, self._progress, self._lock):
            if part is not None:
                part.close()

    def begin(self, like: TrainState, start: Callable[[], TrainState], *, steps: int, batch_size: int) -> TrainState:
        """Return the state to continue from: the newest valid checkpoint or that of `start`, which compiles the step.

        Args:
          like: shapes, dtypes and shardings of the state.
          start: function that returns the initial state.
          steps: number of steps of the whole run.
          batch_size: examples per step.
        """
        with self.ledger.part("restore"):
            restored = self.checkpoints.restore(like, accept=self._accept, set_aside=True)
        if restored is None:
            with self.ledger.part("compile"):
                state = start()
        else:
            state = restored[0]
        step = int(state.step)
        self._saved = step if restored is not None else -1
        self._snapshots.begin(step)
        if self._main:
            self._log = MetricsLog(self.folder, step)
            self._progress = Progress(step, steps, items=batch_size)
            self._trackers = Trackers(self._tracker_classes, self.folder, self._meta["config"], self._say)
            write_text(self.folder / "config.json", json.dumps(self._meta["config"], indent=1) + "\n")
        if restored is not None:
            self._say(f"resumed at step {step}")
        self._started, self._last = False, steps
        if step < steps and step == 0:
            self._watch(step, state)
        self.ledger.switch("compile")
        return state

    def reading(self, batches: Iterable) -> Iterator:
        """Iterate over `batches`, and time how long the device waits for them."""
        return self.ledger.waiting(batches, idle=lambda: self._pending is None or self._pending.is_ready())

    def after_step(self, step: int, state: TrainState, metrics: dict) -> None:
        """Log, monitor and save after a dispatch. `fit` passes the number of completed steps.

        Raises:
          NumericError: too many consecutive steps were not finite.
          Interrupted: a signal was received; the state is saved.
        """
        self._pending = metrics["loss"]
        if not self._started:
            self._started = True
            jax.block_until_ready(metrics)
            self.ledger.switch("step")
            if self._progress is not None:
                self._progress.restart(step)
        log, save, watch, snapshot = (self._due(step, every) for every in dataclasses.astuple(self._cadence))
        if log or save or step % MAX_SKIPPED == 0:
            if int(metrics["skipped_in_a_row"]) >= MAX_SKIPPED:
                self._give_up(step)
        if log:
            self._write(step, metrics)
        if watch:
            jax.block_until_ready(metrics)  # the preceding time belongs to the steps
            try:
                self._watch(step, state)
            except Exception:  # after any error, the steps since the last checkpoint are worth keeping
                self._save(step, state)
                self.checkpoints.wait()
                raise
        if snapshot:
            with self.ledger.part("save"):
                self._snapshots.take(step, state, self._meta)
        if save:
            self._save(step, state)
        if self._stop.reached(step) and step < self._last:
            if int(metrics["skipped_in_a_row"]) >= MAX_SKIPPED:
                self._give_up(step)
            self._save(step, state)
            self._leave(step)

    def end(self, state: TrainState) -> None:
        """Wait until everything is on disk."""
        if self._saved != int(state.step):
            self._save(int(state.step), state)
        with self.ledger.part("save"):
            self.checkpoints.wait()
        if self._stop.asked:  # a signal during the last step or its picture
            self._leave(int(state.step))

    def conclude(self) -> None:
        """Write the last report and print the summary of the wall time, after everything that follows training."""
        if self._main:
            self.try_report()
            self._say(self.ledger.text())

    def _leave(self, step: int) -> None:
        self.checkpoints.wait()
        raise Interrupted(f"interrupted and saved at step {step}; resume with the same command")

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self._last

    def _write(self, step: int, metrics: dict) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        if not self._main:
            return
        if self._learning_rate is not None:  # steps that were skipped do not count for its schedule
            values["learning_rate"] = float(self._learning_rate(max(step - 1 - int(values["skipped"]), 0)))
        self._record(step, values | {"steps_per_second": self._progress.rate(step)})
        skipped = f"  skipped {values['skipped']:.0f}" if values["skipped"] else ""
        self._progress.show(step, f"loss {values['loss']:.5g}{skipped}")
        self.ledger.tick()

    def _record(self, step: int, values: dict[str, float]) -> None:
        self._log.write(step, values)
        self._trackers.write(step, values)

    def _save(self, step: int, state: TrainState) -> None:
        if self._saved != step:
            jax.block_until_ready(state.step)
            with self.ledger.part("save"):
                self.checkpoints.save(step, state, self._meta)
            self._saved = step
            self.ledger.saved()

    def _watch(self, step: int, state: TrainState) -> None:
        path = self.folder / "samples" / f"{step:06}.png"
        if self._main:
            path.parent.mkdir(exist_ok=True)
        with self.ledger.part("watch"):
            values = self._watch_state(state, path)
            if self._main and values:
                self._record(step, {WATCH + name: value for name, value in values.items()})
                shown = (f"{name} {value:.4g}" for name, value in values.items() if "@" not in name)
                self._say(f"step {step}: {', '.join(shown)}")
            if self._main and path.exists():
                self._trackers.image(step, path)
        with self.ledger.part("save"):
            self._best.offer(step, values, state, self._meta)
        if self._main:
            with self.ledger.part("report"):
                self.try_report()

    def try_report(self) -> None:
        """Write the report; failures are logged and ignored."""
        self.ledger.write()
        try:
            self._report()
        except Exception as error:  # a failed report must not end the run
            self._say(
                f"warning: the report was not written ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
            )

    def _give_up(self, step: int) -> None:
        self.checkpoints.wait()
        steps = self.checkpoints.steps()
        kept = f"the checkpoint at step {steps[0]} is kept" if steps else "no checkpoint had been written yet"
        raise NumericError(
            f"loss, gradient or new parameters were not finite {MAX_SKIPPED} times in a row, at step {step}; {kept}; "
            "look at the data, lower optim.learning_rate or optim.grad_clip, or raise optim.eps"
        )

    def _say(self, text: str) -> None:
        if self._main:
            (self._progress.say if self._progress is not None else print)(text)
