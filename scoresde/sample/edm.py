"""The samplers of Karras et al. 2022 ("EDM"): Euler and Heun with churn, for any process.

They use the coordinates y = x / alpha, rho = sigma / alpha, in which every process is that of Karras et al. (eq. 4).
"""

import abc
import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import AbstractClassVar

from scoresde.sample.base import AbstractSampler, draw_without_error_estimate, noise
from scoresde.sample.grid import karras
from scoresde.sample.schedule_on_grid import ScheduleOnGrid, one_alpha, one_log_snr, schedule_on_grid
from scoresde.sde.base import at_least, check_parameters

# The largest factor by which churn may raise sigma^2 is 2 (Karras et al. 2022, algorithm 2).
_LARGEST_GAMMA = math.sqrt(2) - 1


class AbstractEDM(AbstractSampler):
    """Algorithm 2: raise the noise level by a factor 1 + gamma with new noise, then step the flow to the next level.

        gamma = min(churn / (steps + 1), sqrt 2 - 1) where s_min <= rho <= s_max, else 0
        y^ = y + sqrt(rho^2 - rho_i^2) s_noise z,   rho = (1 + gamma) rho_i

    The paper's N counts its last step, to sigma = 0. That step is E[x_0 | x], which here is the denoising after the
    last level: N = steps + 1, and Heun with 17 steps and the denoising makes the paper's 35 calls. rho never exceeds
    its value at t_max, above which the score is not trained.
    """

    steps: int = eqx.field(static=True)
    grid: Callable = karras
    churn: float = eqx.field(static=True, default=0.0)
    s_min: float = eqx.field(static=True, default=0.0)
    s_max: float = eqx.field(static=True, default=1e6)
    s_noise: float = eqx.field(static=True, default=1.0)

    calls: AbstractClassVar[int]  # calls of the score per step

    def __check_init__(self):
        check_parameters(
            type(self).__name__,
            steps=at_least(self.steps, 1),
            churn=(self.churn, self.churn >= 0, "at least 0"),
            s_min=(self.s_min, self.s_min >= 0, "at least 0"),
            s_max=(min(self.s_max, 1e30), self.s_max >= self.s_min, f"at least s_min = {self.s_min}"),
            s_noise=(self.s_noise, self.s_noise > 0, "above 0"),
        )

    def __call__(self, score, x_T, *, key):
        sde = score.sde
        one_alpha(
            sde,
            type(self).__name__,
            "in y = x / alpha its steps are unstable where alpha differs by mode; use DDIM or DPMSolverPP",
        )
        levels = schedule_on_grid(sde, self.grid, self.steps, x_T.dtype)
        start, added = self._churned(sde, levels)
        rho = jnp.exp(-levels.half_log_snr[1:])

        def step(x, row):
            i, here, start, added, there, arrived = row
            y = x / here.alpha
            if added is not None:
                y = y + added * self.s_noise * noise(key, i, x)

            def slope(y, level, rho):
                return (y - score.denoise((level.alpha * y).astype(x.dtype), level.t)) / rho

            y = self.advance(slope, y, start, jnp.exp(-start.half_log_snr), there, arrived)
            return (there.alpha * y).astype(x.dtype), None

        x, _ = jax.lax.scan(step, x_T, (jnp.arange(self.steps), levels[:-1], start, added, levels[1:], rho))
        return draw_without_error_estimate(x, self.calls * self.steps)

    def _churned(self, sde, levels: ScheduleOnGrid):
        """Return the noise levels at which the flow steps start, and the standard deviation of the noise added to
        reach them."""
        if not self.churn:
            return levels[:-1], None
        one_log_snr(sde, type(self).__name__, "churn raises one noise level; use churn = 0")
        rho = jnp.exp(-levels.half_log_snr[:-1])
        churning = (rho >= self.s_min) & (rho <= self.s_max)
        gamma = min(self.churn / (self.steps + 1), _LARGEST_GAMMA)
        raised = jnp.minimum((1 + gamma) * rho, rho[0])
        # Steps without churn keep their t, because the inverse of lambda rounds and the square root of a rounding error
        # is not small.
        t = jnp.where(churning, jax.vmap(sde.time_of_log_snr)(-2 * jnp.log(raised)), levels.t[:-1])
        start = ScheduleOnGrid(sde, t)
        added = jnp.sqrt(jnp.maximum(jnp.exp(-2 * start.half_log_snr) - rho**2, 0))
        return start, jnp.where(churning, added, 0)

    @abc.abstractmethod
    def advance(self, slope, y, start: ScheduleOnGrid, rho, there: ScheduleOnGrid, arrived):
        """Return y at the level `there` (noise `arrived`) from y at `start` (noise `rho`); `slope(y, level, rho)` is
        dy/drho."""


class EulerEDM(AbstractEDM):
    """EDM's Euler sampler with churn: algorithm 2 of Karras et al. 2022 without its second-order correction.

    It makes one call of the score per step. Without churn it is DDIM with eta = 0.

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      churn: amount of noise added (S_churn in the paper), at least 0; 0 adds none.
      s_min: smallest sigma / alpha at which noise is added, at least 0.
      s_max: largest sigma / alpha at which noise is added, at least s_min.
      s_noise: factor on the standard deviation of the added noise, above 0.

    Raises:
      ConfigError: a parameter is out of range, or a process whose alpha differs between modes.
    """

    steps: int = eqx.field(static=True, default=50)
    calls: ClassVar[int] = 1

    def advance(self, slope, y, start, rho, there, arrived):
        return y + (arrived - rho) * slope(y, start, rho)


class HeunEDM(AbstractEDM):
    """EDM's Heun sampler with churn (Karras et al. 2022, algorithm 2; algorithm 1 without churn).

    It makes two calls of the score per step. The paper's settings (its table 5) are no churn and 17 steps on CIFAR-10;
    churn 40, s_min 0.05, s_max 50, s_noise 1.003 and 255 steps on ImageNet-64.

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      churn: amount of noise added (S_churn in the paper), at least 0; 0 adds none.
      s_min: smallest sigma / alpha at which noise is added, at least 0.
      s_max: largest sigma / alpha at which noise is added, at least s_min.
      s_noise: factor on the standard deviation of the added noise, above 0.

    Raises:
      ConfigError: a parameter is out of range, or a process whose alpha differs between modes.
    """

    steps: int = eqx.field(static=True, default=17)
    calls: ClassVar[int] = 2

    def advance(self, slope, y, start, rho, there, arrived):
        first = slope(y, start, rho)
        predicted = y + (arrived - rho) * first
        return y + (arrived - rho) * (first + slope(predicted, there, arrived)) / 2
