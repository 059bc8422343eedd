r"""Simulation-based calibration: are the ranks of true parameters among posterior draws uniform?

If theta ~ p(theta), x ~ p(x | theta) and theta_1, ..., theta_L ~ q(theta | x), then for q = p(theta | x) the rank

    r = #{l: f(theta_l) < f(theta)}

of every statistic f is uniform on 0, ..., L (Talts et al. 2018, theorem 1). For a posterior N(m, s^2) and
q = N(m + b s, (k s)^2) the ranks have P(r/L <= u) -> Phi(k Phi^-1(u) + b) instead.

The ranks are discrete: compared with the continuous U(0, L), their empirical distribution is at least 1/(L + 1) away,
and a Kolmogorov-Smirnov test rejects the exact posterior once N is large. The test below is the chi-squared test of
counts of ranks, and the band of `ecdf` is at places where the distribution function of the ranks is exact.

Two posteriors pass for coordinates of theta: p(theta | x) and the prior. A statistic of theta *and* x, such as the
log-likelihood, tells them apart (Modrak et al. 2023): append it as a coordinate of truths and draws. `tarp` with
references that depend on x does as well.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, chdtrc

from scoresde.errors import ConfigError
from scoresde.metrics.arrays import posterior_draws, random_generator
from scoresde.metrics.ecdf import Band, ecdf_band

_BINS = 20  # most bins by default, as in Talts et al. 2018
_EXPECTED = 5  # least expected count of a bin, below which the chi-squared distribution is inaccurate (Cochran 1954)
_PLACES = 50  # most places of the empirical distribution function


class SBC(NamedTuple):
    """Ranks of N truths for k statistics, and their agreement with the uniform distribution.

    Attributes:
        ranks: ranks from 0 to `draws`, [N, k].
        draws: L, number of draws for each truth.
        p_value: p-value of the chi-squared test for each statistic, [k]. The smallest of k p-values is below a/k with
            probability at most a.
        histogram: counts of ranks in bins, [k, bins].
        expected: expected counts, [bins]; they differ by the count of one rank if `bins` does not divide L + 1.
        interval: lower and upper ends of the central binomial interval of the count of each bin, [2, bins]. It is
            pointwise: at level 0.95 about one bin in twenty is outside.
        ecdf: share of the ranks below z (L + 1) at the places z of the band, [k, K].
        band: simultaneous band, which contains each row of `ecdf` with probability `level` or more.
    """

    ranks: np.ndarray
    draws: int
    p_value: np.ndarray
    histogram: np.ndarray
    expected: np.ndarray
    interval: np.ndarray
    ecdf: np.ndarray
    band: Band


def sbc(
    truths,
    draws,
    *,
    statistics: Callable[[np.ndarray], np.ndarray] | None = None,
    bins: int | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> SBC:
    """Return the ranks of the truths among their draws, and the test that they are uniform.

    Each truth must be an own draw from the prior with its own x, and the draws of a truth independent of each other.

    Args:
        truths: parameters theta that generated the observations, [N, d].
        draws: draws from q(theta | x) for the observation x of each truth, [N, L, d].
        statistics: function from parameters [..., d] to statistics [..., k]; None: the coordinates.
        bins: number of bins of the test and the histogram; None: 20, or fewer for few draws or truths.
        level: probability of the intervals and of the band.
        seed: seed of the ranks among ties, which are uniform between the least and the greatest possible rank.

    Raises:
        ConfigError: the level is not between 0 and 1, or bins are too many or fewer than 2.
        DataError: shapes do not fit, values are not finite, or there are fewer than 10 truths or no draws.
    """
    truths, draws = posterior_draws(truths, draws, least=2 * _EXPECTED)
    if statistics is not None:
        truths, draws = posterior_draws(statistics(truths), statistics(draws), least=2 * _EXPECTED)
    if not 0 < level < 1:
        raise ConfigError(f"level: expected between 0 and 1, got {level}")
    count, length = draws.shape[:2]
    edges = _edges(bins, length + 1, count)
    below, ties = np.sum(draws < truths[:, None], axis=1), np.sum(draws == truths[:, None], axis=1)
    ranks = random_generator(seed).integers(below, below + ties, endpoint=True)
    histogram = np.stack([np.histogram(column, edges - 0.5)[0] for column in ranks.T])
    share = np.diff(edges) / (length + 1)
    expected = count * share
    chi2 = np.sum((histogram - expected) ** 2 / expected, axis=1)
    places = np.unique(np.linspace(0, length + 1, min(_PLACES, length) + 2).round().astype(int))[1:-1]
    ecdf = np.stack([np.searchsorted(np.sort(column), places) for column in ranks.T]) / count
    return SBC(
        ranks,
        length,
        chdtrc(len(expected) - 1, chi2),
        histogram,
        expected,
        _binomial_interval(count, share, level),
        ecdf,
        ecdf_band(count, places / (length + 1), level),
    )


def _edges(bins: int | None, ranks: int, count: int) -> np.ndarray:
    """Return the first rank of each bin and the number of ranks, [bins + 1]; bins differ by at most one rank."""
    if bins is None:
        bins = min(_BINS, ranks, count // _EXPECTED)
        while bins > 2 and ranks // bins * count < _EXPECTED * ranks:
            bins -= 1
    if not 2 <= bins <= ranks or ranks // bins * count < _EXPECTED * ranks:
        raise ConfigError(
            f"bins: expected from 2 to {ranks} with {_EXPECTED} or more of the {count} ranks in each on average, got "
            f"{bins}; take fewer bins, or more truths"
        )
    return np.arange(bins + 1) * ranks // bins


def _binomial_interval(count: int, share: np.ndarray, level: float) -> np.ndarray:
    cumulative = bdtr(np.arange(count + 1.0), count, share[:, None])
    return np.stack([np.argmax(cumulative >= tail, axis=1) for tail in ((1 - level) / 2, (1 + level) / 2)])
