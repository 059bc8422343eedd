r"""Do fakes look real, and do they cover the data? Four numbers from balls around features.

With r_k(z) the distance from z to its k-th nearest neighbour within its own set, the set itself left out, and B(z) the
ball of that radius, its rim included (Kynkaanniemi et al. 2019, equation 2; Naeem et al. 2020, equations 1, 3 and 5):

    precision   share of fakes in B(real) of at least one real
    recall      share of reals in B(fake) of at least one fake
    density     number of B(real) that hold a fake, averaged over fakes, over k
    coverage    share of reals whose B(real) holds at least one fake

Distances are those of `scoresde.metrics.distances`: right for clusters however tight beside their distance, and for
copies.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from scoresde.errors import DataError
from scoresde.metrics.distances import check_finite, in_blocks, squared_distances

NEIGHBOURS = 5  # k of Naeem et al., section 4; Kynkaanniemi et al. take 3


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
        DataError: no more than k features in a set, features of different kinds, or some that are not finite.
    """
    if not 1 <= neighbours < min(len(fake), len(real)) or fake.shape[1] != real.shape[1]:
        raise DataError(
            f"prdc: expected more than {neighbours} features in each set, of one kind, got {list(fake.shape)} and "
            f"{list(real.shape)}; draw more"
        )
    check_finite("prdc", fake, real)
    fakes, reals = in_blocks(fake, real)
    radius_fake, radius_real = _radii(fakes, len(fake), neighbours), _radii(reals, len(real), neighbours)
    in_real, real_holds, in_fake = np.zeros(len(fake)), np.zeros(len(real), bool), np.zeros(len(real), bool)
    for i, x in fakes():
        for j, y in reals():
            held, holding, covered = _counts(x, y, radius_fake[i], radius_real[j])
            in_real[i] += np.asarray(held)
            real_holds[j] |= np.asarray(holding)
            in_fake[j] |= np.asarray(covered)
    counts = {"precision": in_real > 0, "recall": in_fake, "density": in_real / neighbours, "coverage": real_holds}
    values = {name: float(np.mean(part)) for name, part in counts.items()}
    return PRDC(**values, errors={name: float(np.std(part) / np.sqrt(len(part))) for name, part in counts.items()})


def _radii(blocks: Callable, num: int, neighbours: int) -> np.ndarray:
    """Squared distance of each feature to its k-th nearest neighbour. The nearest of all is itself, or a copy."""
    radii = np.zeros(num, np.float32)
    for i, a in blocks():
        best = jnp.full((len(a), neighbours + 1), jnp.inf)
        for _, b in blocks():
            best = _nearest(best, a, b, neighbours + 1)
        radii[i] = np.asarray(best[:, -1])
    return radii


@functools.partial(jax.jit, static_argnames="count")
def _nearest(best, a, b, count):
    return -jax.lax.top_k(-jnp.concatenate([best, squared_distances(a, b)], axis=1), count)[0]


@jax.jit
def _counts(fake, real, radius_fake, radius_real):
    """For each fake, how many reals hold it; whether each real holds a fake; whether a fake holds each real."""
    square = squared_distances(fake, real)
    held = square <= radius_real
    return held.sum(axis=1), held.any(axis=0), (square <= radius_fake[:, None]).any(axis=0)
