"""Bugs found in the code of earlier systems, each as a test that this package passes.

Left out are those that other tests hold (Inception networks that differ, several steps per dispatch) and those without
a
counterpart here: trainers that import deleted modules, and the best of three seeds.
"""

import itertools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inventory import SDES
from oracles import closed_forms, mixture

from scoresde.data import load
from scoresde.data.stream import indices
from scoresde.likelihood import log_likelihood
from scoresde.likelihood.flow import log_likelihood_of_keys
from scoresde.likelihood.trace import ExactTrace
from scoresde.nets import MLP, Network
from scoresde.sample import (
    AnnealedLangevin,
    DPMSolverPP,
    Langevin,
    PredictorCorrector,
    ProbabilityFlow,
    denoised_draw,
    draw,
    uniform,
    uniform_log_snr,
)
from scoresde.sample.predictor_corrector import Transition
from scoresde.sample.schedule_on_grid import schedule_on_grid
from scoresde.score import GaussianScore, MixtureScore, NetworkScore
from scoresde.score.base import AbstractScore
from scoresde.sde import VE, VP, SubVP


class Recorded(AbstractScore):
    """A score that tells the time and the mean square of every state that it is asked about."""

    inner: AbstractScore
    tell: Callable = eqx.field(static=True)

    @property
    def sde(self):
        return self.inner.sde

    def __call__(self, x, t):
        jax.debug.callback(self.tell, t, jnp.mean(x**2))
        return self.inner(x, t)


@pytest.mark.parametrize("corrector", [Langevin(0.05), AnnealedLangevin(0.05)])
def test_correctors_work_on_sub_vp(corrector):
    """score_sde looks `alphas` up on the process, which sub-VP does not have: AttributeError."""
    sde = SubVP()
    sampler = PredictorCorrector(200, uniform_log_snr, corrector=corrector)
    drawn = draw(
        sampler,
        GaussianScore(sde, np.zeros(400), np.full(400, 0.25)),
        (400,),
        keys=jax.random.split(jax.random.key(0), 4),
    )
    assert drawn.ok.all() and float(jnp.std(drawn.x)) == pytest.approx(0.5, rel=0.1)


def test_denoised_samples_hold_no_noise_of_the_last_step():
    """score_sde's inpainting rebuilds the mean from the noisy x, so that "denoised" images keep the noise of t_min."""
    sde = VE(sigma_min=0.3, sigma_max=10.0)  # the last noise is 0.3
    score = GaussianScore(sde, np.full(100, 0.7), np.full(100, 1e-6))  # one image, as good as known
    keys = jax.random.split(jax.random.key(0), 4)
    sampler = PredictorCorrector(100, uniform_log_snr, corrector=Langevin(0.1))
    assert float(jnp.std(draw(sampler, score, (100,), keys=keys).x)) > 0.2
    np.testing.assert_allclose(denoised_draw(sampler, score, (100,), keys=keys).x, 0.7, atol=1e-3)


@pytest.mark.parametrize("sde, formula", [(VP(), lambda b: np.sqrt(-np.expm1(-b))), (SubVP(), lambda b: -np.expm1(-b))])
def test_the_noise_level_does_not_cancel_in_float32(sde, formula):
    """1 - exp(-B) in float32 is off by 2 to 5 % at t = 1e-5."""
    t = np.geomspace(1e-5, 1e-3, 50).astype(np.float32)
    exact = formula(0.1 * t.astype(float) + 0.5 * 19.9 * t.astype(float) ** 2)
    np.testing.assert_allclose(jax.vmap(sde.sigma)(t), exact, rtol=1e-6)


def test_a_sample_of_the_corrector_does_not_see_its_batch():
    """score_sde takes the norms of the Langevin step as means over the batch and over the devices."""
    sde, keys = VP(), jax.random.split(jax.random.key(1), 6)
    sampler = PredictorCorrector(30, uniform_log_snr, corrector=Langevin(0.1))
    alone = draw(sampler, mixture(sde), (5,), keys=keys[:1]).x[0]
    np.testing.assert_allclose(draw(sampler, mixture(sde), (5,), keys=keys).x[0], alone, atol=1e-4)


def test_decoding_does_not_darken():
    """clip(255 x).astype(uint8) truncates and darkens by half a level. Here a level is a bin, with its centre in the
    middle."""
    dataset = load("digits", shape=(8, 8, 1), levels=17, centered=True)
    x = np.linspace(-1, 1, 170_001, dtype=np.float32)[:-1]
    levels = np.asarray(dataset.decode(x), float)
    assert abs(np.mean(np.asarray(dataset.encode(levels.astype(np.uint8), 0.5)) - x)) < 1e-4


def test_resuming_neither_repeats_nor_skips_data():
    """score_sde does not save the position in the data. Here a batch is a function of seed and step."""
    dataset = load("digits", shape=(8, 8, 1), levels=17, centered=True)
    read = lambda start, count: [
        batch["value"] for batch in itertools.islice(dataset.stream(3, 16, start, rows=slice(None)), count)
    ]  # noqa: E731
    np.testing.assert_array_equal(np.stack(read(0, 5) + read(5, 8)), np.stack(read(0, 13)))
    assert (
        np.bincount(np.concatenate([indices(3, step, 16, 100) for step in range(13)])[:200], minlength=100).tolist()
        == [2] * 100
    )


def test_the_number_of_sampling_steps_changes_no_noise_level():
    """In discrete models it silently changes the noise that the score is asked about. On N(0, 0.25 I) the state at time
    t has the variance alpha^2 / 4 + sigma^2, in whatever number of steps it came there."""
    sde, asked = VP(), []
    score = Recorded(
        GaussianScore(sde, np.zeros(4000), np.full(4000, 0.25)), lambda t, v: asked.append((float(t), float(v)))
    )
    times = {}
    for n in (25, 100):
        draw(
            DPMSolverPP(n, uniform_log_snr), score, (4000,), keys=jax.random.split(jax.random.key(0), 1)
        ).x.block_until_ready()
        jax.effects_barrier()
        t, variance = np.array(sorted(asked)).T
        # A variance of 4000 values: 2 % standard error, and the second-order solver in 25 steps.
        np.testing.assert_allclose(variance, [float(0.25 * sde.alpha(s) ** 2 + sde.sigma(s) ** 2) for s in t], rtol=0.1)
        times[n] = t
        asked.clear()
    assert len(times[25]) >= 25 and len(times[100]) >= 100
    assert all(np.isclose(times[100], t, rtol=1e-4).any() for t in times[25])


def test_the_langevin_step_belongs_to_the_grid_at_hand(x64):
    """score_sde reads 1 - beta_i among the 1000 levels of training also when it samples with another number of
    steps."""
    sde, one = VP(), jnp.ones(4)
    for n in (50, 1000):
        levels = schedule_on_grid(sde, uniform, n, jnp.float64)
        step = Transition(levels[n // 2], levels[n // 2 + 1])
        t = np.asarray(levels.t[n // 2 : n // 2 + 2])
        beta = 1 - np.exp(-(0.1 * (t[0] - t[1]) + 0.5 * 19.9 * (t[0] ** 2 - t[1] ** 2)))
        assert float(Langevin(0.16).step_size(step, one, one)) == pytest.approx(2 * (1 - beta) * 0.16**2, rel=1e-9)


def test_a_fine_uniform_grid_ends_where_it_says():
    """score_sde steps by 1 / N along a grid with spacing (T - eps) / (N - 1): 0.9 % off at N = 100."""
    for n in (7, 100, 1000):
        t = np.asarray(uniform(VP(), n), float)
        np.testing.assert_allclose(-np.diff(t), (1 - 1e-5) / n, rtol=1e-3)


def test_the_prior_of_ve_has_its_spread_once():
    """swirl takes sigma(T)^2 for the standard deviation of the prior."""
    z = np.linspace(-60, 60, 7).astype(np.float32)
    exact = -0.5 * np.sum((z / 50) ** 2 + np.log(2 * np.pi * 50.0**2))
    assert float(VE().log_prior(jnp.asarray(z))) == pytest.approx(exact, rel=1e-6)


def test_the_probe_stays_along_a_trajectory():
    """A fresh probe at each evaluation makes the right-hand side jump, and an adaptive solver stop short or run out of
    steps.

    For a Gaussian with covariance S the estimate of a fixed probe e is known: log p + (e^T M e - tr M) / 2 with
    M = log(S_T / S_min), S_t the covariance at t.
    """
    sde, random = VP(), np.random.default_rng(0)
    factor = random.normal(size=(4, 4))
    covariance = factor @ factor.T + 0.1 * np.eye(4)
    score = GaussianScore(sde, np.zeros(4), covariance)
    x = jax.vmap(lambda key: score.sample(jnp.float32(sde.t_min), key=key))(jax.random.split(jax.random.key(0), 64))
    exact, probed = (log_likelihood(score, x, key=jax.random.key(1), probes=n, tolerance=1e-5) for n in (None, 1))
    values, axes = np.linalg.eigh(covariance)
    ratios = [sde.alpha(t) ** 2 * values + sde.sigma(t) ** 2 for t in (sde.t_max, sde.t_min)]
    M = axes @ np.diag(np.log(ratios[0] / ratios[1])) @ axes.T
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T
    possible = np.unique(np.round([(e @ M @ e - np.trace(M)) / 2 for e in signs], 9))
    missed = np.abs(np.asarray(probed.log_prob - exact.log_prob)[:, None] - possible).min(axis=1)
    assert probed.ok.all() and probed.nfe.max() < 300 and missed.max() < 2e-3


@pytest.mark.parametrize("name", ["VP", "SubVP", "VE"])
def test_drift_and_noise_belong_to_one_process(name, x64):
    """sbgm's sub-VP has the standard deviation 1 - exp(-2 int beta) beside the diffusion of 1 - exp(-int beta)."""
    sde = SDES[name]
    for t in (1e-3, 0.2, 0.9):
        f, g2 = closed_forms(sde, t)
        variance_rate = jax.grad(lambda t: sde.sigma(t) ** 2)(t)
        assert float(variance_rate) == pytest.approx(float(g2 + 2 * f * sde.sigma(t) ** 2), rel=1e-8)


def test_the_likelihood_is_as_exact_as_it_was_asked_to_be():
    """sbgm integrates with a constant step of 0.1: an error that no argument controls."""
    sde = VP()
    score = GaussianScore(sde, np.zeros(8), np.geomspace(1e-3, 1, 8))
    x = jax.vmap(lambda key: score.sample(jnp.float32(sde.t_min), key=key))(jax.random.split(jax.random.key(0), 16))

    def error(tolerance):
        solved = log_likelihood(score, x, key=jax.random.key(1), probes=None, tolerance=tolerance)
        at_T = jax.vmap(lambda z: score.log_prob(z, jnp.float32(sde.t_max)) - sde.log_prior(z))(solved.latent)
        exact = jax.vmap(lambda x: score.log_prob(x, jnp.float32(sde.t_min)))(x)
        return float(jnp.max(abs(solved.log_prob + at_T - exact)))

    assert error(1e-5) < 1e-3 and error(1e-1) > 10 * error(1e-5)


def test_the_likelihood_runs_from_the_data_to_the_prior():
    """consistency_models integrates from T with the data as its start, and reports the number of steps as NFE."""
    sde = VE()
    score = mixture(sde)
    x = jax.vmap(lambda key: score.sample(jnp.float32(sde.t_min), key=key))(jax.random.split(jax.random.key(0), 16))
    solved = log_likelihood(score, x, key=jax.random.key(1), probes=None)
    assert 25 < float(jnp.std(solved.latent)) < 100 and float(jnp.std(x)) < 3  # sigma_max = 50


def test_likelihoods_use_full_matrix_products():
    """TensorFloat-32, the default on some accelerators, costs more bits than the solver's tolerance."""
    sde = VP()
    score = GaussianScore(sde, np.zeros(3), np.eye(3) + 0.1)
    keys = jax.random.split(jax.random.key(0), 2)
    solve = lambda x: log_likelihood_of_keys(score, x, keys=keys, trace=ExactTrace(), tolerance=1e-3)  # noqa: E731
    text = str(jax.make_jaxpr(solve)(jnp.ones((2, 3))))
    assert text.count("dot_general") and text.count("HIGHEST") >= text.count("dot_general")


def test_scores_have_no_dropout_outside_training():
    """A likelihood with dropout on is biased, and a probe then meets another network at every time."""
    network = Network.init(lambda rngs: MLP((3,), width=16, depth=1, dropout=0.5, rngs=rngs), key=jax.random.key(0))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(2), p.shape), network.params)
    score = NetworkScore(VP(), eqx.tree_at(lambda n: n.params, network, params))
    x, t = jnp.ones(3), jnp.float32(0.3)
    np.testing.assert_array_equal(score(x, t), score(x, t))
    noisy = [eqx.tree_at(lambda s: s.key, score, jax.random.key(k), is_leaf=lambda n: n is None)(x, t) for k in (0, 1)]
    assert abs(noisy[0] - noisy[1]).max() > 0


def test_steps_are_chosen_per_example():
    """One solve of a batch shares step and norm, so that a result depends on the batch; its NFE is one number."""
    sde = VP()
    score, keys = mixture(sde), jax.random.split(jax.random.key(3), 16)
    drawn = draw(ProbabilityFlow(), score, (5,), keys=keys)
    assert len(np.unique(drawn.nfe)) > 1
    alone = draw(ProbabilityFlow(), score, (5,), keys=keys[:1])
    assert int(alone.nfe[0]) == pytest.approx(int(drawn.nfe[0]), abs=12)  # two steps: rounding may move a rejection


def test_the_ve_flow_draws_sharp_samples():
    """VE's flow is blurry when solved with the steps of a variance-preserving process: here its steps follow sigma."""
    sde = VE()
    means = 0.5 * np.sign(np.random.default_rng(0).normal(size=(6, 64)))
    score = MixtureScore(sde, means, np.full((6, 64), 1e-4), np.ones(6))
    drawn = denoised_draw(ProbabilityFlow(), score, (64,), keys=jax.random.split(jax.random.key(0), 64))
    nearest = np.abs(np.asarray(drawn.x)[:, None] - means).max(axis=2).min(axis=1)
    assert drawn.ok.all() and np.median(nearest) < 0.06
