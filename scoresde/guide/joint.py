r"""Posterior of all modes jointly, for observations whose modes depend on each other, such as the points of a curve.

The distribution of x_0 given x_t is approximated by N(D, R), where R is the covariance that x_0 would have if the data
were Gaussian with covariance C:

    R^{-1} = C^{-1} + (alpha / sigma)^2
    E[x_0 | x_t, y] = D + R H (H R H + sigma_y^2)^{-1} (y - H D),   H = diag(h)

This is exact for Gaussian data with any covariance, and no linear system has to be solved for each time t. Let P be the
covariance of x_0 given y alone, and K the gain of its mean:

    P = (C^{-1} + H^2 / sigma_y^2)^{-1} = W diag(p) W^T,   K = C H (H C H + sigma_y^2)^{-1} = P H / sigma_y^2

The two forms of K are equal by Woodbury's identity. Because alpha and sigma are scalars, x_t adds (alpha / sigma)^2 to
each 1/p. With q = sigma^2 / (alpha^2 p + sigma^2) it follows that

    R H (H R H + sigma_y^2)^{-1} = W diag(q) W^T K
    Cov[x_0 | x_t, y] = W diag(q p) W^T

W, p and W^T K are computed once, in float64, from singular values. With C = L L^T and H L = A diag(m) B^T,

    K = L B diag(m / (m^2 + sigma_y^2)) A^T,   P = F F^T,   F = L B diag(sigma_y / sqrt(m^2 + sigma_y^2))

The product H C H is never formed, because it would lose all modes with h below the square root of the rounding error.
Each step costs two products with [D, D] matrices, so the method is limited to fields of a few thousand values.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.guide.observation import Observation, with_rounding
from scoresde.guide.posterior import AbstractGuided, check_given, isotropic, to_modes
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractBasis, AbstractSDE
from scoresde.types import Key, State, Time

# Largest number of values of a field for which two [D, D] products per step, and their factors, are affordable.
LARGEST = 4096


class ModeCovariance(eqx.Module):
    """Covariance U diag(v) U^T of the coefficients [*modes, channels] of data, in C order and float64.

    Args:
      covariance: symmetric matrix [D, D]; negative eigenvalues within rounding error count as 0.
      mean: mean of the data, [D], or 0. The rounding error of an observation depends on the size of the field, see
        `Observation.rounding`.

    Raises:
      ConfigError: the covariance has another shape, is not finite, is not symmetric, has more than `LARGEST` values, or
        has clearly negative eigenvalues.
    """

    variances: Float[np.ndarray, " D"]
    axes: Float[np.ndarray, "D D"]
    mean: Float[np.ndarray, " D"]

    def __init__(self, covariance, mean=0.0):
        covariance, mean = np.asarray(covariance, np.float64), np.asarray(mean, np.float64)
        size = len(covariance) if covariance.ndim else 0
        if covariance.shape != (size, size) or not 0 < size <= LARGEST or not np.isfinite(covariance).all():
            raise ConfigError(
                f"ModeCovariance: expected a finite matrix [D, D] with D up to {LARGEST}, got {covariance.shape}; take "
                "a variance per mode"
            )
        if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9 * abs(covariance).max()):
            raise ConfigError("ModeCovariance: expected a symmetric matrix; symmetrise it with (C + C.T) / 2")
        if mean.shape not in ((), (size,)) or not np.isfinite(mean).all():
            raise ConfigError(f"ModeCovariance: expected a finite mean of {size} values, got {mean.shape}; ravel it")
        variances, axes = np.linalg.eigh((covariance + covariance.T) / 2)
        if variances[0] < -1e-6 * abs(variances).max():
            raise ConfigError(f"ModeCovariance: expected no negative eigenvalue, got {variances[0]:.3g}")
        self.variances, self.axes, self.mean = np.maximum(variances, 0), axes, np.broadcast_to(mean, (size,))


class JointPosterior(AbstractGuided):
    """Score given an observation, with the joint covariance of all modes, by the formulas of this module.

    Args:
      score: score of the data; its process has a single alpha and a single sigma, as VP does.
      observation: observation with its y.
      covariance: covariance of the data in the basis of the observation; see `mode_covariance`.

    Raises:
      ConfigError: the process is of another kind, the covariance has another size, y is missing, or the operator is
        being traced (build the operator outside `jit`).
    """

    score: AbstractScore
    observation: Observation
    axes: Float[Array, "D D"]  # W
    variances: Float[Array, " D"]  # p
    seen: Float[Array, "D D"]  # W^T K

    def __init__(self, score: AbstractScore, observation: Observation, covariance: ModeCovariance):
        sde = score.sde
        _check(sde, observation, covariance)
        self.score, self.observation = score, observation
        axes, variances, seen = _factors(observation, covariance)
        dtype = jnp.result_type(observation.y, float)
        self.axes, self.variances, self.seen = (jnp.asarray(part, dtype) for part in (axes, variances, seen))

    def denoise(self, x: State, t: Time) -> State:
        """Return E[x_0 | x_t = x, y]."""
        return self._from_modes(self._mean(x, t))

    def draw(self, x: State, t: Time, *, key: Key) -> State:
        """Return a sample of N(E[x_0 | x_t, y], Cov[x_0 | x_t, y])."""
        y = self.observation.y
        z = jax.random.normal(key, self.variances.shape, self.variances.dtype)
        noise = _product(self.axes, jnp.sqrt(self.variances * self._left(t)) * z)
        return self._from_modes(self._mean(x, t) + noise.reshape(jnp.shape(y)))

    def _mean(self, x: State, t: Time) -> State:
        h, y = self.observation.h, self.observation.y
        mean = self._to_modes(self.score.denoise(x, t))
        moved = _product(self.axes, self._left(t) * _product(self.seen, jnp.ravel(y - h * mean)))
        return mean + moved.reshape(jnp.shape(y))

    def _left(self, t: Time) -> Float[Array, " D"]:
        """Return q, the share of the variance given y that remains when x_t is also known."""
        sigma2 = self._sigma(t) ** 2
        return sigma2 / (self.sde.alpha(t) ** 2 * self.variances + sigma2)


def mode_covariance(basis: AbstractBasis, x: Float[Array, "N *x"]) -> ModeCovariance:
    """Return the covariance of the coefficients of N fields [N, *grid, channels] about their mean.

    N should be several times the number of values of a field.

    Raises:
      ConfigError: there are fewer than two fields, the fields are on another grid, or the fields are too large.
    """
    if len(x) < 2 or x[0].size > LARGEST:
        raise ConfigError(
            f"mode_covariance: expected at least 2 fields of up to {LARGEST} values, got {len(x)} of {x[0].size}"
        )
    modes = np.asarray(to_modes(basis, x), np.float64).reshape(len(x), -1)
    return ModeCovariance(np.cov(modes, rowvar=False).reshape(x[0].size, -1), modes.mean(axis=0))


def _factors(observation: Observation, covariance: ModeCovariance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return W, p and W^T K by the formulas of the module."""
    h = np.ravel(np.broadcast_to(np.asarray(observation.h, np.float64), jnp.shape(observation.y)))
    # The size of y is computed from the data instead of y, because one operator serves many observations.
    square = h**2 * (covariance.axes**2 @ covariance.variances + covariance.mean**2)
    rounding = jnp.finfo(jnp.result_type(observation.y, float)).eps * np.sqrt(np.mean(square)) / observation.basis.white
    noise2, variances = with_rounding(observation.deviation, covariance.variances, rounding)
    root = covariance.axes * np.sqrt(variances)
    seen, m, right = np.linalg.svd(h[:, None] * root)
    m = np.where(m > len(m) * np.finfo(np.float64).eps * m.max(), m, 0)
    noise = np.sqrt(noise2)
    total = np.hypot(m, noise)
    blind = total == 0  # an unobserved direction without noise keeps all of its variance
    total, left = np.where(blind, 1, total), np.where(blind, 1, noise)
    axes, deviation, _ = np.linalg.svd(root @ right.T * (left / total))
    gain = root @ right.T * (m / total**2) @ seen.T
    return axes, deviation**2, axes.T @ gain


def _product(matrix, x):
    """Return the product at full precision. Accelerators use 10 bits by default, too few where the noise is small."""
    return jnp.matmul(matrix, x, precision=jax.lax.Precision.HIGHEST)


def _check(sde: AbstractSDE, observation: Observation, covariance: ModeCovariance) -> None:
    check_given("JointPosterior", observation)
    if not isotropic(sde):
        raise ConfigError(
            f"JointPosterior: expected a process with one alpha and one sigma, such as VP, got {type(sde).__name__}; "
            "its "
            "coefficients do not commute with a covariance: take Posterior"
        )
    if len(covariance.variances) != jnp.size(observation.y):
        raise ConfigError(
            f"JointPosterior: expected a covariance of {jnp.size(observation.y)} values, got "
            f"{len(covariance.variances)}"
        )
    if isinstance(observation.h, jax.core.Tracer):
        raise ConfigError(
            "JointPosterior: expected factors h that are known when it is built, got traced ones; build it outside jit"
        )
