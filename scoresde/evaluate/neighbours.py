"""Nearest records: does a model repeat its training data? Distances are root mean squares over the values of a record.

A copy is told by comparison: samples that lie much closer to the training data than fresh data do were memorised.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from scoresde.errors import DataError

_ROWS = 256  # compared at once


class Nearest(NamedTuple):
    index: Int[np.ndarray, " N"]
    distance: Float[np.ndarray, " N"]


def nearest(x: np.ndarray, y: np.ndarray) -> Nearest:
    """For every record of x [N, ...] the index of the nearest record of y [M, ...], and its distance, float64.

    The search is in float32, and the distance is taken anew of the one that was found, for the expanded square cancels where a
    sample is a copy. A NaN in x gives index 0 and distance NaN.

    Raises:
        DataError: no records in y, or records of another size.
    """
    x, y = np.asarray(x), np.asarray(y)
    if len(y) == 0 or x.shape[1:] != y.shape[1:]:
        raise DataError(f"nearest: expected records of one shape, and one at least, got {x.shape} and {y.shape}")
    a, b = (z.reshape(len(z), -1).astype(np.float32) for z in (x, y))
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    square = np.sum(b**2, axis=1)
    parts = [np.argmin(square - 2 * a[k : k + _ROWS] @ b.T, axis=1) for k in range(0, len(a), _ROWS)]
    index = np.where(np.isfinite(a).all(axis=1), np.concatenate(parts) if parts else 0, 0).astype(int)
    apart = a.astype(np.float64) - b[index]
    return Nearest(index, np.sqrt(np.mean(apart**2, axis=1)))
