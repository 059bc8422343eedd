"""`SECTION.FIELD=value` texts applied to a configuration.

They are not parsed by ml_collections' flags, which stop at the first problem, inside a traceback, treat a missing file
as an empty configuration, and reject 1e5 for a whole number.
"""

import ast
import difflib
import re

from ml_collections import ConfigDict

# Tuples of numbers that may be empty, so that their type is not visible; the others are tuples of texts.
_ELEMENTS = {"training.ema": 0.0, "training.power_ema": 0.0, "model.attention": 0}


def apply(config: ConfigDict, path: str, text: str) -> str | None:
    """Set the field at `path` ("section.field") from text, in the type of the field. Returns the problem, or None."""
    node, fields = config, path.split(".")
    for depth, field in enumerate(fields):
        if not isinstance(node, ConfigDict) or field not in node:
            names = list(node.keys()) if isinstance(node, ConfigDict) else []
            near = difflib.get_close_matches(field, names, 1, cutoff=0.4)
            prefix = ".".join([*fields[:depth], ""])
            hint = f"did you mean {prefix}{near[0]}?" if near else f"there are: {', '.join(names) or 'none below it'}"
            return f"--config.{path}: unknown field {field}; {hint}"
        parent, node = node, node[field]
    if isinstance(node, ConfigDict):
        return f"--config.{path}: this is a section; set one of its fields: {', '.join(node.keys())}"
    try:
        value = _parse(text, node, path)
    except (
        ValueError,
        SyntaxError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ):  # int(inf) overflows; brackets without end
        return f"--config.{path}: expected {_kind(node)} such as {node!r}, got {text!r}"
    with parent.ignore_type():
        parent[fields[-1]] = value
    return None


def _parse(text: str, old, path: str):
    if isinstance(old, str):
        return text
    if isinstance(old, tuple):
        old = old or (_ELEMENTS.get(path, ""),)
    if (
        isinstance(old, tuple)
        and all(isinstance(element, str) for element in old)
        and re.fullmatch(r"[\w.-]+(,[\w.-]+)*,?", text)
    ):
        return tuple(filter(None, text.split(",")))  # names without quotes
    value = {"true": True, "false": False}.get(text.lower())
    if value is None:
        value = float(text) if text.strip("+-").lower() in ("nan", "inf") else ast.literal_eval(text)
    if path == "data.image_size":
        return (
            tuple(_cast(element, 0) for element in value)
            if isinstance(value, tuple) and len(value) in (1, 2, 3)
            else _cast(value, 0)
        )
    if isinstance(old, tuple):
        elements = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(_cast(element, old[0]) for element in elements)
    return _cast(value, old)


def _cast(value, old):
    """Convert the value to the type of the old one; 1e5 counts as an integer, 1.5 does not."""
    if isinstance(value, bool) != isinstance(old, bool) or isinstance(value, str) != isinstance(old, str):
        raise TypeError
    if isinstance(old, int) and value != int(value):
        raise ValueError
    return type(old)(value)


def _kind(value) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a tuple", str: "a text"}
    return names[type(value)]
