"""Records that users bring: arrays, or an object with `__len__` and `__getitem__`.

Such an object is a data set of PyTorch or Hugging Face, or a source of grain.

A part named by `data.source` is a class with these two methods, or a function that returns one of the following. Both
are marked by `scoresde.config.constructor`, since nothing else tells them from other classes and functions.

    Dataset                                  a complete one
    array, or (values, labels)               training records
    {"train": records, "test": records}      each an array, (values, labels), or an object with the two methods

An item of an object is an array, (array, label), or a mapping with an entry `image`, `x` or `value`, and perhaps
`label` or `y` and conditions by their names. In the place of labels there may be a mapping of arrays [N, ...], of which
`class` holds the labels and the others are conditions.

A constructor that has an argument `split` is called for "train" and for "test". Where there are no test
records, the last tenth is kept for them.
"""

import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from scoresde.data.codec import Codec
from scoresde.data.conditions import LABEL, checked
from scoresde.data.dataset import ArraySource, Dataset, Source, class_condition
from scoresde.data.dataset import fingerprint as fingerprint_of_arrays
from scoresde.data.labels import MISSING
from scoresde.errors import DataError

_VALUES, _LABELS = ("image", "x", "value"), ("label", "y")
_TEST_SHARE = 10  # one record in ten
_COMPARED = 64  # records of an object in its fingerprint


class IndexedSource:
    """Records of an object with `__len__` and `__getitem__`, read one by one when they are needed.

    Args:
      items: the object.
      indices: those of its items that belong to this source.
      dtype: of the values.
    """

    threads = 1

    def __init__(self, items: Any, indices: np.ndarray, dtype: np.dtype):
        self._items, self._indices, self._dtype = items, np.asarray(indices), dtype
        if not len(self._indices):
            raise DataError("data.source: expected at least one record, got an object of length 0")
        self.shape = tuple(self._one(0)[0].shape)
        # Labels are needed in full to count the classes, which takes one pass over the items that have any.
        has_labels = self._one(0)[1] != MISSING
        numbers = range(len(self._indices)) if has_labels else ()
        self.labels = np.full(len(self._indices), MISSING, np.int32)
        for n in numbers:
            self.labels[n] = self._one(n)[1]
        self.classes = int(self.labels.max()) + 1

    @property
    def labelled(self) -> bool:
        return bool((self.labels != MISSING).all())

    def __len__(self) -> int:
        return len(self._indices)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        values = np.stack([self._one(int(n))[0] for n in np.atleast_1d(indices)])
        return values, class_condition(self, indices)

    def field(self, name: str) -> np.ndarray:
        """Return an entry of all items, which takes one pass over them.

        Raises:
          DataError: the items have no such entry.
        """
        found = []
        for n in range(len(self._indices)):
            item = self._items[int(self._indices[n])]
            if not isinstance(item, Mapping) or name not in item:
                raise DataError(f"conditions.{name}: expected an entry '{name}' in each item, got a {_kind(item)}")
            found.append(item[name])
        return np.asarray(found)

    def _one(self, n: int) -> tuple[np.ndarray, int]:
        item, label = self._items[int(self._indices[n])], MISSING
        if isinstance(item, Mapping):
            names = [name for name in _VALUES if name in item]
            if not names:
                raise DataError(f"data.source: expected an entry image, x or value in an item, got {sorted(item)}")
            label = next((item[name] for name in _LABELS if name in item), MISSING)
            item = item[names[0]]
        elif isinstance(item, tuple | list) and len(item) == 2:
            item, label = item
        values = np.asarray(item)
        if np.issubdtype(values.dtype, np.integer) != np.issubdtype(self._dtype, np.integer):
            expected = "integers below data.levels" if np.issubdtype(self._dtype, np.integer) else "floats"
            raise DataError(f"data.source: expected {expected}, got {values.dtype}; set data.levels, 0 for floats")
        return values.astype(self._dtype), int(label)


def dataset_of(
    make: Callable[[str | None], Any],
    name: str,
    *,
    shape: tuple[int, ...],
    levels: int,
    centered: bool,
    codec: Codec | None = None,
) -> Dataset:
    """Return the data set of a user's constructor.

    Args:
      make: split -> what the constructor returns; called with None if it returns all.
      name: for messages and for the fingerprint.
      shape: of a record, as declared.
      codec: that of the records; None: that of the declared fields.

    Raises:
      DataError: what it returns is none of the forms at the top of this module.
    """
    found = make(None)
    if isinstance(found, Dataset):
        if codec is not None:
            raise DataError(f"data.codec: data.source = {name!r} returns a Dataset, which has its own; leave it out")
        return found
    if not isinstance(found, Mapping):
        found = {"train": found}
    if "train" not in found or set(found) - {"train", "test"}:
        raise DataError(f"data.source = {name!r}: expected entries train and test, got {sorted(map(str, found))}")
    dtype = np.dtype(np.int32 if levels else np.float32)
    if "test" in found:
        train, test = (_source(found[split], dtype, name, slice(None)) for split in ("train", "test"))
    else:
        last = len(found["train"][0] if isinstance(found["train"], tuple) else found["train"])
        first = last - max(1, last // _TEST_SHARE)
        train = _source(found["train"], dtype, name, slice(0, first))
        test = _source(found["train"], dtype, name, slice(first, last))
    if train.shape != test.shape:
        raise DataError(f"data.source = {name!r}: train records are {train.shape} and test records {test.shape}")
    if tuple(train.shape) != shape:
        raise DataError(f"{name}: declared shape {shape}, but the data have shape {tuple(train.shape)}; declare that")
    fields = functools.partial(_fields, (train, test))
    identity = _fingerprint(name, train, test)
    return Dataset(name, train, test, levels, centered, identity, fields=fields, coding=codec)


def _kind(item: Any) -> str:
    return f"mapping of {', '.join(map(str, item))}" if isinstance(item, Mapping) else type(item).__name__


def _fields(parts: tuple[Source, Source], name: str, kind: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a condition for train and for test."""
    (field,) = kind.fields or (name,)
    return tuple(checked(kind, part.field(field), f"conditions.{name}") for part in parts)


def _source(records: Any, dtype: np.dtype, name: str, part: slice) -> Source:
    if hasattr(records, "__array__") and hasattr(records, "shape"):
        records = (records, None)
    if isinstance(records, tuple) and len(records) == 2 and hasattr(records[0], "shape"):
        values, given = np.asarray(records[0])[part], records[1]
        given = given if isinstance(given, Mapping) else {LABEL: given}
        given = {name: np.asarray(rows)[part] for name, rows in given.items() if rows is not None}
        if np.issubdtype(values.dtype, np.integer) != np.issubdtype(dtype, np.integer):
            expected = "integers below data.levels" if np.issubdtype(dtype, np.integer) else "floats"
            raise DataError(f"data.source = {name!r}: expected {expected}, got {values.dtype}; set data.levels")
        return ArraySource(values.astype(dtype), given.pop(LABEL, None), given)
    if hasattr(records, "__len__") and hasattr(records, "__getitem__"):
        return IndexedSource(records, np.arange(len(records))[part], dtype)
    raise DataError(
        f"data.source = {name!r}: expected arrays, or an object with __len__ and __getitem__, got a "
        f"{type(records).__name__}"
    )


def _fingerprint(name: str, train: Source, test: Source) -> str:
    if isinstance(train, ArraySource) and isinstance(test, ArraySource):
        return fingerprint_of_arrays(name, train, test)
    crc = 0
    for part in (train, test):
        values, conditions = part.rows(np.unique(np.linspace(0, len(part) - 1, _COMPARED).astype(int)))
        for array in (values, conditions.get(LABEL, np.full(len(values), MISSING, np.int32))):
            crc = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8), crc)
    return f"{name}:{len(train)}+{len(test)}:{crc:08x}"
