"""Metrics on features against closed forms, hand-computed sets and slow sums written out."""

import numpy as np
import pytest

from scoresde.errors import DataError
from scoresde.metrics.frechet import Moments, frechet_distance, frechet_with_error, moments
from scoresde.metrics.inception_score import inception_score
from scoresde.metrics.kid import kid, polynomial_mmd2
from scoresde.metrics.prdc import prdc

RANDOM = np.random.default_rng(0)


def gaussian(mean, covariance) -> Moments:
    return Moments(np.asarray(mean, np.float64), np.asarray(covariance, np.float64), 1000)


def rotation(dimensions: int) -> np.ndarray:
    return np.linalg.qr(RANDOM.standard_normal((dimensions, dimensions)))[0]


# Frechet distance


@pytest.mark.parametrize("zeros", [0, 20, 36])
def test_frechet_distance_of_commuting_gaussians(zeros):
    """|m1 - m2|^2 + sum (sqrt a - sqrt b)^2, where some of the variances are zero, not the same ones."""
    d, u = 40, rotation(40)
    a, b = RANDOM.uniform(0.1, 50, d), RANDOM.uniform(0.1, 50, d)
    a[:zeros], b[zeros // 2 : zeros // 2 + zeros] = 0, 0
    m1, m2 = RANDOM.standard_normal((2, d))
    exact = np.sum((m1 - m2) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    one, two = gaussian(m1, u * a @ u.T), gaussian(m2, u * b @ u.T)
    assert frechet_distance(one, two) == pytest.approx(exact, abs=1e-6)
    assert frechet_distance(two, one) == pytest.approx(exact, abs=1e-6)


def test_frechet_distance_of_gaussians_that_do_not_commute():
    """In two dimensions tr (C1 C2)^(1/2) = sqrt(tr C1 C2 + 2 sqrt(det C1 C2)), by Cayley-Hamilton; also in 50
    copies."""
    for _ in range(5):
        a, b = RANDOM.standard_normal((2, 2, 2))
        a, b = a @ a.T, b @ b.T
        root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
        exact = np.trace(a) + np.trace(b) - 2 * root
        assert frechet_distance(gaussian([0, 0], a), gaussian([0, 0], b)) == pytest.approx(exact, abs=1e-9)
        many, u = np.eye(50), rotation(100)
        one, two = (gaussian(np.zeros(100), u @ np.kron(many, c) @ u.T) for c in (a, b))
        assert frechet_distance(one, two) == pytest.approx(50 * exact, abs=1e-6)


def test_frechet_distance_with_fewer_features_than_dimensions():
    """Equal sets are at distance 0; a shift costs its square; and the direct sum over the two samples agrees."""
    x = RANDOM.standard_normal((30, 300)).astype(np.float32) * 10
    one = moments(x)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(moments(x + 0.5), one) == pytest.approx(300 * 0.25, rel=1e-6)
    # The singular values of the samples themselves, no covariance being formed.
    y = RANDOM.standard_normal((50, 300)).astype(np.float32) * 10
    p, q = ((z - z.mean(axis=0, dtype=np.float64)) / np.sqrt(len(z) - 1) for z in (x, y))
    overlap = np.linalg.svd(p @ q.T, compute_uv=False).sum()
    exact = (
        np.sum((x.mean(0, dtype=np.float64) - y.mean(0, dtype=np.float64)) ** 2)
        + np.sum(p**2)
        + np.sum(q**2)
        - 2 * overlap
    )
    assert frechet_distance(one, moments(y)) == pytest.approx(exact, abs=1e-6)


def test_moments_are_those_of_the_whole_array(monkeypatch):
    """In blocks, of float32 with a large mean."""
    monkeypatch.setattr("scoresde.metrics.frechet._BLOCK", 7)
    x = (RANDOM.standard_normal((100, 5)) + 1000).astype(np.float32)
    found = moments(x)
    assert found.num == 100
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10)


def test_the_standard_error_is_that_of_the_influence_of_each_fake():
    """psi(y) is the derivative of the distance by the weight of a fake y, means and covariances far apart."""
    random = np.random.default_rng(1)
    x, real = (
        random.standard_normal((30, 2)) @ np.array([[1.0, 0.4], [0.0, 0.7]]),
        gaussian([1.5, -0.5], [[2.0, 0.3], [0.3, 0.5]]),
    )

    def distance(weights):
        mean = weights @ x
        return frechet_distance(Moments(mean, (x - mean).T * weights @ (x - mean) * 30 / 29, 30), real)

    even, step = np.full(30, 1 / 30), 1e-5
    psi = [
        (distance((1 - step) * even + step * one) - distance((1 + step) * even - step * one)) / (2 * step)
        for one in np.eye(30)
    ]
    assert frechet_with_error(moments(x), real, x)[1] == pytest.approx(np.std(psi, ddof=1) / np.sqrt(30), rel=0.01)


def test_the_standard_error_is_the_spread_over_draws():
    """300 draws of 2000 fakes: the mean of the stated errors is the standard deviation of the values, which 300 draws
    know to 1/sqrt(600) = 4 %; the values are asserted against 3.5 times that."""
    root, d = RANDOM.standard_normal((4, 4)), 4
    real = gaussian(np.zeros(d), np.diag([1.0, 2.0, 0.5, 3.0]))
    draws = [RANDOM.standard_normal((2000, d)) @ root.T + 0.3 for _ in range(300)]
    values, errors = np.array([frechet_with_error(moments(x), real, x) for x in draws]).T
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.14)
    assert values[0] == pytest.approx(frechet_distance(moments(draws[0]), real), rel=1e-12)
    few = draws[0][:4]
    assert frechet_with_error(moments(few), real, few)[1] is None, (
        "four points do not determine a covariance in four dimensions"
    )


@pytest.mark.parametrize("bad", [np.ones((1, 3)), np.full((5, 3), np.nan)])
def test_moments_refuse(bad):
    with pytest.raises(DataError):
        moments(bad)


# KID


def slow_mmd2(x, y) -> float:
    def k(u, v):
        return (float(u @ v) / len(u) + 1) ** 3

    xx = [k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]
    yy = [k(y[i], y[j]) for i in range(len(y)) for j in range(len(y)) if i != j]
    return np.mean(xx) + np.mean(yy) - 2 * np.mean([k(u, v) for u in x for v in y])


def test_kid_is_the_sum_of_its_formula():
    x, y = RANDOM.standard_normal((9, 6)).astype(np.float32), RANDOM.standard_normal((7, 6)).astype(np.float32) + 0.3
    assert polynomial_mmd2(x, y) == pytest.approx(slow_mmd2(x.astype(np.float64), y.astype(np.float64)), rel=1e-5)
    found = kid(x, y, size=7)
    assert (found.subsets, found.size, found.standard_error) == (1, 7, None)


def test_kid_is_unbiased_and_knows_its_error():
    """Of equal laws: 0 within four of its errors, at a size at which a biased estimate would be 60 errors off."""
    x, y = RANDOM.standard_normal((2, 4000, 16)).astype(np.float32)
    found = kid(x, y, size=100)
    assert found.subsets == 40 and abs(found.value) < 4 * found.standard_error
    bias = np.mean((np.sum(x.astype(np.float64) ** 2, axis=1) / 16 + 1) ** 3) * 2 / 100
    assert bias > 20 * found.standard_error
    several = kid(x, y, size=1000)
    random = np.random.Generator(np.random.Philox(key=0))
    orders = [random.permutation(4000) for _ in range(2)]
    parts = [
        polynomial_mmd2(*(z[np.sort(order[k : k + 1000])] for z, order in zip((x, y), orders)))
        for k in range(0, 4000, 1000)
    ]
    assert several.value == pytest.approx(np.mean(parts), abs=1e-12)
    assert several.standard_error == pytest.approx(np.std(parts, ddof=1) / 2, rel=1e-6)
    shifted = kid(x + 0.5, y, size=100)
    assert shifted.value > 20 * shifted.standard_error


def test_kid_of_few_features_takes_smaller_subsets():
    found = kid(*RANDOM.standard_normal((2, 50, 4)).astype(np.float32))
    assert (found.size, found.subsets) == (5, 10)
    with pytest.raises(DataError):
        kid(*RANDOM.standard_normal((2, 50, 4)).astype(np.float32), size=51)


# Precision, recall, density, coverage


def test_prdc_on_a_line():
    """k = 1. Reals 0, 1, 3, 10 have radii 1, 1, 2, 7; fakes 1.5, 4, 20 have radii 2.5, 2.5, 16. Fake 1.5 is in B(1),
    B(3); 4 in B(3), B(10); 20 in none. Real 0 is in B(1.5); 1 in it; 3 in B(1.5), B(4); 10 in B(20). B(0) = [-1, 1]
    holds no fake."""
    real, fake = (np.array(points, np.float32)[:, None] for points in ([0, 1, 3, 10], [1.5, 4, 20]))
    found = prdc(fake, real, neighbours=1)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == 1
    assert found.density == pytest.approx(4 / 3)
    assert found.coverage == 3 / 4
    assert found.errors["precision"] == pytest.approx(np.sqrt(2 / 9 / 3))


def test_prdc_by_sorting_all_distances(monkeypatch):
    """Against the definitions written out in float64, with blocks that do not divide the sets."""
    monkeypatch.setattr("scoresde.metrics.distances.BLOCK", 16)
    real, fake = (
        RANDOM.standard_normal((50, 6)).astype(np.float32),
        RANDOM.standard_normal((37, 6)).astype(np.float32) * 1.3 + 3000,
    )
    real, k = real + 3000, 3  # far from the origin: float32 would cancel
    between = np.linalg.norm(fake[:, None].astype(np.float64) - real[None], axis=2)
    radius = [
        np.sort(np.linalg.norm(x[:, None].astype(np.float64) - x[None], axis=2), axis=1)[:, k] for x in (fake, real)
    ]
    found = prdc(fake, real, neighbours=k)
    assert found.precision == pytest.approx((between <= radius[1]).any(axis=1).mean())
    assert found.recall == pytest.approx((between <= radius[0][:, None]).any(axis=0).mean())
    assert found.density == pytest.approx((between <= radius[1]).sum(axis=1).mean() / k)
    assert found.coverage == pytest.approx((between <= radius[1]).any(axis=0).mean())


def test_prdc_of_equal_and_of_distant_sets():
    x = RANDOM.standard_normal((40, 3)).astype(np.float32)
    same, apart = prdc(x, x), prdc(x + 100, x)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert apart[:4] == (0, 0, 0, 0)
    with pytest.raises(DataError):
        prdc(x[:5], x)


# Inception Score


def test_inception_score_of_certain_and_of_uncertain_classes():
    """Sure and evenly spread over 7 classes: 7. Every image alike: 1."""
    sure = 1000.0 * np.eye(7, dtype=np.float32)[np.arange(70) % 7]
    assert inception_score(sure)[0] == pytest.approx(7)
    assert inception_score(np.zeros((20, 7), np.float32)) == (pytest.approx(1), pytest.approx(0, abs=1e-12))
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    exact = np.exp(np.mean(np.sum(p * np.log(p / p.mean(axis=0)), axis=1)))
    assert inception_score(np.log(p).astype(np.float32), splits=1)[0] == pytest.approx(exact, rel=1e-6)
