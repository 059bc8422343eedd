"""Conversion of densities of real vectors to bits/dim of integers.

log P(v) >= E_q[log p(x) - log q(x | v)],   bits/dim = -log P(v) / (D log 2)             (see `dequantize`)
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from scoresde.likelihood.dequantization import AbstractDequantization, Bins
from scoresde.sde import AbstractSDE
from scoresde.types import Keys


def bits_per_dim(
    log_prob: Float[Array, "*N"] | float, log_jacobian: Float[Array, "*#N"] | float, dimensions: int
) -> Float[Array, "*N"] | float:
    """Return -(log p_x + log |det dx/dv|) / (D log 2), computed from nats.

    For a q other than the uniform one, -log q(x | v) replaces the log-Jacobian; for log P(v) itself the log-Jacobian is
    0.
    """
    return -(log_prob + log_jacobian) / (dimensions * math.log(2))


def mean_and_error(values) -> tuple[float, float]:
    """Return the mean of independent values and its standard error, std / sqrt(N); the error is NaN for one value."""
    values = jnp.asarray(values)
    count = values.size
    error = jnp.std(values, ddof=1) / math.sqrt(count) if count > 1 else jnp.nan
    return float(jnp.mean(values)), float(error)


@eqx.filter_jit
def dequantize(
    sde: AbstractSDE,
    values: Num[Array, "N *x"],
    dequantization: AbstractDequantization,
    bins: Bins,
    *,
    keys: Keys,
) -> tuple[Float[Array, "N *x"], Float[Array, " N"]]:
    """Return one sample x ~ q(x | v) for each example, in model coordinates, and log q(x | v) in nats.

    The difference log p(x) - log q(x | v) is one sample of the bound on log P(v). This also holds if log p(x) is
    replaced by a bound on it.
    """
    return jax.vmap(lambda v, key: dequantization.draw(sde, bins, v, key=key))(values, keys)
