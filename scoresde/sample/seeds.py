"""SEEDS (Gonzalez et al. 2023): exponential Runge-Kutta for the reverse SDE, with the noise of both halves of a
step."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.sample.base import AbstractSampler, draw_without_error_estimate, noise
from scoresde.sample.grid import between, uniform_log_snr
from scoresde.sample.schedule_on_grid import ScheduleOnGrid, exponential_weights, schedule_on_grid
from scoresde.sde.base import at_least, check_parameters


class SEEDS(AbstractSampler):
    """SEEDS-2 in data prediction: the stochastic exponential midpoint method (Gonzalez et al. 2023).

    A step makes two calls of the score and uses two normals z_1 and z_2:

        u  = (sigma_s/sigma) e^{-a} x + alpha_s (1 - e^{-2a}) D(x) + sigma_s sqrt(1 - e^{-2a}) z_1,    a = l_s - l
        x' = (sigma'/sigma) e^{-h} x + alpha' [W_0 D(x) + W_1 D(u)]
             + sigma' [e^{a - h} sqrt(1 - e^{-2a}) z_1 + sqrt(1 - e^{-2(h - a)}) z_2]

    W are the exact weights of the line through both predictions for c = 2. z_1 is the noise of the first half of the
    step in both formulas, which makes the distribution of x accurate to order 2. Gonzalez et al. 2023 write the method
    in noise prediction for VP; this is its form in data prediction for every process, see `schedule_on_grid`.

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.

    Raises:
      ConfigError: a parameter is out of range.
    """

    steps: int = eqx.field(static=True, default=50)
    grid: Callable = uniform_log_snr

    def __check_init__(self):
        check_parameters("SEEDS", steps=at_least(self.steps, 1))

    def __call__(self, score, x_T, *, key):
        sde = score.sde
        levels = schedule_on_grid(sde, self.grid, self.steps, x_T.dtype)
        middles = ScheduleOnGrid(sde, between(sde, levels.t, 0.5))
        h, a = levels.h, middles.half_log_snr - levels.half_log_snr[:-1]
        weights = exponential_weights(h, [jnp.zeros_like(h), a], 2.0)

        def step(x, row):
            i, here, middle, there, h, a, weights = row
            z1, z2 = noise(key, 2 * i, x), noise(key, 2 * i + 1, x)
            half = jnp.sqrt(-jnp.expm1(-2 * a)) * z1
            first = score.denoise(x, here.t)
            u = middle.sigma * (jnp.exp(-a) * x / here.sigma + half) - middle.alpha * jnp.expm1(-2 * a) * first
            second = score.denoise(u.astype(x.dtype), middle.t)
            whole = jnp.exp(a - h) * half + jnp.sqrt(-jnp.expm1(-2 * (h - a))) * z2
            moved = there.sigma * (jnp.exp(-h) * x / here.sigma + whole)
            return (moved + there.alpha * (weights[0] * first + weights[1] * second)).astype(x.dtype), None

        rows = (jnp.arange(self.steps), levels[:-1], middles, levels[1:], h, a, weights)
        x, _ = jax.lax.scan(step, x_T, rows)
        return draw_without_error_estimate(x, 2 * self.steps)
