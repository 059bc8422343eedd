"""A grid fitted to a score: few steps where the trajectories of the probability flow are straight, many where they
bend."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.sample.grid import Times, uniform_log_snr
from scoresde.sample.schedule_on_grid import one_log_snr, schedule_on_grid
from scoresde.score.base import AbstractScore
from scoresde.sde.base import check_parameters
from scoresde.types import Key

# Number of candidate times. Computing their costs takes most of the time, and more candidates hardly change the choice.
CANDIDATES = 128


def optimised_times(
    score: AbstractScore,
    shape: tuple[int, ...],
    *,
    steps: int,
    key: Key,
    examples: int = 64,
    candidates: int = CANDIDATES,
) -> Times:
    """Return the grid with the least sum of local Euler errors (GITS, Chen et al. 2024).

    The times are chosen from the ends of `candidates` equal steps in log-SNR.

    In y = x / alpha, rho = sigma / alpha, with d the slope of a reference trajectory of `candidates` Euler steps, the
    cost of a step from i to j is the mean over examples of |y_j - y_i - (rho_j - rho_i) d_i|. Dynamic programming finds
    the path of `steps` steps with the least total. The costs take `candidates` calls of the score on a batch of
    `examples`.

    Args:
      score: score to which the grid is fitted.
      shape: shape of one example.
      steps: number of steps, from 1 to `candidates`.
      key: key of the reference trajectories.
      examples: number of reference trajectories.
      candidates: number of equal steps in log-SNR whose ends are the possible times.

    Raises:
      ConfigError: steps < 1 or steps > candidates; a process with one coefficient per mode.
    """
    sde = score.sde
    check_parameters("optimised_times", steps=(steps, 1 <= steps <= candidates, f"from 1 to candidates = {candidates}"))
    one_log_snr(sde, "optimised_times", "one grid is fitted to all coordinates; use uniform_log_snr")
    cost = _costs(score, shape, jax.random.split(key, examples), candidates)
    chosen = _shortest_path(np.asarray(cost, np.float64), steps)
    return Times(tuple(float(t) for t in uniform_log_snr(sde, candidates)[np.asarray(chosen)]))


@eqx.filter_jit
def _costs(score, shape, keys, candidates) -> Float[Array, "starts ends"]:
    sde = score.sde
    levels = schedule_on_grid(sde, uniform_log_snr, candidates, jnp.float32)
    rho = jnp.exp(-levels.half_log_snr)

    def trajectory(key):
        def euler(y, row):
            level, rho, following = row
            slope = (y - score.denoise(level.alpha * y, level.t)) / rho
            return y + (following - rho) * slope, (y, slope)

        x_T = sde.sample_prior(shape, key=key)
        last, (y, slope) = jax.lax.scan(euler, x_T / levels.alpha[0], (levels[:-1], rho[:-1], rho[1:]))
        return jnp.concatenate([y, last[None]]), slope

    y, slope = jax.vmap(trajectory)(keys)

    def from_point(i):
        step = (rho - rho[i]).reshape(-1, *[1] * len(shape))
        missed = y - y[:, i, None] - step * slope[:, i, None]
        return jnp.mean(jnp.sqrt(jnp.sum(missed**2, axis=tuple(range(2, missed.ndim)))), axis=0)

    return jax.lax.map(from_point, jnp.arange(candidates))


def _shortest_path(cost: np.ndarray, steps: int) -> list[int]:
    """Return the indices 0 = i_0 < i_1 < ... < i_steps = last with the least sum of cost[i_k, i_{k+1}]."""
    points = cost.shape[1]
    square = np.full((points, points), np.inf)
    square[:-1] = np.where(np.arange(points) > np.arange(points - 1)[:, None], cost, np.inf)
    total, before = np.where(np.arange(points) == 0, 0.0, np.inf), []
    for _ in range(steps):
        reached = total[:, None] + square
        before.append(np.argmin(reached, axis=0))
        total = np.min(reached, axis=0)
    path = [points - 1]
    for previous in reversed(before):
        path.append(int(previous[path[-1]]))
    return path[::-1]
