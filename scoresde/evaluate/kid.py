r"""Kernel inception distance (Binkowski et al. 2018): unbiased squared maximum mean discrepancy with k(u, v) = (u.v/D + 1)^3.

    sum_{i != j} k(x_i, x_j)/(n (n-1)) + sum_{i != j} k(y_i, y_j)/(m (m-1)) - 2 sum_ij k(x_i, y_j)/(n m)

It is unbiased for every number of features, unlike FID, and negative by chance where the laws agree. The mean over disjoint
subsets of size n has the same expectation, costs less, and its spread gives an honest standard error. The authors draw
overlapping subsets and quote their standard deviation, which is no standard error of the mean.

Products of features are taken by JAX in float32 on the device, their sums in float64 on the host.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from scoresde.errors import DataError

SIZE = 1000  # of a subset, as in the paper
_LEAST = 10  # subsets, if there are features for so many


class KID(NamedTuple):
    """The mean over `subsets` disjoint subsets of `size` features of each kind, and its standard error."""

    value: float
    standard_error: float | None
    subsets: int
    size: int


def kid(fake: Float[np.ndarray, "N D"], real: Float[np.ndarray, "M D"], *, size: int | None = None, seed: int = 0) -> KID:
    """The kernel inception distance of two sets of features.

    Args:
        size: of a subset; None: 1000, or a tenth of the smaller set if that is less.
        seed: of the order in which features come into subsets.

    Raises:
        DataError: fewer than `size` features, or features of different kinds.
    """
    least = min(len(fake), len(real))
    size = max(2, min(SIZE, least // _LEAST)) if size is None else size
    if not 2 <= size <= least or fake.shape[1] != real.shape[1]:
        raise DataError(f"kid: expected at least {max(size, 2)} features of one kind, got {list(fake.shape)} and {list(real.shape)}")
    random = np.random.Generator(np.random.Philox(key=seed))
    orders, subsets = [random.permutation(len(x)) for x in (fake, real)], least // size
    values = []
    for k in range(subsets):
        rows = slice(k * size, (k + 1) * size)
        values.append(polynomial_mmd2(*(np.asarray(x[np.sort(order[rows])]) for x, order in zip((fake, real), orders, strict=True))))
    with np.errstate(invalid="ignore"):
        error = float(np.std(values, ddof=1) / np.sqrt(subsets)) if subsets > 1 else None
    return KID(float(np.mean(values)), error, subsets, size)


def polynomial_mmd2(x: Float[np.ndarray, "n D"], y: Float[np.ndarray, "m D"]) -> float:
    """The unbiased estimate above from all features of both sets."""
    n, m = len(x), len(y)
    xx, yy, xy = (np.asarray(part, np.float64) for part in _kernels(jnp.asarray(x), jnp.asarray(y)))
    with np.errstate(invalid="ignore"):  # of features too large for float32: `measure` says so in one line
        within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
        return float(within - 2 * xy.mean())


@jax.jit
def _kernels(x, y):
    with jax.default_matmul_precision("highest"):
        return tuple((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
