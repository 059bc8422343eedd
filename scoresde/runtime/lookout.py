"""Communication between the processes of a run, and detection of processes that ended.

JAX's coordination service, which runs in process 0, has a table of texts that every process reads and writes:

    scoresde/facts/PLACE/RANK   what a process is about to do
    scoresde/words/NAME         a text of process 0 for all processes
    scoresde/alive/RANK         a counter, raised every second
    scoresde/end                which process ended first, and why
    scoresde/done/RANK          that process has finished its work

JAX itself detects a stopped process only after minutes, and then aborts with a page of messages. Therefore each process
starts two threads: one reads and writes the table and ends the process if the table says that another process ended;
the other ends the process after SILENCE seconds without a sign of life from another process. Both print one line. If
process 0 is killed, the table is lost, and the other processes end at once by JAX's abort.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable

import jax

from scoresde.errors import DistributedError, Interrupted
from scoresde.runtime.reading import parse_json

SILENCE = 60.0  # seconds without a sign of life after which a process counts as gone
_BEAT = 1.0  # seconds between signs of life
_TABLE = "scoresde"
_SHOWN = 8  # differences named in a message


class Lookout:
    """Connection of one process to the other processes of its run; `peers` documents the public methods.

    Args:
      table: object with the methods `key_value_set`, `key_value_try_get` and `key_value_dir_get` of JAX's distributed
        client.
      rank: number of this process.
      count: number of processes.
      leave: function of the exit code that ends the process, called after the line has been printed.
      silence: seconds without a sign of life after which a process counts as gone.
      beat: seconds between signs of life.
    """

    def __init__(
        self,
        table,
        rank: int,
        count: int,
        leave: Callable[[int], None] = os._exit,
        silence: float = SILENCE,
        beat: float = _BEAT,
    ):
        self._table, self._rank, self._count, self._leave = table, rank, count, leave
        self._silence, self._beat = silence, beat
        # The last counter of each process, and the time at which it was received.
        self._heard = dict.fromkeys(range(count), ("", time.monotonic()))
        self._over, self._ending = threading.Event(), threading.Lock()

    def start(self) -> None:
        for work in (self._exchange, self._judge):
            threading.Thread(target=work, daemon=True).start()

    def agree(self, place: str, facts: dict[str, str]) -> None:
        self._set(f"facts/{place}/{self._rank}", json.dumps(facts))
        others = range(1, self._count) if self._rank == 0 else [0]
        for rank in others:
            theirs = parse_json(self._wait_for(f"facts/{place}/{rank}"))
            zero, other, number = (facts, theirs, rank) if self._rank == 0 else (theirs, facts, self._rank)
            if lines := _differences(zero, other, number):
                raise DistributedError(
                    f"the processes do not do the same: {'; '.join(lines)}; start all of them with the same command, "
                    "code and data"
                )

    def of_main(self, name: str, text: str) -> str:
        if self._rank == 0:
            self._set(f"words/{name}", text)
        return self._wait_for(f"words/{name}")

    def finish(self, patience: float | None) -> None:
        deadline = None if patience is None else time.monotonic() + patience
        self._set(f"done/{self._rank}", "1")
        while deadline is None or time.monotonic() < deadline:
            if self._rank == 0 and len(self._all("done")) == self._count:
                self._set("done/all", "1")
                time.sleep(self._beat)  # the table ends with process 0
                break
            if self._rank and self._get("done/all") is not None:
                break
            time.sleep(0.1 * self._beat)
        self._over.set()

    def claim(self) -> None:
        self._ending.acquire()

    def tell(self, code: int, text: str) -> None:
        self._over.set()
        self._set("end", json.dumps({"rank": self._rank, "code": code, "text": text}), once=True)
        if self._rank == 0:
            time.sleep(3 * self._beat)  # the others read it first

    def reason(self, patience: float) -> DistributedError | Interrupted | None:
        deadline = time.monotonic() + patience
        while (text := self._get("end")) is None and time.monotonic() < deadline:
            time.sleep(0.1 * self._beat)
        end = parse_json(text) if text else None
        if end is None or end["rank"] == self._rank:
            return None
        kind = Interrupted if end["code"] == Interrupted.exit_code else DistributedError
        return kind(f"process {end['rank']} ended: {end['text']}")

    def _exchange(self) -> None:
        """Send signs of life and receive those of the other processes, until the end. Calls to the table block while
        process 0 does not answer."""
        for beat in range(sys.maxsize):
            if self._over.is_set():
                return
            self._set(f"alive/{self._rank}", str(beat), once=False)
            if (why := self.reason(0)) is not None:
                self._end(why)
            # Process 0 receives the signs of all processes, the others only those of process 0.
            found = self._all("alive") if self._rank == 0 else {0: self._get("alive/0") or ""}
            for rank, counter in found.items():
                if counter != self._heard[rank][0]:
                    self._heard[rank] = (counter, time.monotonic())
            time.sleep(self._beat)

    def _judge(self) -> None:
        while not self._over.wait(self._beat):
            now, others = time.monotonic(), range(1, self._count) if self._rank == 0 else [0]
            silent = [rank for rank in others if now - self._heard[rank][1] > self._silence]
            if silent:
                text = (
                    f"no sign of life from process {', '.join(map(str, silent))} for {self._silence:.0f} s; look "
                    "whether it still runs"
                )
                error = DistributedError(f"{text}, then run the same command on all of them")
                if self._rank == 0:
                    self.tell(error.exit_code, str(error))
                self._end(error)

    def _end(self, error: DistributedError | Interrupted) -> None:
        with self._ending:  # only the first thread prints its line
            if self._rank == 0:
                time.sleep(2 * self._beat)  # the others read the table first
            print(f"{'stopped' if isinstance(error, Interrupted) else 'error'}: {error}", file=sys.stderr, flush=True)
            self._leave(error.exit_code)

    def _set(self, name: str, value: str, *, once: bool = True) -> None:
        # An error means that the name exists, and its first text is kept, or that process 0 is gone, and `_judge` ends
        # this process.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._table.key_value_set(f"{_TABLE}/{name}", value, not once)

    def _wait_for(self, name: str) -> str:
        """Wait for a text without a time limit, because the threads detect a process that is gone."""
        while (text := self._get(name)) is None:
            time.sleep(0.05)
        return text

    def _get(self, name: str) -> str | None:
        try:
            return self._table.key_value_try_get(f"{_TABLE}/{name}")
        except jax.errors.JaxRuntimeError:  # the name does not exist
            return None

    def _all(self, name: str) -> dict[int, str]:
        try:
            found = self._table.key_value_dir_get(f"{_TABLE}/{name}")
        except jax.errors.JaxRuntimeError:
            return {}
        ranks = ((key.rsplit("/", 1)[1], value) for key, value in found)
        return {int(rank): value for rank, value in ranks if rank.isdigit()}


def _differences(zero: dict[str, str], other: dict[str, str], rank: int) -> list[str]:
    names = [name for name in sorted(zero.keys() | other.keys()) if zero.get(name) != other.get(name)]
    lines = [
        f"{name} is {zero.get(name, 'absent')} on process 0, {other.get(name, 'absent')} on process {rank}"
        for name in names[:_SHOWN]
    ]
    return [*lines, f"{len(names) - _SHOWN} more"] if names[_SHOWN:] else lines
