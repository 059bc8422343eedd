"""The estimate of x_0 during sampling: E[x_0 | x_t] along the probability flow."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.sample.base import BATCH_AXIS
from scoresde.sample.grid import uniform_log_snr
from scoresde.sample.schedule_on_grid import ScheduleOnGrid
from scoresde.score.base import AbstractScore
from scoresde.types import Conditions


class Trajectory(eqx.Module):
    """Trajectory at each point of a grid, from t_max to t_min; `x0` at the last point is the sample."""

    t: Float[Array, " points"]
    x: Float[Array, "points num *x"]
    x0: Float[Array, "points num *x"]  # E[x_0 | x_t]


@eqx.filter_jit
def trajectory(
    score: AbstractScore, x_T: Float[Array, "num *x"], steps: int, *, conditions: Conditions | None = None
) -> Trajectory:
    """Integrate the probability flow from x_T by first-order exponential steps, equal in log-SNR (DDIM with eta = 0).

        x' = (sigma' / sigma) x + alpha' (1 - e^{-h}) E[x_0 | x_t],   h = l' - l,   l = log(alpha / sigma)

    The formula holds for every process and every mode. It takes one score call per step and example, and one at t_min.
    """
    sde = score.sde
    levels = ScheduleOnGrid(sde, uniform_log_snr(sde, steps).astype(jnp.result_type(x_T, jnp.float32)))
    here, there = levels[:-1], levels[1:]
    rows = (here.t, there.sigma / here.sigma, -there.alpha * jnp.expm1(-levels.h))

    def one(x_T, condition):
        own = score.given(condition)

        def step(x, row):
            t, keep, weight = row
            x0 = own.denoise(x, t)
            return (keep * x + weight * x0).astype(x.dtype), (x, x0)

        x, (xs, x0s) = jax.lax.scan(step, x_T, rows)
        last = own.denoise(x, levels.t[-1])
        return jnp.concatenate([xs, x[None]]), jnp.concatenate([x0s, last[None].astype(x0s.dtype)])

    xs, x0s = jax.vmap(one, out_axes=1, axis_name=BATCH_AXIS)(x_T, conditions)
    return Trajectory(levels.t, xs, x0s)
