"""SA-Solver (Xue et al. 2023): stochastic Adams predictor and corrector, in data prediction."""

import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp

from scoresde.sample.grid import uniform_log_snr
from scoresde.sample.multistep import AbstractMultistep, MultistepCoefficients, StepCoefficients, warm_up_orders
from scoresde.sample.schedule_on_grid import exponential_weights, history_nodes
from scoresde.sde.base import at_least, check_parameters


class SASolver(AbstractMultistep):
    """SA-Solver: exact integrals of the polynomials through past predictions of D (Xue et al. 2023, algorithm 1).

    With noise of strength tau, c = 1 + tau^2 and one z for predictor and corrector,

        x' = (sigma'/sigma) e^{-tau^2 h} x + alpha' sum_j D_j int_0^h c e^{-c (h - u)} L_j(u) du
             + sigma' sqrt(1 - e^{-2 tau^2 h}) z

    tau = 0 is the probability flow, tau = 1 the reverse SDE. On Gaussian data the distribution of x converges with
    order 2 where there is noise, and the flow with order + 1. tau applies to steps that start with sigma / alpha
    between `tau_low` and `tau_high`, and is 0 in other steps.

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      order: number of points of the predictor, 1 to 4; the corrector uses as many past points and the new one.
      tau: strength of the noise, at least 0; 0: probability flow, 1: reverse SDE.
      tau_low: smallest sigma / alpha at which noise is added, at least 0.
      tau_high: largest sigma / alpha at which noise is added, at least tau_low.

    Raises:
      ConfigError: a parameter is out of range.
    """

    steps: int = eqx.field(static=True, default=30)
    grid: Callable = uniform_log_snr
    order: int = eqx.field(static=True, default=3)
    tau: float = eqx.field(static=True, default=1.0)
    tau_low: float = eqx.field(static=True, default=0.05)
    tau_high: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        check_parameters(
            "SASolver",
            steps=at_least(self.steps, 1),
            order=(self.order, self.order in (1, 2, 3, 4), "1, 2, 3 or 4"),
            tau=(self.tau, self.tau >= 0, "at least 0"),
            tau_low=(self.tau_low, self.tau_low >= 0, "at least 0"),
        )
        if not self.tau_high >= self.tau_low:  # infinity is allowed
            check_parameters("SASolver", tau_high=(math.nan, False, f"at least tau_low = {self.tau_low}"))

    def table(self, sde, levels):
        here, there, h = levels[:-1], levels[1:], levels.h
        rho = jnp.exp(-here.half_log_snr)
        tau2 = jnp.where((rho >= self.tau_low) & (rho <= self.tau_high), self.tau**2, 0.0).astype(h.dtype)
        keep = there.sigma / here.sigma * jnp.exp(-tau2 * h)
        noise = there.sigma * jnp.sqrt(-jnp.expm1(-2 * tau2 * h)) if self.tau else None

        def weights(rows: slice, points: int, *, ends: list) -> list:
            nodes = [*(h[rows] for _ in ends), *history_nodes(levels, rows, points)]
            return [there.alpha[rows] * w for w in exponential_weights(h[rows], nodes, 1 + tau2[rows])]

        predictor = warm_up_orders(self.steps, self.order, lambda rows, points: weights(rows, points, ends=[]))
        new, *corrector = warm_up_orders(
            self.steps, self.order, lambda rows, points: weights(rows, points, ends=[h]), extra=1
        )
        return MultistepCoefficients(
            StepCoefficients(keep, predictor, noise), StepCoefficients(keep, tuple(corrector), noise), new
        )
