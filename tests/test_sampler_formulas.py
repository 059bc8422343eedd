"""Samplers against the formulas of their papers, written out, and against each other where families meet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from any_process import each_process
from inventory import SDES
from oracles import mixture

from scoresde.errors import ConfigError
from scoresde.sample import (
    DDIM,
    DEIS,
    IPNDM,
    Ancestral,
    AnnealedLangevin,
    DPMSolverPP,
    EulerEDM,
    GottaGoFast,
    HeunEDM,
    Langevin,
    LangevinDynamics,
    PredictorCorrector,
    ReverseDiffusion,
    SASolver,
    SDEDPMSolverPP,
    UniPC,
    draw,
    karras,
    predictor_corrector,
    uniform,
    uniform_log_snr,
)
from scoresde.sample.base import noise
from scoresde.sample.schedule_on_grid import schedule_on_grid
from scoresde.score import AbstractScore, GaussianScore
from scoresde.sde import VE, VP, Karras

# Relations between families


def slow(sampler):
    return pytest.param(sampler, marks=pytest.mark.slow)


def same(a, b):
    keys = jax.random.split(jax.random.key(1), 16)
    for sde in each_process(SDES).values():
        x, y = (draw(sampler, mixture(sde), (5,), keys=keys).x for sampler in (a, b))
        # Rounding: the largest difference of a component is 4e-13 of it, and 1e-14 of the largest component.
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "other",
    [slow(DPMSolverPP(9, order=1)), EulerEDM(9, uniform_log_snr), slow(DEIS(9, order=1)), slow(IPNDM(9, order=1))],
    ids=lambda sampler: type(sampler).__name__,
)
def test_first_orders_are_ddim(other, x64):
    same(DDIM(9), other)


@pytest.mark.parametrize(
    "other",
    [slow(SDEDPMSolverPP(9, order=1)), slow(PredictorCorrector(9, uniform_log_snr, Ancestral()))],
    ids=["SDE-DPM++", "ancestral"],
)
def test_stochastic_first_orders_are_ddim_with_eta_1(other, x64):
    same(DDIM(9, eta=1.0), other)


@pytest.mark.slow
def test_without_noise_the_stochastic_families_are_the_flow(x64):
    same(SASolver(9, tau=1.0, tau_low=1e9, tau_high=1e10), SASolver(9, tau=0.0))
    same(HeunEDM(9, churn=1.0, s_min=1e9, s_max=1e10), HeunEDM(9))


def test_heun_is_algorithm_1(x64):
    """Karras et al. 2022, algorithm 1, written out in NumPy: 18 steps, of which the last goes to sigma = 0."""
    sde = Karras()
    score = mixture(sde)
    denoise = jax.jit(lambda x, t: score.denoise(x, t))
    levels = [*np.asarray(karras(sde, 17)), 0.0]
    x_T = np.asarray(sde.sample_prior((5,), key=jax.random.key(3)))
    x = x_T
    for t, after in zip(levels, levels[1:]):
        slope = (x - denoise(x, t)) / t
        following = x + (after - t) * slope
        if after:
            following = x + (after - t) * (slope + (following - denoise(following, after)) / after) / 2
        x = following
    drawn = HeunEDM(17)(score, jnp.asarray(x_T), key=jax.random.key(0))
    assert drawn.nfe + 1 == 35
    np.testing.assert_allclose(denoise(drawn.x, sde.t_min), x, rtol=1e-11, atol=1e-13)


def test_discrete_vp_steps_are_ddpms(x64):
    """Reverse diffusion and ancestral sampling with DDPM's beta_i, as Song et al. 2021 print them for VP."""
    sde, x, s, z = VP(), jnp.array([0.3, -1.0]), jnp.array([0.7, 0.2]), jnp.array([1.1, -0.4])

    class Constant(AbstractScore):
        sde: VP = VP()

        def __call__(self, x, t):
            return s

    levels = schedule_on_grid(sde, uniform, 1000, jnp.float64)
    step = predictor_corrector.Transition(levels[400], levels[401])
    beta = 1 - (levels.alpha[400] / levels.alpha[401]) ** 2
    np.testing.assert_allclose(
        ReverseDiffusion()(Constant(), step, x, z),
        2 * x - jnp.sqrt(1 - beta) * x + beta * s + jnp.sqrt(beta) * z,
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        Ancestral("transition")(Constant(), step, x, z),
        (x + beta * s) / jnp.sqrt(1 - beta) + jnp.sqrt(beta) * z,
        rtol=1e-9,
    )
    size = AnnealedLangevin(0.16).step_size(step, s, z)
    np.testing.assert_allclose(size, 2 * (1 - beta) * (0.16 * levels.sigma[400]) ** 2, rtol=1e-9)


def test_eta_is_the_published_one(x64):
    """sigma = eta sqrt((1 - a') / (1 - a)) sqrt(1 - a / a'), a = alpha^2 (Song, Meng and Ermon 2021, eq. 16)."""
    sde = VP()
    levels = schedule_on_grid(sde, uniform, 5, jnp.float64)
    a, after = levels.alpha[:-1] ** 2, levels.alpha[1:] ** 2
    published = 0.3 * jnp.sqrt((1 - after) / (1 - a)) * jnp.sqrt(1 - a / after)
    np.testing.assert_allclose(DDIM(5, eta=0.3).table(sde, levels).predictor.noise, published, rtol=1e-8)


def test_sde_3m_is_exact_for_parabolas(x64):
    """sum_j W_j u_j^k = alpha' int_0^h 2 e^{-2 (h - u)} u^k du for k = 0, 1, 2, with u_j = l_{i-j} - l_i."""
    sde = VP()
    levels = schedule_on_grid(sde, uniform, 4, jnp.float64)
    weights = [w[-1] for w in SDEDPMSolverPP(4, order=3).table(sde, levels).predictor.weights]
    u, h = levels.half_log_snr[jnp.array([3, 2, 1])] - levels.half_log_snr[3], levels.h[-1]
    half = -jnp.expm1(-2 * h) / 2
    for k, exact in enumerate((2 * half, h - half, h**2 - h + half)):
        assert float(sum(w * node**k for w, node in zip(weights, u))) == pytest.approx(
            float(levels.alpha[4] * exact), rel=1e-9
        )


# Langevin steps and batches


def test_image_norms_keep_images_apart_and_batch_norms_do_not():
    sde, keys = VP(), jax.random.split(jax.random.key(5), 8)

    def first(norm, count):
        sampler = PredictorCorrector(20, uniform_log_snr, Ancestral(), Langevin(0.1, norm=norm))
        return draw(sampler, mixture(sde), (5,), keys=keys[:count]).x[0]

    np.testing.assert_allclose(first("image", 2), first("image", 8), atol=1e-4)
    assert abs(first("batch", 2) - first("batch", 8)).max() > 1e-3


def test_batch_norms_are_means_over_the_batch():
    """e = 2 a (snr mean|z| / mean|s|)^2 (Song et al. 2021, algorithms 4 and 5)."""
    corrector = Langevin(0.16, norm="batch")
    sde = VE()
    levels = schedule_on_grid(sde, uniform, 10, jnp.float32)
    step = predictor_corrector.Transition(levels[3], levels[4])
    s, z = jax.random.normal(jax.random.key(0), (2, 6, 5))
    sizes = jax.vmap(lambda s, z: corrector.step_size(step, s, z), axis_name="batch")(s, z)
    ratio = np.linalg.norm(z, axis=1).mean() / np.linalg.norm(s, axis=1).mean()
    np.testing.assert_allclose(sizes, 2 * (0.16 * ratio) ** 2, rtol=1e-5)


def test_batch_norms_outside_a_batch_are_refused():
    sde = VP()
    sampler = PredictorCorrector(2, corrector=Langevin(norm="batch"))
    with pytest.raises(ConfigError, match="needs a batch"):
        sampler(mixture(sde), jnp.ones(5), key=jax.random.key(0))


def test_langevin_dynamics_follows_the_mean_to_the_next_level(x64):
    """One level, one step: x = (alpha'/alpha) x_T, then x + (e / 2) sigma'^2 s + sqrt(e) sigma' z."""
    sde, key, x_T = VP(), jax.random.key(0), jnp.array([1.0, -2.0])
    score = GaussianScore(sde, np.array([0.5, -0.5]), np.array([0.1, 1.0]))
    drawn = LangevinDynamics(1, uniform, repeats=1, step_size=0.2)(score, x_T, key=key)
    x, sigma = sde.alpha(sde.t_min) / sde.alpha(sde.t_max) * x_T, sde.sigma(sde.t_min)
    exact = x + 0.1 * sigma**2 * score(x, jnp.asarray(sde.t_min)) + np.sqrt(0.2) * sigma * noise(key, 0, x_T)
    np.testing.assert_allclose(drawn.x, exact, rtol=1e-9)


# What tells samplers of one order apart


def test_unipc_variants_are_the_two_functions_b(x64):
    """The weight of D_{i-1} in the predictor with two points is alpha' B(h) / (2 r), r = (l_{i-1} - l_i) / h."""
    sde = VP()
    levels = schedule_on_grid(sde, uniform, 3, jnp.float64)  # unequal h
    h = levels.h
    for variant, b in (("bh1", h), ("bh2", 1 - jnp.exp(-h))):
        older = UniPC(3, order=2, variant=variant).table(sde, levels).predictor.weights[1]
        np.testing.assert_allclose(older[1:], -levels.alpha[2:] * b[1:] * h[1:] / (2 * h[:-1]), rtol=1e-12)


def test_deis_variables_are_those_of_its_polynomials(x64):
    """The weight of the older call is alpha' int (v - v_i) / (v_{i-1} - v_i) drho, in closed form for v = rho and log
    rho."""
    sde = Karras()  # t is rho
    levels = schedule_on_grid(sde, karras, 3, jnp.float64)
    before, here, there = levels.t[:-2], levels.t[1:-1], levels.t[2:]
    of_rho = (there - here) ** 2 / 2 / (before - here)
    of_log = (there * jnp.log(there / here) - (there - here)) / jnp.log(before / here)
    for variable, exact in (("t", of_rho), ("rho", of_rho), ("log_rho", of_log)):
        older = DEIS(3, order=2, variable=variable).table(sde, levels).predictor.weights[1]
        np.testing.assert_allclose(older[1:], exact, rtol=1e-6)


def test_churn_is_algorithm_2(x64):
    """gamma = min(churn / N, sqrt 2 - 1) where s_min <= sigma <= s_max, N counting the step to 0; s_noise scales the
    noise."""
    sde = Karras()
    levels = schedule_on_grid(sde, karras, 9, jnp.float64)
    rho = levels.t[:-1]
    for churn, gamma in ((2.0, 0.2), (40.0, np.sqrt(2) - 1)):
        start, added = HeunEDM(9, churn=churn, s_min=0.1, s_max=20.0)._churned(sde, levels)
        raised = jnp.where((rho >= 0.1) & (rho <= 20), (1 + gamma) * rho, rho)
        np.testing.assert_allclose(start.t, raised, rtol=1e-9)
        np.testing.assert_allclose(added, jnp.sqrt(raised**2 - rho**2), rtol=1e-6)
    score, x_T = GaussianScore(sde, np.zeros(2), np.ones(2)), jnp.ones(2)
    x = [EulerEDM(9, churn=2.0, s_noise=scale)(score, x_T, key=jax.random.key(0)).x for scale in (1.0, 2.0, 3.0)]
    assert abs(x[1] - x[0]).min() > 1e-3  # linear in the noise
    np.testing.assert_allclose(x[2] - x[1], x[1] - x[0], rtol=1e-9)


def test_sa_solver_draws_noise_between_its_two_levels(x64):
    """tau acts on steps that start between tau_low and tau_high, as c = 1 + tau^2 and as noise."""
    sde = Karras()
    levels = schedule_on_grid(sde, karras, 12, jnp.float64)
    row = SASolver(12, order=1, tau=0.5, tau_low=0.1, tau_high=5.0).table(sde, levels).predictor
    tau2 = jnp.where((levels.t[:-1] >= 0.1) & (levels.t[:-1] <= 5.0), 0.25, 0.0)
    assert 0 < jnp.sum(tau2 > 0) < 12
    np.testing.assert_allclose(row.noise, levels.sigma[1:] * jnp.sqrt(1 - jnp.exp(-2 * tau2 * levels.h)), rtol=1e-9)
    np.testing.assert_allclose(row.weights[0], 1 - jnp.exp(-(1 + tau2) * levels.h), rtol=1e-9)


def test_gotta_go_fast_is_algorithm_1(x64):
    """Jolicoeur-Martineau et al. 2021, written out in NumPy with the same noise: the same trials, and the same end."""
    sde, relative, absolute = VP(t_min=0.01), 0.1, 0.05
    score, key = GaussianScore(sde, np.array([0.5, -0.5]), np.array([0.1, 1.0])), jax.random.key(0)
    x_T = jnp.array([1.0, -2.0])
    drift = jax.jit(lambda x, t: sde.f(t) * x - sde.g2(t) * score(x, t))
    g = jax.jit(lambda t: jnp.sqrt(sde.g2(t)))
    x = previous = x_T
    t, h, trials = 1.0, 0.01 * 0.99, 0
    while t > 0.01:
        z = noise(key, trials, x_T)
        low = x - h * drift(x, t) + np.sqrt(h) * g(t) * z
        high = (x + low - h * drift(low, t - h) + np.sqrt(h) * g(t - h) * z) / 2
        error = np.sqrt(
            np.mean(((low - high) / np.maximum(absolute, relative * np.maximum(abs(low), abs(previous)))) ** 2)
        )
        if error <= 1:
            x, previous, t = high, low, t - h if t - h > 0.01 + 1e-12 else 0.01
        h, trials = min(t - 0.01, 0.9 * h * error**-0.9), trials + 1
    drawn = GottaGoFast(relative, absolute)(score, x_T, key=key)
    assert drawn.nfe == 2 * trials > 20
    np.testing.assert_allclose(drawn.x, x, rtol=1e-9)
