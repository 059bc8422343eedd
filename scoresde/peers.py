"""The other processes of a run: find them, compare with them, notice that one is gone, and say why this one leaves.

JAX's coordination service, which process 0 holds, keeps a table of texts that every process reads and writes:

    scoresde/facts/PLACE/RANK   what a process is about to do      scoresde/alive/RANK   a counter, raised every second
    scoresde/end                which process left first, and why  scoresde/done/RANK    that process has nothing left to do

By itself JAX notices a process that stopped after minutes, and then aborts with a page of messages. So each process has two threads
of its own: one reads and writes the table, the other ends the process in one line when the table says so, or when nothing was heard
for SILENCE seconds. A process 0 that is killed outright takes the table with it; the others then end in JAX's own abort, at once.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

import jax
from jax._src import distributed  # the table of texts has no public name; Orbax takes it from here as well

from scoresde.errors import ConfigError, DistributedError, Interrupted

START = 300.0  # seconds until all processes must have been found; JAX's own default
SILENCE = 60.0  # seconds without a sign of life after which a process counts as gone
_BEAT = 1.0  # seconds between signs of life
_JAX_AFTER = 300  # seconds: JAX's own limits come into force after ours
_TABLE = "scoresde"
_SHOWN = 8  # differences that are named

_started = threading.Event()  # this process has begun to look for others
_lookout: "Lookout | None" = None


def join(distributed_flag: str) -> None:
    """Find the other processes: `jax.distributed.initialize`, before anything else of JAX.

    Args:
      distributed_flag: "auto", or "HOST:PORT,PROCESSES,RANK".

    Raises:
      ConfigError: the flag is malformed. DistributedError: the processes did not find each other. Interrupted: a signal came while
        this process waited for the others.
    """
    global _lookout
    where = _parse(distributed_flag)
    # With its default JAX takes SIGTERM from here on and answers it at a step of training. Until there is one, it must end the process.
    jax.config.update("jax_enable_preemption_service", False)
    _started.set()
    failures = []

    def initialise():
        limits = dict(initialization_timeout=int(START) + _JAX_AFTER, heartbeat_timeout_seconds=_JAX_AFTER)
        try:
            distributed.initialize(**where, **limits)
        except Exception as error:
            failures.append(error)

    # In a thread of its own, as a signal is handled only while the main thread runs Python.
    thread = threading.Thread(target=initialise, daemon=True)
    thread.start()
    deadline = time.monotonic() + START
    while thread.is_alive():
        thread.join(0.1)
        if time.monotonic() > deadline:
            raise _not_found(distributed_flag, f"not all processes were found within {START:.0f} s")
    if failures:
        first = (str(failures[0]).strip().splitlines() or [type(failures[0]).__name__])[0]
        raise _not_found(distributed_flag, first) from failures[0]
    state = distributed.global_state
    _lookout = Lookout(state.client, state.process_id, state.num_processes)
    _lookout.start()


def started() -> bool:
    """Whether this process has begun to look for others: from then on it must not end in order, which waits for them."""
    return _started.is_set()


def agree(place: str, **facts: str) -> None:
    """Compare what each process is about to do with what process 0 is about to do; waits for all of them.

    Args:
      place: what is compared; each is compared once.

    Raises:
      DistributedError: the facts that differ, with both sides.
    """
    if _lookout is not None:
        _lookout.agree(place, facts)


def of_main(name: str, text: str = "") -> str:
    """The text that process 0 gives, on every process; each name once."""
    return text if _lookout is None else _lookout.of_main(name, text)


def finish(patience: float | None = None) -> None:
    """Return when every process has nothing left to do, or after `patience` seconds."""
    if _lookout is not None:
        _lookout.finish(patience)


def claim_the_last_word() -> None:
    """From now on the main thread alone prints why this process ends. Does not return if a thread of `Lookout` is doing that."""
    if _lookout is not None:
        _lookout.claim()


def leave(code: int, text: str, *, wait: bool) -> None:
    """Before this process ends with an exit code: let the others know why.

    Args:
      wait: for the others to end by themselves, as they do after a signal that all of them answer at the same step.
    """
    if _lookout is None:
        return
    if wait:
        _lookout.finish(SILENCE)
    else:
        _lookout.tell(code, text)


def reason(patience: float) -> DistributedError | Interrupted | None:
    """Why another process left first, if that is known within `patience` seconds."""
    return _lookout and _lookout.reason(patience)


class Lookout:
    """What one process knows of the others.

    Args:
      table: `key_value_set`, `key_value_try_get` and `key_value_dir_get`, as JAX's distributed client has them.
      leave: takes the exit code after the line has been printed.
      silence, beat: seconds, see above.
    """

    def __init__(self, table, rank: int, count: int, leave: Callable[[int], None] = os._exit, silence: float = SILENCE, beat: float = _BEAT):
        self._table, self._rank, self._count, self._leave = table, rank, count, leave
        self._silence, self._beat = silence, beat
        self._heard = dict.fromkeys(range(count), ("", time.monotonic()))  # the last counter of each process, and since when
        self._over, self._ending = threading.Event(), threading.Lock()

    def start(self) -> None:
        for work in (self._exchange, self._judge):
            threading.Thread(target=work, daemon=True).start()

    def agree(self, place: str, facts: dict[str, str]) -> None:
        self._set(f"facts/{place}/{self._rank}", json.dumps(facts))
        others = range(1, self._count) if self._rank == 0 else [0]
        for rank in others:
            theirs = json.loads(self._wait_for(f"facts/{place}/{rank}"))
            zero, other, number = (facts, theirs, rank) if self._rank == 0 else (theirs, facts, self._rank)
            if lines := _differences(zero, other, number):
                raise DistributedError(
                    f"the processes do not do the same: {'; '.join(lines)}; start all of them with the same command, code and data"
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
                time.sleep(self._beat)  # process 0 takes the table with it
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
        end = json.loads(text) if text else None
        if end is None or end["rank"] == self._rank:
            return None
        kind = Interrupted if end["code"] == Interrupted.exit_code else DistributedError
        return kind(f"process {end['rank']} ended: {end['text']}")

    def _exchange(self) -> None:
        """Give a sign of life and hear those of the others. Calls to the table block while process 0 does not answer."""
        for beat in range(sys.maxsize):
            if self._over.is_set():
                return
            self._set(f"alive/{self._rank}", str(beat), once=False)
            if (why := self.reason(0)) is not None:
                self._end(why)
            # Process 0 hears all of them, the others process 0 alone.
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
                text = f"no sign of life from process {', '.join(map(str, silent))} for {self._silence:.0f} s; look whether it still runs"
                error = DistributedError(f"{text}, then run the same command on all of them")
                if self._rank == 0:
                    self.tell(error.exit_code, str(error))
                self._end(error)

    def _end(self, error: DistributedError | Interrupted) -> None:
        with self._ending:  # one line, whichever thread was first
            if self._rank == 0:
                time.sleep(2 * self._beat)  # the others read the table first
            print(f"{'stopped' if isinstance(error, Interrupted) else 'error'}: {error}", file=sys.stderr, flush=True)
            self._leave(error.exit_code)

    def _set(self, name: str, value: str, *, once: bool = True) -> None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # it stands there already, or process 0 is gone: `_judge` sees to that
            self._table.key_value_set(f"{_TABLE}/{name}", value, not once)

    def _wait_for(self, name: str) -> str:
        """As long as it takes: the threads notice a process that is gone."""
        while (text := self._get(name)) is None:
            time.sleep(0.05)
        return text

    def _get(self, name: str) -> str | None:
        try:
            return self._table.key_value_try_get(f"{_TABLE}/{name}")
        except jax.errors.JaxRuntimeError:  # not there
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
    lines = [f"{name} is {zero.get(name, 'absent')} on process 0, {other.get(name, 'absent')} on process {rank}" for name in names[:_SHOWN]]
    return [*lines, f"{len(names) - _SHOWN} more"] if names[_SHOWN:] else lines


def _parse(text: str) -> dict:
    """The arguments of `jax.distributed.initialize`."""
    if text == "auto":
        return {}
    try:
        address, count, rank = text.split(",")
        host, port = address.rsplit(":", 1)
        where = dict(coordinator_address=address, num_processes=int(count), process_id=int(rank))
        if not host or not 0 < int(port) < 2**16 or not 0 <= int(rank) < int(count):
            raise ValueError
    except ValueError:
        raise ConfigError(f"--distributed: expected auto or HOST:PORT,PROCESSES,RANK with RANK below PROCESSES, got {text!r}") from None
    if where["process_id"] == 0:
        _check_port(text, int(port))
    print(f"process {rank} waits for {count} processes at {address}", file=sys.stderr, flush=True)
    return where


def _check_port(text: str, port: int) -> None:
    """JAX ends in a segmentation fault on a port that another program has."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a run that has ended do not count
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            listener.bind(("", port))
        except OSError as error:
            raise DistributedError(
                f"cannot start with --distributed {text}: port {port} of this machine: {error.strerror}; choose another port for all processes"
            ) from error


def _not_found(text: str, why: str) -> DistributedError:
    return DistributedError(
        f"cannot start with --distributed {text}: {why}; check that every process runs and that the address can be reached"
    )
