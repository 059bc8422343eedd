"""Files that may be opened, and writing that a kill cannot leave half done.

A path may name something other than a file: a FIFO blocks whoever opens it until somebody writes, and /dev/zero never
ends. So every file that this package did not just write is opened here, and only a regular file, or a link to one, is
opened at all.
"""

import contextlib
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import BinaryIO


class UnreadableError(Exception):
    """A file that cannot be read as what it should be. The message is the reason alone, in one line: the caller knows
    the path, the remedy and the exit code."""


class MissingError(UnreadableError):
    """There is nothing at the path."""


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    Raises:
        MissingError: there is nothing. UnreadableError: it is something else, or may not be read.
    """
    try:
        # A FIFO without a writer would block; O_NONBLOCK changes nothing for a regular file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError("no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UnreadableError(getattr(error, "strerror", None) or str(error)) from None
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise UnreadableError(f"{_kind(kind)}, not a regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: str | os.PathLike, most: int | None = None) -> bytes:
    """All bytes of a regular file.

    Args:
        most: the file is refused if it has more bytes; None: any number.

    Raises:
        MissingError, UnreadableError: as `open_regular`, or it is too large, or the disk fails.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if most is None:
                return file.read()
            if size > most:
                raise UnreadableError(f"{size:,} bytes, expected at most {most:,}")
            found = file.read(most + 1)  # some file systems do not know the size of a file before it is read
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    if len(found) > most:
        raise UnreadableError(f"more than {most:,} bytes")
    return found


def _kind(mode: int) -> str:
    names = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a FIFO",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for test, name in names.items() if test(mode)), "something else")


@contextlib.contextmanager
def replacing(path: str | os.PathLike, scratch: str | os.PathLike | None = None) -> Iterator[pathlib.Path]:
    """A scratch path beside `path`, with the same extension, which becomes `path` when the block ends: readers see the
    old file or the new one, and a kill in the middle leaves the old one. If the block raises, the scratch file is
    deleted, so that a full disk is not filled further.

    The name contains the process id: two processes that write one file do not write into each other's.

    Args:
        scratch: another scratch path on the same file system, for a caller that no other process can meet there.

    Raises:
        OSError: no space or no permission, with the name of the file.
    """
    with _scratch_of(path, scratch) as (path, scratch):
        yield scratch
        os.replace(scratch, path)


@contextlib.contextmanager
def creating(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """As `replacing`, but a file that is there when the block ends stays: of several processes that create it at once,
    the first one counts."""
    with _scratch_of(path) as (path, scratch):
        yield scratch
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(scratch, path)
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def _scratch_of(path, scratch=None) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    path = pathlib.Path(path)
    scratch = pathlib.Path(scratch or path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}"))
    try:
        yield path, scratch
    except BaseException as error:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        if isinstance(error, OSError) and (error.filename is None or str(error.filename) == str(scratch)):
            error.filename = str(path)  # a write that fails does not know its file
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text in UTF-8, as `replacing`.

    Raises:
        OSError: no space or no permission, with the name of the file.
    """
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
