r"""Distances between the distributions of two sets of functions, and a two-sample test with its power.

The squared distance of two functions is the mean over the grid of the squared difference, summed over channels: a
Riemann sum of the L2 norm, so that all numbers converge as the grid is refined.
"""

from typing import NamedTuple

import numpy as np

from scoresde.errors import ConfigError, DataError
from scoresde.metrics.arrays import pair, random_generator

LEVEL = 0.05  # significance level of the tests
_CANCELLED = 1e-6  # share of |x|^2 + |y|^2 above which the expanded square keeps ten digits of float64
_PAIRS = 4096  # pairs whose differences are computed at once


class Test(NamedTuple):
    """Statistic (unbiased MMD^2) and p-value of a test."""

    statistic: float
    p_value: float


class Power(NamedTuple):
    """Power of a test.

    Attributes:
        rate: share of the tests that reject.
        standard_error: standard error of the rate.
        tests: number of tests.
        independent: whether no function was in two tests; if not, the standard error does not include that the pools
            are finite.
    """

    rate: float
    standard_error: float
    tests: int
    independent: bool


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the squared distances [N, M] of functions [N, *grid, channels] and [M, *grid, channels]."""
    points = int(np.prod(x.shape[1:-1]))
    x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    centre = y.mean(axis=0)  # reduces the cancellation in the expanded square
    x, y = x - centre, y - centre
    size = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)
    square = size - 2 * x @ y.T
    # Distances of pairs that are close compared with their distance from the centre, such as copies, are computed from
    # their differences.
    close = np.argwhere(square < _CANCELLED * size)
    for first in range(0, len(close), _PAIRS):
        i, j = close[first : first + _PAIRS].T
        square[i, j] = np.sum((x[i] - y[j]) ** 2, axis=1)
    return square / points


def median_bandwidth(x, y) -> float:
    """Return the median distance of two different functions of the union of both sets (Gretton et al. 2012, section 8).

    Raises:
        DataError: more than half of the functions are equal.
    """
    x, y = pair(x, y, least=1)
    both = np.concatenate([x, y])
    return _median(squared_distances(both, both))


def mmd2(x, y, bandwidth: float | None = None) -> float:
    """Return the unbiased squared maximum mean discrepancy with k(u, v) = exp(-|u - v|^2 / (2 h^2)).

        sum_{i != j} k(x_i, x_j)/(n (n-1)) + sum_{i != j} k(y_i, y_j)/(m (m-1)) - 2 sum_ij k(x_i, y_j)/(n m)

    (Gretton et al. 2012, equation 3). It may be negative if the distributions agree.

    Args:
        x: functions [N, *grid, channels].
        y: functions [M, *grid, channels].
        bandwidth: h, above 0; None: the median distance, which depends on the data: use a number to compare models.
    """
    x, y = pair(x, y)
    h = median_bandwidth(x, y) if bandwidth is None else _positive(bandwidth)
    within = []
    for z in (x, y):
        kernel = np.exp(-squared_distances(z, z) / (2 * h**2))
        within.append((kernel.sum() - np.trace(kernel)) / (len(z) * (len(z) - 1)))
    return float(sum(within) - 2 * np.exp(-squared_distances(x, y) / (2 * h**2)).mean())


def permutation_test(x, y, *, permutations: int = 1000, seed: int = 0) -> Test:
    """Return the two-sample test of `mmd2` with the median bandwidth.

    p = (1 + #{permuted >= observed})/(1 + permutations). A permutation test is exact for every number of functions:
    under equal distributions P(p <= a) <= a.
    """
    x, y = pair(x, y)
    _at_least("permutations", permutations, 1)
    return _test(np.concatenate([x, y]), len(x), permutations, random_generator(seed))


def power(x, y, size: int, *, repeats: int = 30, permutations: int = 1000, seed: int = 0) -> Power:
    """Return how often the permutation test at level 5 % distinguishes `size` functions of x from `size` of y.

    A rate of 5 % means that the test cannot distinguish them (Lim et al. 2023, HDM, report it for size 10). A test with
    10 functions is weak: a Gaussian process with the right mean and covariance nearly passes as a bimodal distribution.
    Report size 100 as well, and the rows of `calibration`.

    Args:
        x: pool of functions [N, *grid, channels].
        y: other pool, [M, *grid, channels]; if both have repeats * size functions, no function is in two tests.
        size: functions of each pool in a test, at least 2.
        repeats: number of tests, at least 1.
        permutations: permutations per test, at least 19.
        seed: seed of the choice of functions and of the permutations.

    Raises:
        DataError: a pool has fewer than `size` functions.
    """
    x, y = pair(x, y)
    for name, value, least in (("size", size, 2), ("repeats", repeats, 1), ("permutations", permutations, 19)):
        _at_least(name, value, least)
    if min(len(x), len(y)) < size:
        raise DataError(f"power: expected pools of at least {size} functions, got {len(x)} and {len(y)}; draw more")
    random, apart = random_generator(seed), min(len(x), len(y)) >= size * repeats
    choices = [_choices(random, len(pool), size, repeats, apart) for pool in (x, y)]
    rejected = 0
    for i, j in zip(*choices, strict=True):
        rejected += _test(np.concatenate([x[i], y[j]]), size, permutations, random).p_value <= LEVEL
    rate = rejected / repeats
    return Power(rate, float(np.sqrt(rate * (1 - rate) / repeats)), repeats, apart)


def calibration(
    truth, cases: dict, sizes=(10, 100), *, repeats: int = 30, permutations: int = 1000, seed: int = 0
) -> dict:
    """Return {case: {size: Power}} of tests of `truth` against known distributions, for comparison with a model.

    `scoresde.data.functions.calibration` samples cases for the `quadratic` curves.
    """
    options = {"repeats": repeats, "permutations": permutations, "seed": seed}
    return {case: {size: power(truth, pool, size, **options) for size in sizes} for case, pool in cases.items()}


def sliced_wasserstein(x, y, *, directions: int = 256, order: float = 2.0, seed: int = 0) -> float:
    """Return the sliced Wasserstein distance (mean over w of W_p(<x, w>, <y, w>)^p)^(1/p) (Bonneel et al. 2015).

    w is uniform on the unit sphere of all values. A shift by d gives |d|/sqrt(D) in the mean square, where D is the
    number of values, so the distance does not grow on a finer grid. Sets of different sizes are compared at the
    quantiles of the smaller one.

    Args:
        x: functions [N, *grid, channels].
        y: functions [M, *grid, channels].
        directions: number of directions w, at least 1.
        order: p, at least 1.
        seed: seed of the directions.
    """
    x, y = pair(x, y, least=1)
    _at_least("directions", directions, 1)
    if not order >= 1:
        raise ConfigError(f"order: expected at least 1, got {order}")
    w = random_generator(seed).standard_normal((x[0].size, directions))
    w /= np.linalg.norm(w, axis=0)
    a, b = (np.sort(w.T @ z.reshape(len(z), -1).T, axis=1) for z in (x, y))
    count = min(len(x), len(y))
    a, b = _quantiles(a, count), _quantiles(b, count)
    return float(np.mean(np.abs(a - b) ** order) ** (1 / order))


def _quantiles(rows: np.ndarray, count: int) -> np.ndarray:
    """Return the quantiles at (k + 1/2)/count of sorted rows [R, N], interpolated between order statistics, the i-th of
    which is at (i + 1/2)/N."""
    place = (np.arange(count) + 0.5) / count * rows.shape[1] - 0.5
    low = np.floor(place).astype(int)
    share = place - low
    return (1 - share) * rows[:, low] + share * rows[:, np.minimum(low + 1, rows.shape[1] - 1)]


def _test(both: np.ndarray, first: int, permutations: int, random: np.random.Generator) -> Test:
    """Test the first `first` functions against the others. All permutations are computed at once, because the statistic
    is a quadratic form of the labels."""
    square = squared_distances(both, both)
    kernel = np.exp(-square / (2 * _median(square) ** 2))
    np.fill_diagonal(kernel, 0)
    n, m = first, len(both) - first
    label = np.arange(len(both)) < n
    labels = np.concatenate([label[None], random.permuted(np.tile(label, (permutations, 1)), axis=1)]).astype(
        np.float64
    )
    rows = labels @ kernel
    xx, x_all = np.sum(rows * labels, axis=1), rows.sum(axis=1)
    xy, total = x_all - xx, kernel.sum()
    statistics = xx / (n * (n - 1)) + (total - xx - 2 * xy) / (m * (m - 1)) - 2 * xy / (n * m)
    # A permutation within the sets gives the same number up to rounding, and must not count as smaller.
    reached = np.sum(statistics[1:] >= statistics[0] - 1e-12)
    return Test(float(statistics[0]), float((1 + reached) / (1 + permutations)))


def _median(square: np.ndarray) -> float:
    h = float(np.sqrt(np.median(square[np.triu_indices(len(square), 1)]))) if len(square) > 1 else 0.0
    if not h > 0:
        raise DataError("expected functions that differ, got a median distance of 0; is the generator collapsed?")
    return h


def _choices(random: np.random.Generator, length: int, size: int, repeats: int, apart: bool) -> np.ndarray:
    """Return indices [repeats, size] without repetition within a test, and with `apart` in all tests together."""
    if apart:
        return random.permutation(length)[: size * repeats].reshape(repeats, size)
    return np.stack([random.permutation(length)[:size] for _ in range(repeats)])


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name}: expected at least {least}, got {value}")


def _positive(bandwidth: float) -> float:
    if not 0 < bandwidth < np.inf:
        raise ConfigError(
            f"bandwidth: expected a finite number above 0, got {bandwidth}; None takes the median distance"
        )
    return bandwidth
