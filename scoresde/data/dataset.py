"""A data set: records on the host, and the codec between them and the model's variable, see `scoresde.data.codec`."""

import functools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Shaped

from scoresde.data.codec import Codec
from scoresde.data.labels import MISSING
from scoresde.data.stream import batches
from scoresde.errors import DataError


@runtime_checkable
class Source(Protocol):
    """Records that can be read in any order.

    Attributes:
        shape: shape of one record.
        classes: number of label classes; 0: no labels.
        labels: labels of all records, int32 [N], see `scoresde.data.labels`.
        labelled: whether each record has a label.
        threads: number of threads that read ahead; 0 if reading is a copy in memory.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def classes(self) -> int: ...

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def labelled(self) -> bool: ...

    @property
    def threads(self) -> int: ...

    def __len__(self) -> int: ...

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return values [n, *shape] and conditions of the records `indices` [n].

        The conditions are arrays [n, ...] by name. Where there are classes, "class" is one of them: int32 [n], with
        MISSING, -1, for a record without a label. An absent value of another condition is NaN.
        """
        ...


class ArraySource:
    """Records in memory.

    Args:
        values: integers or floats, [N, *shape].
        labels: class numbers from 0, [N], with MISSING for a record without a label; None: no record has a label.
        conditions: other conditions, arrays [N, ...] by name; an absent value is NaN.

    Raises:
        DataError: no records, or not one label and one row of each condition per record.
    """

    threads = 0

    def __init__(
        self,
        values: np.ndarray,
        labels: np.ndarray | None = None,
        conditions: Mapping[str, np.ndarray] = MappingProxyType({}),
    ):
        self.values = np.ascontiguousarray(values)
        if self.values.ndim < 1 or len(self.values) == 0:
            raise DataError(f"expected at least one record, got an array of shape {self.values.shape}; give [N, ...]")
        if labels is None:
            labels = np.full(len(self.values), MISSING)
        labels = np.asarray(labels)
        if labels.shape != (len(self.values),) or labels.min() < MISSING or labels.max() > np.iinfo(np.int32).max:
            raise DataError(
                f"expected {len(self.values)} labels counted from 0, one per record, got shape {labels.shape} "
                f"with values {labels.min(initial=0)} to {labels.max(initial=0)}; give class numbers, not one-hot "
                "rows, or no labels"
            )
        self.labels = labels.astype(np.int32)
        self.classes = int(self.labels.max()) + 1
        self.conditions = {name: np.asarray(rows) for name, rows in conditions.items()}
        for name, rows in self.conditions.items():
            if rows.shape[:1] != (len(self.values),):
                raise DataError(
                    f"condition '{name}': expected one row per record, {len(self.values)}, got an array of shape "
                    f"{rows.shape}"
                )

    @property
    def labelled(self) -> bool:
        return bool((self.labels != MISSING).all())

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape[1:]

    def __len__(self) -> int:
        return len(self.values)

    def field(self, name: str) -> np.ndarray:
        """Return a condition of all records.

        Raises:
            DataError: there is no such condition.
        """
        if name not in self.conditions:
            raise DataError(f"conditions.{name}: the records have no '{name}'; there are: {', '.join(self.conditions)}")
        return self.conditions[name]

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        conditions = {name: rows[indices] for name, rows in self.conditions.items()}
        return self.values[indices], class_condition(self, indices) | conditions


def class_condition(source: Source, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Return {"class": labels [n]} of records, or {} if the source has no classes."""
    return {"class": source.labels[indices]} if source.classes else {}


def fingerprint(name: str, train: ArraySource, test: ArraySource, label_names: tuple[str, ...] = ()) -> str:
    """Return `name:N_train+N_test:crc32` with the CRC of the bytes of values and labels: equal for equal content.

    Args:
        name: name of the source.
        train: training records.
        test: test records.
        label_names: names of the labels, which enter the CRC unless they are the numbers of the classes.
    """
    crc, nothing = 0, not (train.classes or test.classes)
    for part in (train, test):
        # A set without labels counts as zeros, as in earlier versions, so that their runs can be resumed.
        for array in (part.values, np.zeros_like(part.labels) if nothing else part.labels):
            crc = zlib.crc32(array.reshape(-1).view(np.uint8), crc)
    if label_names != tuple(map(str, range(len(label_names)))):
        crc = zlib.crc32("\n".join(label_names).encode("utf-8", "surrogateescape"), crc)
    return f"{name}:{len(train)}+{len(test)}:{crc:08x}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Data set on the host; `encode`, `decode` and `images` are traceable and accept any leading axes.

    Args:
        name: name of the source, as in `load`.
        train: training records.
        test: test records, of the same shape.
        levels: grey levels L of integer records, 2 to 65536; 0: continuous values.
        centered: the model's range is [-1, 1) if True, [0, 1) if False. For continuous data it affects only `images`.
        fingerprint: identifies the content, so that a resumed run detects changed data.
        offset: number, or one per channel; the original values of continuous data are offset + scale x.
        scale: number, or one per channel; see `offset`.
        span: the values +-span of continuous data appear white and black; 0: the ends of the model's range do.
        found: description of the image files before the resize, a `scoresde.data.collection.Found`; None: no files.
        names: names of the labels, see `scoresde.data.labels`; (): the numbers of the classes.
        fields: function (name, kind of a condition) -> its rows for train and for test, of a source that has fields
            beside its records; None: the source has none. See `scoresde.data.conditions`.
        scales: mean and deviation of the conditions that are standardised, by name.
        nulls: names of the conditions that some training records lack.
        coding: codec in place of that of the fields above; None: that of the fields.

    Raises:
        ConfigError: `levels` is neither 0 nor 2 to 65536.
        DataError: train and test differ in shape.
    """

    name: str
    train: Source
    test: Source
    levels: int
    centered: bool
    fingerprint: str
    offset: Any = 0.0
    scale: Any = 1.0
    span: float = 0.0
    found: Any = None
    names: tuple[str, ...] = ()
    fields: Any = None
    scales: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    nulls: frozenset[str] = frozenset()
    coding: Codec | None = None

    def __post_init__(self):
        if tuple(self.train.shape) != tuple(self.test.shape):
            raise DataError(
                f"{self.name}: train records have shape {self.train.shape} and test records {self.test.shape}; "
                "give both the same shape"
            )
        _ = self.codec  # raises for wrong levels

    @functools.cached_property
    def codec(self) -> Codec:
        """Return the map between the records and the model's variable."""
        return self.coding or Codec(self.shape, self.levels, self.centered, self.offset, self.scale, self.span)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one record: [H, W, C] for images."""
        return tuple(self.train.shape)

    @property
    def classes(self) -> int:
        """Return the number of label classes in the training records; 0: they have no labels."""
        return self.train.classes

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.names or tuple(map(str, range(self.classes)))

    def encode(self, v: Any, u: Any = 0.5) -> Shaped[Array, "..."]:
        """Return `Codec.encode` of the codec."""
        return self.codec.encode(v, u)

    def decode(self, x: Any) -> Shaped[Array, "..."]:
        """Return `Codec.decode` of the codec."""
        return self.codec.decode(x)

    def units(self, x: Any) -> np.ndarray:
        """Return `Codec.units` of the codec."""
        return self.codec.units(x)

    def log_jacobian(self) -> float:
        """Return `Codec.log_jacobian` of the codec."""
        return self.codec.log_jacobian()

    def images(self, x: Any) -> Shaped[Array, "..."]:
        """Return `Codec.images` of the codec."""
        return self.codec.images(x)

    def stream(
        self, seed: int, batch_size: int, start: int = 0, *, rows: slice = slice(None)
    ) -> Iterator[dict[str, Any]]:
        """Return the training batches of steps `start`, `start + 1`, ... without end; see
        `scoresde.data.stream.batches`.

        Args:
            seed: seed of the order of the records.
            batch_size: records per step, over all processes together.
            start: first step; every batch is a pure function of (seed, step), so starting at any step costs the same.
            rows: part of the global batch that this process reads.

        Returns:
            Iterator of {"value": [n, *shape], "condition": {name: [n, ...]}} with the stored values, which are not
            encoded.

        Raises:
            ConfigError: a negative seed or start, no batch, or no rows in it.
        """
        return batches(self.train, seed, batch_size, start, rows=rows)
