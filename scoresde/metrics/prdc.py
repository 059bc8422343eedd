r"""Precision, recall, density and coverage: the quality and the diversity of fakes from balls around features.

With r_k(z) the distance from z to its k-th nearest neighbour in the same set, z excluded, and B(z) the closed ball of
that radius (Kynkaanniemi et al. 2019, equation 2; Naeem et al. 2020, equations 1, 3 and 5):

    precision   share of fakes in B(real) of at least one real
    recall      share of reals in B(fake) of at least one fake
    density     number of B(real) that contain a fake, averaged over fakes, divided by k
    coverage    share of reals whose B(real) contains at least one fake

Distances are those of `scoresde.metrics.distances`, which are accurate for tight clusters that are far apart and for
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

NEIGHBOURS = 5  # k of Naeem et al., section 4; Kynkaanniemi et al. use 3


class PRDC(NamedTuple):
    """The four numbers, and their standard errors over the counted features for fixed balls."""

    precision: float
    recall: float
    density: float
    coverage: float
    errors: dict[str, float]


def prdc(fake: Float[np.ndarray, "N D"], real: Float[np.ndarray, "M D"], *, neighbours: int = NEIGHBOURS) -> PRDC:
    """Return precision, recall, density and coverage.

    Args:
        fake: features of the fakes.
        real: features of the reference.
        neighbours: k, at least 1.

    Raises:
        DataError: a set has k or fewer features, or the features have different dimensions or are not finite.
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
    """Return the squared distance of each feature to its k-th nearest neighbour, not counting the feature itself."""
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
    """Return, for each fake, the number of balls of reals that contain it; for each real, whether its ball contains a
    fake, and whether the ball of a fake contains it."""
    square = squared_distances(fake, real)
    held = square <= radius_real
    return held.sum(axis=1), held.any(axis=0), (square <= radius_fake[:, None]).any(axis=0)
