"""DPM-Solver++ and its SDE variants (Lu et al. 2022b): data prediction, exponential in l = log(alpha / sigma)."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.sample.base import AbstractSampler, draw_without_error_estimate
from scoresde.sample.grid import between, uniform_log_snr
from scoresde.sample.multistep import AbstractMultistep, MultistepCoefficients, StepCoefficients, warm_up_orders
from scoresde.sample.schedule_on_grid import ScheduleOnGrid, exponential_weights, history_nodes, schedule_on_grid
from scoresde.sde.base import at_least, check_parameters


class DPMSolverPP(AbstractMultistep):
    """DPM-Solver++ multistep of order 1 (DDIM), 2 (2M) or 3 (3M) (Lu et al. 2022b, algorithm 2).

        2M: x' = (sigma'/sigma) x + alpha' (1 - e^{-h}) [(1 + 1/2r) D_i - (1/2r) D_{i-1}],  r = h_{i-1} / h_i

    3M uses the exact integral of the parabola through D_i, D_{i-1}, D_{i-2}. The published code halves the term of
    second differences, which reduces its order to 2.

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      order: order of the method, 1, 2 or 3; the first steps use lower orders.

    Raises:
      ConfigError: a parameter is out of range.
    """

    steps: int = eqx.field(static=True, default=20)
    grid: Callable = uniform_log_snr
    order: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        _check("DPMSolverPP", self)

    def table(self, sde, levels):
        return MultistepCoefficients(
            StepCoefficients(
                keep=levels.sigma[1:] / levels.sigma[:-1],
                weights=warm_up_orders(
                    self.steps, self.order, lambda rows, points: multistep_weights(levels, rows, points)
                ),
            )
        )


class SDEDPMSolverPP(AbstractMultistep):
    """SDE-DPM-Solver++ for the reverse SDE, of order 1, 2 (2M) or 3 (3M) in D (Lu et al. 2022b, eq. 18 and 19).

        2M: x' = (sigma'/sigma) e^{-h} x + alpha' (1 - e^{-2h}) [(1 + 1/2r) D_i - (1/2r) D_{i-1}]
                 + sigma' sqrt(1 - e^{-2h}) z

    On Gaussian data the distribution of x converges with order 1 for `order` 1 and with order 2 for `order` 2 and 3,
    because the noise within a step does not enter D.

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      order: order in D along the path, 1, 2 or 3; the first steps use lower orders.

    Raises:
      ConfigError: a parameter is out of range.
    """

    steps: int = eqx.field(static=True, default=50)
    grid: Callable = uniform_log_snr
    order: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        _check("SDEDPMSolverPP", self)

    def table(self, sde, levels):
        there, h = levels[1:], levels.h
        return MultistepCoefficients(
            StepCoefficients(
                keep=there.sigma / levels.sigma[:-1] * jnp.exp(-h),
                weights=warm_up_orders(
                    self.steps, self.order, lambda rows, points: multistep_weights(levels, rows, points, rate=2.0)
                ),
                noise=there.sigma * jnp.sqrt(-jnp.expm1(-2 * h)),
            )
        )


class DPMSolverPPSinglestep(AbstractSampler):
    """DPM-Solver++(2S), the single-step method with two calls of the score per step (Lu et al. 2022b, algorithm 1).

        u  = (sigma_s/sigma) x - alpha_s (e^{-r h} - 1) D(x)
        x' = (sigma'/sigma) x - alpha' (e^{-h} - 1) [(1 - 1/2r) D(x) + (1/2r) D(u)]

    The second call is half-way in l (r = 1/2); the method uses no history.

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.

    Raises:
      ConfigError: a parameter is out of range.
    """

    steps: int = eqx.field(static=True, default=10)
    grid: Callable = uniform_log_snr

    def __check_init__(self):
        check_parameters("DPMSolverPPSinglestep", steps=at_least(self.steps, 1))

    def __call__(self, score, x_T, *, key):
        sde = score.sde
        del key  # deterministic
        levels = schedule_on_grid(sde, self.grid, self.steps, x_T.dtype)
        middles = ScheduleOnGrid(sde, between(sde, levels.t, 0.5))

        def step(x, row):
            here, middle, there = row
            h, part = there.half_log_snr - here.half_log_snr, middle.half_log_snr - here.half_log_snr
            first = score.denoise(x, here.t)
            u = (middle.sigma / here.sigma * x - middle.alpha * jnp.expm1(-part) * first).astype(x.dtype)
            second = score.denoise(u, middle.t)
            # A mode with constant log-SNR does not change.
            mixed = first + jnp.where(part > 0, h / (2 * jnp.where(part > 0, part, 1)), 0) * (second - first)
            return (there.sigma / here.sigma * x - there.alpha * jnp.expm1(-h) * mixed).astype(x.dtype), None

        x, _ = jax.lax.scan(step, x_T, (levels[:-1], middles, levels[1:]))
        return draw_without_error_estimate(x, 2 * self.steps)


def multistep_weights(levels: ScheduleOnGrid, rows: slice, points: int, rate: float = 1.0) -> list:
    """Return the weights of D_i, D_{i-1}, ... in the steps `rows`, including alpha'; two points use the short form of
    2M."""
    h, there = levels.h[rows], levels.alpha[1:][rows]
    total = -jnp.expm1(-rate * h)
    if points == 1:
        return [there * total]
    nodes = history_nodes(levels, rows, points)
    if points == 2:
        slope = total * h / (2 * nodes[1])  # negative: -1 / 2r
        return [there * (total - slope), there * slope]
    return [there * weight for weight in exponential_weights(h, nodes, rate)]


def _check(name: str, sampler) -> None:
    check_parameters(
        name,
        steps=at_least(sampler.steps, 1),
        order=(sampler.order, sampler.order in (1, 2, 3), "1, 2 or 3"),
    )
