"""Time grids: functions (sde, steps) -> t_max = t_0 > t_1 > ... > t_steps = t_min.

| grid               | equal steps in              | source                                       |
|--------------------|-----------------------------|----------------------------------------------|
| `uniform`          | t                           | Song et al. 2021                             |
| `quadratic`        | sqrt(t)                     | Song, Meng and Ermon 2021, appendix D.2      |
| `geometric`        | log sigma                   | Song and Ermon 2019                          |
| `uniform_log_snr`  | lambda = 2 log(alpha/sigma) | Lu et al. 2022, DPM-Solver                   |
| `karras`           | (sigma / alpha)^(1/7)       | Karras et al. 2022, eq. 5, rho = 7           |
| `Times`            | given times                 | for instance `optimised_times`               |

Grids in noise level find their times with the inverse of a monotone function. For one log-SNR per mode they use the
reference log-SNR of the process; `geometric` needs one sigma that grows. Neighbouring times must differ in float32. A
sampler accepts any function of this form.

`uniform_log_snr` and `karras` visit the same noise levels for every parameterisation of t, so the default grid of
every sampler is one of them. `uniform` and `quadratic` depend on the parameterisation: with 1000 equal steps in t,
Karras, where t is sigma, has no point between its last noise level, 0.002, and 0.08.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.sde import AbstractSDE
from scoresde.sde.base import time_where
from scoresde.types import Scalar

Grid = Float[Array, " points"]

# Karras et al. 2022, eq. 5.
_RHO = 7.0


def uniform(sde: AbstractSDE, steps: int) -> Grid:
    """Return a grid with equal steps in t (Song et al. 2021).

    Args:
      sde: process.
      steps: number of steps, at least 1.
    """
    return jnp.linspace(sde.t_max, sde.t_min, steps + 1)


def quadratic(sde: AbstractSDE, steps: int) -> Grid:
    """Return a grid with equal steps in the square root of t, measured from t = 0 (Song, Meng and Ermon 2021).

    Args:
      sde: process.
      steps: number of steps, at least 1.
    """
    return _with_ends(sde, jnp.linspace(math.sqrt(sde.t_max), math.sqrt(sde.t_min), steps + 1) ** 2)


def geometric(sde: AbstractSDE, steps: int) -> Grid:
    """Return a grid with equal ratios of sigma(t) (Song and Ermon 2019).

    Where sigma saturates, as for VP, the first steps are long in t.

    Args:
      sde: process.
      steps: number of steps, at least 1.

    Raises:
      ConfigError: sigma does not grow with t, or is not one number.
    """
    first, last = _ends(sde, sde.log_sigma)
    if not isinstance(first, jax.core.Tracer) and not float(first) > float(last):
        raise ConfigError(
            f"geometric: expected a sigma that grows, and that of {type(sde).__name__} stands still; take uniform or "
            "log_snr"
        )
    logs = jnp.linspace(first, last, steps + 1)
    return _with_ends(sde, jax.vmap(lambda log: time_where(sde, lambda t: sde.log_sigma(t) > log, logs.dtype))(logs))


def uniform_log_snr(sde: AbstractSDE, steps: int) -> Grid:
    """Return a grid with equal steps in lambda (Lu et al. 2022, DPM-Solver).

    Args:
      sde: process.
      steps: number of steps, at least 1.
    """
    first, last = _ends(sde, sde.reference_log_snr)
    return _with_ends(sde, jax.vmap(sde.time_of_log_snr)(jnp.linspace(first, last, steps + 1)))


def karras(sde: AbstractSDE, steps: int) -> Grid:
    """Return a grid with equal steps in (sigma / alpha)^(1/7) = exp(-lambda / 14) (Karras et al. 2022, eq. 5, rho = 7).

    Args:
      sde: process.
      steps: number of steps, at least 1.
    """
    roots = jnp.linspace(*(jnp.exp(-end / (2 * _RHO)) for end in _ends(sde, sde.reference_log_snr)), steps + 1)
    return _with_ends(sde, jax.vmap(sde.time_of_log_snr)(-2 * _RHO * jnp.log(roots)))


class Times(eqx.Module):
    """Grid of given times, for samplers with exactly one step fewer than there are times.

    Args:
      t: times that decrease from t_max to t_min, both included.

    Raises:
      ConfigError: on a call, fewer than two times, times that do not decrease from t_max to t_min, or another number of
        steps.
    """

    t: tuple[float, ...] = eqx.field(static=True)

    def __call__(self, sde: AbstractSDE, steps: int) -> Grid:
        t = self.t
        if len(t) != steps + 1:
            raise ConfigError(f"Times: expected steps = {len(t) - 1} for {len(t)} times, got steps = {steps}")
        ends = math.isclose(t[0], sde.t_max, rel_tol=1e-5) and math.isclose(t[-1], sde.t_min, rel_tol=1e-5)
        if not ends or not all(a > b for a, b in zip(t, t[1:])):
            raise ConfigError(
                f"Times: expected times that fall from t_max = {sde.t_max} to t_min = {sde.t_min}, got {t}"
            )
        return _with_ends(sde, jnp.asarray(t))


def between(sde: AbstractSDE, t: Grid, fraction: float) -> Float[Array, " steps"]:
    """Return the times at a `fraction` of each step in lambda from one point of a grid to the next."""
    log_snr = jax.vmap(sde.reference_log_snr)(t)
    return jax.vmap(sde.time_of_log_snr)((1 - fraction) * log_snr[:-1] + fraction * log_snr[1:])


def _ends(sde: AbstractSDE, function) -> tuple[Scalar, Scalar]:
    """Return the values of `function` at t_max and t_min.

    Raises:
      ConfigError: it is not one number.
    """
    ends = function(sde.t_max), function(sde.t_min)
    if shape := jnp.shape(ends[0]):
        raise ConfigError(
            f"{type(sde).__name__} has noise levels of shape {shape}, and so no one time for each; take uniform or "
            "log_snr"
        )
    return ends


def _with_ends(sde: AbstractSDE, t: Grid) -> Grid:
    """Set the two end points exactly, because the inverse of the log-SNR rounds."""
    return t.at[0].set(sde.t_max).at[-1].set(sde.t_min)
