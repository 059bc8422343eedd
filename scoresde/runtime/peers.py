"""The other processes of a run: find them, compare with them, and say why this one leaves. See also `lookout`.

Every command imports this module, so JAX and `lookout` are imported by `join` alone.
"""

import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

from scoresde.errors import ConfigError, DistributedError, Interrupted

if TYPE_CHECKING:
    from scoresde.runtime.lookout import Lookout

START = 300.0  # seconds until all processes must have been found; JAX's own default
_JAX_AFTER = 300  # seconds: JAX's own limits come into force after ours

_started = threading.Event()  # this process has begun to look for others
_lookout: "Lookout | None" = None


def join(distributed_flag: str) -> None:
    """Find the other processes: `jax.distributed.initialize`, before anything else of JAX.

    Args:
      distributed_flag: "auto", or "HOST:PORT,PROCESSES,RANK".

    Raises:
      ConfigError: the flag is malformed. DistributedError: the processes did not find each other. Interrupted: a
        signal came while this process waited for the others.
    """
    import jax
    from jax._src import distributed  # the table of texts has no public name; Orbax takes it from here as well

    from scoresde.runtime.lookout import Lookout

    global _lookout
    where = _parse(distributed_flag)
    # By default JAX takes SIGTERM from here on and answers it at a step of training. Until there is one, SIGTERM must
    # end the process.
    jax.config.update("jax_enable_preemption_service", False)
    _started.set()
    failures = []

    def initialise():
        limits = dict(initialization_timeout=int(START) + _JAX_AFTER, heartbeat_timeout_seconds=_JAX_AFTER)
        try:
            distributed.initialize(**where, **limits)
        except Exception as error:
            failures.append(error)

    # In a separate thread, because a signal is handled only while the main thread runs Python.
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
    """Whether this process has begun to look for others: from then on an orderly end would wait for them."""
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
    """From now on the main thread alone prints why this process ends. Does not return if a thread is doing that."""
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
        from scoresde.runtime.lookout import SILENCE

        _lookout.finish(SILENCE)
    else:
        _lookout.tell(code, text)


def reason(patience: float) -> DistributedError | Interrupted | None:
    """Why another process left first, if that is known within `patience` seconds."""
    return _lookout and _lookout.reason(patience)


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
        raise ConfigError(
            f"--distributed: expected auto or HOST:PORT,PROCESSES,RANK with RANK below PROCESSES, got {text!r}"
        ) from None
    if where["process_id"] == 0:
        _check_port(text, int(port))
    print(f"process {rank} waits for {count} processes at {address}", file=sys.stderr, flush=True)
    return where


def _check_port(text: str, port: int) -> None:
    """JAX ends in a segmentation fault on a port that another program has."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as listener:
        # Connections of a run that has ended do not count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            listener.bind(("", port))
        except OSError as error:
            raise DistributedError(
                f"cannot start with --distributed {text}: port {port} of this machine: {error.strerror}; choose "
                "another port for all processes"
            ) from error


def _not_found(text: str, why: str) -> DistributedError:
    return DistributedError(
        f"cannot start with --distributed {text}: {why}; check that every process runs and that the address can be "
        "reached"
    )
