"""Restoration of batches: samples of x_0 given y, and continuation from degraded states."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.guide.joint import JointPosterior, ModeCovariance
from scoresde.guide.observation import Observation
from scoresde.guide.posterior import AbstractGuided, Posterior, Replacement, check_coordinates
from scoresde.sample.base import BATCH_AXIS, AbstractSampler, Draw
from scoresde.score.base import AbstractScore
from scoresde.types import Coef, Conditions, Key, Keys, State


def restore(
    sampler: AbstractSampler,
    score: AbstractScore,
    observation: Observation,
    spread: Coef | float | ModeCovariance,
    y: Float[Array, "N *x"],
    *,
    keys: Keys,
    conditions: Conditions | None = None,
) -> Draw:
    """Return one sample of x_0 given y for each y [N, *modes, channels] and key, in the coordinates of the process.

    The score is guided by `Posterior`, or by `JointPosterior` if `spread` is a `ModeCovariance`. The last step samples
    x_0 given x at t_min and y. Sample k depends on y_k and key k alone.

    Args:
      sampler: sampler of the reverse process.
      score: score of the data.
      observation: linear operator, basis and noise; its own y is not used.
      spread: variances c_k^2 of the data in the basis of the observation, or their covariance.
      y: coefficients that were observed.
      keys: one key per example.
      conditions: condition of each example, arrays with a leading axis N by name; None: the score as it is.

    Raises:
      ConfigError: the arguments violate a condition of `Posterior` or `JointPosterior`.
    """
    return restore_by(sampler, guide_of(score, observation, spread, y), y, keys=keys, conditions=conditions)


def guide_of(
    score: AbstractScore,
    observation: Observation,
    spread: Coef | float | ModeCovariance,
    y: Float[Array, "N *x"],
) -> Posterior | JointPosterior:
    """Return the guided score that `restore` uses, for any y of this shape; `restore_by` can use the same score
    repeatedly.

    Raises:
      ConfigError: the arguments violate a condition of `Posterior` or `JointPosterior`.
    """
    sde = score.sde
    check_coordinates("restore", sde, observation.basis)
    guide = JointPosterior if isinstance(spread, ModeCovariance) else Posterior
    return guide(score, _any(observation, y), spread)


def restore_by(
    sampler: AbstractSampler,
    guide: Posterior | JointPosterior,
    y: Float[Array, "N *x"],
    *,
    keys: Keys,
    conditions: Conditions | None = None,
) -> Draw:
    """Do what `restore` does with a guided score from `guide_of`; the y in the guided score is not used."""
    return _guided(sampler, guide, _given, y, keys, conditions)


def replace(
    sampler: AbstractSampler,
    score: AbstractScore,
    observation: Observation,
    y: Float[Array, "N *x"],
    *,
    keys: Keys,
    conditions: Conditions | None = None,
) -> Draw:
    """Do what `restore` does with the baseline `Replacement`."""
    sde = score.sde
    check_coordinates("Replacement", sde, observation.basis)
    observation = _any(observation, y)
    return _guided(sampler, Replacement(score, observation, observation.y), _replaced, y, keys, conditions)


@eqx.filter_jit
def continued(
    sampler: AbstractSampler,
    score: AbstractScore,
    x_T: Float[Array, "N *x"],
    *,
    keys: Keys,
    conditions: Conditions | None = None,
) -> Draw:
    """Return samples that continue from given states at t_max and are denoised at t_min.

    For processes that start from degraded data, this is restoration. The final denoising leaves little spread below
    sigma(t_min) / alpha.
    """
    sde = score.sde
    t_min = jnp.asarray(sde.t_min, x_T.dtype)

    def one(x, key, condition):
        own = score.given(condition)
        return _ended(sampler(own, x, key=key), lambda x: own.denoise(x, t_min))

    return jax.vmap(one, axis_name=BATCH_AXIS)(x_T, keys, conditions)


@eqx.filter_jit
def _guided(
    sampler: AbstractSampler,
    guide: AbstractGuided,
    given: Callable[..., AbstractGuided],
    y: Float[Array, "N *x"],
    keys: Keys,
    conditions: Conditions | None,
) -> Draw:
    sde = guide.sde

    def one(y: State, key: Key, condition) -> Draw:
        prior_key, guide_key, path_key = jax.random.split(key, 3)
        given_key, last_key = jax.random.split(guide_key)
        guided = given(guide, y, given_key).given(condition)
        drawn = sampler(guided, sde.sample_prior(y.shape, key=prior_key), key=path_key)
        return _ended(drawn, lambda x: guided.draw(x, jnp.asarray(sde.t_min, x.dtype), key=last_key))

    return jax.vmap(one, axis_name=BATCH_AXIS)(y, keys, conditions)


def _any(observation: Observation, y: Float[Array, "N *x"]) -> Observation:
    """Return the observation with a placeholder y of the right shape, which is replaced for each example."""
    return observation.given(jnp.zeros_like(y, shape=y.shape[1:]))


def _given(guide: AbstractGuided, y: State, key: Key) -> AbstractGuided:
    del key  # only the baseline needs random numbers
    return eqx.tree_at(lambda guide: guide.observation.y, guide, y)


def _replaced(guide: Replacement, y: State, key: Key) -> AbstractGuided:
    return eqx.tree_at(
        lambda guide: (guide.observation.y, guide.z), guide, (y, jax.random.normal(key, y.shape, y.dtype))
    )


def _ended(drawn: Draw, last: Callable[[State], State]) -> Draw:
    """Return the result after the last step, which goes from x at t_min to x_0."""
    x0 = last(drawn.x)
    ok = drawn.ok & jnp.all(jnp.isfinite(x0))
    return Draw(jnp.where(ok, x0, jnp.nan), jnp.where(drawn.nfe < 0, drawn.nfe, drawn.nfe + 1), ok)
