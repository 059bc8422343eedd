"""Opening of regular files only, and atomic writing.

A path may not refer to a regular file: opening a FIFO blocks until somebody writes, and /dev/zero never ends. Therefore
every file that this package did not just write is opened here, and only if it is a regular file or a link to one.
"""

import contextlib
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import BinaryIO


class UnreadableError(Exception):
    """Error for a file that cannot be read in its expected format.

    The message is only the reason, in one line; the caller adds the path, the remedy and the exit code.
    """


class MissingError(UnreadableError):
    """Error for a path that does not exist."""


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    Raises:
        MissingError: the path does not exist.
        UnreadableError: the path is not a regular file, or may not be read.
    """
    try:
        # Without O_NONBLOCK a FIFO without a writer would block; it has no effect on a regular file.
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
    """Return all bytes of a regular file.

    Args:
        path: the file.
        most: largest number of bytes; None: any number.

    Raises:
        MissingError: the path does not exist.
        UnreadableError: the path is not a regular file or cannot be read, or the file is too large.
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
    """Return a context with a scratch path beside `path`, which replaces `path` when the block ends.

    Readers see the old file or the new one, and a kill within the block leaves the old file. The scratch path has the
    same extension. If the block raises, the scratch file is deleted to free the disk. Its name contains the process id,
    so that two processes that write the same file do not share a scratch file.

    Args:
        scratch: another scratch path on the same file system, for a caller that no other process can meet there.

    Raises:
        OSError: there is no space or no permission; the error contains the name of the file.
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
            error.filename = str(path)  # the error of a failed write has no file name
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text in UTF-8 atomically, see `replacing`.

    Raises:
        OSError: there is no space or no permission; the error contains the name of the file.
    """
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
