r"""Squared distances of features or records, computed by JAX in float32 in blocks, to bound the memory.

    d(a, b)^2 = sum_i (a_i - b_i)^2

The sum is computed as written. The expanded square |a|^2 + |b|^2 - 2 a.b is one matrix product, but float32 rounds
|a|^2 by as much as d^2 if d is a thousandth of |a|: for tight clusters that are far apart, for copies, and for values
with an offset. On a CPU the differences take about twice the time of the product.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.errors import DataError

BLOCK = 2048  # rows on a side of a block: 16 MiB of distances
_AT_ONCE = 16  # coordinates in one pass over a block

Blocks = Iterator[tuple[slice, Float[Array, "n D"]]]


def in_blocks(*sets: np.ndarray) -> list[Callable[[], Blocks]]:
    """Return a function for each set [N, D] that iterates over (rows, values [n, D] in float32).

    All sets are scaled by one power of 2 such that no value is above 1, so that no square leaves the range of float32.
    The mean of the last set is subtracted from float64 values before they are rounded; float32 values are not shifted.
    """
    wide = np.result_type(np.float32, *sets) != np.float32
    centre = np.mean(sets[-1][: 16 * BLOCK], axis=0, dtype=np.float64) if wide else np.float64(0)
    centre = np.where(np.isfinite(centre), centre, 0)
    unit = 2.0 ** -np.frexp(max(_largest(x, centre) for x in sets))[1]
    return [lambda x=x: _blocks(x, centre, unit) for x in sets]


@jax.jit
def squared_distances(a: Float[Array, "n D"], b: Float[Array, "m D"]) -> Float[Array, "n m"]:
    """Return d^2 of every row of a to every row of b; it is exactly 0 for equal rows."""
    short = -a.shape[1] % _AT_ONCE
    a, b = (jnp.pad(x, ((0, 0), (0, short))).T.reshape(-1, _AT_ONCE, len(x)) for x in (a, b))

    def add(total, some):
        return total + sum((u[:, None] - v) ** 2 for u, v in zip(*some, strict=True)), None

    return jax.lax.scan(add, jnp.zeros((a.shape[2], b.shape[2]), a.dtype), (a, b))[0]


def check_finite(name: str, *sets: np.ndarray) -> None:
    """Check, in blocks, that features are finite.

    Raises:
        DataError: a value is NaN or infinite.
    """
    for x in sets:
        if not all(np.isfinite(x[first : first + BLOCK]).all() for first in range(0, len(x), BLOCK)):
            raise DataError(f"{name}: expected finite features, got NaN or infinity; look at the images they are of")


def _blocks(x: np.ndarray, centre: np.ndarray, unit: float) -> Blocks:
    for first in range(0, len(x), BLOCK):
        rows = slice(first, min(first + BLOCK, len(x)))
        yield rows, jnp.asarray(((x[rows].astype(np.float64) - centre) * unit).astype(np.float32))


def _largest(x: np.ndarray, centre: np.ndarray) -> float:
    """Return the largest finite distance of a value from the centre."""
    found = 0.0
    for first in range(0, len(x), BLOCK):
        part = np.abs(x[first : first + BLOCK].astype(np.float64) - centre)
        found = max(found, float(np.max(part, where=np.isfinite(part), initial=0)))
    return found
