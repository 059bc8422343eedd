"""Functions for the other processes of a run: find them, compare facts with them, and inform them of the end of this
process. `lookout` has the implementation.

Every command imports this module, so only `join` imports JAX and `lookout`.
"""

import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

from scoresde.errors import ConfigError, DistributedError, Interrupted

if TYPE_CHECKING:
    from scoresde.runtime.lookout import Lookout

START = 300.0  # seconds until all processes must have been found, JAX's default
_JAX_AFTER = 300  # seconds by which JAX's limits exceed those of this package

_started = threading.Event()  # set when this process begins to search for others
_lookout: "Lookout | None" = None


def join(distributed_flag: str) -> None:
    """Find the other processes by `jax.distributed.initialize`; call this function before any other function of JAX.

    Args:
      distributed_flag: "auto", or "HOST:PORT,PROCESSES,RANK".

    Raises:
      ConfigError: the flag is malformed.
      DistributedError: the processes did not find each other.
      Interrupted: a signal arrived while this process waited for the others.
    """
    import jax
    from jax._src import distributed  # the table of texts has no public name; Orbax uses this one too

    from scoresde.runtime.lookout import Lookout

    global _lookout
    where = _parse(distributed_flag)
    # By default JAX would now handle SIGTERM at the next training step. Until training starts, SIGTERM must end the
    # process.
    jax.config.update("jax_enable_preemption_service", False)
    _started.set()
    failures = []

    def initialise():
        limits = dict(initialization_timeout=int(START) + _JAX_AFTER, heartbeat_timeout_seconds=_JAX_AFTER)
        try:
            distributed.initialize(**where, **limits)
        except Exception as error:
            failures.append(error)

    # The work is done in a separate thread, because a signal is handled only while the main thread runs Python.
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
    """Return whether this process has begun to search for others; an orderly exit would then wait for them."""
    return _started.is_set()


def agree(place: str, **facts: str) -> None:
    """Compare the facts of each process with those of process 0, and wait for all processes.

    Args:
      place: name of the comparison, which may be used once.
      facts: texts that describe what this process is about to do.

    Raises:
      DistributedError: facts differ; the message states both values.
    """
    if _lookout is not None:
        _lookout.agree(place, facts)


def of_main(name: str, text: str = "") -> str:
    """Return the text of process 0 on every process; each name may be used once."""
    return text if _lookout is None else _lookout.of_main(name, text)


def finish(patience: float | None = None) -> None:
    """Wait until every process has finished its work, or for `patience` seconds."""
    if _lookout is not None:
        _lookout.finish(patience)


def claim_the_last_word() -> None:
    """Reserve the message about the end of this process for the main thread; block forever if a thread prints it."""
    if _lookout is not None:
        _lookout.claim()


def leave(code: int, text: str, *, wait: bool) -> None:
    """Inform the other processes why this process is about to end.

    Args:
      code: exit code.
      text: reason.
      wait: wait for the other processes to end by themselves, as they do after a signal, which all processes handle at
        the same step.
    """
    if _lookout is None:
        return
    if wait:
        from scoresde.runtime.lookout import SILENCE

        _lookout.finish(SILENCE)
    else:
        _lookout.tell(code, text)


def reason(patience: float) -> DistributedError | Interrupted | None:
    """Return the error of the process that ended first, or None if none is known within `patience` seconds."""
    return _lookout and _lookout.reason(patience)


def _parse(text: str) -> dict:
    """Return the arguments of `jax.distributed.initialize`.

    Raises:
      ConfigError: the flag is malformed.
      DistributedError: the port of process 0 is in use.
    """
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
    """Raise a DistributedError for a port in use, on which JAX would end with a segmentation fault."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as listener:
        # SO_REUSEADDR ignores connections of a run that has ended.
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
