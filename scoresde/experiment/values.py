"""Values of fields: their types, their JSON form, and their conversion from the text of a flag."""

import ast
import inspect
import json
import re
import types
import typing
from typing import Any

import jax.numpy as jnp
import numpy as np

EMPTY = object()  # a missing default or annotation
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "a tuple",
    str: "a text",
    dict: "a mapping",
}
_DTYPES = ("float32", "bfloat16")
# Texts that may replace a number; all others are Python literals.
_WORDS = {"true": True, "false": False, "none": None, "null": None}


class Like:
    """Type of a field: that of its default, or of its annotation if the default does not determine the type.

    Args:
      default: default of the constructor.
      annotation: annotation of the constructor, as an object.
    """

    def __init__(self, default: Any, annotation: Any = EMPTY):
        self.is_dtype = _is_dtype(default)
        kinds, self.element, self.optional = _of_annotation(annotation)
        self.components = dict in _choices(annotation)  # whether the elements of a tuple may be components
        self.optional |= default is None
        if self.is_dtype:
            kinds = (str,)
        elif default is not EMPTY and default is not None:
            kinds = kinds or (type(default),)
            if isinstance(default, tuple) and default and self.element is None:
                self.element = type(default[0])
        self.kinds = tuple(list if kind is list else kind for kind in kinds)  # () allows any type

    def built(self, value: Any) -> Any:
        """Return the value that the constructor receives for a value of the configuration."""
        return jnp.dtype(value) if self.is_dtype else value

    def cast(self, value: Any) -> Any:
        """Convert a value to the type of the field; 1e5 is a whole number, 1.5 is not.

        Raises:
          TypeError, ValueError, OverflowError: the value has another type.
        """
        if self.is_dtype and value not in _DTYPES:
            raise ValueError
        if value is None:
            if self.optional or not self.kinds:
                return None
            raise TypeError
        if not self.kinds:
            return tuple(value) if isinstance(value, list) else value
        for kind in self.kinds:
            try:
                return self._cast(value, kind)
            except (TypeError, ValueError):
                continue
        raise TypeError

    def _cast(self, value: Any, kind: type) -> Any:
        if kind is tuple:
            values = value if isinstance(value, tuple | list) else (value,)
            return tuple(self._element(each) for each in values)
        if kind in (bool, int, float, str):
            return _scalar(value, kind)
        if isinstance(value, kind):
            return value
        raise TypeError

    def _element(self, value: Any) -> Any:
        kept = self.element is None or self.components and isinstance(value, dict)
        return value if kept else _scalar(value, self.element)

    def parse(self, text: str) -> Any:
        """Return the value of the text of a flag.

        Raises:
          ValueError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError: the text has another type.
        """
        if self.is_dtype or self.kinds == (str,):
            return self.cast(text)
        names = self.kinds == (tuple,) and self.element in (str, None)
        if names and re.fullmatch(r"[\w.:-]+(,[\w.:-]+)*,?", text):
            return tuple(filter(None, text.split(",")))  # a tuple of names without quotes
        lower = text.strip("+-").lower()
        if text.lower() in _WORDS:
            value = _WORDS[text.lower()]
        elif lower in ("nan", "inf"):
            value = float(text)
        else:
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                if self.kinds and str not in self.kinds:
                    raise
                value = text  # a string without quotes
        return self.cast(value)

    def __str__(self) -> str:
        if self.is_dtype:
            return " or ".join(_DTYPES)
        return " or ".join(_KINDS.get(kind, kind.__name__) for kind in self.kinds) or "a value"


def _scalar(value: Any, kind: type) -> Any:
    if isinstance(value, bool) != (kind is bool) or isinstance(value, str) != (kind is str):
        raise TypeError
    if kind is int and value != int(value):
        raise ValueError
    return kind(value)


def _is_dtype(default: Any) -> bool:
    try:
        return default is not None and not isinstance(default, str | int | float | tuple) and bool(np.dtype(default))
    except TypeError:
        return False


def _of_annotation(annotation: Any) -> tuple[tuple, type | None, bool]:
    """Return the types that an annotation allows, the type of the elements of a tuple, and whether it allows None."""
    if annotation in (EMPTY, inspect.Parameter.empty) or isinstance(annotation, str):
        return (), None, False
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        found = [_of_annotation(part) for part in parts if part is not type(None)]
        kinds = tuple(kind for kinds, _, _ in found for kind in kinds)
        complete = all(kinds for kinds, _, _ in found)
        element = next((element for _, element, _ in found if element), None)
        return kinds if complete else (), element, type(None) in parts
    if origin is tuple:
        return (tuple,), next((kind for kind in _choices(annotation) if kind in (bool, int, float, str)), None), False
    return ((annotation,), None, False) if annotation in (bool, int, float, str, tuple, dict) else ((), None, False)


def _choices(annotation: Any) -> tuple:
    """Return the types of the elements of an annotated tuple."""
    element = next(iter(typing.get_args(annotation)), None) if typing.get_origin(annotation) is tuple else None
    return typing.get_args(element) if typing.get_origin(element) in (typing.Union, types.UnionType) else (element,)


def spelled(default: Any) -> Any:
    """Return the default of an argument in the types that a configuration may contain."""
    if _is_dtype(default):
        return np.dtype(default).name
    if isinstance(default, list):
        return tuple(default)
    return default


def is_plain(value: Any) -> bool:
    """Return whether a value has a type that JSON supports."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def with_tuples(value: Any) -> Any:
    """Return a value of JSON with its lists replaced by tuples."""
    if isinstance(value, dict):
        return {name: with_tuples(inner) for name, inner in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list | tuple) else value
