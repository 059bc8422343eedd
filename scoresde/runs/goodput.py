"""Wall time of a run by activity, and its goodput, the share spent in steps that count.

    goodput = step / (init + restore + compile + data + step + lost + save + watch + report + evaluation)

Activities between steps are timed on the host; `step` is the rest of the wall time, so nothing is measured on the
device and nothing waits for it. Steps after the last checkpoint of an interrupted session are `lost`, because the next
session repeats them. Times add up over the sessions of a run, in WORKDIR/ledger.json.
"""

import contextlib
import datetime
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator

from scoresde.runtime.files import UnreadableError, write_text
from scoresde.runtime.reading import read_object

PARTS = {
    "init": "reading the data, building network and state (imports left out)",
    "restore": "reading the checkpoint",
    "compile": "the first step of a session, with compilation",
    "data": "waiting for data while the device had nothing to do",
    "step": "training steps",
    "lost": "steps after the last checkpoint of a session that was killed",
    "save": "writing checkpoints, as far as training waits for it",
    "watch": "pictures and metrics while training, with compilation",
    "report": "writing the report",
    "evaluation": "likelihood at the end",
}
_EVERY = 5.0  # minimum seconds between writes, except at checkpoints and at the end


class GoodputTimer:
    """Timer of seconds by activity. It counts for one activity at a time, which `part` sets until its block ends.

    Args:
      path: JSON file to whose times this session adds; None keeps all times in memory (on processes other than the main
        one).
      session: facts of this session, stored in the JSON file: the command, devices, versions.
      clock: function that returns the time in seconds.
    """

    def __init__(
        self, path: pathlib.Path | None, session: dict | None = None, clock: Callable[[], float] = time.monotonic
    ):
        self._path, self._clock = path, clock
        self.seconds, self.sessions, saved = _read(path)
        # The interrupted session did steps that this session repeats.
        lost = self.seconds["step"] - saved if self.sessions else 0.0
        self.seconds["step"] -= lost
        self.seconds["lost"] += lost
        self._at_save = self.seconds["step"]
        self.sessions.append(
            {"started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), **(session or {})}
        )
        self._part, self._since, self._written = "init", clock(), -float("inf")

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count time as `name` within the context, and as the previous activity afterwards."""
        before = self.switch(name)
        try:
            yield
        finally:
            self.switch(before)

    def switch(self, name: str) -> str:
        """Count time as `name` from now on, and return the previous activity."""
        now, before = self._clock(), self._part
        self.seconds[before] += now - self._since
        self._part, self._since = name, now
        return before

    def waiting(self, batches: Iterable, idle: Callable[[], bool]) -> Iterator:
        """Iterate over `batches` and time them.

        Reading counts as `data` if the device is `idle` when it ends, otherwise as a step. If a device became idle
        during the reading, all of the reading counts as `data`.
        """
        batches = iter(batches)
        while True:
            before = self.switch("data")
            batch = next(batches, None)
            if batch is None:
                self.switch(before)
                return
            if not idle():
                self._part = before  # the device was busy, so nothing waited
            self.switch(before)
            yield batch

    def saved(self) -> None:
        """Record that all steps until now are in a checkpoint."""
        self.switch(self._part)
        self._at_save = self.seconds["step"]
        self.write()

    def goodput(self) -> float:
        """Return the share of the time in steps that count."""
        self.switch(self._part)
        return self.seconds["step"] / max(sum(self.seconds.values()), 1e-9)

    def text(self) -> str:
        """Return the summary in one line."""
        share, total = self.goodput(), sum(self.seconds.values())
        parts = ", ".join(f"{name} {seconds:.3g}" for name, seconds in self.seconds.items() if seconds >= 0.05)
        return f"goodput {share:.1%} of {total:.4g} s ({parts}) in {len(self.sessions)} session(s)"

    def tick(self) -> None:
        """Write the file if the last write was some seconds ago."""
        if self._clock() - self._written >= _EVERY:
            self.write()

    def write(self) -> None:
        self._written = self._clock()
        if self._path is None:
            return
        content = {
            "goodput": self.goodput(),
            "seconds": self.seconds,
            "step_at_checkpoint": self._at_save,
            "sessions": self.sessions,
        }
        with contextlib.suppress(OSError):  # a full disk is reported by metrics and checkpoints; these are only times
            write_text(self._path, json.dumps(content, indent=1) + "\n")


def _read(path: pathlib.Path | None) -> tuple[dict[str, float], list[dict], float]:
    """Return seconds by activity, sessions, and the seconds of steps at the last checkpoint.

    A damaged file is ignored, because it is not part of the state.
    """
    empty = dict.fromkeys(PARTS, 0.0)
    if path is None:
        return empty, [], 0.0
    try:
        stored = read_object(path)
        seconds = empty | {name: float(stored["seconds"][name]) for name in PARTS if name in stored["seconds"]}
        return seconds, list(stored["sessions"]), float(stored["step_at_checkpoint"])
    except (UnreadableError, OSError, ValueError, KeyError, TypeError, OverflowError):
        return empty, [], 0.0
