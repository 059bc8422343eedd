"""The variable of adaptive steps: which process has which, and what it saves."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import mixture

from scoresde.errors import ConfigError
from scoresde.likelihood import ExactTrace, log_likelihood
from scoresde.likelihood.flow import check_tolerance, least_tolerance, log_likelihood_of_keys
from scoresde.sample import Adaptive, ProbabilityFlow, denoised_draw, integrate
from scoresde.sample.time_change import TimeChange, log_time_if_smoother
from scoresde.sde import VE, VP, Cosine, Karras, SubVP

STEADY = {VP: True, SubVP: True, Karras: True, VE: False, Cosine: False}


@pytest.mark.parametrize("kind", STEADY)
def test_each_process_has_its_clock(kind):
    """Also where the process is an argument of a compiled function."""
    process = kind()
    assert (
        bool(log_time_if_smoother(process).logarithmic)
        == bool(jax.jit(log_time_if_smoother)(process).logarithmic)
        == STEADY[kind]
    )


@pytest.mark.parametrize("logarithmic", [True, False])
def test_a_clock_goes_back_and_forth(logarithmic):
    clock, t = TimeChange(jnp.asarray(logarithmic)), jnp.geomspace(1e-5, 1.0, 50)
    np.testing.assert_allclose(jax.vmap(clock.time)(jax.vmap(clock.reading)(t)), t, rtol=2e-6)
    rates = jax.vmap(jax.grad(clock.time))(jax.vmap(clock.reading)(t))
    np.testing.assert_allclose(jax.vmap(clock.rate)(t), rates, rtol=2e-6)
    assert TimeChange(jnp.asarray(False)).reading(jnp.asarray(0.0)) == 0.0


@pytest.mark.parametrize("process", [VP(), Karras(sigma_min=0.002, sigma_max=80.0)], ids=["VP", "Karras"])
def test_fewer_calls_for_no_larger_error(process, monkeypatch, x64):
    """Than with the same tolerance in t."""
    score, keys = mixture(process), jax.random.split(jax.random.key(0), 32)

    def draw(tolerance, solver=dfx.Tsit5()):
        jax.clear_caches()
        return denoised_draw(ProbabilityFlow(solver, Adaptive(tolerance)), score, (5,), keys=keys)

    exact, ours = draw(1e-7, dfx.Dopri8()), draw(1e-5)
    monkeypatch.setattr(integrate, "log_time_if_smoother", lambda sde: TimeChange(jnp.asarray(False)))
    in_t = draw(1e-5)
    error, error_in_t = (np.sqrt(np.mean((drawn.x - exact.x) ** 2)) for drawn in (ours, in_t))
    assert ours.nfe.mean() < 0.95 * in_t.nfe.mean(), (ours.nfe.mean(), in_t.nfe.mean())
    assert error < 2 * error_in_t < 1e-4, (error, error_in_t)


# What a type resolves


def test_a_step_that_is_rejected_for_ever_ends_the_solve_of_its_row():
    """Cosine to log-SNR -30 in float32: next to t = 1 rounding is above a tolerance of 1e-7. Rows took all 4096
    steps, 24,577 calls."""
    sde = Cosine(-30.0, 30.0)
    score = mixture(sde)
    x = jax.vmap(lambda key: score.sample(jnp.float32(0), key=key))(jax.random.split(jax.random.key(0), 8))
    keys = jax.random.split(jax.random.key(1), 8)
    found = log_likelihood_of_keys(score, x, keys=keys, trace=ExactTrace(), tolerance=1e-7)
    assert not found.ok.all() and np.isnan(found.log_prob[~found.ok]).all()
    assert found.nfe.max() < 2000
    carried = log_likelihood_of_keys(
        score, x, keys=keys, trace=ExactTrace(), tolerance=least_tolerance(sde, jnp.float32)
    )
    assert carried.ok.all() and carried.nfe.max() < 1000


def test_a_tolerance_that_float32_does_not_carry_is_refused():
    with pytest.raises(ConfigError, match="float32 carries 7e-06 for Cosine"):
        log_likelihood(mixture(Cosine(-30.0, 30.0)), jnp.zeros((1, 5)), key=jax.random.key(0), tolerance=1e-6)
    check_tolerance(Cosine(-30.0, 30.0), 1e-6, jnp.float64)
    check_tolerance(Cosine(-30.0, 30.0), 1e-5)


@pytest.mark.parametrize("kind", STEADY)
def test_a_process_at_its_defaults_carries_every_tolerance(kind):
    """Their last times before t_max are far apart in float32, so that no tolerance in use is refused."""
    assert least_tolerance(kind(), jnp.float32) < 1e-8
