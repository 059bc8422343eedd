"""What all commands share: flags, `--distributed`, and errors as one line with an exit code.

Exit codes: see `scoresde.errors`. An error that none of them names is a bug of scoresde: exit code 1.
"""

import argparse
import difflib
import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

from scoresde.errors import ConfigError, DistributedError, Interrupted, ResourceError, ScoreSDEError

EPILOG = (
    "exit codes: 0 ok, 2 usage or config, 3 data, 4 checkpoint, 5 numeric, 6 resource, 7 distributed, "
    "75 interrupted and resumable"
)


_CANNOT_WRITE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO,
    errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
)  # fmt: skip


_LEAVE_LAST = 2.0  # seconds


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are ConfigErrors, and which collects `--config.SECTION.FIELD=value`."""

    def __init__(self, command: str, description: str):
        super().__init__(
            prog=f"python -m scoresde.{command}",
            description=description,
            epilog=EPILOG,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.add_argument("--config.SECTION.FIELD", metavar="VALUE", dest="example", help="change a configuration field")

    def error(self, message: str):
        raise ConfigError(f"{message}; see {self.prog} --help")

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """As `parse_args`; the overrides, without `--config.`, are in `.overrides`."""
        found, rest = self.parse_known_args(arguments)
        found.overrides, problems = [], []
        while rest:
            text = rest.pop(0)
            if text.startswith("--config."):
                if "=" not in text and rest and not rest[0].startswith("--"):
                    text += "=" + rest.pop(0)
                found.overrides.append(text.removeprefix("--config."))
            else:
                flags = [flag for action in self._actions for flag in action.option_strings]
                near = difflib.get_close_matches(text.split("=")[0], flags, 1)
                hint = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
                problems.append(f"unknown argument {text}; {hint}")
        if problems:
            raise ConfigError(*problems)
        return found


def add_distributed(parser: Parser) -> None:
    parser.add_argument(
        "--distributed",
        metavar="auto|HOST:PORT,PROCESSES,RANK",
        help="start as one of several processes; auto asks SLURM, GKE or the TPU pod",
    )


def connect(distributed: str | None) -> None:
    """`jax.distributed.initialize` for `--distributed`; before anything else of JAX.

    Raises:
      ConfigError: the flag is malformed. DistributedError: the processes did not find each other.
    """
    if distributed is None:
        return
    import jax

    where = {}
    if distributed != "auto":
        try:
            address, count, rank = distributed.split(",")
            where = dict(coordinator_address=address, num_processes=int(count), process_id=int(rank))
        except ValueError:
            raise ConfigError(f"--distributed: expected auto or HOST:PORT,PROCESSES,RANK, got {distributed!r}") from None
        print(f"process {rank} waits for {count} processes at {address}", file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(**where)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DistributedError(
            f"cannot start with --distributed {distributed}: {first}; check that every process runs and that the "
            "address can be reached"
        ) from error


def run(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    code, error = 0, None
    signal.signal(signal.SIGTERM, _stop)
    try:
        main(arguments)
    except BaseException as raised:  # KeyboardInterrupt and SystemExit as well
        error = raised
        code = _report(raised, debug="--debug" in arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    if error is not None and _process_count() > 1:
        if isinstance(error, Interrupted) and _is_coordinator():
            time.sleep(_LEAVE_LAST)  # peers still on their way out would abort without it
        os._exit(code)  # a process that dies in order keeps its peers waiting for minutes
    sys.exit(code)


def _stop(_number, _frame):
    """SIGTERM where nothing else handles it (training does): leave at once; the same command continues or repeats."""
    raise Interrupted("interrupted; run the same command again")


def _report(error: BaseException, *, debug: bool) -> int:
    if isinstance(error, SystemExit):  # --help
        return error.code if isinstance(error.code, int) else 0
    error = _known(error)
    if debug:
        traceback.print_exception(error)
    for line in str(error).splitlines() or [type(error).__name__]:
        kind = "stopped" if isinstance(error, Interrupted) else "error"
        print(f"{kind}: {line}", file=sys.stderr)
    return error.exit_code


def _known(error: BaseException) -> ScoreSDEError:
    """The error as one that has an exit code and one line."""
    import jax

    if isinstance(error, ScoreSDEError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted; run the same command again")
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        known = ResourceError(
            f"out of memory ({text[:160]}); lower the batch size, raise training.accumulation, or use model.dtype=bfloat16"
        )
    elif isinstance(error, jax.errors.JaxRuntimeError) and _process_count() > 1:
        known = DistributedError(
            f"another process may have ended ({text[:160]}); look at what it says, then run the same command on all of them"
        )
    elif isinstance(error, RuntimeError) and "home directory" in text:  # of Path.expanduser
        known = ConfigError(f"a path begins with ~, and {text[:1].lower() + text[1:].rstrip('.')}; write it in full")
    elif isinstance(error, RuntimeError | AssertionError) and (reason := _no_device()):
        known = ResourceError(f"{reason}; unset JAX_PLATFORMS, or install JAX for it, such as pip install 'scoresde[cuda13]'")
    elif isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        where = f": {error.filename}" if error.filename else ""  # a write that fails does not know its file
        known = ResourceError(f"{error.strerror}{where}; free space or choose another folder")
    else:
        known = ScoreSDEError(f"unexpected {type(error).__name__}: {text[:300]}; run with --debug for the traceback")
    known.__cause__ = error
    return known


def _no_device() -> str:
    """Why JAX has no device at all, "" if it has one. Some of its platforms fail with an AssertionError without a word."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).partition(" (set JAX_PLATFORMS")[0].split())[:160]
        return f"JAX finds no device for JAX_PLATFORMS={jax.config.jax_platforms}" + (f" ({reason})" if reason else "")
    return ""


def _is_coordinator() -> bool:
    import jax

    return jax.process_index() == 0


def _process_count() -> int:
    import jax

    try:
        return jax.process_count()
    except (RuntimeError, AssertionError):  # no device
        return 1
