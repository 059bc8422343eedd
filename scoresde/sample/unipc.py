"""UniPC (Zhao et al. 2023): a predictor and a corrector with one call of the score per step, in data prediction."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp

from scoresde.errors import ConfigError
from scoresde.sample.grid import uniform_log_snr
from scoresde.sample.multistep import AbstractMultistep, MultistepCoefficients, StepCoefficients, warm_up_orders
from scoresde.sample.schedule_on_grid import ScheduleOnGrid, exponential_weights, history_nodes
from scoresde.sde.base import at_least, check_parameters


class UniPC(AbstractMultistep):
    """UniPC predictor of order p = 1, 2 or 3, with a corrector of order p + 1 (Zhao et al. 2023, algorithms 5 and 6).

    The paper's linear systems for p or more unknowns have one solution, whatever B(h): the exact integral of the
    polynomial through the predictions. B(h) remains where the paper fixes a single weight to 1/2, in the predictor with
    two points and in the corrector of the first step:

        x' = (sigma'/sigma) x + alpha' [(1 - e^{-h}) D_i + B(h) (D_k - D_i) / (2 r_k)],   r_k = (l_k - l_i) / h

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      order: order of the predictor, 1, 2 or 3; the first steps use lower orders.
      variant: form of B(h). "bh1": B(h) = h. "bh2": B(h) = 1 - e^{-h}, better in most experiments of the paper.

    Raises:
      ConfigError: a parameter is out of range.
    """

    steps: int = eqx.field(static=True, default=15)
    grid: Callable = uniform_log_snr
    order: int = eqx.field(static=True, default=3)
    variant: str = eqx.field(static=True, default="bh2")

    def __check_init__(self):
        check_parameters(
            "UniPC",
            steps=at_least(self.steps, 1),
            order=(self.order, self.order in (1, 2, 3), "1, 2 or 3"),
        )
        if self.variant not in ("bh1", "bh2"):
            raise ConfigError(f"UniPC: variant = {self.variant!r}, expected bh1 or bh2")

    def table(self, sde, levels):
        keep = levels.sigma[1:] / levels.sigma[:-1]
        predictor = warm_up_orders(self.steps, self.order, lambda rows, points: self._predictor(levels, rows, points))
        new, *corrector = warm_up_orders(
            self.steps, self.order, lambda rows, points: self._corrector(levels, rows, points), extra=1
        )
        return MultistepCoefficients(StepCoefficients(keep, predictor), StepCoefficients(keep, tuple(corrector)), new)

    def _predictor(self, levels: ScheduleOnGrid, rows: slice, points: int) -> list:
        h, there = levels.h[rows], levels.alpha[1:][rows]
        nodes = history_nodes(levels, rows, points)
        if points == 2:
            weights = self._halved(h, nodes[1])
        else:
            weights = exponential_weights(h, nodes)
        return [there * weight for weight in weights]

    def _corrector(self, levels: ScheduleOnGrid, rows: slice, points: int) -> list:
        """Return the weights of D at the end of the step, then of D_i, D_{i-1}, ..."""
        h, there = levels.h[rows], levels.alpha[1:][rows]
        if points == 1:
            start, end = self._halved(h, h)
            weights = [end, start]
        else:
            weights = exponential_weights(h, [h, *history_nodes(levels, rows, points)])
        return [there * weight for weight in weights]

    def _halved(self, h, node) -> tuple:
        """Return the weights of D_i and of the prediction at `node`, with the paper's 1/2."""
        total = -jnp.expm1(-h)
        slope = (
            (h if self.variant == "bh1" else total) * h / (2 * jnp.where(node == 0, 1, node))
        )  # 0 where l is constant
        return total - slope, slope
