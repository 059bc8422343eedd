"""The variable in which an adaptive solver takes its steps: u = t, or u = log t.

    dx/du = dx/dt dt/du,    dt/du = 1 or t

A step controller assumes that neighbouring steps are similar. Along the flow this holds where the log-SNR varies
evenly, because equal steps in log-SNR have similar errors (Lu et al. 2022, DPM-Solver). Near t = 0 the log-SNR of VP,
sub-VP and Karras falls as log t: with steps in t, half of all steps are rejected there. The log-SNR of VE is linear in
t. u is therefore the variable in which the slope of the reference log-SNR varies less between t_min and t_max. Steps in
log-SNR would be the most even, but the inverse of the log-SNR costs a bisection per call.

The change applies only to solves down to t_min, where an error matters relative to |x|. In the other direction an error
matters relative to the noise sigma(t), which at t_min may be below the tolerance, so that large first steps would lose
the position of x in it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from scoresde.sde import AbstractSDE
from scoresde.types import Scalar, Time


class TimeChange(eqx.Module):
    """Change of variable u(t) and its inverse. In float32, log t from 1e-5 to 1 keeps a relative precision of 5e-7."""

    logarithmic: Bool[Array, ""]

    def reading(self, t: Time) -> Scalar:
        """Return u for t."""
        return jnp.where(self.logarithmic, jnp.log(jnp.where(self.logarithmic, t, 1.0)), t)

    def time(self, u: Scalar) -> Time:
        """Return t for u."""
        return jnp.where(self.logarithmic, jnp.exp(jnp.where(self.logarithmic, u, 0.0)), u)

    def rate(self, t: Time) -> Scalar:
        """Return dt/du."""
        return jnp.where(self.logarithmic, t, jnp.ones_like(t))


def log_time_if_smoother(sde: AbstractSDE) -> TimeChange:
    """Return the variable, t or log t, in which the log-SNR of a process varies more evenly; t if t_min = 0."""
    low, high = jnp.asarray(sde.t_min, jnp.float32), jnp.asarray(sde.t_max, jnp.float32)
    t = jnp.stack([low, jnp.sqrt(low * high), (low + high) / 2, high])
    slope = jnp.log(jnp.abs(jax.vmap(jax.grad(sde.reference_log_snr))(t)))
    in_t, in_log_t = jnp.ptp(slope), jnp.ptp(slope + jnp.log(t))
    return TimeChange((low > 0) & (in_log_t < in_t))  # False for NaN
