"""Nearest records, to test whether a model repeats its training data. Distances are root mean squares over the values
of a record.

Copies are detected by comparison: samples that are much closer to the training data than test data are were memorised.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from scoresde.errors import DataError
from scoresde.metrics.distances import in_blocks, squared_distances


class Nearest(NamedTuple):
    """Nearest record of each record."""

    index: Int[np.ndarray, " N"]
    distance: Float[np.ndarray, " N"]


def nearest(x: np.ndarray, y: np.ndarray) -> Nearest:
    """Return the index of the nearest record of y [M, ...] for every record of x [N, ...], and its distance, float64.

    The search is in float32 (`scoresde.metrics.distances`), the distance of the result in float64. A record of x with a
    NaN has index 0 and distance NaN; a record of y with a NaN is never the nearest.

    Raises:
        DataError: y has no records, or x and y have records of different shapes.
    """
    x, y = np.asarray(x), np.asarray(y)
    if len(y) == 0 or x.shape[1:] != y.shape[1:]:
        raise DataError(f"nearest: expected records of one shape, and one at least, got {x.shape} and {y.shape}")
    a, b = (z.reshape(len(z), -1) for z in (x, y))
    searching, searched = in_blocks(a, b)
    index = np.zeros(len(a), int)
    for rows, some in searching():
        best, least = index[rows], np.full(len(some), np.inf, np.float32)
        for others, among in searched():
            at, square = (np.asarray(part) for part in _closest(some, among))
            closer = square < least
            best[closer], least[closer] = others.start + at[closer], square[closer]
    apart = a.astype(np.float64) - b[index].astype(np.float64)
    return Nearest(index, np.sqrt(np.mean(apart**2, axis=1)))


@jax.jit
def _closest(a, b):
    """Return the number of the row of b nearest to each row of a, and its squared distance."""
    square = squared_distances(a, b)
    square = jnp.where(jnp.isnan(square), jnp.inf, square)
    at = jnp.argmin(square, axis=1)
    return at, jnp.take_along_axis(square, at[:, None], axis=1)[:, 0]
