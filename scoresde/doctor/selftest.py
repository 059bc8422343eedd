"""Test of an installation in less than a minute, by comparison with closed forms.

| check | closed form |
|---|---|
| drift and diffusion of VP | f = -beta/2, g^2 = beta, beta(t) = beta_min + t (beta_max - beta_min) (Song et al. 2021, eq. 11) |
| sampler | mean and deviation of Gaussian data, within 4.5 standard errors for 4096 samples of the reverse SDE |
| likelihood | log-density of a Gaussian at t_min, by the probability flow with the exact trace |
| training | loss of a small network after a few steps: the posterior variance of Gaussian data |

A check that fails returns a result and raises nothing; exceptions of a broken installation are part of the result.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scoresde import VP, GaussianScore, NetworkScore, SDEDPMSolverPP
from scoresde.data.dataset import ArraySource, Dataset
from scoresde.likelihood import log_likelihood
from scoresde.nets import MLP, Network
from scoresde.runtime.streams import fixed_stream, host_generator, stream
from scoresde.sample import sample
from scoresde.score import DataSpectrum, EDMPreconditioning
from scoresde.train import EDMWeighting, Objective, averaged_score, fit

_DRAWS, _STEPS, _TRAINED = 4096, 64, 60
_ERRORS = 4.5  # standard errors: one sound installation in 30,000 fails by chance, and keys are fixed


class Check(NamedTuple):
    """Result of a check, with its time in seconds."""

    name: str
    ok: bool
    detail: str
    seconds: float


def checks() -> list[Check]:
    """Run all checks, even if some fail."""
    return [run(name, check) for name, check in CHECKS.items()]


def run(name: str, check: Callable[[], tuple[bool, str]]) -> Check:
    start = time.monotonic()
    try:
        ok, detail = check()
    except Exception as error:  # any error of a broken installation
        ok, detail = False, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return Check(name, bool(ok), detail, time.monotonic() - start)


def coefficients() -> tuple[bool, str]:
    sde, times = VP(0.1, 20.0), jnp.linspace(1e-3, 1.0, 100)
    beta = 0.1 + np.asarray(times, np.float64) * 19.9
    f, g2 = (np.asarray(jax.vmap(function)(times), np.float64) for function in (sde.f, sde.g2))
    worst = max(np.max(np.abs(f / (-beta / 2) - 1)), np.max(np.abs(g2 / beta - 1)))
    return bool(worst < 2e-5), f"largest relative error of f and g^2: {worst:.1e} (below 2e-5)"


def sampler() -> tuple[bool, str]:
    sde, mean, std = VP(), np.array([0.5, -1.0]), np.array([0.3, 1.2])
    score = GaussianScore(sde, mean, std**2)
    x = np.asarray(sample(SDEDPMSolverPP(_STEPS), score, (2,), num=_DRAWS, key=fixed_stream("sample")), np.float64)
    off_mean = np.abs(x.mean(axis=0) - mean) / (std / math.sqrt(_DRAWS))
    off_std = np.abs(x.std(axis=0) / std - 1) * math.sqrt(2 * _DRAWS)
    worst = max(off_mean.max(), off_std.max())
    return bool(
        worst < _ERRORS
    ), f"mean and deviation of {_DRAWS} draws are off by {worst:.2f} standard errors at most (below {_ERRORS})"


def likelihood() -> tuple[bool, str]:
    sde, mean, variance = VP(), np.array([0.5, -1.0, 0.0]), np.array([0.09, 1.44, 1.0])
    score = GaussianScore(sde, mean, variance)
    x = jnp.array([[0.4, 0.0, 1.0], [1.0, -2.0, -0.5]])
    found = log_likelihood(score, x, key=fixed_stream("likelihood"), probes=None, tolerance=1e-6)
    t, T = jnp.asarray(sde.t_min), jnp.asarray(sde.t_max)
    exact = np.array([float(_log_density(sde, mean, variance, value, t)) for value in x])
    # The prior N(0, 1) replaces p_T, and this difference is also known in closed form.
    latent = [float(sde.log_prior(z) - _log_density(sde, mean, variance, z, T)) for z in found.latent]
    worst = float(np.max(np.abs(np.asarray(found.log_prob) - np.array(latent) - exact)))
    return worst < 2e-4, f"log-density off by {worst:.1e} nats at most (below 2e-4)"


def _log_density(sde, mean, variance, x, t):
    """Return log N(x; alpha mean, alpha^2 variance + sigma^2)."""
    spread = sde.alpha(t) ** 2 * variance + sde.sigma(t) ** 2
    return -0.5 * jnp.sum((x - sde.alpha(t) * mean) ** 2 / spread + jnp.log(2 * math.pi * spread))


def training() -> tuple[bool, str]:
    sde, variance = VP(), 0.09
    values = host_generator("self_test").normal(size=(1024, 2), scale=math.sqrt(variance)).astype(np.float32)
    data = Dataset(
        "gaussian", ArraySource(values), ArraySource(values), levels=0, centered=True, fingerprint="self-test"
    )
    network = Network.init(lambda rngs: MLP((2,), width=32, depth=1, rngs=rngs), key=stream(0, "init"))
    # The preconditioning assumes data of deviation 1, so the network must learn that the deviation is 0.3.
    score, objective = NetworkScore(sde, network, EDMPreconditioning(1.0)), Objective(EDMWeighting(DataSpectrum(1.0)))
    batch = -(-256 // jax.device_count()) * jax.device_count()
    state = fit(
        score, data, steps=_TRAINED, batch_size=batch, objective=objective, optimizer=optax.adam(1e-2), ema=(0.9,)
    )
    times, keys = jnp.linspace(0.02, 1.0, len(values)), jax.random.split(fixed_stream("self_test"), len(values))

    def loss(model):
        one = lambda x0, t, key: objective.at(model, x0, t, key=key)  # noqa: E731
        return float(jnp.mean(jax.jit(jax.vmap(one))(jnp.asarray(values), times, keys)))

    alpha2, sigma2 = (np.asarray(jax.vmap(part)(times), np.float64) ** 2 for part in (sde.alpha, sde.sigma))
    least = float(np.mean((alpha2 + sigma2) / sigma2 * variance * sigma2 / (alpha2 * variance + sigma2)))
    before, after = loss(score), loss(averaged_score(score, state))
    closed = (before - after) / (before - least)
    return abs(
        closed - 1
    ) < 0.25, f"loss from {before:.4f} to {after:.4f} in {_TRAINED} steps, the least being {least:.4f}"


CHECKS: dict[str, Callable[[], tuple[bool, str]]] = {
    "drift and diffusion of VP": coefficients, "sampler": sampler, "likelihood": likelihood, "training": training,
}  # fmt: skip
