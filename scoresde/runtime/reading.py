"""Formats that somebody else may have written, each with one reader: JSON, safetensors, state dicts of PyTorch.

No reader executes what it reads, and none believes a header: sizes that it promises are compared with the bytes that
are there before memory is asked for, and nesting is bounded. Whatever is wrong is an `UnreadableError`, whose text is
one line.
"""

import json
import os
import pickle
import zipfile
from typing import Any, NamedTuple

import numpy as np

from scoresde.runtime.files import UnreadableError, open_regular, read_bytes

MOST_JSON = 2**26  # bytes; the largest that this package writes are some kilobytes
MOST_LINES = 2**30  # bytes of a file of JSON lines
DEEPEST = 64  # nested brackets; a configuration has 2


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
        level = [
            part
            for value in level
            if isinstance(value, dict | list)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
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


def read_safetensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, and its metadata.

    The library checks that every array lies within the file, and that they fill it; it maps the file, so that a header
    which promises more asks for no memory.

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
    """What a PyTorch file holds, with tensors still of torch; `weights_only`, so that it builds tensors and containers
    and no more.

    Raises:
        ImportError: no torch. MissingError, UnreadableError: no regular file, or a damaged one. ExecutableError: it
          holds more than
        tensors.
    """
    import torch

    open_regular(path).close()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ExecutableError("it holds more than tensors; nothing was unpickled") from None
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        IndexError,
        zipfile.BadZipFile,
    ) as error:
        raise UnreadableError(f"not a good PyTorch file ({one_line(error)})") from None


def is_whole_number(text: str) -> bool:
    """Whether a text is a whole number as this package writes one: ASCII digits ("²" is a digit too), no more than 15
    of them."""
    return text.isascii() and text.isdecimal() and len(text) <= 15


def one_line(error: BaseException) -> str:
    """The message of an error on one line of at most 200 characters; its class where it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__
