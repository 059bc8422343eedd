"""Many examples at once: draw x_0 given y, or go on from a degraded state."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.guide.joint import JointPosterior, ModeCovariance
from scoresde.guide.observation import Observation
from scoresde.guide.posterior import AbstractGuided, Posterior, Replacement, check_coordinates, checked_variances
from scoresde.sample.base import BATCH, AbstractSampler, Draw
from scoresde.score.base import AbstractScore, tweedie
from scoresde.sde import AbstractSDE
from scoresde.types import Coef, Key, Keys, State


def restore(
    sampler: AbstractSampler,
    sde: AbstractSDE,
    score: AbstractScore,
    observation: Observation,
    spread: Coef | float | ModeCovariance,
    y: Float[Array, "N *x"],
    *,
    keys: Keys,
) -> Draw:
    """One draw of x_0 given y for each y [N, *modes, channels] and key, denoised at t_min, in the coordinates of the process: by
    `Posterior`, or by `JointPosterior` if `spread` is a `ModeCovariance`. Draw k depends on y_k and key k alone.

    Args:
      spread: of the data in the basis of the observation: variances c_k^2, or their covariance.

    Raises:
      ConfigError: as `Posterior` and `JointPosterior`.
    """
    check_coordinates("restore", sde, observation.basis)
    if isinstance(spread, ModeCovariance):
        return _guided(_joint, sampler, sde, score, observation, spread, y, keys)
    return _guided(_posterior, sampler, sde, score, observation, checked_variances(spread), y, keys)


def replace(
    sampler: AbstractSampler, sde: AbstractSDE, score: AbstractScore, observation: Observation, y: Float[Array, "N *x"], *, keys: Keys
) -> Draw:
    """As `restore`, by `Replacement`: the baseline."""
    check_coordinates("Replacement", sde, observation.basis)
    return _guided(_replacement, sampler, sde, score, observation, None, y, keys)


@eqx.filter_jit
def continued(sampler: AbstractSampler, sde: AbstractSDE, score: AbstractScore, x_T: Float[Array, "N *x"], *, keys: Keys) -> Draw:
    """From given states at t_max, denoised at t_min: for processes that start from degraded data, this is restoration."""
    return jax.vmap(lambda x, key: _denoised(sampler, sde, score, x, key), axis_name=BATCH)(x_T, keys)


@eqx.filter_jit
def _guided(
    guide: Callable[..., AbstractGuided], sampler, sde, score, observation, spread, y: Float[Array, "N *x"], keys: Keys
) -> Draw:
    def one(y: State, key: Key) -> Draw:
        prior_key, guide_key, path_key = jax.random.split(key, 3)
        guided = guide(sde, score, observation.given(y), spread, guide_key)
        return _denoised(sampler, sde, guided, sde.sample_prior(y.shape, key=prior_key), path_key)

    return jax.vmap(one, axis_name=BATCH)(y, keys)


def _posterior(sde, score, observation, variances, key) -> Posterior:
    del key  # only the baseline draws
    return Posterior(sde, score, observation, variances)


def _joint(sde, score, observation, covariance, key) -> JointPosterior:
    del key
    return JointPosterior(sde, score, observation, covariance)


def _replacement(sde, score, observation, variances, key) -> Replacement:
    del variances
    return Replacement(sde, score, observation, jax.random.normal(key, observation.y.shape, observation.y.dtype))


def _denoised(sampler: AbstractSampler, sde: AbstractSDE, score: AbstractScore, x_T: State, key: Key) -> Draw:
    drawn = sampler(sde, score, x_T, key=key)
    x0 = tweedie(sde, score, drawn.x, jnp.asarray(sde.t_min, drawn.x.dtype))
    ok = drawn.ok & jnp.all(jnp.isfinite(x0))
    return Draw(jnp.where(ok, x0, jnp.nan), jnp.where(drawn.nfe < 0, drawn.nfe, drawn.nfe + 1), ok)
