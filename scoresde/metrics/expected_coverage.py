r"""Expected coverage of balls around references: tests of accuracy with random points, TARP (Lemos et al. 2023).

For a reference r the ball around r through theta has the posterior probability

    f = P_q(|theta' - r| < |theta - r|),   estimated by #{l: |theta_l - r| < |theta - r|}/L,

which is uniform on (0, 1) over (theta, x) if q(theta | x) is the posterior and r depends on x and on noise alone. The
expected coverage probability at the level a is P(f < a), and must be a.

References that do not depend on x cannot tell the posterior from the prior, which passes just as well: the test is
sufficient only with references that are any function of x. So `tarp` has no default references, and
`conditional_references` makes some. A reference must not depend on theta itself.

The p-value is that of a Kolmogorov-Smirnov test of the N coverage values against U(0, 1). A test of two *curves* of a
few levels against each other, as in some packages, nearly never rejects: the points of a curve are no sample. A count
c of L draws is the coverage value (c + u)/(L + 1) with u ~ U(0, 1), which is uniform for every L if the count is
uniform on 0, ..., L.

A bias of a quarter of a standard deviation changes the curve by less than 0.01 at all levels with references far
from the posterior, while `sbc` sees it in 200 runs: report both.
"""

from typing import NamedTuple

import numpy as np

from scoresde.errors import ConfigError, DataError
from scoresde.metrics.arrays import posterior_draws, random_generator, vectors
from scoresde.metrics.ecdf import Band, ecdf_band

LEVELS = tuple((np.arange(19) + 1) / 20)  # 0.05, 0.1, ..., 0.95
_LEAST = 10  # truths
_AT_ONCE = 2**22  # numbers whose distances are computed at once


class TARP(NamedTuple):
    """Expected coverage of N truths.

    Attributes:
        coverage: coverage values f, [N], uniform on (0, 1) for an exact posterior.
        levels: nominal levels a, [K].
        ecp: expected coverage probability at each level, the share of coverage values below a, [K]. If q is too wide,
            it is above the level for references close to the posterior; for distant ones it is below small levels and
            above large ones. If q is too narrow, it is the other way round.
        p_value: p-value of the Kolmogorov-Smirnov test of the coverage values against U(0, 1).
        band: simultaneous band, which contains `ecp` of an exact posterior with probability `band.level` or more.
    """

    coverage: np.ndarray
    levels: np.ndarray
    ecp: np.ndarray
    p_value: float
    band: Band


def tarp(truths, draws, references, *, levels=LEVELS, band_level: float = 0.95, seed: int = 0) -> TARP:
    """Return the expected coverage of draws from q(theta | x) by balls around references.

    Distances are of coordinates divided by the standard deviation of the truths, and so are the references: the result
    does not depend on the units of a coordinate.

    Args:
        truths: parameters theta that generated the observations, [N, d].
        draws: draws from q(theta | x) for the observation x of each truth, [N, L, d].
        references: r for each truth, [N, d], in the units of the truths, made from x and noise. References that do not
            depend on x do not distinguish the posterior from the prior.
        levels: nominal levels [K], increasing, between 0 and 1.
        band_level: probability of the band.
        seed: seed of the noise u, and of the counts among ties.

    Raises:
        ConfigError: levels or `band_level` are out of range.
        DataError: shapes do not fit, values are not finite, a coordinate of the truths is constant, or there are fewer
            than 10 truths or no draws.
    """
    from scipy.stats import kstest  # imported here because it takes a second

    truths, draws = posterior_draws(truths, draws, least=_LEAST)
    references = vectors(references, "references", least=_LEAST)
    if references.shape != truths.shape:
        raise DataError(
            f"references: expected {list(truths.shape)} like truths, got {list(references.shape)}; give one for each"
        )
    levels = np.asarray(levels, np.float64)
    band = ecdf_band(len(truths), levels, band_level)
    scale = _deviations(truths)
    random = random_generator(seed)
    counts = np.empty(len(truths))
    rows = max(_AT_ONCE // draws[0].size, 1)
    for first in range(0, len(truths), rows):
        part = slice(first, first + rows)
        reached = np.sum(((draws[part] - references[part, None]) / scale) ** 2, axis=-1)
        radius = np.sum(((truths[part] - references[part]) / scale) ** 2, axis=-1)[:, None]
        below, ties = np.sum(reached < radius, axis=1), np.sum(reached == radius, axis=1)
        counts[part] = random.integers(below, below + ties, endpoint=True)
    coverage = (counts + random.random(len(counts))) / (draws.shape[1] + 1)
    ecp = np.searchsorted(np.sort(coverage), levels) / len(coverage)
    return TARP(coverage, levels, ecp, float(kstest(coverage, "uniform").pvalue), band)


def conditional_references(conditions, truths, *, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """Return references [N, d] for `tarp` that are a random linear function of x, and noise.

        r = mean + std (A z + noise e)/sqrt(1 + noise^2),   e ~ N(0, I)

    with z the observations less their mean over their standard deviation, and the rows of A uniform on the unit sphere
    of R^m. The mean and std are those of all truths, [d]; a single truth has no influence on its reference.

    A good estimate of theta given x, fitted to other simulations, is a reference as well, and a sharper one.

    Args:
        conditions: observations x, [N, m], one for each truth; flatten other shapes.
        truths: parameters theta, [N, d].
        noise: standard deviation of the noise relative to the function of x, from 0.
        seed: seed of A and of the noise.

    Raises:
        ConfigError: the noise is negative or not finite.
        DataError: shapes do not fit, values are not finite, or a coordinate of the truths is constant.
    """
    truths, conditions = vectors(truths, "truths", least=_LEAST), vectors(conditions, "conditions", least=_LEAST)
    if len(truths) != len(conditions):
        raise DataError(
            f"conditions: expected {len(truths)}, one for each truth, got {len(conditions)}; repeat none, drop none"
        )
    if not 0 <= noise < np.inf:
        raise ConfigError(f"noise: expected a finite standard deviation from 0, got {noise}")
    random = random_generator(seed)
    z = conditions - conditions.mean(axis=0)
    varies = z.std(axis=0) > 0
    if not varies.any():
        raise DataError("conditions: expected observations that differ, got equal ones; give x of each truth")
    z = z[:, varies] / z[:, varies].std(axis=0)
    function = random.standard_normal((truths.shape[1], z.shape[1]))
    function /= np.linalg.norm(function, axis=1, keepdims=True)
    unit = z @ function.T + noise * random.standard_normal(truths.shape)
    return truths.mean(axis=0) + _deviations(truths) * unit / np.sqrt(1 + noise**2)


def _deviations(truths: np.ndarray) -> np.ndarray:
    deviations = truths.std(axis=0)
    if not (deviations > 0).all():
        raise DataError(
            f"truths: expected parameters that differ, got a constant coordinate {int(np.argmin(deviations))}; leave "
            "it out"
        )
    return deviations
