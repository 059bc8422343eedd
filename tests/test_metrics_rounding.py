"""Metrics where float32 has nothing to spare: tight clusters, copies, offsets, classes of probability 0."""

import fractions

import numpy as np
import pytest

from scoresde.errors import DataError
from scoresde.metrics.distances import BLOCK, in_blocks, squared_distances
from scoresde.metrics.inception_score import inception_score
from scoresde.metrics.kid import kid, polynomial_mmd2
from scoresde.metrics.neighbours import nearest
from scoresde.metrics.prdc import prdc
from scoresde.metrics.twosample import median_bandwidth, mmd2
from scoresde.metrics.twosample import squared_distances as of_functions


def ring(num: int, deviation: float, seed: int) -> np.ndarray:
    """Eight clusters on a circle of radius 1, of the toys, in float32."""
    random = np.random.default_rng(seed)
    angle = 2 * np.pi * random.integers(8, size=num) / 8
    centres = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (centres + deviation * random.standard_normal((num, 2))).astype(np.float32)


def slow_prdc(fake, real, k: int) -> tuple[float, float, float, float]:
    """The definitions written out in float64, distances from differences."""
    apart = lambda a, b: np.sum((a[:, None].astype(np.float64) - b[None]) ** 2, axis=2)
    between = apart(fake, real)
    of_fake, of_real = (np.sort(apart(z, z), axis=1)[:, k] for z in (fake, real))
    in_real = between <= of_real
    covered = (between <= of_fake[:, None]).any(axis=0)
    return in_real.any(axis=1).mean(), covered.mean(), in_real.sum(axis=1).mean() / k, in_real.any(axis=0).mean()


@pytest.mark.parametrize("deviation, shift", [(1e-3, 0.0), (1e-5, 0.0), (1e-3, 100.0), (1e-3, -3e4)])
def test_prdc_of_clusters_that_are_tight_beside_their_distance(deviation, shift):
    """With the expanded square in float32 the ring of deviation .001 had density 1.64 for .99, and precision 1.000 for
    .973. Float32 differences change the order of distances within 1e-7 of each other: a pair or two of those
    counted."""
    fake, real = (ring(800, deviation, seed) + np.float32(shift) for seed in (0, 1))
    found, exact = prdc(fake, real), slow_prdc(fake, real, 5)
    np.testing.assert_allclose(found[:4], exact, atol=2 / 800)
    if not shift:  # with one, float32 has rounded the features themselves to a lattice
        assert 0.9 < found.precision < 1 and 0.8 < found.density < 1.1


def test_prdc_of_copies_and_of_wide_features():
    """Six copies have a ball of radius 0, and are in it. Features of float64 keep what float32 of them would lose."""
    few = np.repeat(np.array([[0.1, 1000.3], [7.7, -3.1]], np.float32), 6, axis=0)
    found = prdc(few, few)
    assert found[:4] == pytest.approx((1, 1, 6 / 5, 1)), "each fake is in the balls of the six copies of itself alone"
    fake, real = (ring(300, 1e-3, seed).astype(np.float64) + 1e6 for seed in (0, 1))
    np.testing.assert_allclose(prdc(fake, real)[:4], slow_prdc(fake, real, 5), atol=2 / 300)
    large, small = (
        prdc(ring(300, 0.1, 0) * scale, ring(300, 0.1, 1) * scale) for scale in (np.float32(1e30), np.float32(1e-30))
    )
    np.testing.assert_allclose(large[:4], small[:4], atol=2 / 300)
    with pytest.raises(DataError, match="finite"):
        prdc(np.where(few > 1000, np.inf, few), few)


def test_squared_distances_in_more_coordinates_and_rows_than_a_block():
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((n, 37)).astype(np.float32) for n in (BLOCK + 3, 5))
    firsts, seconds = in_blocks(a, b)
    ((_, second),) = seconds()
    found = np.concatenate([squared_distances(first, second) for _, first in firsts()])
    exact = np.sum((a[:, None].astype(np.float64) - b) ** 2, axis=2)
    np.testing.assert_allclose(found * (exact[0, 0] / found[0, 0]), exact, rtol=3e-6)  # in a unit of its own


def test_nearest_within_a_tight_cluster_far_from_the_others():
    """Half the records lie 100 away. The expanded square in float32 confused neighbours less than .03 apart, copies
    among them."""
    random = np.random.default_rng(0)
    y = (1e-4 * random.standard_normal((500, 3)) + 100 * (np.arange(500) % 2)[:, None]).astype(np.float32)
    x = np.concatenate([y[[7, 100]], y[:50] + np.float32(2e-5)])
    found = nearest(x, y)
    apart = np.sqrt(np.mean((x[:, None].astype(np.float64) - y) ** 2, axis=2))
    np.testing.assert_array_equal(found.index[:2], [7, 100])
    np.testing.assert_allclose(found.distance, apart.min(axis=1), rtol=1e-6)
    assert np.all(found.distance[:2] == 0)
    hole = np.concatenate([np.full((1, 3), np.nan, np.float32), y])
    np.testing.assert_array_equal(nearest(x, hole).index, found.index + 1)


def exact_mmd2(x, y) -> float:
    """The unbiased sum of KID in rational numbers."""
    x, y = ([[fractions.Fraction(float(v)) for v in row] for row in z] for z in (x, y))
    k = lambda u, v: (sum(a * b for a, b in zip(u, v, strict=True)) / len(u) + 1) ** 3
    within = sum(
        sum(k(u, v) for i, u in enumerate(z) for j, v in enumerate(z) if i != j) / (len(z) * (len(z) - 1))
        for z in (x, y)
    )
    return float(within - 2 * sum(k(u, v) for u in x for v in y) / (len(x) * len(y)))


@pytest.mark.parametrize("offset", [0.0, 300.0, 3e4])
def test_kid_at_an_offset(offset):
    """The kernel is 1e15 at an offset of 300, 1e27 at 3e4, and the sum a billionth of it. Float32 products gave -1.65e6
    for -1.07e6."""
    random = np.random.default_rng(0)
    x, y = ((random.standard_normal((n, 4)) + offset).astype(np.float32) for n in (9, 7))
    assert polynomial_mmd2(x, y) == pytest.approx(exact_mmd2(x, y), rel=1e-9)
    with pytest.raises(DataError, match="finite"):
        kid(np.full((20, 4), np.nan, np.float32), np.concatenate([x, y]))


def test_inception_score_of_classes_with_probability_0():
    """exp of the mean of log 3, over 3 of 7 classes, whether the others have logits far below or of -infinity; half of
    the images sure
    and half even over 2 of 4 classes: exp(.5 log 2 + .5 log 4 - ...) by the sum over what is not 0."""
    for low in (-1000.0, -np.inf):
        sure = np.where(np.eye(7)[np.arange(60) % 3] > 0, 0.0, low).astype(np.float32)
        assert inception_score(sure) == (pytest.approx(3), pytest.approx(0, abs=1e-12))
        p = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0]])
        mean = np.array([0.75, 0.25])
        exact = np.exp(0.5 * np.log(1 / mean[0]) + 0.5 * np.sum(0.5 * np.log(0.5 / mean)))
        logits = np.where(p > 0, np.log(np.where(p > 0, p, 1)), low)
        assert inception_score(logits, splits=1)[0] == pytest.approx(exact, rel=1e-12)
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="logits"):
            inception_score(np.array([[0.0, bad]] * 10))
    with pytest.raises(DataError, match="logits"):
        inception_score(np.full((10, 3), -np.inf))


def test_distances_of_functions_that_are_close_beside_their_distance():
    """Two kinds of functions 1e6 apart, each within 1e-4: the median of the distances is that of the differences, and
    copies are at 0. (The expanded square of float64 leaves an error of 1e-4 in d^2 there, beside a d^2 of 1e-8.)"""
    random = np.random.default_rng(0)
    x = 1e6 * (np.arange(40) % 4 == 0)[:, None, None] + 1e-4 * random.standard_normal((40, 8, 1))
    y = 1e6 * (np.arange(30) % 4 == 0)[:, None, None] + 1e-4 * random.standard_normal((30, 8, 1))
    exact = lambda a, b: np.mean((a[:, None] - b) ** 2, axis=(2, 3))
    np.testing.assert_allclose(of_functions(x, y), exact(x, y), rtol=1e-6)  # float64 holds 1e6 + 1e-4 to 1e-10
    assert np.all(np.diag(of_functions(x, x)) == 0)
    both = np.concatenate([x, y])
    median = np.sqrt(np.median(exact(both, both)[np.triu_indices(70, 1)]))
    assert median_bandwidth(x, y) == pytest.approx(median, rel=1e-6)
    kernel = lambda a, b: np.exp(-exact(a, b) / (2 * median**2))
    inside = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    wanted = inside(kernel(x, x)) + inside(kernel(y, y)) - 2 * kernel(x, y).mean()
    assert mmd2(x, y) == pytest.approx(wanted, abs=1e-6)
