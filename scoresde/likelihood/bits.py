"""From densities of real vectors to bits/dim of integers.

    log P(v) >= E_q[log p(x) - log q(x | v)],   bits/dim = -log P(v) / (D log 2)             (see `dequantize`)
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from scoresde.likelihood.dequantize import AbstractDequantization, Bins
from scoresde.likelihood.flow import LogLikelihood, log_likelihood_of_keys
from scoresde.likelihood.trace import AbstractTrace
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractSDE
from scoresde.types import Keys


def bits_per_dim(
    log_prob: Float[Array, "*N"] | float, log_jacobian: Float[Array, "*#N"] | float, dimensions: int
) -> Float[Array, "*N"] | float:
    """-(log p_x + log |det dx/dv|) / (D log 2), from nats.

    For a q other than the uniform one, -log q(x | v) takes the place of the log-Jacobian. With both 0 it is nats of log P
    turned into bits/dim.
    """
    return -(log_prob + log_jacobian) / (dimensions * math.log(2))


def mean_and_error(values) -> tuple[float, float]:
    """The mean of independent values and its standard error, std / sqrt(N); NaN for one value."""
    values = jnp.asarray(values)
    count = values.size
    error = jnp.std(values, ddof=1) / math.sqrt(count) if count > 1 else jnp.nan
    return float(jnp.mean(values)), float(error)


@eqx.filter_jit
def dequantized_log_likelihood(
    sde: AbstractSDE,
    score: AbstractScore,
    values: Num[Array, "N *x"],
    dequantization: AbstractDequantization,
    bins: Bins,
    *,
    keys: Keys,
    trace: AbstractTrace,
    tolerance: float,
) -> tuple[LogLikelihood, Float[Array, " N"]]:
    """log p(x) of one draw x ~ q(x | v) per example, and log q(x | v), both in nats.

    Their difference is a draw of the bound on log P(v). Example k draws x and its probes from `keys[k]`.
    """
    subkeys = jax.vmap(jax.random.split)(keys)
    x, log_q = jax.vmap(lambda v, key: dequantization.draw(sde, bins, v, key=key))(values, subkeys[:, 0])
    return log_likelihood_of_keys(sde, score, x, keys=subkeys[:, 1], trace=trace, tolerance=tolerance), log_q
