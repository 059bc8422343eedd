"""Formats that somebody else may have written, each with one reader: JSON, NPZ, safetensors, state dicts of PyTorch.

No reader executes what it reads, and none believes a header: sizes that it promises are compared with the bytes that are there before
memory is asked for, and nesting is bounded. Whatever is wrong is an `UnreadableError`, whose text is one line.
"""

import contextlib
import json
import math
import os
import pathlib
import pickle
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from scoresde.runtime.files import UnreadableError, open_regular, read_bytes

MOST_JSON = 2**26  # bytes; the largest that this package writes are some kilobytes
MOST_LINES = 2**30  # bytes of a file of JSON lines
DEEPEST = 64  # nested brackets; a configuration has 2
_DEFLATE = 1032  # no deflated byte stands for more (zlib, technical details)


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file.

    Raises:
        MissingError, UnreadableError: no regular file, or not JSON in UTF-8, too large or nested too deeply.
    """
    return parse_json(read_bytes(path, MOST_JSON))


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """The object in a JSON file; raises as `read_json`, also for another value."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise UnreadableError(f"JSON of {_json_kind(found)}, expected an object")
    return found


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        UnreadableError: not JSON in UTF-8, or nested too deeply.
    """
    try:
        found = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise UnreadableError(f"not JSON: {one_line(error)}") from None
    except RecursionError:
        raise UnreadableError(f"JSON nested more than {DEEPEST} deep") from None
    level = [found]
    for _ in range(DEEPEST + 1):  # a level at a time: a recursive check would fail on what it should find
        level = [part for value in level if isinstance(value, dict | list) for part in (value.values() if isinstance(value, dict) else value)]
        if not level:
            return found
    raise UnreadableError(f"JSON nested more than {DEEPEST} deep")


def _json_kind(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")


class ExecutableError(UnreadableError):
    """A pickle that would execute code."""


class Line(NamedTuple):
    """A line of a file of JSON lines."""

    number: int  # from 1
    text: str
    value: dict[str, Any]


def json_lines(path: str | os.PathLike) -> tuple[list[Line], list[int]]:
    """The objects in a file of JSON lines, and the numbers of the lines that are damaged or hold something else.

    Raises:
        MissingError, UnreadableError: no regular file, or too large.
    """
    lines, damaged = [], []
    for number, line in enumerate(read_bytes(path, MOST_LINES).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except UnreadableError:
            damaged.append(number)
            continue
        if isinstance(value, dict):
            lines.append(Line(number, line.decode("utf-8"), value))
        else:
            damaged.append(number)
    return lines, damaged


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
        UnreadableError: no such header, or one that promises other values than there are. Whatever reading `file` raises.
    """
    try:
        version = np.lib.format.read_magic(file)
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        header = ArrayHeader(*parse(file), start=file.tell())
    except (zipfile.BadZipFile, zlib.error, OSError):
        raise  # not of the header: the bytes cannot be had
    except Exception:  # of NumPy's parser, which evaluates the header as a Python literal: ValueError, SyntaxError, RecursionError, ...
        raise UnreadableError("not a NumPy array") from None
    if header.dtype.hasobject:
        raise UnreadableError("an object array, expected numbers: it holds a pickle, which can run code and is not read; save it with a numeric dtype")
    if any(isinstance(n, bool) or n < 0 for n in header.shape):
        raise UnreadableError(f"its header has the shape {header.shape}, expected sizes of 0 or more")
    if header.end != size:
        raise UnreadableError(
            f"its header promises {header.end - header.start:,} bytes of values, shape {header.shape} of {header.dtype}, and {size - header.start:,} are there"
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
            self._members = {info.filename.removesuffix(".npy"): info for info in self._zip.infolist() if not info.is_dir()}
        except Exception as error:  # BadZipFile, and what a damaged directory makes struct, the codecs and arithmetic raise
            self._file.seek(0)
            single = self._file.read(6) == b"\x93NUMPY"
            self._file.close()
            raise UnreadableError("it is a single NPY array" if single else "it is of another kind, or was cut short") from error

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
        with self._reading(), self._zip.open(info) as file:  # once more from the beginning: members need not be seekable
            return np.lib.format.read_array(file, allow_pickle=False)

    def header(self, name: str) -> ArrayHeader:
        """Shape and type of that array; its values are not read. Raises as `array`."""
        info = self._checked(name)
        with self._reading(), self._zip.open(info) as file:
            return array_header(file, info.file_size)

    def mapped(self, name: str) -> np.ndarray | None:
        """The array as a read-only map of the file, if it is stored uncompressed and in C order; else None. Raises as `array`."""
        info = self._members.get(name)
        if info is None or info.compress_type != zipfile.ZIP_STORED:
            return None
        found = self.header(name)
        if found.fortran or not found.shape or 0 in found.shape:
            return None
        with self._reading():
            self._file.seek(info.header_offset + 26)  # of a local header: the lengths of its name and of its extra field
            lengths = np.frombuffer(self._file.read(4), "<u2")
            begin = info.header_offset + 30 + int(lengths.sum()) + found.start
            return np.memmap(self.path, found.dtype, "r", begin, found.shape)

    def _checked(self, name: str) -> zipfile.ZipInfo:
        """The entry of a member, whose sizes the bytes of the file can hold."""
        info, size = self._members[name], os.fstat(self._file.fileno()).st_size
        most = {zipfile.ZIP_STORED: info.compress_size, zipfile.ZIP_DEFLATED: _DEFLATE * (info.compress_size + 1)}.get(info.compress_type)
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
        except Exception as error:  # BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError (encrypted), ...
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


def read_safetensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, and its metadata.

    The library checks that every array lies within the file, and that they fill it; it maps the file, so that a header which promises
    more asks for no memory.

    Raises:
        MissingError, UnreadableError: no regular file, or not a good one.
    """
    from safetensors import SafetensorError, safe_open  # only those who read weights need them

    open_regular(path).close()
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableError(f"not a good safetensors file ({one_line(error)})") from None


def read_torch(path: str | os.PathLike) -> Any:
    """What a PyTorch file holds, with tensors still of torch; `weights_only`, so that it builds tensors and containers and no more.

    Raises:
        ImportError: no torch. MissingError, UnreadableError: no regular file, or a damaged one. ExecutableError: it holds more than
        tensors.
    """
    import torch

    open_regular(path).close()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ExecutableError("it holds more than tensors; nothing was unpickled") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise UnreadableError(f"not a good PyTorch file ({one_line(error)})") from None


def is_whole_number(text: str) -> bool:
    """Whether a text is a whole number as this package writes one: ASCII digits ("²" is a digit too), no more than 15 of them."""
    return text.isascii() and text.isdecimal() and len(text) <= 15


def one_line(error: BaseException) -> str:
    """The message of an error on one line of at most 200 characters; its class where it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__
