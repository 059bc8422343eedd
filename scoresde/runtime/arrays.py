"""Readers of arrays in NumPy's format and of NPZ files from untrusted sources.

A header is compared with the number of bytes before memory is allocated, and the sizes in the directory of the zip with
the size of the file. Object arrays, which contain pickles, are refused. Every problem is an `UnreadableError`, whose
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

_DEFLATE = 1032  # largest compression ratio of deflate (zlib, technical details)


class ArrayHeader(NamedTuple):
    """Header of an array in NumPy's format."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int  # position of the first value in bytes

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def array_header(file, size: int) -> ArrayHeader:
    """Read the header of an array in NumPy's format, whose file has `size` bytes, from the beginning of `file`.

    Errors of reading `file` are not converted.

    Raises:
        UnreadableError: there is no valid header, or it does not match the size.
    """
    try:
        version = np.lib.format.read_magic(file)
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        header = ArrayHeader(*parse(file), start=file.tell())
    except (zipfile.BadZipFile, zlib.error, OSError):
        raise  # the bytes cannot be read
    # NumPy's parser evaluates the header as a Python literal: ValueError, SyntaxError, RecursionError, ...
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
    """Arrays of an NPZ file by name; use it in a `with` block.

    Args:
        path: the file.

    Raises:
        MissingError: the path does not exist.
        UnreadableError: the file is not a regular file, or not a zip.
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
        ) as error:  # BadZipFile, and the errors of struct, codecs and arithmetic for a damaged directory
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
        """Return the array with this name, which must exist.

        Raises:
            UnreadableError: the array is damaged, or is not an array of numbers.
            MemoryError: the array does not fit into memory.
        """
        info = self._checked(name)
        with self._reading(), self._zip.open(info) as file:
            array_header(file, info.file_size)
        with (
            self._reading(),
            self._zip.open(info) as file,
        ):  # opened again, because members need not be seekable
            return np.lib.format.read_array(file, allow_pickle=False)

    def header(self, name: str) -> ArrayHeader:
        """Return the header of the array without reading its values.

        Raises:
            UnreadableError: as for `array`.
        """
        info = self._checked(name)
        with self._reading(), self._zip.open(info) as file:
            return array_header(file, info.file_size)

    def mapped(self, name: str) -> np.ndarray | None:
        """Return the array as a read-only memory map, or None if it is compressed or not in C order.

        Raises:
            UnreadableError: as for `array`.
        """
        info = self._members.get(name)
        if info is None or info.compress_type != zipfile.ZIP_STORED:
            return None
        found = self.header(name)
        if found.fortran or not found.shape or 0 in found.shape:
            return None
        with self._reading():
            self._file.seek(info.header_offset + 26)  # lengths of name and extra field in a local header
            lengths = np.frombuffer(self._file.read(4), "<u2")
            begin = info.header_offset + 30 + int(lengths.sum()) + found.start
            return np.memmap(self.path, found.dtype, "r", begin, found.shape)

    def _checked(self, name: str) -> zipfile.ZipInfo:
        """Return the entry of a member after checking its sizes against that of the file.

        Raises:
            UnreadableError: the sizes do not fit, or the compression is not supported.
        """
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
    """Return all arrays of an NPZ file.

    Raises:
        MissingError: the path does not exist.
        UnreadableError: as for `Npz`, or an array is damaged; the message names it.
    """
    with Npz(path) as archive:
        found = {}
        for name in archive:
            try:
                found[name] = archive.array(name)
            except UnreadableError as error:
                raise UnreadableError(f"'{name}': {error}") from error
        return found
