"""The likelihood: exact densities recovered, honest error bars, and bits/dim of distributions known by hand."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inventory import SDES
from oracles import mixture, wide_gaussian

from scoresde.errors import ConfigError
from scoresde.likelihood import (
    GaussianProbes,
    HutchPlusPlus,
    Rademacher,
    bits_per_dim,
    log_likelihood,
    mean_and_error,
)
from scoresde.nets import Network, UNet
from scoresde.score import AbstractScore, GaussianScore, NetworkScore
from scoresde.sde import VE, VP

every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)


def with_exact_prior(score, result):
    """log p with the exact density of x_T in the prior's place, and the difference, which is the prior's mismatch."""
    sde = score.sde
    t_max = jnp.asarray(sde.t_max, result.latent.dtype)
    exact = jax.vmap(lambda x: score.log_prob(x, t_max))(result.latent)
    prior = jax.vmap(sde.log_prior)(result.latent)
    return result.log_prob - prior + exact, prior - exact


@eqx.filter_jit
def draws(score, t, count, seed=0):
    return jax.vmap(lambda key: score.sample(t, key=key))(jax.random.split(jax.random.key(seed), count))


# Exact densities


# Mean of log prior - log p_T in nats, 5-D mixture: how far the prior is from p_T (VP: alpha(1) = 0.0066). An upper
# bound each.
MISMATCH = {"VP": 1e-2, "SubVP": 1e-2, "VE": 1e-1, "Cosine": 1e-2, "Karras": 1e-1}


@every_sde
@pytest.mark.parametrize("seed", [0, 1])
def test_log_likelihood_of_a_mixture_is_exact(sde, seed, x64, record_property):
    score, t_min = mixture(sde, seed), jnp.asarray(sde.t_min)
    x = draws(score, t_min, 8)
    result = log_likelihood(score, x, key=jax.random.key(0), probes=None, tolerance=1e-6)
    assert result.ok.all() and np.all(result.standard_error == 0)
    log_prob, mismatch = with_exact_prior(score, result)
    exact = jax.vmap(lambda x: score.log_prob(x, t_min))(x)
    # A hundred times the tolerance of a step: some 50 steps whose errors add up, and a score of size 1 / sigma(t_min).
    np.testing.assert_allclose(log_prob, exact, atol=1e-4, rtol=0)
    [name] = [key for key, value in SDES.items() if value is sde]
    figures = dict(
        error=float(abs(log_prob - exact).max()), mismatch=float(jnp.mean(mismatch)), nfe=int(result.nfe.max())
    )
    record_property("figures", figures)
    print(name, figures)
    assert abs(figures["mismatch"]) < MISMATCH[name]


@every_sde
def test_log_likelihood_in_3072_dimensions(sde):
    score, t_min = wide_gaussian(sde), jnp.float32(sde.t_min)
    x = draws(score, t_min, 1)
    result = log_likelihood(score, x, key=jax.random.key(0), probes=None, tolerance=1e-5)
    assert result.ok.all()
    log_prob, mismatch = with_exact_prior(score, result)
    with jax.enable_x64(True):
        exact = wide_gaussian(sde).log_prob(jnp.asarray(np.asarray(x[0], np.float64)), float(t_min))
    error = abs(float(log_prob[0]) - float(exact)) / (3072 * np.log(2))
    print(type(sde).__name__, dict(bits_per_dim=error, mismatch=float(mismatch[0]), nfe=int(result.nfe[0])))
    # In float64 the solver's own error is 0.3e-5 (Cosine) to 1.4e-5 (Karras); rounding of sums of 3072 terms adds
    # 0.5e-5.
    assert error < 2e-5


def test_a_change_of_scale_moves_log_prob_by_its_log_jacobian(x64):
    """VE knows no unit: 3 x under 3 sigma has the density of x under sigma, less D log 3."""
    sde, scaled = VE(), VE(sigma_min=0.03, sigma_max=150.0)
    means, x = np.array([0.3, -0.2, 1.0]), jnp.array([[0.1, 0.2, -0.4]])
    small, large = GaussianScore(sde, means, np.full(3, 0.2)), GaussianScore(scaled, 3 * means, np.full(3, 1.8))
    key = jax.random.key(0)
    one = log_likelihood(small, x, key=key, probes=None, tolerance=1e-8)
    other = log_likelihood(large, 3 * x, key=key, probes=None, tolerance=1e-8)
    # A hundred times the tolerance.
    np.testing.assert_allclose(other.log_prob, one.log_prob - 3 * np.log(3), atol=1e-6)
    np.testing.assert_allclose(other.latent, 3 * one.latent, rtol=1e-6)


# Probes


ESTIMATORS = {"Rademacher": Rademacher, "Gaussian": GaussianProbes, "Hutch++": HutchPlusPlus}


@pytest.fixture(scope="module")
def correlated():
    """A Gaussian with a full covariance, one point of it, and its log-likelihood by the exact trace."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6))
    sde = VP(t_min=1e-2)
    score = GaussianScore(sde, np.zeros(6), factor @ factor.T / 6 + 0.05 * np.eye(6))
    x = draws(score, jnp.float32(sde.t_min), 1)
    exact = log_likelihood(score, x, key=jax.random.key(0), probes=None, tolerance=1e-4)
    assert exact.ok.all()
    return score, x, exact


@pytest.fixture(scope="module")
def repeated(correlated):
    """200 repetitions with 32 derivatives each: at the first estimator that asks, then from memory."""
    score, x, _ = correlated

    @functools.cache
    def of(name):
        xs, key = jnp.repeat(x, 200, 0), jax.random.key(1)
        many = log_likelihood(score, xs, key=key, probes=32, tolerance=1e-4, estimator=ESTIMATORS[name])
        assert many.ok.all()
        return many

    return of


@pytest.mark.parametrize("name", ["Rademacher", "Gaussian"])
def test_probes_are_unbiased(name, correlated, repeated):
    mean, error = mean_and_error(repeated(name).log_prob)
    assert error > 1e-3  # there is something to average
    # Four standard errors of the mean over 6400 probes: one seed in 16 000 would fail.
    assert abs(mean - float(correlated[2].log_prob[0])) < 4 * error


@pytest.mark.parametrize("name", ["Rademacher", "Gaussian"])
def test_the_standard_error_is_honest(name, correlated, repeated):
    many = repeated(name)
    inside = np.asarray(abs(many.log_prob - correlated[2].log_prob[0]) < 1.96 * many.standard_error)
    print("coverage of the 95 % interval", inside.mean())
    # Student's t with 31 degrees of freedom covers 94 %; 200 repetitions tell it to 1.7 %.
    assert 0.90 <= inside.mean() <= 0.99
    # Their mean square is the variance over repetitions: to sqrt(2 / 200) = 10 %, three times that.
    assert float(jnp.mean(many.standard_error**2)) == pytest.approx(float(jnp.var(many.log_prob, ddof=1)), rel=0.3)


def test_gaussian_probes_have_more_variance(repeated):
    """By 2 sum_i A_ii^2 per probe: their standard errors show it."""
    gaussian, rademacher = (float(jnp.mean(repeated(name).standard_error ** 2)) for name in ("Gaussian", "Rademacher"))
    assert gaussian > 1.2 * rademacher


def test_hutch_plus_plus_is_exact_where_its_sketch_spans_the_space(correlated, repeated):
    """32 derivatives: a sketch of 10 in 6 dimensions."""
    off = abs(repeated("Hutch++").log_prob - correlated[2].log_prob[0])
    # A hundred times the tolerance, as for other solves that take other steps.
    assert off.max() < 1e-2 and repeated("Hutch++").standard_error.max() < 1e-4


def test_one_probe_has_no_error_bar_and_the_key_decides(correlated):
    score, x, exact = correlated
    run = lambda seed: log_likelihood(score, x, key=jax.random.key(seed), probes=1, tolerance=1e-4)  # noqa: E731
    first, again, other = run(0), run(0), run(1)
    assert np.isnan(first.standard_error).all() and first.ok.all()
    np.testing.assert_array_equal(first.log_prob, again.log_prob)
    assert abs(first.log_prob - other.log_prob).max() > 1e-3
    # The point's own path does not depend on the probe, but for the steps: ten times the tolerance.
    np.testing.assert_allclose(first.latent, exact.latent, atol=1e-3)


@pytest.mark.parametrize("probes", [None, 1, 3])
def test_float32_data_under_a_float64_score(x64, probes):
    """A session in float64 may hold float32 data: the solve stays in the type of the data."""
    sde = VE()
    score = GaussianScore(sde, np.zeros(3), np.ones(3))
    x = jnp.ones((2, 3), jnp.float32)
    result = log_likelihood(score, x, key=jax.random.key(0), probes=probes)
    assert result.ok.all() and result.log_prob.dtype == jnp.float32
    # Diagonal Jacobian: every probe is exact. VE's prior leaves the data out: 1 / (2 x 2500) a coordinate, and
    # rounding.
    np.testing.assert_allclose(result.log_prob, score.log_prob(x[0], sde.t_min), atol=2e-3)


def test_a_probe_is_exact_where_the_jacobian_is_diagonal():
    """e . J e = tr J for Rademacher e and diagonal J: any probe gives the exact trace, and no spread."""
    sde = VP(t_min=1e-3)
    score = GaussianScore(sde, np.zeros(4), np.array([0.1, 0.5, 1.0, 2.0]))
    x, key = draws(score, jnp.float32(sde.t_min), 3), jax.random.key(0)
    exact = log_likelihood(score, x, key=key, probes=None)
    for probes in (1, 3):
        probed = log_likelihood(score, x, key=key, probes=probes)
        # Ten times the tolerance 1e-5: the steps may differ.
        np.testing.assert_allclose(probed.log_prob, exact.log_prob, atol=1e-4)
        np.testing.assert_allclose(probed.latent, exact.latent, atol=1e-4)
    np.testing.assert_allclose(probed.standard_error, 0, atol=1e-4)


def test_value_and_divergence_cost_little_more_than_two_calls():
    """By the compiler's count of FLOPs, for a U-Net with attention; score_sde's two calls come to 3 forward calls and
    more."""
    build = lambda rngs: UNet((8, 8, 1), channels=16, multipliers=(1, 2), blocks=1, attention=(4,), rngs=rngs)  # noqa: E731
    score = NetworkScore(VP(), Network.init(build, key=jax.random.key(0)))
    x, t = jnp.zeros((2, 4, 8, 8, 1)), jnp.float32(0.3)

    def flops(function):
        return jax.jit(jax.vmap(function)).lower(*x).compile().cost_analysis()["flops"]

    fused = flops(lambda x, e: Rademacher(1).flow(score, x, t, e[None]))
    assert fused <= 2.3 * flops(lambda x, e: score(x, t) + e)


# One example never touches another


@pytest.mark.parametrize("probes", [None, 2])
def test_failures_and_neighbours(probes):
    sde = VP()
    score = mixture(sde)
    x = draws(score, jnp.float32(sde.t_min), 8)
    run = lambda x: log_likelihood(score, x, key=jax.random.key(3), probes=probes)  # noqa: E731
    clean, spoiled = run(x), run(x.at[5, 2].set(jnp.nan))
    assert clean.ok.all()
    np.testing.assert_array_equal(spoiled.ok, np.arange(8) != 5)
    assert np.isnan(spoiled.log_prob[5])
    others = np.arange(8) != 5
    np.testing.assert_array_equal(spoiled.log_prob[others], clean.log_prob[others])
    np.testing.assert_array_equal(spoiled.nfe[others], clean.nfe[others])
    # One bad row must not hold the batch until the step limit.
    assert spoiled.nfe[5] < 10 * clean.nfe.max()
    if probes is None:  # no keys: order and number of neighbours are free
        order = np.array([3, 0, 7, 1, 6, 2, 5, 4])
        np.testing.assert_array_equal(run(x[order]).log_prob, clean.log_prob[order])
    # Example k has key k whatever follows. Rounding of another batch size may change steps: a hundred times the
    # tolerance 1e-5, since the error of one step is not the error of the sum.
    np.testing.assert_allclose(run(x[:3]).log_prob, clean.log_prob[:3], atol=1e-3)


class Counted(AbstractScore):
    inner: AbstractScore
    run: object = eqx.field(static=True)

    @property
    def sde(self):
        return self.inner.sde

    def __call__(self, x, t):
        jax.debug.callback(self.run)
        return self.inner(x, t)


def test_nfe_is_the_number_of_calls():
    calls, sde = [], VE()
    score = mixture(sde)
    x = draws(score, jnp.float32(sde.t_min), 1)
    for probes in (None, 1, 4):
        calls.clear()
        result = log_likelihood(Counted(score, lambda: calls.append(1)), x, key=jax.random.key(0), probes=probes)
        jax.block_until_ready(result)
        jax.effects_barrier()
        assert result.ok.all() and int(result.nfe[0]) == len(calls) > 20


# Bits


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_uniform_density_costs_log2_of_its_levels(levels):
    """v + u uniform on [0, L): density 2^-D on [-1, 1]^D, log-Jacobian D log(2 / L); 1 on [0, 1]^D and D log(1 / L)."""
    D = 12
    for width in (2.0, 1.0):
        bits = bits_per_dim(jnp.array([-D * np.log(width)]), D * np.log(width / levels), D)
        np.testing.assert_allclose(bits, np.log2(levels), rtol=1e-6)  # float32


def test_mean_and_error():
    mean, error = mean_and_error([1.0, 2.0, 3.0, 6.0])
    assert mean == 3.0 and error == pytest.approx(np.sqrt(14 / 3 / 4), rel=1e-6)
    assert np.isnan(mean_and_error([1.0])[1])


@pytest.mark.parametrize(
    "fields, words",
    [
        (dict(probes=0), "probes = 0"),
        (dict(tolerance=0.0), "tolerance > 0"),
        (dict(probes=2, estimator=HutchPlusPlus), "at least 3"),
    ],
)
def test_wrong_arguments_are_refused(fields, words):
    sde = VP()
    with pytest.raises(ConfigError) as caught:
        log_likelihood(mixture(sde), jnp.zeros((1, 5)), key=jax.random.key(0), **fields)
    assert words in str(caught.value)
