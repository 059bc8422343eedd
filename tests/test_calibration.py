"""Calibration checks of posterior samplers against the laws of their results in a Gaussian problem.

theta ~ N(0, 1) and x = theta + e/2, so that the posterior is N(x/1.25, 0.2). An approximation q is
N(m + b s, (k s)^2) for the posterior N(m, s^2).
"""

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from scoresde.errors import ConfigError, DataError
from scoresde.metrics import c2st, c2st_calibration, conditional_references, ecdf_band, sbc, tarp
from scoresde.report import sbc_charts, svg, tarp_chart

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
KS_0_1_PERCENT = 1.95  # sqrt(N) D is above it once in a thousand times


def inference(num, length, k=1.0, b=0.0, seed=0):
    """Return truths [num, 1], draws [num, length, 1] and observations [num, 1]."""
    random = np.random.default_rng(seed)
    theta = random.standard_normal((num, 1))
    x = theta + random.standard_normal((num, 1)) / 2
    sd = math.sqrt(0.2)
    return theta, (x / 1.25 + b * sd)[:, None] + k * sd * random.standard_normal((num, length, 1)), x


def prior_inference(num, length, seed=0):
    """Return the same with q = prior."""
    theta, draws, x = inference(num, length, seed=seed)
    return theta, np.random.default_rng(seed + 1).standard_normal(draws.shape), x


# Bands


@pytest.mark.parametrize(("num", "count"), [(50, 7), (400, 30)])
def test_the_band_contains_the_whole_function_at_its_level(num, count):
    band = ecdf_band(num, np.arange(1, count + 1) / (count + 1), 0.9)
    values = np.sort(np.random.default_rng(0).random((20_000, num)), axis=1)
    inside = np.ones(len(values), bool)
    for z, low, high in zip(band.places, band.low, band.high, strict=True):
        share = np.sum(values < z, axis=1) / num
        inside &= (share >= low) & (share <= high)
    # The counts are discrete, so the probability is at least the level, and not far above it.
    error = math.sqrt(0.9 * 0.1 / len(values))
    assert 0.9 - 4 * error < inside.mean() < 0.93


def test_the_band_at_one_place_is_the_binomial_interval():
    band = ecdf_band(100, [0.5])
    assert (band.low[0], band.high[0]) == (0.40, 0.60)  # of Binomial(100, 1/2)


# Simulation-based calibration


@pytest.mark.parametrize(
    ("k", "b", "distance"), [(1.2, 0, 0.0440), (1.05, 0, 0.0118), (0.8, 0, 0.0538), (1, 0.1, 0.0399), (1, 0.25, 0.0995)]
)
def test_ranks_have_the_law_of_a_wrong_width_and_mean(k, b, distance):
    num = 20_000
    result = sbc(*inference(num, 199, k, b)[:2])
    z, tolerance = result.band.places, KS_0_1_PERCENT / math.sqrt(num)
    assert np.abs(result.ecdf[0] - ndtr(k * ndtri(z) + b)).max() < tolerance
    assert abs(np.abs(result.ecdf[0] - z).max() - distance) < tolerance
    assert result.ranks.min() >= 0 and result.ranks.max() <= 199 and result.histogram.sum() == num


@pytest.mark.parametrize("length", [99, 100, 7])
def test_the_exact_posterior_is_rejected_at_the_nominal_rate(length):
    """Also where 20 bins do not divide L + 1, and for few draws, where a test against continuous ranks fails."""
    repeats, num = 400, 100
    theta, draws, _ = inference(repeats * num, length)
    results = [
        sbc(theta[part], draws[part]) for part in (slice(first, first + num) for first in range(0, repeats * num, num))
    ]
    p_values = np.array([result.p_value[0] for result in results])
    assert abs(np.mean(p_values < 0.05) - 0.05) < 4 * math.sqrt(0.05 * 0.95 / repeats)
    assert np.abs(np.sort(p_values) - (np.arange(repeats) + 0.5) / repeats).max() < KS_0_1_PERCENT / math.sqrt(repeats)
    left = np.mean([np.any((r.ecdf[0] < r.band.low) | (r.ecdf[0] > r.band.high)) for r in results])
    assert left < 0.05 + 4 * math.sqrt(0.05 * 0.95 / repeats)
    # The intervals are pointwise and discrete: each bin is outside with at most the probability 0.05.
    outside = np.mean([(r.histogram[0] < r.interval[0]) | (r.histogram[0] > r.interval[1]) for r in results])
    assert 0.01 < outside < 0.06


def test_a_posterior_that_is_too_narrow_is_rejected():
    """At k = 0.8 the test needs about 638 runs at the 5 % level; 2000 leave no doubt."""
    result = sbc(*inference(2000, 99, k=0.8)[:2])
    assert result.p_value[0] < 1e-6
    assert np.any(result.ecdf[0] > result.band.high) and np.any(result.ecdf[0] < result.band.low)
    assert result.histogram[0, 0] > result.interval[1, 0]


def test_the_prior_passes_except_for_a_statistic_of_theta_and_x():
    theta, draws, x = prior_inference(500, 99)
    assert sbc(theta, draws).p_value[0] > 1e-3
    density, of_draws = -((x - theta) ** 2), -((x[:, None] - draws) ** 2)  # log-likelihoods, but for constants
    assert sbc(density, of_draws).p_value[0] < 1e-10


def test_statistics_are_functions_of_the_parameters():
    theta, draws, _ = inference(300, 19)
    result = sbc(theta, draws, statistics=lambda t: np.concatenate([t, -t, t**3], axis=-1))
    assert result.ranks.shape == (300, 3) and result.p_value.shape == (3,)
    np.testing.assert_array_equal(result.ranks[:, 1], 19 - result.ranks[:, 0])
    np.testing.assert_array_equal(result.ranks[:, 2], result.ranks[:, 0])


def test_ties_have_uniform_ranks():
    """Parameters of few values, whose draws tie with the truth: an exact posterior stays uniform."""
    random = np.random.default_rng(0)
    theta, draws = random.integers(0, 3, (4000, 1)), random.integers(0, 3, (4000, 19, 1))
    result = sbc(theta, draws)
    assert result.p_value[0] > 1e-3
    np.testing.assert_array_equal(result.ranks, sbc(theta, draws).ranks)
    assert (result.ranks != sbc(theta, draws, seed=1).ranks).any()
    np.testing.assert_array_equal(np.unique(sbc(theta * 0, draws * 0).ranks), np.arange(20))


# Expected coverage

TABLE = [
    ({}, (0.100, 0.250, 0.501, 0.751, 0.901)),
    ({"k": 1.2}, (0.071, 0.220, 0.509, 0.795, 0.940)),
    ({"k": 0.8}, (0.143, 0.285, 0.494, 0.702, 0.847)),
    ({"b": 0.25}, (0.106, 0.256, 0.502, 0.746, 0.895)),
]


@pytest.mark.parametrize(("change", "expected"), TABLE, ids=str)
def test_expected_coverage_with_distant_references(change, expected):
    num = 20_000
    theta, draws, _ = inference(num, 200, **change)
    references = np.random.default_rng(5).uniform(-4, 4, theta.shape)
    result = tarp(theta, draws, references, levels=LEVELS)
    # 4 standard errors of a share, the rounding of the table, and 1/(2 L) of the smoothing by a finite number of draws.
    assert np.abs(result.ecp - expected).max() < 4 * 0.5 / math.sqrt(num) + 0.0005 + 1 / 400
    assert (result.p_value < 1e-6) == ("k" in change)


def test_the_prior_passes_with_references_apart_from_x_and_fails_with_references_of_x():
    num = 20_000
    theta, draws, x = prior_inference(num, 200)
    apart = np.random.default_rng(5).uniform(-4, 4, theta.shape)
    passed, failed = (tarp(theta, draws, r, levels=LEVELS) for r in (apart, x))
    tolerance = 4 * 0.5 / math.sqrt(num) + 1 / 400
    assert passed.p_value > 1e-3 and np.abs(passed.ecp - LEVELS).max() < tolerance
    assert failed.p_value < 1e-12
    assert np.abs(failed.ecp - (0.3662, 0.6875, 0.9378, 0.9967, 1.0)).max() < tolerance
    assert tarp(theta[:500], draws[:500], conditional_references(x, theta)[:500]).p_value < 1e-6


@pytest.mark.parametrize("length", [10, 100])
def test_the_p_values_of_the_exact_posterior_are_uniform(length):
    """Whether or not the references depend on x, and for few draws, whose coverage takes few values."""
    repeats, num = 300, 100
    theta, draws, x = inference(repeats * num, length)
    p_values = []
    for first in range(0, repeats * num, num):
        part = slice(first, first + num)
        references = conditional_references(x[part], theta[part], seed=first)
        p_values.append(tarp(theta[part], draws[part], references, seed=first).p_value)
    assert np.abs(np.sort(p_values) - (np.arange(repeats) + 0.5) / repeats).max() < KS_0_1_PERCENT / math.sqrt(repeats)


def test_a_test_of_the_values_rejects_where_one_of_the_curves_cannot():
    """1000 runs at sd x 1.2 and distant references: 93 % of the tests of the values reject."""
    repeats, num = 40, 1000
    theta, draws, _ = inference(repeats * num, 99, k=1.2)
    references = np.random.default_rng(5).uniform(-4, 4, theta.shape)
    parts = (slice(first, first + num) for first in range(0, repeats * num, num))
    rejected = np.mean([tarp(theta[p], draws[p], references[p]).p_value < 0.05 for p in parts])
    assert abs(rejected - 0.93) < 4 * math.sqrt(0.93 * 0.07 / repeats)


def test_expected_coverage_does_not_depend_on_units():
    random = np.random.default_rng(0)
    theta, draws, references = (random.standard_normal(shape) for shape in ((200, 3), (200, 50, 3), (200, 3)))
    units, origin = np.array([1e-3, 1.0, 1e4]), np.array([0.5, -3.0, 1e5])
    first, second = tarp(theta, draws, references), tarp(*(origin + units * v for v in (theta, draws, references)))
    np.testing.assert_array_equal(first.coverage, second.coverage)
    # References that stay where they are give another result.
    assert (tarp(origin + units * theta, origin + units * draws, references).coverage != first.coverage).any()
    np.testing.assert_allclose(
        conditional_references(theta[:, :2], origin + units * theta),
        origin + units * conditional_references(theta[:, :2], theta),
        rtol=1e-9,
    )


def test_references_vary_with_the_observations_and_have_the_spread_of_the_truths():
    random = np.random.default_rng(0)
    x, theta = random.standard_normal((5000, 4)) * 7 + 3, random.standard_normal((5000, 2)) * [1, 20] + 5
    made = conditional_references(x, theta, noise=0.0)
    np.testing.assert_allclose(made.std(axis=0), theta.std(axis=0), rtol=0.1)
    residual = (
        made - np.column_stack([x, np.ones(5000)]) @ np.linalg.lstsq(np.column_stack([x, np.ones(5000)]), made)[0]
    )
    assert np.abs(residual).max() < 1e-9 * np.abs(made).max()
    np.testing.assert_array_equal(conditional_references(x, theta), conditional_references(x, theta))
    # A constant observation is left out.
    np.testing.assert_array_equal(
        conditional_references(np.column_stack([x, np.ones(5000)]), theta), conditional_references(x, theta)
    )


# Classifier two-sample test


def test_the_classifier_reaches_nearly_the_best_accuracy():
    """N(0, 1) against N(1/2, 1): Phi(1/4). This perceptron is below it by 0.01 or less with 1000 points of each."""
    row = c2st_calibration(1000)
    assert row.bayes == pytest.approx(0.598706, abs=1e-6)
    assert -3 * row.test.standard_error - 0.01 < row.test.accuracy - row.bayes < 3 * row.test.standard_error
    assert row.test.standard_error == pytest.approx(math.sqrt(0.24 / 2000), rel=0.01)
    assert row.test.sizes == (1000, 1000) and "hidden layers 10 and 10" in row.test.classifier
    assert row == c2st_calibration(1000)


@pytest.mark.parametrize("sizes", [(1000, 1000), (400, 1200)])
def test_equal_distributions_have_the_accuracy_one_half(sizes):
    """Also sets of different sizes, for which a classifier that always names the larger is right more often."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((size, 2)) for size in sizes)
    result = c2st(a, b)
    assert abs(result.accuracy - 0.5) < 3.5 * result.standard_error
    assert result.standard_error == pytest.approx(math.sqrt(0.25 / sizes[0] + 0.25 / sizes[1]) / 2, rel=0.02)


def test_points_are_classified_by_a_perceptron_that_was_not_trained_on_them():
    """With 60 points in 10 dimensions a perceptron learns its training points by heart."""
    result = c2st(*np.random.default_rng(0).standard_normal((2, 60, 10)))
    assert abs(result.accuracy - 0.5) < 4 * result.standard_error < 0.2


def test_the_classifier_sees_what_moments_do_not():
    """The sign of a product, and a coordinate of another unit; equal coordinates do no harm."""
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 1000, 2))
    b[:, 1] = np.abs(b[:, 1]) * np.sign(b[:, 0])
    wide = [np.column_stack([x * [1e3, 1e-3], np.full(len(x), 7.0)]) for x in (a, b)]
    accuracy = c2st(*wide).accuracy
    assert accuracy == pytest.approx(0.75, abs=0.06)  # half of the points of `a` lie in the quadrants of b
    assert c2st(a, a + 20).accuracy == 1


# Input and charts


def test_bad_input_is_refused_in_one_line():
    theta, draws, x = inference(50, 9)
    broken = draws.copy()
    broken[3, 1, 0] = np.nan
    cases = [
        (DataError, lambda: sbc(theta[:, 0], draws)),
        (DataError, lambda: sbc(theta, draws[:, :, 0])),
        (DataError, lambda: sbc(theta, draws[:40])),
        (DataError, lambda: sbc(theta, draws[:, :0])),
        (DataError, lambda: sbc(theta, broken)),
        (DataError, lambda: sbc(theta * np.inf, draws)),
        (DataError, lambda: sbc(theta[:9], draws[:9])),
        (DataError, lambda: sbc(theta, draws, statistics=lambda t: t[..., 0])),
        (ConfigError, lambda: sbc(theta, draws, bins=11)),
        (ConfigError, lambda: sbc(theta, draws, bins=1)),
        (ConfigError, lambda: sbc(theta[:20], draws[:20], bins=5)),
        (ConfigError, lambda: sbc(theta, draws, level=1.0)),
        (ConfigError, lambda: sbc(theta, draws, seed=-1)),
        (DataError, lambda: tarp(theta, draws, x[:40])),
        (DataError, lambda: tarp(theta, draws, np.full_like(x, np.nan))),
        (DataError, lambda: tarp(np.ones_like(theta), draws, x)),
        (ConfigError, lambda: tarp(theta, draws, x, levels=(0.5, 0.4))),
        (ConfigError, lambda: tarp(theta, draws, x, levels=(0.0, 0.4))),
        (ConfigError, lambda: tarp(theta, draws, x, band_level=0.0)),
        (DataError, lambda: conditional_references(x[:40], theta)),
        (DataError, lambda: conditional_references(np.ones_like(x), theta)),
        (ConfigError, lambda: conditional_references(x, theta, noise=-1.0)),
        (ConfigError, lambda: ecdf_band(0, [0.5])),
        (DataError, lambda: c2st(theta, np.ones((60, 2)))),
        (DataError, lambda: c2st(theta, theta * np.nan)),
        (DataError, lambda: c2st(theta[:49], theta)),
        (ConfigError, lambda: c2st(theta, theta, folds=1)),
        (ConfigError, lambda: c2st_calibration(100, 0)),
        (ConfigError, lambda: c2st_calibration(100, shift=-1.0)),
        (DataError, lambda: c2st_calibration(0)),
    ]  # fmt: skip
    for kind, call in cases:
        with pytest.raises(kind) as caught:
            call()
        assert "\n" not in str(caught.value) and str(caught.value)


def test_charts_show_the_ranks_and_the_coverage_in_their_bands():
    theta, draws, x = inference(400, 99, k=0.5)
    ranks, coverage = sbc(theta, draws), tarp(theta, draws, x)
    histogram, function = sbc_charts(ranks, name="theta")
    for chart in (histogram, function, tarp_chart(coverage)):
        layout = chart.layout()
        assert len(layout["lines"]) == 2 and "(log)" not in layout["y_label"]
        assert svg(chart).startswith("<svg") and chart.title in svg(chart)
    np.testing.assert_allclose(histogram.lines[0].y[1:-1:2], ranks.histogram[0] / ranks.expected)
    np.testing.assert_allclose(function.lines[0].y[1:-1], ranks.ecdf[0] - ranks.band.places)
