"""Forward processes: what follows from alpha and sigma, in float64 to rounding and in float32 down to t_min."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inventory import ALL_SDES
from oracles import closed_forms

from scoresde.errors import ConfigError
from scoresde.sample import DPMSolverPP, draw, uniform_log_snr
from scoresde.score import GaussianScore
from scoresde.sde import VE, VP, Cosine, Karras, SubVP, TabulatedVP, cosine_betas

every_sde = pytest.mark.parametrize("sde", ALL_SDES.values(), ids=ALL_SDES)

METHODS = ("log_alpha", "sigma", "alpha", "log_sigma", "f", "g2", "log_snr")


def times(sde, count: int = 400) -> np.ndarray:
    """t_min to t_max, in equal steps and in equal ratios: the interesting end is t_min."""
    first = max(sde.t_min, 1e-7)
    return np.unique(
        np.r_[np.linspace(first, sde.t_max, count), np.geomspace(first, sde.t_max, count)].clip(first, sde.t_max)
    )


def reference(sde, t):
    """(log alpha, sigma) in NumPy float64, from the table at the head of `isotropic`."""
    t = np.asarray(t, np.float64)
    match type(sde).__name__:
        case "VP" | "SubVP" as name:
            B = sde.beta_min * t + (sde.beta_max - sde.beta_min) * t**2 / 2
            return -B / 2, np.sqrt(-np.expm1(-B)) if name == "VP" else -np.expm1(-B)
        case "VE":
            return 0 * t, sde.sigma_min * (sde.sigma_max / sde.sigma_min) ** t
        case "Cosine":
            first, last = np.arctan(np.exp(-sde.log_snr_max / 2)), np.arctan(np.exp(-sde.log_snr_min / 2))
            angle = first + (last - first) * t
            return np.log(np.cos(angle)), np.sin(angle)
        case "Karras":
            return 0 * t, t


@every_sde
def test_f_and_g2_are_the_published_ones(sde, x64):
    t = times(sde)
    f, g2 = closed_forms(sde, t)
    # rtol: rounding of float64, magnified at most 1e4 times, by the tangent of the Cosine next to its pole.
    np.testing.assert_allclose(jax.vmap(sde.f)(t), f, rtol=1e-10)
    np.testing.assert_allclose(jax.vmap(sde.g2)(t), g2, rtol=1e-10)


@every_sde
def test_alpha_and_sigma_keep_their_digits_in_float32(sde):
    t = np.geomspace(1e-7, sde.t_max, 2000).clip(1e-7, sde.t_max).astype(np.float32)
    log_alpha, sigma = reference(sde, t)
    # 8 units in the last place; VE's exponent reaches log(5000) = 8.5, whose own rounding is 5e-7.
    np.testing.assert_allclose(jax.jit(jax.vmap(sde.sigma))(t), sigma, rtol=1e-6)
    # alpha itself: an absolute error of log alpha (up to 10 here) of half a unit in the last place, twice.
    np.testing.assert_allclose(jax.jit(jax.vmap(sde.alpha))(t), np.exp(log_alpha), rtol=4e-6)


@every_sde
def test_g2_in_float32_is_the_published_one(sde):
    t = times(sde).astype(np.float32).clip(sde.t_min, sde.t_max)
    # Next to its pole the Cosine's tangent magnifies the rounding of the angle (1e-7) by 1 / cos, up to 2e3.
    rtol = 5e-4 if isinstance(sde, Cosine) else 5e-6
    np.testing.assert_allclose(jax.jit(jax.vmap(sde.g2))(t), closed_forms(sde, t)[1], rtol=rtol)


@every_sde
def test_g2_over_sigma2_is_minus_the_derivative_of_log_snr(sde, x64):
    t = times(sde, 50)[1:-1]
    h = 1e-4 * jax.vmap(lambda t: sde.sigma(t) ** 2 / sde.g2(t))(t)  # moves lambda by 1e-4
    slope = (jax.vmap(sde.log_snr)(t + h) - jax.vmap(sde.log_snr)(t - h)) / (2 * h)
    # Central differences: (1e-4)^2 from truncation, 1e-16 |lambda| / 1e-4 from rounding.
    np.testing.assert_allclose(jax.vmap(lambda t: sde.g2(t) / sde.sigma(t) ** 2)(t), -slope, rtol=1e-7)


@every_sde
def test_log_snr_falls_and_its_inverse_returns(sde):
    t = times(sde).astype(np.float32).clip(sde.t_min, sde.t_max)
    log_snr = jax.jit(jax.vmap(sde.log_snr))(t)
    assert np.all(np.diff(log_snr) <= 0) and log_snr[0] > log_snr[-1]
    back = np.asarray(jax.jit(jax.vmap(sde.time_of_log_snr))(log_snr), np.float64)
    # rtol: the promise. Next to t = 0 no more can be had than lambda tells, which is rounded (twice, by half a unit
    # each).
    lost = 2 * np.spacing(np.float32(abs(log_snr))) * reference(sde, t)[1] ** 2 / closed_forms(sde, t)[1]
    assert np.all(abs(back - t) <= 1e-5 * t + lost)


@every_sde
def test_log_snr_outside_the_range_gives_the_nearer_end(sde):
    assert sde.time_of_log_snr(1e4) == np.float32(sde.t_min)
    assert sde.time_of_log_snr(-1e4) == np.float32(sde.t_max)
    assert np.isnan(sde.time_of_log_snr(jnp.nan))


@every_sde
def test_inverse_of_log_snr_agrees_with_its_closed_form(sde, x64):
    log_snr = np.linspace(float(sde.log_snr(sde.t_max)), float(sde.log_snr(sde.t_min)), 101)
    match type(sde).__name__:
        case "VP" | "SubVP" as name:
            B = np.logaddexp(0, -log_snr) if name == "VP" else 2 * np.arcsinh(np.exp(-log_snr / 2) / 2)
            t = 2 * B / (sde.beta_min + np.sqrt(sde.beta_min**2 + 2 * (sde.beta_max - sde.beta_min) * B))
        case "VE":
            t = (-log_snr / 2 - np.log(sde.sigma_min)) / np.log(sde.sigma_max / sde.sigma_min)
        case "Cosine":
            first, last = np.arctan(np.exp(-sde.log_snr_max / 2)), np.arctan(np.exp(-sde.log_snr_min / 2))
            t = (np.arctan(np.exp(-log_snr / 2)) - first) / (last - first)
        case "Karras":
            t = np.exp(-log_snr / 2)
    # Rounding of lambda next to t = 1e-5: 1e-15 * 27 / 2 in relative terms; atol for ends at t = 0.
    np.testing.assert_allclose(jax.vmap(sde.time_of_log_snr)(log_snr), t, rtol=1e-11, atol=1e-14)


@every_sde
def test_inverse_of_log_snr_has_a_derivative(sde, x64):
    t = times(sde, 50)[2:-2]
    log_snr = jax.vmap(sde.log_snr)(t)
    expected = jax.vmap(lambda t: -(sde.sigma(t) ** 2) / sde.g2(t))(t)
    # A root is good to 1e-11 (above), and dt/dlambda is evaluated there.
    for derivative in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(jax.vmap(derivative(sde.time_of_log_snr))(log_snr), expected, rtol=1e-8)


@every_sde
def test_mean_and_variance_obey_their_equations(sde, x64):
    """dm/dt = f m, dv/dt = 2 f v + g^2 (Sarkka and Solin 2019, eq. 5.50), from t_min, give alpha and sigma^2.

    Midpoint steps in s = log(t + c): f and g^2 as the package computes them, sigma^2 only at the start.
    """
    shift = 1e-6 if sde.t_min < 1e-6 else 0.0
    # Short of the end: the Cosine has a boundary layer there, where alpha falls by its whole size within 1e-3.
    end = sde.t_min + 0.95 * (sde.t_max - sde.t_min)
    s = jnp.linspace(jnp.log(sde.t_min + shift), jnp.log(end + shift), 4001)
    h = s[1] - s[0]

    def slope(state, s):
        t = jnp.exp(s) - shift
        log_mean, variance = state
        del log_mean
        f, g2 = sde.f(t), sde.g2(t)
        return jnp.array([f, 2 * f * variance + g2]) * (t + shift)

    def step(state, s):
        middle = state + h / 2 * slope(state, s)
        return state + h * slope(middle, s + h / 2), None

    start = jnp.array([sde.log_alpha(sde.t_min), sde.sigma(sde.t_min) ** 2])
    (log_mean, variance), _ = jax.lax.scan(step, start, s[:-1])
    # Second order with h = 3e-3 and rates f t up to 20: (h f t)^2 = 4e-3 a step near the end, 1e-3 in total, less on
    # average.
    np.testing.assert_allclose(log_mean, sde.log_alpha(end), rtol=1e-3)
    np.testing.assert_allclose(variance, sde.sigma(end) ** 2, rtol=1e-3)


@every_sde
def test_perturb_has_the_mean_and_the_spread_of_the_kernel(sde):
    t, n = jnp.float32(0.5 * (sde.t_min + sde.t_max)), 50_000
    x0 = jnp.array([[-2.0, 0.0], [0.5, 3.0]])
    keys = jax.random.split(jax.random.key(0), n)
    x, z = jax.jit(jax.vmap(lambda key: sde.perturb(x0, t, key=key)))(keys)
    alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
    np.testing.assert_allclose(x, alpha * x0 + sigma * z, rtol=1e-5, atol=1e-5 * sigma)
    # Five standard errors: of a mean, sigma / sqrt(n), and of a standard deviation, sigma / sqrt(2 n); one draw in 2e6.
    np.testing.assert_allclose(np.mean(x, 0), alpha * x0, atol=5 * sigma / np.sqrt(n))
    np.testing.assert_allclose(np.std(x, 0), sigma, rtol=5 / np.sqrt(2 * n))
    correlation = np.corrcoef(np.asarray(z).reshape(n, 4).T) - np.eye(4)
    assert abs(correlation).max() < 5 / np.sqrt(n)


@every_sde
def test_prior_is_the_gaussian_of_the_last_sigma(sde, x64):
    sigma = float(sde.sigma(sde.t_max))
    x = np.array([[0.3, -1.0], [2.0, 0.0]]) * sigma
    expected = sum(-0.5 * v**2 / sigma**2 - np.log(sigma * np.sqrt(2 * np.pi)) for v in x.ravel())
    np.testing.assert_allclose(sde.log_prior(jnp.asarray(x)), expected, rtol=1e-13)
    draws = np.asarray(sde.sample_prior((40_000,), key=jax.random.key(1)))
    # Five standard errors, as above.
    np.testing.assert_allclose(draws.std(), sigma, rtol=5 / np.sqrt(80_000))
    np.testing.assert_allclose(draws.mean(), 0, atol=5 * sigma / np.sqrt(40_000))


@every_sde
@pytest.mark.parametrize("method", [*METHODS, "time_of_log_snr"])
def test_any_number_is_a_time(sde, method):
    function = getattr(sde, method)
    t = 1 if sde.t_max > 1 or method == "time_of_log_snr" else 0.5
    expected = function(jnp.float32(t))
    assert np.isfinite(expected)
    for same in (t, float(t), np.float64(t), np.float32(t), np.asarray(t), jnp.asarray(t)):
        # The last place: XLA folds constants in another order.
        value = function(same)
        assert isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating)
        np.testing.assert_allclose(value, expected, rtol=3e-7, atol=1e-7)


@every_sde
def test_process_is_an_argument_of_jit(sde):
    t = times(sde, 10).astype(np.float32)
    for method in METHODS:
        expected = np.stack([getattr(sde, method)(v) for v in jnp.asarray(t)])
        for jit in (jax.jit, eqx.filter_jit):
            value = jit(lambda sde, t: jax.vmap(getattr(sde, method))(t))(sde, t)
            # A few units in the last place: one compiled program against many; the Cosine's tangent as above.
            np.testing.assert_allclose(value, expected, rtol=1e-3 if isinstance(sde, Cosine) else 3e-6, atol=1e-6)


def test_time_in_float64_stays_float64(x64):
    for sde in ALL_SDES.values():
        for method in METHODS:
            assert getattr(sde, method)(jnp.float64(0.5)).dtype == jnp.float64
            assert getattr(sde, method)(jnp.float32(0.5)).dtype == jnp.float32


BAD = [
    (VP, dict(beta_min=-1.0), ["beta_min = -1.0", "0 < beta_min"]),
    (VP, dict(beta_min=0.0), ["beta_min = 0.0", "0 < beta_min"]),
    (VP, dict(beta_min=30.0), ["beta_min = 30.0", "beta_max = 20.0"]),
    (VP, dict(beta_max=float("nan")), ["beta_max = nan"]),
    (VP, dict(t_min=0.0), ["t_min = 0.0", "sigma(0) is 0"]),
    (VP, dict(t_min=2.0), ["t_min = 2.0", "t_max = 1.0"]),
    (VP, dict(t_max=float("inf")), ["t_max = inf"]),
    (SubVP, dict(t_min=float("nan")), ["t_min = nan", "t_min < t_max"]),
    (SubVP, dict(beta_max=0.01), ["beta_min = 0.1", "beta_max = 0.01"]),
    (VE, dict(sigma_min=0.0), ["sigma_min = 0.0", "0 < sigma_min"]),
    (VE, dict(sigma_min=60.0), ["sigma_min = 60.0", "sigma_max = 50.0"]),
    (VE, dict(t_min=-0.1), ["t_min = -0.1", "0 <= t_min"]),
    (VE, dict(t_max=float("inf")), ["t_max = inf"]),
    (VE, dict(sigma_max=float("inf")), ["sigma_max = inf"]),
    (Cosine, dict(t_max=1.2), ["t_max = 1.2", "t_max <= 1"]),
    (Cosine, dict(log_snr_min=20.0), ["log_snr_min = 20.0", "log_snr_max"]),
    (Cosine, dict(log_snr_min=-500.0), ["log_snr_min = -500.0"]),
    (Cosine, dict(log_snr_max=float("nan")), ["log_snr_max = nan"]),
    (Karras, dict(sigma_min=-1.0), ["sigma_min = -1.0", "0 < sigma_min"]),
    (Karras, dict(sigma_max=float("nan")), ["sigma_max = nan"]),
]


@pytest.mark.parametrize("process, fields, words", BAD, ids=lambda value: getattr(value, "__name__", None))
def test_wrong_parameters_are_refused_by_name(process, fields, words):
    with pytest.raises(ConfigError) as caught:
        process(**fields)
    for word in [process.__name__, "expected", *words]:
        assert word in str(caught.value)


def test_all_problems_are_told_at_once():
    with pytest.raises(ValueError) as caught:
        VP(beta_min=-1.0, beta_max=-2.0, t_min=0.0, t_max=float("nan"))
    assert isinstance(caught.value, ConfigError)
    assert [line.split()[1] for line in caught.value.problems] == ["t_min", "t_max", "beta_min", "beta_max"]


def test_a_table_of_betas_is_a_process_with_a_drift_that_does_not_jump(x64):
    """At its labels it has the table; the flow of N(0, 0.25) multiplies by the ratio of the deviations at the ends."""
    sde, betas = TabulatedVP(cosine_betas(1000)), cosine_betas(1000)
    knots = np.arange(1000) / 999
    np.testing.assert_allclose(jax.vmap(sde.log_alpha)(knots), np.cumsum(np.log1p(-betas)) / 2, rtol=1e-12, atol=1e-14)
    between = jnp.asarray(knots[1:-1])
    left, right = (jax.vmap(sde.f)(between + step) for step in (-1e-9, 1e-9))
    np.testing.assert_allclose(left, right, rtol=1e-4)  # a linear interpolation would jump
    assert (np.diff(jax.vmap(sde.log_snr)(np.linspace(0, 1, 5000))) < 0).all() and (jax.vmap(sde.g2)(between) > 0).all()
    score, keys = GaussianScore(sde, np.zeros(2), np.full(2, 0.25)), jax.random.split(jax.random.key(0), 3)
    drawn = draw(DPMSolverPP(100, uniform_log_snr, order=3), score, (2,), keys=keys)
    started = jax.vmap(lambda key: sde.sample_prior((2,), key=jax.random.split(key)[0]))(keys)
    first, last = (jnp.sqrt(0.25 * sde.alpha(t) ** 2 + sde.sigma(t) ** 2) for t in (0.0, 1.0))
    np.testing.assert_allclose(drawn.x, started * first / last, rtol=2e-3)  # third order in 100 steps
