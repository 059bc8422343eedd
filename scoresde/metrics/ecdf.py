r"""Simultaneous bands of an empirical distribution function of uniform values.

N independent values of U(0, 1) have F(z) = #{values < z}/N, and N F(z) is binomial at one place z. At places z_1 < ...
< z_K the counts are a Markov chain,

    N F(z_{i+1}) - N F(z_i) ~ Binomial(N - N F(z_i), (z_{i+1} - z_i)/(1 - z_i)),

which gives the probability that all of them lie between central binomial intervals of one tail probability. The band
has the largest tail probability that keeps the level (Sailynoja, Buerkner and Vehtari 2022). An interval
at each place alone would be left at some place far more often.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, gammaln

from scoresde.errors import ConfigError

_STEPS = 14  # bisections of the logarithm of the tail probability, far finer than the counts


class Band(NamedTuple):
    """Band of an empirical distribution function; it contains the whole function with probability `level` or more.

    Attributes:
        places: z, [K], increasing, between 0 and 1.
        low: lower ends, [K].
        high: upper ends, [K].
        level: probability.
    """

    places: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float


def ecdf_band(num: int, places, level: float = 0.95) -> Band:
    """Return the simultaneous band of the distribution function of `num` uniform values.

    Args:
        num: N, at least 1.
        places: z, [K], increasing, between 0 and 1.
        level: probability that the function lies in the band at all places, between 0 and 1.

    Raises:
        ConfigError: an argument is out of range.
    """
    places = np.asarray(places, np.float64)
    if places.ndim != 1 or not places.size or not (np.diff(places, prepend=0, append=1) > 0).all():
        raise ConfigError(f"places: expected increasing numbers [K] between 0 and 1, got {places.tolist()}")
    if num < 1 or not 0 < level < 1:
        raise ConfigError(f"expected num from 1 and level between 0 and 1, got num={num} and level={level}")
    low, high = _band(int(num), tuple(places.tolist()), float(level))
    return Band(places, low / num, high / num, level)


@functools.lru_cache(maxsize=64)
def _band(num: int, places: tuple[float, ...], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper counts, [K] each."""
    z = np.array(places)
    cumulative = bdtr(np.arange(num + 1.0), num, z[:, None])
    # A tail probability of (1 - level)/K keeps the level by the union bound, and at one place 1 - level does.
    good, bad = (1 - level) / len(z), 1 - level
    for _ in range(_STEPS):
        middle = np.sqrt(good * bad)
        if _inside(num, z, *_intervals(cumulative, middle)) >= level:
            good = middle
        else:
            bad = middle
    return _intervals(cumulative, good)


def _intervals(cumulative: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the central intervals [K] of counts that each leave at most `tail` outside."""
    low, high = (np.argmax(cumulative >= share, axis=1) for share in (tail / 2, 1 - tail / 2))
    return low, high


def _inside(num: int, z: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Return the probability that N F(z_i) lies in [low_i, high_i] at all places."""
    log_factorial = gammaln(np.arange(num + 1) + 1.0)
    counts, chances, before = np.zeros(1, int), np.ones(1), 0.0
    for at, first, last in zip(z, low, high, strict=True):
        share = (at - before) / (1 - before)
        new = np.arange(first, last + 1)[:, None]
        step = np.maximum(new - counts, 0)
        log_chance = (
            log_factorial[num - counts]
            - log_factorial[step]
            - log_factorial[num - new]
            + step * np.log(share)
            + (num - new) * np.log1p(-share)
        )
        chances = np.where(new >= counts, np.exp(log_chance), 0.0) @ chances
        counts, before = new[:, 0], at
    return float(chances.sum())
