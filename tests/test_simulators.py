"""Simulators and their posteriors, against closed forms, rejection from the prior, and calibration."""

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp, multivariate_normal

from scoresde.data.simulators import SIMULATORS, linear_gaussian_moments
from scoresde.errors import DataError
from scoresde.metrics import sbc

LEVEL = 1e-3  # of tests, whose seeds are fixed
each_simulator = pytest.mark.parametrize("name", SIMULATORS)


def problem(name, num, seed=0):
    simulator, rng = SIMULATORS[name], np.random.default_rng(seed)
    theta = simulator.prior(num, rng)
    return simulator, theta, simulator.simulate(theta, rng), rng


@each_simulator
def test_shapes_and_bounds(name):
    simulator, theta, x, rng = problem(name, 4000)
    assert theta.shape == (4000, *simulator.theta_shape) and x.shape == (4000, *simulator.x_shape)
    draws = simulator.posterior(x[0], 700, rng)
    assert draws.shape == (700, *simulator.theta_shape) and len(np.unique(draws, axis=0)) == 700
    assert simulator.log_likelihood(theta, x).shape == (4000,)
    assert simulator.log_likelihood(draws, x[0]).shape == (700,)
    assert np.isfinite(simulator.log_likelihood(draws, x[0])).all()
    if simulator.bounds is None:
        np.testing.assert_allclose(np.cov(theta.T), np.eye(2), atol=0.1)
    else:
        low, high = simulator.bounds
        assert (draws >= low).all() and (draws <= high).all()
        np.testing.assert_allclose(theta.min(axis=0), low, atol=0.02)
        np.testing.assert_allclose(theta.max(axis=0), high, atol=0.02)


@each_simulator
def test_posterior_is_calibrated(name):
    """Ranks of the coordinates, of their product, and of the log-likelihood, which sees x."""
    simulator, theta, x, rng = problem(name, 400, seed=1)
    draws = np.stack([simulator.posterior(one, 39, rng) for one in x])
    likelihood = simulator.log_likelihood(theta, x)
    of_draws = np.stack([simulator.log_likelihood(some, one) for some, one in zip(draws, x, strict=True)])
    truths = np.column_stack([theta, theta.prod(axis=1), likelihood])
    result = sbc(truths, np.concatenate([draws, draws.prod(axis=2, keepdims=True), of_draws[..., None]], axis=2))
    assert result.p_value.min() > LEVEL / len(result.p_value)


@each_simulator
@pytest.mark.parametrize("x", [np.zeros(1), np.zeros((2, 8)), None])
def test_observations_of_another_form_are_refused(name, x):
    simulator = SIMULATORS[name]
    x = np.full(simulator.x_shape, np.nan) if x is None else x
    with pytest.raises(DataError, match="expected one observation") as caught:
        simulator.posterior(x, 10, np.random.default_rng(0))
    assert "\n" not in str(caught.value)


# linear_gaussian


def test_linear_gaussian_posterior():
    x = np.array([1, -0.5, 0.8])
    mean, covariance = linear_gaussian_moments(x)
    np.testing.assert_allclose(mean, [0.762791, -0.167442], atol=5e-7)
    np.testing.assert_allclose(covariance, [[0.116279, 0.023256], [0.023256, 0.104651]], atol=5e-7)
    draws = SIMULATORS["linear_gaussian"].posterior(x, 100_000, np.random.default_rng(0))
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=4 * math.sqrt(0.12 / 100_000))
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=4 * 0.12 * math.sqrt(2 / 100_000))


def test_linear_gaussian_likelihood():
    simulator, theta, x, _ = problem("linear_gaussian", 20)
    means = theta @ np.array([[1, 0.5], [0, 1], [1, -1]]).T
    wanted = [multivariate_normal.logpdf(one, mean, 0.25 * np.eye(3)) for one, mean in zip(x, means, strict=True)]
    np.testing.assert_allclose(simulator.log_likelihood(theta, x), wanted, rtol=1e-12)


# two_moons


def test_two_moons_likelihood_is_the_density_of_the_simulator():
    """By its integral over squares of x, the sum of which is 1, against the share of simulations in each."""
    simulator, rng = SIMULATORS["two_moons"], np.random.default_rng(0)
    theta, num, fine, squares = np.array([0.3, -0.6]), 100_000, 1600, 20
    u, v = -0.3 / math.sqrt(2), -0.9 / math.sqrt(2)
    low, width = np.array([0.25 + u - 0.2, v - 0.2]), 0.4
    steps = (np.arange(fine) + 0.5) / fine * width
    grid = low + np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1)
    density = np.exp(simulator.log_likelihood(np.broadcast_to(theta, grid.shape), grid)) * (width / fine) ** 2
    # A cell on the straight edge of the half moon is counted by its centre.
    assert density.sum() == pytest.approx(1, abs=2e-3)
    # The mean radius is 0.1 with the factor 1/r of the density in the plane, and 0.101 without it.
    radius = np.hypot(grid[..., 0] - 0.25 + abs(u), grid[..., 1] - v)
    assert (density * radius).sum() / density.sum() == pytest.approx(0.1, abs=1e-5)
    shares = density.reshape(squares, fine // squares, squares, fine // squares).sum(axis=(1, 3))
    x = simulator.simulate(np.tile(theta, (num, 1)), rng)
    place = ((x - low) / width * squares).astype(int)
    counts = np.zeros((squares, squares))
    np.add.at(counts, tuple(place.T), 1)
    assert counts.sum() == num
    assert np.abs(counts / num - shares).max() < 5 * math.sqrt(shares.max() / num)


@pytest.mark.parametrize(
    "x", [(0.0, 0.0), (0.3, 0.02), (-1.04, 0.02)], ids=["inside", "behind the moon", "at the corner"]
)
def test_two_moons_posterior_against_rejection_from_the_prior(x):
    """The second observation has points p_1 < x_1, which no theta maps to x; the third a moon that the square cuts."""
    simulator, rng, x = SIMULATORS["two_moons"], np.random.default_rng(0), np.array(x)
    theta = simulator.prior(1_000_000, rng)
    density = np.exp(simulator.log_likelihood(theta, x))
    accepted = theta[rng.random(len(theta)) * 160 < density]
    assert density.max() < 160 and len(accepted) > 500
    draws = simulator.posterior(x, 20_000, rng)
    for statistic in (lambda t: t[:, 0], lambda t: t[:, 1], lambda t: t.sum(axis=1), lambda t: t[:, 0] * t[:, 1]):
        assert ks_2samp(statistic(accepted), statistic(draws)).pvalue > LEVEL


def test_an_impossible_observation_is_refused():
    with pytest.raises(DataError, match="two_moons: expected an observation that parameters of the prior generate"):
        SIMULATORS["two_moons"].posterior(np.array([3.0, 3.0]), 10, np.random.default_rng(0))


# slcp


def test_slcp_simulates_and_evaluates_the_gaussian_of_its_parameters():
    simulator, rng = SIMULATORS["slcp"], np.random.default_rng(0)
    theta = np.array([0.7, -2.9, -1.3, 0.8, 0.9])
    s1, s2, rho = 1.3**2, 0.8**2, math.tanh(0.9)
    mean, covariance = theta[:2], np.array([[s1**2, rho * s1 * s2], [rho * s1 * s2, s2**2]])
    x = simulator.simulate(np.tile(theta, (50_000, 1)), rng)
    points = x.reshape(-1, 2)
    np.testing.assert_allclose(points.mean(axis=0), mean, atol=4 * s1 / math.sqrt(len(points)))
    np.testing.assert_allclose(np.cov(points.T), covariance, atol=4 * s1**2 * math.sqrt(2 / len(points)))
    assert np.abs(np.corrcoef(x.T)[:2, 2:]).max() < 4 / math.sqrt(50_000)  # the four points are independent
    wanted = multivariate_normal.logpdf(points, mean, covariance).reshape(-1, 4).sum(axis=1)
    np.testing.assert_allclose(simulator.log_likelihood(np.tile(theta, (50_000, 1)), x), wanted, rtol=1e-10)


def test_slcp_posterior_against_weights_of_the_prior():
    simulator, rng = SIMULATORS["slcp"], np.random.default_rng(0)
    x = simulator.simulate(np.array([[0.7, -2.0, 1.2, -1.1, 0.6]]), rng)[0]
    theta = simulator.prior(600_000, rng)
    log_weight = simulator.log_likelihood(theta, x)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    draws = simulator.posterior(x, 100_000, rng)
    for statistic in (
        lambda t: t, lambda t: t**2, np.abs, lambda t: t[:, 4:] * np.abs(t[:, 2:4]), lambda t: t[:, :2] * t[:, 4:]
    ):  # fmt: skip
        values = statistic(theta)
        mean = weight @ values
        error = np.sqrt(weight**2 @ (values - mean) ** 2)  # of a ratio of means, by the delta method
        assert np.abs((statistic(draws).mean(axis=0) - mean) / error).max() < 4.5


def test_slcp_on_a_line_is_refused():
    with pytest.raises(DataError, match="on one line"):
        SIMULATORS["slcp"].posterior(np.arange(8.0), 10, np.random.default_rng(0))
