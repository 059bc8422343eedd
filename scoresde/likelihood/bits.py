"""From densities of real vectors to bits/dim of integers.

An image has integers v in 0..L-1. With u ~ U[0, 1)^D the vector v + u has a density, and

    log P(v) >= E_u log p(v + u),   log p(v + u) = log p_x(x) + log |det dx/dv|          (Theis et al. 2016)
    bits/dim = -log P(v) / (D log 2)

x = encode(v + u) is what the model sees; its log-Jacobian comes from the data set (D log(2 / L) for data in [-1, 1]).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.likelihood.flow import LogLikelihood, log_likelihood_of_keys
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractSDE
from scoresde.types import Keys


def bits_per_dim(log_prob: Float[Array, "*N"] | float, log_jacobian: float, dimensions: int) -> Float[Array, "*N"] | float:
    """-(log p_x + log |det dx/dv|) / (D log 2), from nats."""
    return -(log_prob + log_jacobian) / (dimensions * math.log(2))


def mean_and_error(values) -> tuple[float, float]:
    """The mean of independent values and its standard error, std / sqrt(N); NaN for one value."""
    values = jnp.asarray(values)
    count = values.size
    error = jnp.std(values, ddof=1) / math.sqrt(count) if count > 1 else jnp.nan
    return float(jnp.mean(values)), float(error)


@eqx.filter_jit
def dequantized_log_likelihood(
    sde: AbstractSDE, score: AbstractScore, values, encode, *, keys: Keys, probes: int | None, tolerance: float
) -> LogLikelihood:
    """log p_x(encode(v, u)) for integers v: [N, *x], one draw of u per key.

    Example k draws u and its probes from `keys[k]`.
    """
    subkeys = jax.vmap(jax.random.split)(keys)
    shape = values.shape[1:]
    u = jax.vmap(lambda key: jax.random.uniform(key, shape))(subkeys[:, 0])
    return log_likelihood_of_keys(sde, score, encode(values, u), keys=subkeys[:, 1], probes=probes, tolerance=tolerance)
