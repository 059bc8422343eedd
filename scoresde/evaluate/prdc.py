r"""Do fakes look real, and do they cover the data? Four numbers from balls around features.

With r_k(z) the distance from z to its k-th nearest neighbour within its own set, the set itself left out, and B(z) the ball of
that radius, its rim included (Kynkaanniemi et al. 2019, equation 2; Naeem et al. 2020, equations 1, 3 and 5):

    precision   share of fakes in B(real) of at least one real
    recall      share of reals in B(fake) of at least one fake
    density     number of B(real) that hold a fake, averaged over fakes, over k
    coverage    share of reals whose B(real) holds at least one fake

Distances are taken by JAX in float32, in blocks: memory does not grow with the square of the number of features.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from scoresde.errors import DataError

NEIGHBOURS = 5  # k of Naeem et al., section 4; Kynkaanniemi et al. take 3
_BLOCK = 2048  # features on a side of a block: 16 MiB of distances


class PRDC(NamedTuple):
    """Each number, and its standard error over the features that are counted, the balls held fixed."""

    precision: float
    recall: float
    density: float
    coverage: float
    errors: dict[str, float]


def prdc(fake: Float[np.ndarray, "N D"], real: Float[np.ndarray, "M D"], *, neighbours: int = NEIGHBOURS) -> PRDC:
    """Precision, recall, density and coverage.

    Args:
        neighbours: k.

    Raises:
        DataError: no more than k features in a set, or features of different kinds.
    """
    if not 1 <= neighbours < min(len(fake), len(real)) or fake.shape[1] != real.shape[1]:
        raise DataError(
            f"prdc: expected more than {neighbours} features in each set, of one kind, got {list(fake.shape)} and {list(real.shape)}; draw more"
        )
    centre = np.mean(real[: 16 * _BLOCK], axis=0, dtype=np.float64).astype(np.float32)  # the expanded square cancels less around it
    radius_fake, radius_real = (_radii(x, centre, neighbours) for x in (fake, real))
    in_real, real_holds, in_fake = np.zeros(len(fake)), np.zeros(len(real), bool), np.zeros(len(real), bool)
    for i, x in _blocks(fake, centre):
        for j, y in _blocks(real, centre):
            held, holding, covered = _counts(x, y, radius_fake[i], radius_real[j])
            in_real[i] += np.asarray(held)
            real_holds[j] |= np.asarray(holding)
            in_fake[j] |= np.asarray(covered)
    counts = {"precision": in_real > 0, "recall": in_fake, "density": in_real / neighbours, "coverage": real_holds}
    values = {name: float(np.mean(part)) for name, part in counts.items()}
    return PRDC(**values, errors={name: float(np.std(part) / np.sqrt(len(part))) for name, part in counts.items()})


def _blocks(x: np.ndarray, centre: np.ndarray):
    """(rows, features less the centre), block by block."""
    for first in range(0, len(x), _BLOCK):
        rows = slice(first, min(first + _BLOCK, len(x)))
        yield rows, jnp.asarray(np.asarray(x[rows], np.float32) - centre)


def _radii(x: np.ndarray, centre: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each feature to its k-th nearest neighbour. The nearest of all is itself."""
    radii = np.zeros(len(x), np.float32)
    for i, a in _blocks(x, centre):
        best = jnp.full((len(a), neighbours + 1), jnp.inf)
        for _, b in _blocks(x, centre):
            best = _nearest(best, a, b, neighbours + 1)
        radii[i] = np.asarray(best[:, -1])
    return radii


def _square(a, b):
    """Squared distances [len(a), len(b)]."""
    product = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(jnp.sum(a**2, axis=1)[:, None] + jnp.sum(b**2, axis=1) - 2 * product, 0)


@functools.partial(jax.jit, static_argnames="count")
def _nearest(best, a, b, count):
    return -jax.lax.top_k(-jnp.concatenate([best, _square(a, b)], axis=1), count)[0]


@jax.jit
def _counts(fake, real, radius_fake, radius_real):
    """For each fake, how many reals hold it; whether each real holds a fake; whether a fake holds each real."""
    square = _square(fake, real)
    held = square <= radius_real
    return held.sum(axis=1), held.any(axis=0), (square <= radius_fake[:, None]).any(axis=0)
