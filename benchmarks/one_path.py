"""One code path for all processes: one loss, one sampler, one likelihood, one bound: python benchmarks/one_path.py

Gaussian data of 64 modes with variances 1/(1 + 40 lambda_k), lambda_k = (pi k/64)^2, and their exact score, in float64.
Nothing is sampled but the loss.

- loss: denoising score matching over its minimum sum_k alpha^2 v/(alpha^2 v + sigma^2), at a random t of the law, less
1, with its error.
- W2: relative Wasserstein distance of DDIM with 200 steps, and of ancestral sampling with 1000, equal steps in the
  reference log-SNR, from the exact law at t_max, to that at t_min.
- log-determinant: largest error of log p by the probability flow at tolerance 1e-8, the exact p_T for prior, in nats.
- bound: -ELBO less its exact mean, in nats.
"""

import dataclasses
import math
import pathlib
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from record import record

from scoresde import VE, VP, Cosine, Karras, SubVP
from scoresde.likelihood import elbo_per_mode, log_likelihood
from scoresde.sample import DDIM, uniform_log_snr
from scoresde.sde import DCT, Blur, Heat, PowerLaw, coloured_vp, inverse_heat
from scoresde.train import Objective, SigmaSquared, StratifiedTime

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))
from spectral_oracles import ancestral, gaussian, linear_end, noisy_end, variance_at  # noqa: E402

N, DRAWS = 64, 2**16
PIXELS = DCT(N, (float(N),))


def processes() -> dict:
    curve = DCT(N)
    return {
        "VP": VP(), "sub-VP": SubVP(), "VE": VE(), "Karras": Karras(), "Cosine": Cosine(-10.0, 10.0),
        "ColouredVP": coloured_vp(curve, PowerLaw.normalised(curve, 1.5, 9.0, 1.0)),
        "Blur": Blur(PIXELS), "Heat": Heat(PIXELS, index=0.5), "InverseHeat": inverse_heat(N, blur_min=0.05,
        blur_max=32.0),
    }  # fmt: skip


def loss_over_minimum(score, v) -> list[float]:
    """The excess and its standard error."""
    sde = score.sde

    def one(key):
        time_key, data_key, noise_key = jax.random.split(key, 3)
        t = StratifiedTime().quantile(sde, jax.random.uniform(time_key))
        x0 = jnp.sqrt(v) * jax.random.normal(data_key, v.shape)
        loss = Objective(SigmaSquared(), reduce=jnp.sum).at(score, x0, t, key=noise_key)
        return loss, jnp.sum(sde.alpha(t) ** 2 * v / variance_at(sde, v, t))

    loss, least = jax.vmap(one)(jax.random.split(jax.random.key(0), DRAWS))
    excess = (loss - least) / least.mean()
    return [float(excess.mean()), float(excess.std() / math.sqrt(DRAWS))]


def log_determinant(score) -> float:
    x = jax.vmap(lambda key: score.sample(score.sde.t_min, key=key))(jax.random.split(jax.random.key(1), 3))
    if hasattr(score.sde, "started_from"):
        score = dataclasses.replace(score, sde=score.sde.started_from(jnp.zeros_like(x[:1])))
    sde = score.sde
    solved = log_likelihood(score, x, key=jax.random.key(2), probes=None, tolerance=1e-8)
    prior = jax.vmap(lambda x: score.log_prob(x, sde.t_max) - sde.log_prior(x))(solved.latent)
    return float(jnp.max(jnp.abs(solved.log_prob + prior - jax.vmap(lambda x: score.log_prob(x, sde.t_min))(x))))


def bound(score, v) -> float:
    """The bound is quadratic in x_0 and z: deviations of +-1 give its mean."""
    sde = score.sde
    x0 = jnp.sqrt(v) * jnp.array([1.0, -1.0]).reshape(2, 1, 1)
    ones = mock.patch.object(jax.random, "normal", lambda key, shape, dtype=float: jnp.ones(shape, dtype))
    middles = mock.patch.object(jax.random, "uniform", lambda key, shape: jnp.full(shape, 0.5))
    with ones, middles:
        jax.clear_caches()
        found = elbo_per_mode(score, x0, key=jax.random.key(0), samples=8000).mean(0)
    jax.clear_caches()
    snr = jnp.exp(sde.log_snr(sde.t_min))
    entropy = 0.5 * jnp.log(2 * math.pi * math.e * (v + 1 / snr)) - 0.5 / (1 + v * snr)  # of x_e/alpha_e, denoised
    ratio = variance_at(sde, v, sde.t_max) / sde.sigma(sde.t_max) ** 2
    return float(jnp.sum(found - entropy - 0.5 * (ratio - 1 - jnp.log(ratio))))


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    data = 1 / (1 + 40 * (np.pi * np.arange(N) / N)[:, None] ** 2)
    table = {}
    for name, sde in processes().items():
        v = data * sde.basis.white**2  # the same deviation at a point, whatever the scale of coefficients
        score = gaussian(sde, v)
        start, exact = (jnp.broadcast_to(variance_at(sde, v, t), v.shape) for t in (sde.t_max, sde.t_min))

        def distance(found, exact=exact) -> float:
            return float(jnp.sqrt(jnp.sum((jnp.sqrt(found) - jnp.sqrt(exact)) ** 2) / jnp.sum(exact)))

        noisy = noisy_end(ancestral(1000, uniform_log_snr), sde, v, start, 1000, _Patch)
        table[name] = {
            "loss": loss_over_minimum(score, v), "w2_ddim_200": distance(linear_end(DDIM(200), sde, v, start)),
            "w2_ancestral_1000": distance(noisy), "log_determinant_nats": log_determinant(score),
            "bound_nats": bound(score, v),
        }  # fmt: skip
        print(f"{name:12s}", table[name], flush=True)
    record("one_path", {"processes": table})


class _Patch:
    """What `noisy_end` expects of pytest's monkeypatch; the noise stays patched, and nothing else here draws by it."""

    setattr = staticmethod(setattr)


if __name__ == "__main__":
    main()
