"""DDIM and its stochastic family (Song, Meng and Ermon 2021)."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp

from scoresde.sample.grid import uniform_log_snr
from scoresde.sample.multistep import AbstractMultistep, MultistepCoefficients, StepCoefficients
from scoresde.sde.base import at_least, check_parameters


class DDIM(AbstractMultistep):
    """Denoising diffusion implicit models (Song, Meng and Ermon 2021, eq. 12), for any alpha and sigma.

        x' = alpha' D + sigma' c (x - alpha D) / sigma + sigma' sqrt(1 - c^2) z,   c^2 = 1 - eta^2 (1 - e^{-2 h})

    eta = 0 is the first-order exponential integrator of the probability flow, eta = 1 that of the reverse SDE, with
    DDPM's posterior variance (Ho et al. 2020, eq. 7) on any grid.

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      eta: amount of noise, from 0 (probability flow) to 1 (reverse SDE).

    Raises:
      ConfigError: a parameter is out of range.
    """

    steps: int = eqx.field(static=True, default=50)
    grid: Callable = uniform_log_snr
    eta: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        check_parameters(
            "DDIM",
            steps=at_least(self.steps, 1),
            eta=(self.eta, 0 <= self.eta <= 1, "a number from 0 (the flow) to 1 (the reverse SDE)"),
        )

    def table(self, sde, levels):
        here, there, h = levels[:-1], levels[1:], levels.h
        shrunk = self.eta**2 * jnp.expm1(-2 * h)  # c^2 - 1
        log_c = 0.5 * jnp.log1p(shrunk)
        keep = there.sigma / here.sigma * jnp.exp(log_c)
        return MultistepCoefficients(
            StepCoefficients(
                keep=keep,
                weights=(-there.alpha * jnp.expm1(log_c - h),),
                noise=there.sigma * jnp.sqrt(-shrunk) if self.eta else None,
            )
        )
