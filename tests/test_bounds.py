"""Bounds on log p: equal to exact answers where theory says so, below them everywhere, with honest error bars."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inventory import SDES
from oracles import mixture

from scoresde.errors import ConfigError
from scoresde.likelihood import (
    BetaTildeVariance,
    BetaVariance,
    Bins,
    CategoricalDecoder,
    Discretization,
    DiscretizedGaussian,
    GaussianDecoder,
    InterpolatedVariance,
    elbo,
    log_likelihood,
    mean_and_error,
    vlb,
)
from scoresde.sample import uniform_log_snr
from scoresde.score import GaussianScore, MixtureScore
from scoresde.sde import VP, Cosine, DiscreteVP

every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)


# DDPM's bound on 1-D Gaussian data

VARIANCE = 0.25
ENTROPY = 0.5 * np.log(2 * np.pi * np.e * VARIANCE)
# Bound minus entropy in nats, exact predictor, linear betas 0.1/T to 20/T: worked out by hand in NumPy, to 1e-5.
EXCESS = {
    "beta": {10: 0.12197, 100: 0.01096, 1000: 0.00109, 4000: 0.00027},
    "beta-tilde": {10: 5.390, 100: 1.272, 1000: 0.570, 4000: 0.487},
    "optimal": {10: 0.0, 100: 0.0, 1000: 0.0, 4000: 0.0},
}


def optimal_weight(sde) -> InterpolatedVariance:
    """The weight at which v is the variance of x_{t-1} given x_t: beta-tilde + (factor of x_0)^2 Var[x_0 | x_t]."""
    bar = np.exp(2 * np.asarray(sde.log_alphas, np.float64))
    now, before = bar[1:], bar[:-1]
    beta = 1 - now / before
    tilde = beta * (1 - before) / (1 - now)
    error = before * beta**2 / (1 - now) ** 2 * VARIANCE * (1 - now) / (now * VARIANCE + 1 - now)
    wanted = np.r_[error[0], (tilde + error)[1:]]  # at the first step, x_0 itself is wanted
    tilde[0] = tilde[1]
    weights = jnp.asarray((np.log(wanted) - np.log(tilde)) / (np.log(beta) - np.log(tilde)))
    return InterpolatedVariance(lambda x, t: jnp.interp(t, sde.times, weights))


@pytest.mark.parametrize("steps", [10, 100, 1000, 4000])
@pytest.mark.parametrize("name", EXCESS)
def test_the_bound_of_ddpm_has_the_values_worked_out_by_hand(name, steps, x64):
    sde = DiscreteVP.linear(steps)
    score = GaussianScore(sde, [0.0], [VARIANCE])
    variance = {"beta": BetaVariance(), "beta-tilde": BetaTildeVariance(), "optimal": optimal_weight(sde)}[name]
    chain = Discretization(sde, sde.times, variance)

    @jax.jit
    def bound(x0, z):
        terms = jax.vmap(lambda i: chain.diffusion_term(score, x0, i, z=z))(jnp.arange(1, steps))
        prior = 0.5 * jnp.sum((jnp.exp(sde.log_snr(1.0) / 2) * x0) ** 2)
        return prior + terms.sum() + chain.reconstruction_term(score, x0, GaussianDecoder(), z=z)

    # Quadratic in x_0 and z: two points of Gauss-Hermite each give the expectation exactly.
    values = [bound(jnp.array([a * np.sqrt(VARIANCE)]), jnp.array([b])) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    expected = EXCESS[name][steps]
    # The values by hand have five decimals, or three.
    assert float(np.mean(values)) - ENTROPY == pytest.approx(expected, abs=5e-4 if expected > 0.2 else 1e-5)


@pytest.mark.parametrize("samples", [None, 7])
def test_draws_of_the_bound_of_ddpm_average_to_its_value(samples):
    sde = DiscreteVP.linear(10)
    score = GaussianScore(sde, [0.0], [VARIANCE])
    x0 = jnp.sqrt(VARIANCE) * jax.random.normal(jax.random.key(0), (4000, 1))
    found = vlb(Discretization(sde, sde.times), score, x0, key=jax.random.key(1), samples=samples)
    mean, error = mean_and_error(-found.log_prob)
    assert error < 0.03
    assert abs(mean - ENTROPY - EXCESS["beta"][10]) < 4 * error
    np.testing.assert_allclose(
        found.log_prob, -(found.prior + found.diffusion + found.reconstruction), rtol=1e-5, atol=1e-5
    )


def test_the_table_of_ddpm_is_a_process():
    """alpha^2 is the product of 1 - beta, on the table's times; between them it is monotone."""
    betas = np.array([0.1, 0.2, 0.5])
    sde = DiscreteVP(betas)
    np.testing.assert_allclose(jax.vmap(sde.alpha)(sde.times) ** 2, np.cumprod(1 - betas), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(sde.sigma)(sde.times) ** 2, 1 - np.cumprod(1 - betas), rtol=1e-6)
    assert sde.t_min == pytest.approx(1 / 3) and np.all(np.diff(jax.vmap(sde.log_snr)(jnp.linspace(0.01, 1, 50))) < 0)
    thousand = DiscreteVP.linear(1000)
    # The continuous process whose beta(t) is the table times T: alpha^2 differs by sum beta^2 / 2 = 0.067 at t = 1.
    assert float(thousand.log_alpha(0.5)) == pytest.approx(float(VP().log_alpha(0.5)), rel=0.01)


# The continuous bound


@every_sde
def test_the_bound_is_tight_where_the_score_is_exact(sde):
    """Reverse paths then have the law of forward paths given x_0: only prior and decoder are not exact.

    The prior costs 1e-2 nats (see test_likelihood); the decoder's variance is ratio^2 for ratio^2 v / (v + ratio^2)
    with ratio = sigma / alpha at t_min, 4e-4 of v at most, which costs its square.
    """
    score = mixture(sde)
    x0 = jax.vmap(lambda key: score.sample(sde.t_min, key=key))(jax.random.split(jax.random.key(0), 200))
    exact = jax.vmap(lambda x: score.log_prob(x, sde.t_min))(x0)
    found = elbo(score, x0, key=jax.random.key(1), samples=64)
    off = np.asarray(found.log_prob - exact)
    mean, error = mean_and_error(off)
    print(type(sde).__name__, dict(mean=mean, error=error, claimed=float(jnp.sqrt(jnp.mean(found.standard_error**2)))))
    assert error < 0.2 and abs(mean) < 4 * error + 0.05
    # 200 examples tell a standard deviation to 5 %; each claims its own, a little too large.
    assert off.std() == pytest.approx(float(jnp.sqrt(jnp.mean(found.standard_error**2))), rel=0.25)


def test_a_wrong_score_lowers_the_bound():
    """By the Fisher divergence of the two: below the exact density, and below that of its own probability flow's
    data."""
    sde = VP()
    right, wrong = (GaussianScore(sde, np.zeros(4), np.full(4, v)) for v in (0.25, 1.0))
    x0 = 0.5 * jax.random.normal(jax.random.key(0), (400, 4))
    good, bad = (elbo(score, x0, key=jax.random.key(1), samples=32) for score in (right, wrong))
    mean, error = mean_and_error(good.log_prob - bad.log_prob)
    # The KL divergence of N(0, 1/4) from N(0, 1), over 4 coordinates: (1/4 - 1 + log 4) / 2 each.
    assert abs(mean - 2 * (0.25 - 1 + np.log(4))) < 4 * error and error < 0.3


def test_many_steps_are_the_continuous_bound():
    sde = Cosine(log_snr_max=10.0)
    score = mixture(sde)
    x0 = jax.vmap(lambda key: score.sample(sde.t_min, key=key))(jax.random.split(jax.random.key(0), 100))
    chain = Discretization(sde, uniform_log_snr(sde, 400)[::-1])
    discrete = vlb(chain, score, x0, key=jax.random.key(2), samples=64)
    continuous = elbo(score, x0, key=jax.random.key(1), samples=64)
    mean, error = mean_and_error(discrete.log_prob - continuous.log_prob)
    assert error < 0.3 and abs(mean) < 4 * error + 0.1


# Integers


def grid_of(levels, sde, seed=0):
    """A known P(v) of one coordinate, as a mixture of points at the bins' centres, and its score."""
    bins = Bins(levels)
    P = np.random.default_rng(seed).dirichlet(2 * np.ones(levels))
    centres = np.asarray(bins.encode(jnp.arange(levels)))[:, None]
    return bins, P, MixtureScore(sde, centres, np.zeros((levels, 1)), P)


@pytest.mark.parametrize("decoder", [CategoricalDecoder, DiscretizedGaussian])
def test_the_bound_on_integers_recovers_their_probabilities(decoder):
    """At t_min the bins lie 125 sigma apart: both decoders are sure, and nothing but the draws is left of the bound."""
    sde = VP(t_min=1e-4)
    bins, P, score = grid_of(8, sde)
    v = jnp.repeat(jnp.arange(8), 100)
    found = elbo(score, bins.encode(v)[:, None], key=jax.random.key(0), samples=64, decoder=decoder(bins))
    off = np.asarray(found.log_prob) - np.log(P)[v]
    mean, error = mean_and_error(off)
    assert error < 0.05 and abs(mean) < 3 * error + 0.01
    assert float(abs(found.reconstruction).max()) < 1e-3


def test_decoders_are_distributions():
    """Over all integers they sum to 1, whatever the noise; far from the true bin in float32 too."""
    bins, z, residual = Bins(17, 0.0, 1.0), jnp.array([0.4]), jnp.array([-0.7])
    ratio = jnp.float32(0.08)
    x = 0.5 + ratio * z  # x / alpha, and the denoised value, seen from each bin in turn
    mean = 0.5 + ratio * residual
    total = {CategoricalDecoder: 0.0, DiscretizedGaussian: 0.0}
    for v in range(17):
        centre = bins.encode(jnp.array([v]))
        for decoder in total:
            log_prob = decoder(bins).log_prob(
                centre, z=(x - centre) / ratio, residual=(mean - centre) / ratio, ratio=ratio, std=ratio
            )
            assert np.isfinite(log_prob)
            total[decoder] += float(jnp.exp(log_prob))
    assert list(total.values()) == pytest.approx([1.0, 1.0], abs=1e-5)


def test_the_flow_and_the_bound_agree_on_the_same_model():
    """log p at t_min by the flow, log p_0 by the bound: for an exact score the same up to sigma(t_min)."""
    sde = VP(t_min=1e-4)
    score = mixture(sde)
    x0 = jax.vmap(lambda key: score.sample(sde.t_min, key=key))(jax.random.split(jax.random.key(3), 100))
    flow = log_likelihood(score, x0, key=jax.random.key(0), probes=None)
    bound = elbo(score, x0, key=jax.random.key(1), samples=64)
    mean, error = mean_and_error(bound.log_prob - flow.log_prob)
    assert error < 0.3 and abs(mean) < 4 * error + 0.05


def test_order_and_size_of_the_batch_change_nothing(x64):
    sde = VP()
    score, x0 = mixture(sde), jax.random.normal(jax.random.key(0), (6, 5))
    whole = elbo(score, x0, key=jax.random.key(1), samples=8).log_prob
    np.testing.assert_allclose(elbo(score, x0[:4], key=jax.random.key(1), samples=8).log_prob, whole[:4], atol=1e-6)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: DiscreteVP([0.5]), "at least two betas"),
        (lambda: DiscreteVP([0.5, 1.0]), "between 0 and 1"),
        (lambda: Discretization(VP(), jnp.array([0.5])), "increasing times"),
        (lambda: Discretization(VP(), jnp.array([0.5, 0.4])), "increasing times"),
        (lambda: elbo(mixture(VP()), jnp.zeros((1, 5)), key=jax.random.key(0), samples=0), "samples = 0"),
        (lambda: vlb(Discretization(VP(), jnp.array([0.4, 1.0])), mixture(VP()), jnp.zeros((1, 5)),
        key=jax.random.key(0), samples=0), "samples = 0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
