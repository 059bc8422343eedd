"""Conditions y of p(x | y), which a network receives about each example.

A condition is a dict of named arrays, one example each. Its specification is static: {name: kind of the entry}.

| kind                    | array          | absent      | enters a network                                              |
|-------------------------|----------------|-------------|---------------------------------------------------------------|
| ClassCondition          | [] int32       | -1          | added to the vector of the noise level                        |
| VectorCondition         | [d]            | NaN         | added to the vector of the noise level                        |
| ImageCondition          | [*grid, c]     | NaN         | appended to the channels of the input, with a presence channel|
| EncodedImageCondition   | [*grid, c]     | NaN         | by a small encoder, added to the vector of the noise level    |
| SequenceCondition       | [L, d]         | NaN rows    | cross-attention, or its masked mean where there is none       |
| AugmentationCondition   | [d]            | 0           | added to the embedding of the noise level                     |

Every kind has one value that denotes an absent entry. It is outside the range of present ones, so that an entry of 0 is
never taken for an absent one; only the label of an augmentation is 0 for an example that is not changed. An absent
entry is replaced by parameters of its own, the learned null; in an image the presence channel is 0 as well. A sequence
has a mask: rows of NaN are absent, and attention always has one learned token in addition, so that an empty sequence
has a softmax to take part in.

The last layer of each kind starts near zero, so that a network starts without the effect of its conditions. A class
starts with random vectors instead, and so do the channels of an image in `edm2`, whose kernels have a fixed magnitude.
"""

import abc
import types
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool

from ..errors import ConfigError
from .condition_embeddings import ClassEmbedding

Condition = Mapping[str, Array]  # values [b, *shape] of entries by name; entries that are not there are absent
Conditions = Mapping[str, "AbstractCondition"]  # kinds of entries by name
EMPTY: Conditions = types.MappingProxyType({})


class Place(NamedTuple):
    """Where a condition enters a network.

    Attributes:
        features: length of the vector that every block uses.
        noise_features: length of the embedding of the noise level.
        attends: whether the network has attention to which a sequence can be added.
        classes: layer of a class, (num_classes, features, **options) -> module.
    """

    features: int
    noise_features: int
    attends: bool = False
    classes: Callable = ClassEmbedding


class AbstractCondition(abc.ABC):
    """Kind of one entry of a condition.

    Attributes:
        droppable: whether training may replace the entry by its null (`training.condition_dropout`).
        standardised: whether values are standardised by the mean and deviation of the training records, per component
            along the last axis.
    """

    droppable = True
    standardised = False

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the value of one example."""

    @abc.abstractmethod
    def embedding(self, place: Place, **options) -> nnx.Module:
        """Return the layers that map a batch of values to their contributions, see `condition_embeddings`."""

    def null(self) -> np.ndarray:
        """Return the value that denotes an absent entry."""
        return np.full(self.shape, np.nan, np.float32)

    def is_null(self, value: Array) -> Bool[Array, ""]:
        """Return whether the value of one example is absent."""
        return ~jnp.any(jnp.isfinite(value))

    def flip(self, value: Array) -> Array:
        """Return the value that belongs to the example mirrored along its second axis."""
        return value

    def check(self, values: np.ndarray, what: str) -> np.ndarray:
        """Return values [N, *shape] in the type of the entry.

        Args:
            values: values, of which absent ones are NaN.
            what: name of the array in messages.

        Raises:
            ConfigError: another shape or type, infinite values, or values that are NaN in part.
        """
        values = np.asarray(values)
        if values.dtype.kind not in "fiub" or values.shape[1:] != self.shape or values.ndim == 0:
            raise ConfigError(f"{what}: expected {self._expected()}, got {values.dtype} {list(values.shape)}")
        values = values.astype(np.float32)
        if bad := np.flatnonzero(self._is_partial(values)).tolist():
            raise ConfigError(
                f"{what}: expected finite numbers, or NaN in all of an absent entry, got NaN or infinity in "
                f"{len(bad)} of {len(values)} rows, the first in row {bad[0]}"
            )
        return values

    def _is_partial(self, values: np.ndarray) -> np.ndarray:
        """Return which rows [N] are neither finite nor entirely NaN."""
        flat = values.reshape(len(values), -1)
        return ~(np.isfinite(flat).all(axis=1) | np.isnan(flat).all(axis=1))

    def _expected(self) -> str:
        return f"numbers [N, {', '.join(map(str, self.shape))}]"


def parse_condition(
    kinds: dict[str, AbstractCondition], condition: dict, scales: dict[str, tuple[Array, Array]]
) -> dict[str, Array]:
    """Return the condition of one example in the types and the scale of a network.

    Args:
        kinds: entries that the network takes.
        condition: values of some entries; None for an absent one. A sequence may be shorter than its kind.
        scales: offset and scale of the entries that are standardised.

    Raises:
        ConfigError: an unknown entry, another shape, or a value out of range where it is known.
    """
    found = {}
    for name, value in condition.items():
        if name not in kinds:
            names = ", ".join(kinds) or "none"
            raise ConfigError(f"condition: unknown entry '{name}'; the network takes: {names}")
        found[name] = _parse(kinds[name], value, f"condition '{name}'")
        if name in scales:
            offset, scale = scales[name]
            found[name] = (found[name] - offset) / scale
    return found


def _parse(kind: AbstractCondition, value, what: str) -> Array:
    if value is None:
        return jnp.asarray(kind.null())
    if not isinstance(value, jax.core.Tracer):
        value = np.asarray(value)
        rows = kind.shape[0] - value.shape[0] if value.ndim == len(kind.shape) == 2 else 0
        if rows > 0 and kind.shape[1:] == value.shape[1:]:
            value = np.pad(value.astype(np.float32), ((0, rows), (0, 0)), constant_values=np.nan)
        return jnp.asarray(kind.check(value[None], what)[0])
    if value.shape != kind.shape:
        raise ConfigError(f"{what}: expected the shape {kind.shape}, got {value.shape}")
    return value.astype(kind.null().dtype)
