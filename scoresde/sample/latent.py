"""The probability flow as a bijection between images and noise (Song et al. 2021, section 4.3): encode, decode,
interpolate."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.runtime.streams import fixed_stream
from scoresde.sample.base import BATCH_AXIS, Draw
from scoresde.sample.integrate import ProbabilityFlow
from scoresde.score.base import AbstractScore
from scoresde.types import Conditions

# Below this angle between two latents (radians) the great circle is the straight line to rounding.
_SMALL_ANGLE = 1e-3


@eqx.filter_jit
def encode(
    score: AbstractScore,
    x0: Float[Array, "N *x"],
    *,
    sampler: ProbabilityFlow = ProbabilityFlow(),
    conditions: Conditions | None = None,
) -> Draw:
    """Return x_T [N, *x] of x at t_min under the probability flow; `decode` is the inverse up to the tolerance of the
    solver."""
    return jax.vmap(lambda x, y: sampler.encode(score.given(y), x), axis_name=BATCH_AXIS)(x0, conditions)


@eqx.filter_jit
def decode(
    score: AbstractScore,
    x_T: Float[Array, "N *x"],
    *,
    sampler: ProbabilityFlow = ProbabilityFlow(),
    conditions: Conditions | None = None,
) -> Draw:
    """Return x at t_min [N, *x] of x_T under the probability flow, without denoising: the inverse of `encode`."""
    key = fixed_stream("sample")  # the flow uses no random numbers
    return jax.vmap(lambda x, y: sampler(score.given(y), x, key=key), axis_name=BATCH_AXIS)(x_T, conditions)


def interpolate(
    score: AbstractScore,
    first: Float[Array, "N *x"],
    last: Float[Array, "M *y"],
    weights: Float[Array, " K"],
    *,
    sampler: ProbabilityFlow = ProbabilityFlow(),
    conditions: Conditions | None = None,
) -> Draw:
    """Interpolate between pairs of x at t_min: encode both, follow the great circle, decode.

    The fields of the result have leading axes [N, K]. NFE is that of decoding. A pair has ok = False if one of its
    images could not be encoded.

    Args:
      score: score of the probability flow.
      first: x at t_min at weight 0.
      last: x at t_min at weight 1, of the same shape.
      weights: positions on the great circle, from 0 to 1.
      sampler: solver of the flow.
      conditions: condition of each pair, arrays with a leading axis N by name; None: the score as it is.

    Raises:
      ConfigError: the two batches differ in shape.
    """
    sde = score.sde
    if first.shape != last.shape:
        raise ConfigError(f"interpolate: expected two batches of one shape, got {first.shape} and {last.shape}")
    ends = [encode(score, x, sampler=sampler, conditions=conditions).x for x in (first, last)]
    sigma = sde.sigma(sde.t_max)  # to interpolate white noise, as the norm of coloured noise is in the low modes
    between = jax.vmap(lambda a, b: jax.vmap(lambda w: sigma * slerp(a / sigma, b / sigma, w))(weights))(*ends)
    each = jax.tree.map(lambda rows: jnp.repeat(rows, len(weights), axis=0), conditions)
    decoded = decode(score, between.reshape(-1, *first.shape[1:]), sampler=sampler, conditions=each)
    return jax.tree.map(lambda part: part.reshape(len(first), len(weights), *part.shape[1:]), decoded)


def slerp(a: Float[Array, "*x"], b: Float[Array, "*x"], weight) -> Float[Array, "*x"]:
    """Return the point at `weight` w on the great circle from a to b (Shoemake 1985).

        sin((1 - w) angle) / sin(angle) a + sin(w angle) / sin(angle) b

    This path preserves the norm of noise, which on the straight line between two samples falls to 1 / sqrt 2.
    """
    cosine = jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    near = jnp.sin(angle) < _SMALL_ANGLE
    safe = jnp.where(near, 1.0, angle)
    from_a, from_b = jnp.sin((1 - weight) * safe) / jnp.sin(safe), jnp.sin(weight * safe) / jnp.sin(safe)
    return jnp.where(near, 1 - weight, from_a) * a + jnp.where(near, weight, from_b) * b
