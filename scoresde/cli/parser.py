"""Code shared by all commands: flags, `--distributed`, and errors as one line with an exit code.

`scoresde.errors` defines the exit codes. Any other error is a bug of scoresde, with exit code 1.
"""

import argparse
import difflib
import errno
import gc
import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable

from scoresde.errors import STOPS, ConfigError, DistributedError, Interrupted, ResourceError, ScoreSDEError
from scoresde.runtime import peers
from scoresde.runtime.places import local
from scoresde.runtime.programs import keep_programs
from scoresde.runtime.progress import Lasting

CONSOLE = "scoresde"  # name of the console command

EPILOG = (
    "exit codes: 0 ok, 2 usage or config, 3 data, 4 checkpoint, 5 numeric, 6 resource, 7 distributed, "
    "75 interrupted and resumable"
)


_CANNOT_WRITE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO,
    errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
)  # fmt: skip


_REASON = 3.0  # seconds to wait for the error message of a process that ended


# Imports and tracing create many objects that are kept. With Python's thresholds, a short command spends a fifth of its
# time on searching them for cycles.
_COLLECT = (100_000, 20, 100)


class Parser(argparse.ArgumentParser):
    """Parser that raises ConfigErrors and collects `--config.SECTION.FIELD=value`."""

    def __init__(self, command: str, description: str):
        super().__init__(
            prog=_called(command),
            description=description,
            epilog=EPILOG,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.add_argument(
            "--no-compilation-cache", action="store_true", help="neither keep compiled programs nor take kept ones"
        )
        self.add_argument(
            "--config.SECTION.FIELD", metavar="VALUE", dest="example", help="change a configuration field"
        )

    def add_path(self, *names: str, **options) -> None:
        """Add an argument that is a path; the parameters are those of add_argument."""
        self.add_argument(*names, type=_path, **options)

    def add_renamed(self, old: str, new: str, note: str) -> None:
        """Refuse a flag of an earlier version, and name the flag that has replaced it."""
        self.add_argument(old, nargs="?", action=_Renamed, const=f"it is now {new}; {note}", help=argparse.SUPPRESS)

    def error(self, message: str):
        raise ConfigError(f"{message}; see {self.prog} --help")

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Parse the arguments as `parse_args` does; `.overrides` contains the overrides without `--config.`.

        This also sets the folder of compiled programs, which must happen before the command imports JAX.
        """
        found, rest = self.parse_known_args(arguments)
        found.overrides, problems = [], []
        while rest:
            text = rest.pop(0)
            if text.startswith("--config."):
                if "=" not in text and rest and not rest[0].startswith("--"):
                    text += "=" + rest.pop(0)
                found.overrides.append(text.removeprefix("--config."))
            else:
                known = (action for action in self._actions if action.help is not argparse.SUPPRESS)
                flags = [flag for action in known for flag in action.option_strings]
                near = difflib.get_close_matches(text.split("=")[0], flags, 1)
                hint = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
                problems.append(f"unknown argument {text}; {hint}")
        if problems:
            raise ConfigError(*problems)
        if not found.no_compilation_cache:
            keep_programs()
        return found


class _Renamed(argparse.Action):
    """Action for a flag of an earlier version; `const` describes its replacement."""

    def __call__(self, parser, namespace, values, option_string=None):
        raise ConfigError(f"{option_string}: {self.const}")


def _called(command: str) -> str:
    """Return the way in which this process was started, `scoresde NAME` or `python -m scoresde.NAME`."""
    return f"{CONSOLE} {command}" if pathlib.Path(sys.argv[0]).stem == CONSOLE else f"python -m scoresde.{command}"


def _path(text: str) -> str:
    try:
        return local(text)
    except ConfigError as error:  # argparse puts the name of the flag in front
        raise argparse.ArgumentTypeError(str(error)) from None


def add_distributed(parser: Parser) -> None:
    parser.add_argument(
        "--distributed",
        metavar="auto|HOST:PORT,PROCESSES,RANK",
        help="start as one of several processes; auto asks SLURM, GKE or the TPU pod",
    )


def run(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> None:
    """Run a command and exit with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    code, error = 0, None
    gc.set_threshold(*_COLLECT)
    for number in STOPS:
        if (
            number != signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN
        ):  # Python turns SIGINT into KeyboardInterrupt
            signal.signal(number, _stop)
    sys.stdout, sys.stderr = Lasting.of(sys.stdout), Lasting.of(sys.stderr)
    try:
        main(arguments)
        peers.finish()
    except BaseException as raised:  # includes KeyboardInterrupt and SystemExit
        error = raised
    if error is not None:
        peers.claim_the_last_word()
        known = error if isinstance(error, SystemExit) else _known(error)  # --help raises SystemExit
        code = _report(known, debug="--debug" in arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    if error is not None and peers.started():
        # All processes stop for a signal during training at the same step; any other error concerns this process alone.
        together = isinstance(known, Interrupted) and not isinstance(known, _InterruptedAlone)
        peers.leave(code, str(known).partition("\n")[0], wait=together)
        os._exit(code)  # a process that shuts down normally makes its peers wait for minutes
    sys.exit(code)


class _InterruptedAlone(Interrupted):
    """An interruption by a signal that other processes of the run may not have received."""

    def __init__(self):
        super().__init__("interrupted; run the same command again")


def _stop(_number, _frame):
    """Handle a signal outside training: exit immediately; the same command continues or starts again."""
    raise _InterruptedAlone


def _report(error: BaseException, *, debug: bool) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0
    if debug:
        traceback.print_exception(error)
    for line in str(error).splitlines() or [type(error).__name__]:
        kind = "stopped" if isinstance(error, Interrupted) else "error"
        print(f"{kind}: {line}", file=sys.stderr)
    return error.exit_code


def _known(error: BaseException) -> ScoreSDEError:
    """Convert an exception to an error with an exit code and a message of one line."""
    if isinstance(error, ScoreSDEError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return _InterruptedAlone()
    import jax

    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        known = ResourceError(
            f"out of memory ({text[:160]}); lower the batch size, raise training.accumulation, or use "
            "model.dtype=bfloat16"
        )
    elif isinstance(error, jax.errors.JaxRuntimeError) and peers.started():
        known = peers.reason(_REASON) or DistributedError(
            f"another process may have ended ({text[:160]}); look at what it says, then run the same command on all of "
            "them"
        )
    elif isinstance(error, RuntimeError | AssertionError) and (reason := _no_device()):
        known = ResourceError(
            f"{reason}; unset JAX_PLATFORMS, or install JAX for it, such as pip install 'scoresde[cuda13]'"
        )
    elif isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        where = f": {error.filename}" if error.filename else ""  # the error of a failed write does not contain its file
        known = ResourceError(f"{error.strerror}{where}; free space or choose another folder")
    else:
        known = ScoreSDEError(f"unexpected {type(error).__name__}: {text[:300]}; run with --debug for the traceback")
    known.__cause__ = error
    return known


def _no_device() -> str:
    """Return why JAX has no device, or "". Some platforms fail with an AssertionError without a message."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).partition(" (set JAX_PLATFORMS")[0].split())[:160]
        return f"JAX finds no device for JAX_PLATFORMS={jax.config.jax_platforms}" + (f" ({reason})" if reason else "")
    return ""
