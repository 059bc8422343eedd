"""Readers of files from untrusted sources, one per format: JSON, safetensors, state dicts of PyTorch.

No reader executes code from a file or trusts a header: sizes in a header are compared with the bytes of the file before
memory is allocated, and nesting is bounded. Every problem is an `UnreadableError`, whose text is one line.
"""

import json
import os
import pickle
import zipfile
from typing import Any, NamedTuple

import numpy as np

from scoresde.runtime.files import UnreadableError, open_regular, read_bytes

MOST_JSON = 2**26  # largest size in bytes; JSON files of this package have at most some kilobytes
MOST_LINES = 2**30  # largest size in bytes of a file of JSON lines
DEEPEST = 64  # largest number of nested brackets; a configuration has 2


def read_json(path: str | os.PathLike) -> Any:
    """Return the value in a JSON file.

    Raises:
        MissingError: the path does not exist.
        UnreadableError: the file is not a regular file, is not JSON in UTF-8, is too large or is nested too deeply.
    """
    return parse_json(read_bytes(path, MOST_JSON))


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        MissingError: the path does not exist.
        UnreadableError: as for `read_json`, or the value is not an object.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise UnreadableError(f"JSON of {_json_kind(found)}, expected an object")
    return found


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        UnreadableError: the text is not JSON in UTF-8, or is nested too deeply.
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
    for _ in range(DEEPEST + 1):  # one level at a time, because a recursive check would fail on deep nesting
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
    """Error for a pickle that would execute code."""


class Line(NamedTuple):
    """Line of a file of JSON lines."""

    number: int  # from 1
    text: str
    value: dict[str, Any]


def json_lines(path: str | os.PathLike) -> tuple[list[Line], list[int]]:
    """Return the objects in a file of JSON lines, and the numbers of lines that are damaged or are not objects.

    Raises:
        MissingError: the path does not exist.
        UnreadableError: the file is not a regular file, or is too large.
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
    """Return the arrays of a safetensors file, and its metadata.

    The library checks that the arrays lie within the file and fill it. It maps the file, so that a wrong header does
    not allocate memory.

    Raises:
        MissingError: the path does not exist.
        UnreadableError: the file is not a regular file, or is damaged.
    """
    from safetensors import SafetensorError, safe_open  # needed only for weights

    open_regular(path).close()
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableError(f"not a good safetensors file ({one_line(error)})") from None


def read_torch(path: str | os.PathLike) -> Any:
    """Return the content of a PyTorch file, with tensors of torch.

    It is read with `weights_only`, which builds only tensors and containers.

    Raises:
        ImportError: torch is not installed.
        MissingError: the path does not exist.
        UnreadableError: the file is not a regular file, or is damaged.
        ExecutableError: the file contains more than tensors.
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
    """Return whether a text is a whole number in the form that this package writes: at most 15 ASCII digits (for
    Python "²" is a digit too)."""
    return text.isascii() and text.isdecimal() and len(text) <= 15


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line of at most 200 characters, or its class if it has no message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
