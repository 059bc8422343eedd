"""The variable of adaptive steps: which process has which, and what it saves."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import mixture

from scoresde.sample import Adaptive, ProbabilityFlow, denoised_draw, integrate
from scoresde.sample.clock import Clock, steady_clock
from scoresde.sde import VE, VP, Cosine, Karras, SubVP

STEADY = {VP: True, SubVP: True, Karras: True, VE: False, Cosine: False}


@pytest.mark.parametrize("kind", STEADY)
def test_each_process_has_its_clock(kind):
    """Also where the process is an argument of a compiled function."""
    process = kind()
    assert bool(steady_clock(process).logarithmic) == bool(jax.jit(steady_clock)(process).logarithmic) == STEADY[kind]


@pytest.mark.parametrize("logarithmic", [True, False])
def test_a_clock_goes_back_and_forth(logarithmic):
    clock, t = Clock(jnp.asarray(logarithmic)), jnp.geomspace(1e-5, 1.0, 50)
    np.testing.assert_allclose(jax.vmap(clock.time)(jax.vmap(clock.reading)(t)), t, rtol=2e-6)
    rates = jax.vmap(jax.grad(clock.time))(jax.vmap(clock.reading)(t))
    np.testing.assert_allclose(jax.vmap(clock.rate)(t), rates, rtol=2e-6)
    assert Clock(jnp.asarray(False)).reading(jnp.asarray(0.0)) == 0.0


@pytest.mark.parametrize("process", [VP(), Karras(sigma_min=0.002, sigma_max=80.0)], ids=["VP", "Karras"])
def test_fewer_calls_for_no_larger_error(process, monkeypatch, x64):
    """Than with the same tolerance in t."""
    score, keys = mixture(process), jax.random.split(jax.random.key(0), 32)

    def draw(tolerance, solver=dfx.Tsit5()):
        jax.clear_caches()
        return denoised_draw(ProbabilityFlow(solver, Adaptive(tolerance)), process, score, (5,), keys=keys)

    exact, ours = draw(1e-7, dfx.Dopri8()), draw(1e-5)
    monkeypatch.setattr(integrate, "steady_clock", lambda sde: Clock(jnp.asarray(False)))
    in_t = draw(1e-5)
    error, error_in_t = (np.sqrt(np.mean((drawn.x - exact.x) ** 2)) for drawn in (ours, in_t))
    assert ours.nfe.mean() < 0.95 * in_t.nfe.mean(), (ours.nfe.mean(), in_t.nfe.mean())
    assert error < 2 * error_in_t < 1e-4, (error, error_in_t)
