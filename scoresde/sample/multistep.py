"""Linear multistep samplers: a table of coefficients, and one loop for all of them.

With P_i the prediction at (x_i, t_i), one call of the score per step and independent noise z_i,

    predictor   x~_{i+1} = keep x_i + sum_j weights_j P_{i-j} + noise z_i
    corrector   x_{i+1}  = keep' x_i + new' P~_{i+1} + sum_j weights'_j P_{i-j} + noise' z_i

P~_{i+1} is evaluated at the predicted point and reused as P_{i+1}, so that a corrector costs no call (Zhao et al.
2023). The last step, to t_min, is not corrected. A family of samplers is a function from the noise levels of a grid to
its table.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import AbstractVar
from jaxtyping import Array, Float

from scoresde.sample.base import AbstractSampler, Draw, draw_without_error_estimate, noise
from scoresde.sample.schedule_on_grid import ScheduleOnGrid, schedule_on_grid
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractSDE
from scoresde.types import State


class StepCoefficients(eqx.Module):
    """Coefficients of one kind of step, each with a leading axis of steps; `weights` has one entry per history
    point."""

    keep: Float[Array, "steps *coef"]
    weights: tuple[Float[Array, "steps *coef"], ...]
    noise: Float[Array, "steps *coef"] | None = None

    def __call__(self, x: State, history: tuple[State, ...], z: State | None) -> State:
        moved = self.keep * x + sum(w * p for w, p in zip(self.weights, history))
        return moved if self.noise is None else moved + self.noise * z


class MultistepCoefficients(eqx.Module):
    """Coefficients of the predictor and, if there is one, of the corrector."""

    predictor: StepCoefficients
    corrector: StepCoefficients | None = None
    new: Float[Array, "steps *coef"] | None = None  # the weight of P~_{i+1} in the corrector


class AbstractMultistep(AbstractSampler):
    """Sampler defined by a table of coefficients, with `steps` calls of the score."""

    steps: AbstractVar[int]
    grid: AbstractVar[Callable]

    @abc.abstractmethod
    def table(self, sde: AbstractSDE, levels: ScheduleOnGrid) -> MultistepCoefficients:
        """Return the coefficients of every step from levels[i] to levels[i + 1]."""

    def predict(self, score: AbstractScore, level: ScheduleOnGrid, x: State) -> State:
        """Return P at (x, t) with one call of the score: the data prediction E[x_0 | x_t]."""
        return score.denoise(x, level.t)

    def __call__(self, score: AbstractScore, x_T: State, *, key) -> Draw:
        sde = score.sde
        levels = schedule_on_grid(sde, self.grid, self.steps, x_T.dtype)
        table = jax.tree.map(lambda part: part.astype(x_T.dtype), self.table(sde, levels))
        depth = len(table.predictor.weights)
        # The corrector of a step is completed at the start of the next step, where the newest prediction is known.
        arriving = None if table.new is None else jnp.concatenate([jnp.zeros_like(table.new[:1]), table.new[:-1]])

        def step(carry, row):
            x, partial, history = carry
            i, level, table, arriving = row
            newest = self.predict(score, level, x).astype(x.dtype)
            if arriving is not None:
                x = jnp.where(i > 0, partial + arriving * newest, x)
            history = (newest, *history)[:depth]
            z = None if table.predictor.noise is None else noise(key, i, x)
            partial = None if table.corrector is None else table.corrector(x, history, z)
            return (table.predictor(x, history, z), partial, history), None

        zeros = jnp.zeros_like(x_T)
        start = (x_T, None if table.corrector is None else zeros, (zeros,) * depth)
        rows = (jnp.arange(self.steps), levels[:-1], table, arriving)
        (x, _, _), _ = jax.lax.scan(step, start, rows)
        return draw_without_error_estimate(x, self.steps)


def warm_up_orders(
    steps: int, order: int, weights: Callable[[slice, int], list], extra: int = 0
) -> tuple[Float[Array, "steps *coef"], ...]:
    """Return the weights of a method of `order` points whose first steps use one point, then two, and so on.

    `weights(rows, points)` returns the weights of the steps in the slice `rows`, each [rows, *coef]: `extra` weights
    and one per point.
    """
    first = [weights(slice(i, i + 1), i + 1) for i in range(min(order - 1, steps))]
    parts = [*first, weights(slice(order - 1, steps), order)] if steps >= order else first
    parts = [[*part, *[jnp.zeros_like(part[0])] * (order + extra - len(part))] for part in parts]
    return tuple(jnp.concatenate(column) for column in zip(*parts))
