r"""Kernel inception distance (Binkowski et al. 2018): the unbiased squared maximum mean discrepancy with the kernel
k(u, v) = (u.v/D + 1)^3.

    sum_{i != j} k(x_i, x_j)/(n (n-1)) + sum_{i != j} k(y_i, y_j)/(m (m-1)) - 2 sum_ij k(x_i, y_j)/(n m)

It is unbiased for every number of features, unlike FID, and may be negative if the distributions agree. The mean over
disjoint subsets of size n has the same expectation, costs less, and its spread is a valid standard error. The authors
use overlapping subsets and report their standard deviation, which is not a standard error of the mean.

The result is far smaller than the three sums if features have a mean c: with u = c + a, v = c + b, s = 1 + c.c/D,

    k(u, v) = (s + w)^3,   w = c.a/D + c.b/D + a.b/D

The terms s^3 and 3 s^2 (c.a + c.b)/D of the cube add up to 0 over the three sums, and are left out. The remaining
3 s^2 a.b/D + (3 s + w) w^2 is summed in float64 on the host.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scoresde.errors import DataError
from scoresde.metrics.distances import check_finite

SIZE = 1000  # features in a subset, as in the paper
_LEAST = 10  # number of subsets, if there are enough features


class KID(NamedTuple):
    """The mean over `subsets` disjoint subsets of `size` features of each kind, and its standard error."""

    value: float
    standard_error: float | None
    subsets: int
    size: int


def kid(
    fake: Float[np.ndarray, "N D"], real: Float[np.ndarray, "M D"], *, size: int | None = None, seed: int = 0
) -> KID:
    """Return the kernel inception distance of two sets of features.

    Args:
        fake: features of the fakes.
        real: features of the reference.
        size: features in a subset, at least 2; None: 1000, or a tenth of the smaller set if that is less.
        seed: seed of the assignment of features to subsets.

    Raises:
        DataError: there are fewer than `size` features, or the features have different dimensions or are not finite.
    """
    least = min(len(fake), len(real))
    size = max(2, min(SIZE, least // _LEAST)) if size is None else size
    if not 2 <= size <= least or fake.shape[1] != real.shape[1]:
        raise DataError(
            f"kid: expected at least {max(size, 2)} features of one kind, got {list(fake.shape)} and {list(real.shape)}"
        )
    check_finite("kid", fake, real)
    random = np.random.Generator(np.random.Philox(key=seed))
    orders, subsets = [random.permutation(len(x)) for x in (fake, real)], least // size
    values = []
    with np.errstate(over="ignore", invalid="ignore"):  # features above 1e50, which `measure` reports
        for k in range(subsets):
            rows = slice(k * size, (k + 1) * size)
            parts = (np.asarray(x[np.sort(order[rows])]) for x, order in zip((fake, real), orders, strict=True))
            values.append(polynomial_mmd2(*parts))
        error = float(np.std(values, ddof=1) / np.sqrt(subsets)) if subsets > 1 else None
    return KID(float(np.mean(values)), error, subsets, size)


def polynomial_mmd2(x: Float[np.ndarray, "n D"], y: Float[np.ndarray, "m D"]) -> float:
    """Return the unbiased estimate above from all features of both sets."""
    n, m = len(x), len(y)
    x, y = (np.asarray(part, np.float64) for part in (x, y))
    c = (x.sum(axis=0) + y.sum(axis=0)) / (n + m)
    a, b = x - c, y - c
    xx, yy, xy = _kernel(a, a, c), _kernel(b, b, c), _kernel(a, b, c)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def _kernel(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return k(c + a_i, c + b_j) without the terms that add up to 0."""
    d = len(c)
    s, product = 1 + c @ c / d, a @ b.T / d
    w = (a @ c / d)[:, None] + b @ c / d + product
    return 3 * s**2 * product + (3 * s + w) * w**2
