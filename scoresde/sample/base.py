"""Samplers, which integrate a score from x_T at t_max to x at t_min, and `sample`, which does so for many keys.

`sample` ends with one denoising step, E[x_0 | x at t_min] by Tweedie's formula, as the published results do. The
step removes the noise of t_min, and with it the details of the data below that noise: it reduces a variance v to
v^2 / (v + s^2), s = sigma / alpha at t_min. `draw` omits the denoising and returns the status of the solver.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from scoresde.errors import ConfigError
from scoresde.score.base import AbstractScore
from scoresde.types import Conditions, Key, Keys, State

# The name of the axis of examples, by which code that needs the whole batch refers to it.
BATCH_AXIS = "batch"


class Draw(eqx.Module):
    """The result of a sampler. Under `vmap` every field has a leading batch axis."""

    x: Float[Array, "*x"]  # x at t_min; NaN where the solver failed
    nfe: Int[Array, ""]  # calls of the score; -1: unknown (an implicit solver)
    ok: Bool[Array, ""]  # the solver reached t_min and x is finite


class AbstractSampler(eqx.Module):
    """An algorithm that takes a state from the prior to t_min."""

    @property
    def couples_batch(self) -> bool:
        """Whether a sample depends on the others of its batch."""
        return False

    @abc.abstractmethod
    def __call__(self, score: AbstractScore, x_T: State, *, key: Key) -> Draw:
        """Return the result for one example x_T, integrated from t_max to t_min."""


@eqx.filter_jit
def draw(
    sampler: AbstractSampler,
    score: AbstractScore,
    shape: tuple[int, ...],
    *,
    keys: Keys,
    conditions: Conditions | None = None,
) -> Draw:
    """Sample one example of `shape` per key of `keys` [num], from the prior to t_min, without the final denoising.

    Example k depends on key k alone and not on the other keys or their number. The exceptions are
    `Langevin(norm="batch")` and keys of the implementation "rbg", whose random numbers under `vmap` depend on the
    batch; JAX's default is threefry.

    Args:
      sampler: sampler of the reverse process.
      score: score of the data.
      shape: shape of one example.
      keys: one key per example.
      conditions: condition of each example, arrays with a leading axis num by name; None: the score as it is.
    """
    return jax.vmap(
        lambda key, condition: _draw_one(sampler, score.given(condition), shape, key), axis_name=BATCH_AXIS
    )(keys, conditions)


@eqx.filter_jit
def denoised_draw(
    sampler: AbstractSampler,
    score: AbstractScore,
    shape: tuple[int, ...],
    *,
    keys: Keys,
    conditions: Conditions | None = None,
) -> Draw:
    """Sample like `draw`, with x replaced by E[x_0 | x] at t_min, which costs one more call of the score."""

    sde = score.sde

    def one(key: Key, condition) -> Draw:
        own = score.given(condition)
        drawn = _draw_one(sampler, own, shape, key)
        x0 = own.denoise(drawn.x, jnp.asarray(sde.t_min, drawn.x.dtype))
        ok = drawn.ok & jnp.all(jnp.isfinite(x0))
        return Draw(jnp.where(ok, x0, jnp.nan), jnp.where(drawn.nfe < 0, drawn.nfe, drawn.nfe + 1), ok)

    return jax.vmap(one, axis_name=BATCH_AXIS)(keys, conditions)


def sample(
    sampler: AbstractSampler,
    score: AbstractScore,
    shape: tuple[int, ...],
    *,
    num: int,
    key: Key,
    conditions: Conditions | None = None,
) -> Float[Array, "num *shape"]:
    """Return `num` samples of x_0, denoised at t_min; rows whose solver failed are NaN.

    Sample k uses `fold_in(key, k)`, so the first samples stay the same when `num` grows.

    Args:
      sampler: sampler of the reverse process.
      score: score of the data.
      shape: shape of one example.
      num: number of samples.
      key: random key.
      conditions: condition of each sample, arrays with a leading axis num by name, such as {"class": [num]}; None: the
        score as it is.

    Raises:
      ConfigError: a condition that the score does not take, or that has not num rows.
    """
    conditions = {name: jnp.asarray(rows) for name, rows in (conditions or {}).items()} or None
    for name, rows in (conditions or {}).items():
        if rows.shape[:1] != (num,):
            raise ConfigError(f"conditions['{name}']: expected {num} rows, one per sample, got shape {rows.shape}")
    keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(num))
    return denoised_draw(sampler, score, tuple(shape), keys=keys, conditions=conditions).x


def noise(key: Key, i, x: State) -> State:
    """Return the standard normal z_i of a sampler, with the shape and type of x.

    The noise of a sample depends only on its key and on the index i, so that another implementation can reproduce it.
    """
    return jax.random.normal(jax.random.fold_in(key, i), jnp.shape(x), x.dtype)


def draw_without_error_estimate(x: State, nfe) -> Draw:
    """Return the Draw of a sampler without an error estimate, which fails only if x is not finite."""
    ok = jnp.all(jnp.isfinite(x))
    return Draw(jnp.where(ok, x, jnp.nan), jnp.asarray(nfe), ok)


def _draw_one(sampler, score, shape, key) -> Draw:
    sde = score.sde
    prior_key, path_key = jax.random.split(key)
    return sampler(score, sde.sample_prior(shape, key=prior_key), key=path_key)
