"""The variable in which an adaptive solver takes its steps: u = t, or u = log t.

    dx/du = dx/dt dt/du,    dt/du = 1 or t

A controller of steps assumes that neighbouring steps are alike. Along the flow that holds where the log-SNR runs
evenly, as steps even in log-SNR have errors alike (Lu et al. 2022, DPM-Solver). Near t = 0 that of VP, sub-VP and
Karras falls as log t: in t, half of all steps are tried and rejected there. That of VE is even in t. So u is the one of
the two in which the slope of the reference log-SNR varies less between t_min and t_max; its inverse would be even
everywhere, but costs a bisection a call.

Down to t_min alone: an error there counts against |x|, which is what is wanted. On the way up it counts against the
noise sigma(t), which at t_min may be below the tolerance, and large first steps would lose the place of x in it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from scoresde.sde import AbstractSDE
from scoresde.types import Scalar, Time


class TimeChange(eqx.Module):
    """u(t) and back. Times keep 5e-7 of relative precision in float32 in log t from 1e-5 to 1."""

    logarithmic: Bool[Array, ""]

    def reading(self, t: Time) -> Scalar:
        """u of t."""
        return jnp.where(self.logarithmic, jnp.log(jnp.where(self.logarithmic, t, 1.0)), t)

    def time(self, u: Scalar) -> Time:
        """t of u."""
        return jnp.where(self.logarithmic, jnp.exp(jnp.where(self.logarithmic, u, 0.0)), u)

    def rate(self, t: Time) -> Scalar:
        """dt/du."""
        return jnp.where(self.logarithmic, t, jnp.ones_like(t))


def log_time_if_smoother(sde: AbstractSDE) -> TimeChange:
    """The clock by which the log-SNR of a process runs more evenly. Steps in t where t_min = 0."""
    low, high = jnp.asarray(sde.t_min, jnp.float32), jnp.asarray(sde.t_max, jnp.float32)
    t = jnp.stack([low, jnp.sqrt(low * high), (low + high) / 2, high])
    slope = jnp.log(jnp.abs(jax.vmap(jax.grad(sde.reference_log_snr))(t)))
    in_t, in_log_t = jnp.ptp(slope), jnp.ptp(slope + jnp.log(t))
    return TimeChange((low > 0) & (in_log_t < in_t))  # False for NaN
