"""Arrays in NumPy's format and NPZ files of them that somebody else may have written.

A header is compared with the bytes that are there before memory is asked for, and the sizes in the directory of the zip
with those of the file. Object arrays, which hold pickles, are refused. Whatever is wrong is an `UnreadableError`, whose
text is one line.
"""

import contextlib
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from scoresde.runtime.files import UnreadableError, open_regular
from scoresde.runtime.reading import one_line

_DEFLATE = 1032  # no deflated byte stands for more (zlib, technical details)


class ArrayHeader(NamedTuple):
    """What an array in NumPy's format says of itself."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int  # where its values begin

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def array_header(file, size: int) -> ArrayHeader:
    """The header of an array in NumPy's format whose file has `size` bytes; `file` is at its beginning.

    Raises:
        UnreadableError: no such header, or one that promises other values than there are. Whatever reading `file`
          raises.
    """
    try:
        version = np.lib.format.read_magic(file)
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        header = ArrayHeader(*parse(file), start=file.tell())
    except (zipfile.BadZipFile, zlib.error, OSError):
        raise  # not of the header: the bytes cannot be had
    # of NumPy's parser, which evaluates the header as a Python literal: ValueError, SyntaxError, RecursionError, ...
    except Exception:
        raise UnreadableError("not a NumPy array") from None
    if header.dtype.hasobject:
        raise UnreadableError(
            "an object array, expected numbers: it holds a pickle, which can run code and is not read; save it with a "
            "numeric dtype"
        )
    if any(isinstance(n, bool) or n < 0 for n in header.shape):
        raise UnreadableError(f"its header has the shape {header.shape}, expected sizes of 0 or more")
    if header.end != size:
        raise UnreadableError(
            f"its header promises {header.end - header.start:,} bytes of values, shape {header.shape} of "
            f"{header.dtype}, and {size - header.start:,} are there"
        )
    return header


class Npz:
    """The arrays of an NPZ file by name. To be used in a `with` block.

    Raises:
        MissingError, UnreadableError: no regular file, or not a zip.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._file = open_regular(path)
        try:
            self._zip = zipfile.ZipFile(self._file)
            self._members = {
                info.filename.removesuffix(".npy"): info for info in self._zip.infolist() if not info.is_dir()
            }
        except (
            Exception
        ) as error:  # BadZipFile, and what a damaged directory makes struct, the codecs and arithmetic raise
            self._file.seek(0)
            single = self._file.read(6) == b"\x93NUMPY"
            self._file.close()
            raise UnreadableError(
                "it is a single NPY array" if single else "it is of another kind, or was cut short"
            ) from error

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._zip.close()
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def array(self, name: str) -> np.ndarray:
        """The array of that name, which must be there.

        Raises:
            UnreadableError: it is damaged, or not an array of numbers. MemoryError: it does not fit.
        """
        info = self._checked(name)
        with self._reading(), self._zip.open(info) as file:
            array_header(file, info.file_size)
        with (
            self._reading(),
            self._zip.open(info) as file,
        ):  # once more from the beginning: members need not be seekable
            return np.lib.format.read_array(file, allow_pickle=False)

    def header(self, name: str) -> ArrayHeader:
        """Shape and type of that array; its values are not read. Raises as `array`."""
        info = self._checked(name)
        with self._reading(), self._zip.open(info) as file:
            return array_header(file, info.file_size)

    def mapped(self, name: str) -> np.ndarray | None:
        """The array as a read-only map of the file, if it is stored uncompressed and in C order; else None. Raises as
        `array`."""
        info = self._members.get(name)
        if info is None or info.compress_type != zipfile.ZIP_STORED:
            return None
        found = self.header(name)
        if found.fortran or not found.shape or 0 in found.shape:
            return None
        with self._reading():
            self._file.seek(
                info.header_offset + 26
            )  # of a local header: the lengths of its name and of its extra field
            lengths = np.frombuffer(self._file.read(4), "<u2")
            begin = info.header_offset + 30 + int(lengths.sum()) + found.start
            return np.memmap(self.path, found.dtype, "r", begin, found.shape)

    def _checked(self, name: str) -> zipfile.ZipInfo:
        """The entry of a member, whose sizes the bytes of the file can hold."""
        info, size = self._members[name], os.fstat(self._file.fileno()).st_size
        most = {zipfile.ZIP_STORED: info.compress_size, zipfile.ZIP_DEFLATED: _DEFLATE * (info.compress_size + 1)}.get(
            info.compress_type
        )
        if most is None:
            raise UnreadableError("compressed by a method that NumPy does not write; write the file with numpy.savez")
        if info.header_offset + info.compress_size > size or info.file_size > most:
            raise UnreadableError(f"it promises {info.file_size:,} bytes, more than the file can hold")
        return info

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (UnreadableError, MemoryError):
            raise
        except (
            Exception
        ) as error:  # BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError (encrypted), ...
            raise UnreadableError(f"cannot be read ({one_line(error)}); the file is damaged, copy it again") from error


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of an NPZ file.

    Raises:
        MissingError, UnreadableError: as `Npz`, or one of them is damaged; it is named.
    """
    with Npz(path) as archive:
        found = {}
        for name in archive:
            try:
                found[name] = archive.array(name)
            except UnreadableError as error:
                raise UnreadableError(f"'{name}': {error}") from error
        return found
