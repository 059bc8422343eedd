r"""A data set: records on the host, and the map between them and the model's variable.

A record holds integers v in {0, ..., L-1} (L grey levels) or continuous values. The model sees, elementwise,

    y = (v + u) / L  in [0, 1),            u in [0, 1): dequantization noise, or 1/2, the centre of the bin
    x = 2 y - 1  if centered,  else  y     (`data.centered` in the code of Song et al. 2021)

so that `decode(x) = floor(L y)` undoes it for every u. The map is affine with slope s = 2/L or 1/L, hence

    log p(v) = log p(x) + D log s,      D log s = `log_jacobian()`, in nats,

for D-dimensional data. The mean over u ~ U[0, 1) of the right-hand side is a lower bound on the log-probability of the
integers (Theis et al. 2016, section 3.1).
Continuous data (L = 0) are what the model sees: the map is the identity and `log_jacobian()` is 0. Where a source
standardised them, `units(x) = offset + scale x` are the values as they were stored.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from scoresde.data.labels import MISSING
from scoresde.data.stream import batches
from scoresde.errors import ConfigError, DataError

MAX_LEVELS = 65536  # 16 bits; beyond it a bin is narrower than float32 resolves on [-1, 1)

# Bound on the error of y in float32 over encode and decode together: the sum v + u, the quotient by L (perhaps compiled
# as a product with 1/L), 2y - 1 and back, and the product L y, each rounding by at most 2^-24. A value of v + u within
# L * ROUNDING of an edge of its bin may come back as a neighbour.
ROUNDING = 2.0**-22


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
        if self.levels != 0 and not 2 <= self.levels <= MAX_LEVELS:
            raise ConfigError(f"levels={self.levels}: expected 2 to {MAX_LEVELS} grey levels, or 0 if continuous")
        if tuple(self.train.shape) != tuple(self.test.shape):
            raise DataError(
                f"{self.name}: train records have shape {self.train.shape} and test records {self.test.shape}; "
                "give both the same shape"
            )

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
        """Model value x of the record v: y = (v + u)/L, x = 2y - 1 if centered else y; v itself if L = 0.

        In float32 a u within L * 2^-22 of 0 or 1 (6e-5 for L = 256) could be rounded into the neighbouring bin; it is
        rounded to that distance from the edge instead, so that `decode` is exact for every u.

        Args:
            v: integers 0 to L-1, of any shape.
            u: dequantization noise in [0, 1), broadcasting against v; 1/2 puts x at the centre of the bin.

        Returns:
            x with the shape of v and u broadcast, at least float32.
        """
        if not self.levels:
            return jnp.asarray(v)
        dtype = jnp.promote_types(jnp.result_type(v, u), jnp.float32)
        edge = self.levels * ROUNDING
        y = (jnp.asarray(v, dtype) + jnp.clip(jnp.asarray(u, dtype), edge, 1 - edge)) / self.levels
        return 2 * y - 1 if self.centered else y

    def decode(self, x: Any) -> Shaped[Array, "..."]:
        """The record v = floor(L y), clipped to 0..L-1, of the model value x: the inverse of `encode` for every u.

        Returns:
            uint8 (uint16 if L > 256), or float32 if L = 0, with the shape of x. What a NaN becomes is undefined in
            integers: look for non-finite values before.
        """
        if not self.levels:
            return jnp.asarray(x, jnp.float32)
        v = jnp.clip(jnp.floor(self._unit(x) * self.levels), 0, self.levels - 1)
        return v.astype(jnp.uint8 if self.levels <= 256 else jnp.uint16)

    def units(self, x: Any) -> np.ndarray:
        """offset + scale x, float64: model values of continuous data in the units they were given in."""
        return np.asarray(self.offset, np.float64) + np.asarray(self.scale, np.float64) * np.asarray(x, np.float64)

    def log_jacobian(self) -> float:
        """log |dx/dv| summed over the D dimensions, in nats: D log(2/L) if centered, else D log(1/L); 0 if L = 0."""
        if not self.levels:
            return 0.0
        return math.prod(self.shape) * math.log((2.0 if self.centered else 1.0) / self.levels)

    def images(self, x: Any) -> Shaped[Array, "..."]:
        """uint8 0..255 for showing: 255 v/(L-1) of the decoded record; of continuous values 255 y, or 255 (x/span +
        1)/2 where there is a span, clipped."""
        if self.levels:
            shade = self.decode(x).astype(jnp.float32) / (self.levels - 1)
        else:
            shade = jnp.clip((jnp.asarray(x) / self.span + 1) / 2 if self.span else self._unit(x), 0, 1)
        return jnp.round(255 * shade).astype(jnp.uint8)

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

    def _unit(self, x: Any) -> Array:
        """y in [0, 1): the inverse of the last step of `encode`."""
        x = jnp.asarray(x)
        return (x + 1) / 2 if self.centered else x
