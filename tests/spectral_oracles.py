"""Processes in function space at test size, Gaussian data in their bases, and exact laws of samplers on them."""

import math

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from scoresde.sample import PredictorCorrector, multistep, predictor_corrector, seeds
from scoresde.score import GaussianScore
from scoresde.sde import (
    DCT,
    AbstractSDE,
    Blur,
    Coloured,
    Fourier,
    Gram,
    Heat,
    Kernel,
    PowerLaw,
    coloured_ve,
    coloured_vp,
    exponential,
    inverse_heat,
    pixelate,
)
from scoresde.sde.base import as_time

MATERN = PowerLaw(1.5, 9.0, 10.0)


class HDMCosine(AbstractSDE):
    """alpha(t) = cos((t + s)/(1 + s) pi/2) / cos(s/(1 + s) pi/2), s = 0.008 (Lim et al. 2023, one-dimensional)."""

    t_min: float = 1e-5
    t_max: float = 0.9946

    def log_alpha(self, t):
        angle = (as_time(t) + 0.008) / 1.008 * math.pi / 2
        return jnp.log(jnp.cos(angle) / math.cos(0.008 / 1.008 * math.pi / 2))

    def sigma(self, t):
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))


def processes() -> dict[str, AbstractSDE]:
    """One of each kind, with 16 modes on a line, so that one program can serve them all."""
    curve = DCT(16)
    return {
        "ColouredVP": coloured_vp(curve, MATERN),
        "ColouredVE": coloured_ve(Fourier(16), MATERN, sigma_max=20.0),
        "Coloured by a kernel": Coloured(Kernel(np.linspace(0, 1, 16), exponential(0.2)), Gram()),
        "Heat": Heat(DCT(16, (16.0,)), index=0.5),
        "Blur": Blur(DCT(16, (16.0,)), blur_max=4.0),
        "InverseHeat": inverse_heat(16, blur_max=3.0),
        "Pixelate": pixelate(16),
    }


def data_variances(sde: AbstractSDE):
    """[*modes, 1]: a smooth law of the coefficients."""
    n = math.prod(sde.basis.shape)
    return (1.0 / (1 + np.arange(n) ** 2.0)).reshape(*sde.basis.shape, 1)


def gaussian(sde: AbstractSDE, variances=None, channels: int = 1) -> GaussianScore:
    variances = data_variances(sde) if variances is None else variances
    shape = (*np.shape(variances)[:-1], channels)
    return GaussianScore(sde, np.zeros(shape), np.broadcast_to(variances, shape).ravel())


def variance_at(sde: AbstractSDE, variances, t):
    return sde.alpha(t) ** 2 * variances + sde.sigma(t) ** 2


def linear_end(sampler, sde: AbstractSDE, variances, start):
    """The variance in every mode where a deterministic sampler takes N(0, start): the score is linear."""
    x = _run(sampler, gaussian(sde, variances), jnp.broadcast_to(jnp.sqrt(start), np.shape(variances)))
    return x**2


def noisy_end(sampler, sde: AbstractSDE, variances, start, normals: int, monkeypatch):
    """The same for a stochastic one: every normal has a channel of its own, and the squares of the responses add up."""
    for module in (multistep, seeds, predictor_corrector):
        monkeypatch.setattr(
            module,
            "noise",
            lambda key, i, x: jnp.broadcast_to(jax.nn.one_hot(i + 1, x.shape[-1], dtype=x.dtype), x.shape),
        )
    channels = normals + 1
    first = jax.nn.one_hot(0, channels, dtype=float)
    x_T = jnp.broadcast_to(jnp.sqrt(start), np.shape(variances)) * first
    x = _run(sampler, gaussian(sde, variances, channels), x_T)
    return jnp.sum(x**2, axis=-1, keepdims=True)


class Responses(dfx.AbstractBrownianPath):
    """A Brownian path whose increment over step i of a grid is sqrt(dt) in channel i + 1 and 0 elsewhere."""

    r: jax.Array
    shape: tuple = eqx.field(static=True)
    levy_area: type = eqx.field(static=True, default=dfx.BrownianIncrement)

    @property
    def t0(self):
        return self.r[0]

    @property
    def t1(self):
        return self.r[-1]

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        step = jnp.argmin(abs(self.r - t0))
        response = jax.nn.one_hot(step + 1, self.shape[-1], dtype=self.r.dtype)
        return jnp.sqrt(t1 - t0) * jnp.broadcast_to(response, self.shape)


@eqx.filter_jit
def _run(sampler, score, x_T):
    return sampler(score, x_T, key=jax.random.key(0)).x


def ancestral(steps: int, grid):
    return PredictorCorrector(steps, grid, predictor_corrector.Ancestral())
