"""Time grids: functions (sde, steps) -> t_max = t_0 > t_1 > ... > t_steps = t_min.

They hold for every process: the ones in noise level go through the log-SNR lambda = 2 log(alpha / sigma) and back.
A sampler takes any such function.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.sde import AbstractSDE

Grid = Float[Array, " points"]

# Karras et al. 2022, eq. 5.
_RHO = 7.0


def uniform(sde: AbstractSDE, steps: int) -> Grid:
    """Equal steps in t (Song et al. 2021)."""
    return jnp.linspace(sde.t_max, sde.t_min, steps + 1)


def uniform_log_snr(sde: AbstractSDE, steps: int) -> Grid:
    """Equal steps in lambda (Lu et al. 2022, DPM-Solver)."""
    first, last = sde.log_snr(sde.t_max), sde.log_snr(sde.t_min)
    return _with_ends(sde, jax.vmap(sde.time_of_log_snr)(jnp.linspace(first, last, steps + 1)))


def karras(sde: AbstractSDE, steps: int) -> Grid:
    """Equal steps in (sigma / alpha)^(1/7), sigma / alpha = exp(-lambda / 2) (Karras et al. 2022, eq. 5, rho = 7)."""
    roots = jnp.linspace(*(jnp.exp(-sde.log_snr(t) / (2 * _RHO)) for t in (sde.t_max, sde.t_min)), steps + 1)
    return _with_ends(sde, jax.vmap(sde.time_of_log_snr)(-2 * _RHO * jnp.log(roots)))


def _with_ends(sde: AbstractSDE, t: Grid) -> Grid:
    """The inverse of the log-SNR rounds; the two ends are known."""
    return t.at[0].set(sde.t_max).at[-1].set(sde.t_min)
