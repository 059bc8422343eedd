"""A data set: records on the host, and the codec between them and the model's variable, see `scoresde.data.codec`."""

import functools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
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

    `shape` is that of one record; `classes` the number of label classes, 0 where there are no labels; `labels` int32
    [N], see `scoresde.data.labels`; `labelled` whether each record has one; `threads` how many threads read ahead, 0
    where reading is a copy in memory.
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

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values [n, *shape] and int32 labels [n] of the records `indices` [n]; a label is MISSING, -1, where there is
        none."""
        ...


class ArraySource:
    """Records in memory.

    Args:
        values: [N, *shape], integers or floats.
        labels: [N] class numbers from 0, MISSING for a record without; None: all are without.

    Raises:
        DataError: no records, or not one label per record.
    """

    threads = 0

    def __init__(self, values: np.ndarray, labels: np.ndarray | None = None):
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

    @property
    def labelled(self) -> bool:
        return bool((self.labels != MISSING).all())

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape[1:]

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.values[indices], self.labels[indices]


def fingerprint(name: str, train: ArraySource, test: ArraySource, label_names: tuple[str, ...] = ()) -> str:
    """`name:N_train+N_test:crc32` over the bytes of values and labels: equal for equal content.

    Args:
        label_names: of the labels; they count where they are not the numbers of the classes.
    """
    crc, nothing = 0, not (train.classes or test.classes)
    for part in (train, test):
        # Zeros for a set without labels, as in earlier versions, whose runs can then go on.
        for array in (part.values, np.zeros_like(part.labels) if nothing else part.labels):
            crc = zlib.crc32(array.reshape(-1).view(np.uint8), crc)
    if label_names != tuple(map(str, range(len(label_names)))):
        crc = zlib.crc32("\n".join(label_names).encode("utf-8", "surrogateescape"), crc)
    return f"{name}:{len(train)}+{len(test)}:{crc:08x}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set on the host; `encode`, `decode` and `images` are traceable and take any leading axes.

    Args:
        name: as given to `load`.
        train, test: records of one shape.
        levels: grey levels L of integer records, 2 to 65536; 0: continuous values.
        centered: the model's range is [-1, 1) if True, [0, 1) if False. Of continuous data it only says how
            `images` shows them.
        fingerprint: identifies the content, so that a resumed run detects changed data.
        offset, scale: numbers, or one per channel: the original values of continuous data are offset + scale x.
        span: for continuous data: the values +-span appear white and black; 0: the ends of the model's range.
        found: of image files: what they were before they were brought to one shape, a `scoresde.data.collection.Found`.
        names: of the labels, see `scoresde.data.labels`; (): the numbers of the classes.

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

    def __post_init__(self):
        if tuple(self.train.shape) != tuple(self.test.shape):
            raise DataError(
                f"{self.name}: train records have shape {self.train.shape} and test records {self.test.shape}; "
                "give both the same shape"
            )
        _ = self.codec  # raises for wrong levels

    @functools.cached_property
    def codec(self) -> Codec:
        """The map between its records and the model's variable."""
        return Codec(self.shape, self.levels, self.centered, self.offset, self.scale, self.span)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one record: [H, W, C] for images."""
        return tuple(self.train.shape)

    @property
    def classes(self) -> int:
        """The number of label classes in the training records; 0: they have no labels."""
        return self.train.classes

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.names or tuple(map(str, range(self.classes)))

    def encode(self, v: Any, u: Any = 0.5) -> Shaped[Array, "..."]:
        """`Codec.encode` of its codec."""
        return self.codec.encode(v, u)

    def decode(self, x: Any) -> Shaped[Array, "..."]:
        """`Codec.decode` of its codec."""
        return self.codec.decode(x)

    def units(self, x: Any) -> np.ndarray:
        """`Codec.units` of its codec."""
        return self.codec.units(x)

    def log_jacobian(self) -> float:
        """`Codec.log_jacobian` of its codec."""
        return self.codec.log_jacobian()

    def images(self, x: Any) -> Shaped[Array, "..."]:
        """`Codec.images` of its codec."""
        return self.codec.images(x)

    def stream(
        self, seed: int, batch_size: int, start: int = 0, *, rows: slice = slice(None)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Training batches of step `start`, `start + 1`, ... without end; see `scoresde.data.stream.batches`.

        Args:
            seed: keys the order of the records.
            batch_size: records per step, over all processes together.
            start: the first step; a pure function of (seed, step) gives every batch, so any step costs the same.
            rows: the part of the global batch this process reads.

        Returns:
            Iterator of {"value": [n, *shape], "label": int32 [n]}, as stored: not encoded.

        Raises:
            ConfigError: a negative seed or start, no batch, or no rows in it.
        """
        return batches(self.train, seed, batch_size, start, rows=rows)
