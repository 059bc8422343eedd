"""Scores in closed form, which serve as oracles for samplers and likelihoods.

Data x_0 ~ sum_k w_k N(m_k, S_k) under x_t = alpha x_0 + sigma eps stays a Gaussian mixture:

    p_t(x) = sum_k w_k N(x; alpha m_k, alpha^2 S_k + sigma^2 I)

With S_k = Q diag(v) Q^T the covariance at t is Q diag(alpha^2 v + sigma^2) Q^T, so one decomposition suffices for all
t. A process with one coefficient per mode does not commute with Q, so it needs covariances that are diagonal in its
basis. Mean, covariance and x are all in the coordinates of the process.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractSDE
from scoresde.types import Coef, Key, Scalar, State, Time


class GaussianScore(AbstractScore):
    """Score s(x, t) = -Q [Q^T (x - alpha m) / (alpha^2 v + sigma^2)] of x_0 ~ N(m, Q diag(v) Q^T).

    Args:
      sde: process; it has one alpha and sigma for all coordinates unless the covariance is diagonal.
      mean: m, with the shape of a state, which has D elements.
      covariance: matrix [D, D], or the diagonal [D], which costs O(D) per call.

    Raises:
      ConfigError: the covariance has another shape, is not symmetric or not positive semi-definite, or is not finite;
        or it is not diagonal, and the process has one coefficient per mode.
    """

    sde: AbstractSDE
    mean: Float[Array, "*x"]
    variances: Float[Array, " D"]
    axes: Float[Array, "D D"] | None  # columns are eigenvectors; None means the coordinate axes

    def __init__(self, sde: AbstractSDE, mean, covariance):
        mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
        if not np.isfinite(mean).all():
            raise ConfigError("mean: expected finite numbers, got NaN or infinity")
        variances, axes = _decompose(mean.size, covariance)
        if axes is not None and jnp.ndim(sde.log_snr(sde.t_max)):
            raise ConfigError(
                f"covariance: {type(sde).__name__} has one coefficient per mode; expected the diagonal ({mean.size},) "
                "in its basis"
            )
        self.sde = sde
        self.mean = jnp.asarray(mean, float)
        self.variances = jnp.asarray(variances, float)
        self.axes = None if axes is None else jnp.asarray(axes, float)

    def __call__(self, x: State, t: Time) -> State:
        whitened, variances = self._whiten(x, t)
        direction = whitened / variances
        return -(direction if self.axes is None else self.axes @ direction).reshape(jnp.shape(x))

    def denoise(self, x: State, t: Time) -> State:
        """Return m + alpha v (x - alpha m) / (alpha^2 v + sigma^2), computed along the eigenvectors."""
        whitened, variances = self._whiten(x, t)
        moved = self._coefficient(self.sde.alpha(t)) * self.variances * whitened / variances
        return self.mean + (moved if self.axes is None else self.axes @ moved).reshape(jnp.shape(x))

    def log_prob(self, x: State, t: Time) -> Scalar:
        """Return log p_t(x) in nats."""
        whitened, variances = self._whiten(x, t)
        return -0.5 * jnp.sum(whitened**2 / variances + jnp.log(variances) + math.log(2 * math.pi))

    def sample(self, t: Time, *, key: Key) -> State:
        """Return one exact sample of p_t."""
        _, variances = self._whiten(self.mean, t)
        z = jnp.sqrt(variances) * jax.random.normal(key, variances.shape, variances.dtype)
        z = z if self.axes is None else self.axes @ z
        return self.sde.alpha(t) * self.mean + z.reshape(self.mean.shape)

    def _whiten(self, x: State, t: Time) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Return the coordinates of x - alpha m along the eigenvectors, and the variances of these at t."""
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        offset = jnp.ravel(x - alpha * self.mean)
        offset = offset if self.axes is None else offset @ self.axes
        return offset, self._coefficient(alpha) ** 2 * self.variances + self._coefficient(sigma) ** 2

    def _coefficient(self, of_process: Coef) -> Coef:
        """Return a coefficient of the process as one number, or as one per coordinate [D]."""
        return jnp.ravel(jnp.broadcast_to(of_process, self.mean.shape)) if jnp.ndim(of_process) else of_process


class MixtureScore(AbstractScore):
    """Score of x_0 ~ sum_k w_k N(m_k, S_k): the component scores averaged by their responsibilities at (x, t).

    Args:
      sde: process; it has one alpha and sigma for all coordinates unless the covariances are diagonal.
      means: m_k, [K, *x].
      covariances: S_k, [K, D, D], or their diagonals [K, D].
      weights: w_k, [K], positive; they need not sum to 1.

    Raises:
      ConfigError: as for GaussianScore; or the leading axes differ, or a weight is not positive.
    """

    sde: AbstractSDE
    components: GaussianScore  # every array with a leading axis K
    log_weights: Float[Array, " K"]

    def __init__(self, sde: AbstractSDE, means, covariances, weights):
        means, covariances, weights = (np.asarray(a, np.float64) for a in (means, covariances, weights))
        if weights.ndim != 1 or not 0 < len(means) == len(covariances) == len(weights):
            raise ConfigError(
                f"MixtureScore: expected K means, K covariances and weights [K], got shapes {means.shape}, "
                f"{covariances.shape}, {weights.shape}"
            )
        if not (np.isfinite(weights).all() and (weights > 0).all()):
            raise ConfigError(f"MixtureScore: weights must be positive and finite, got {weights.tolist()}")
        parts = [GaussianScore(sde, mean, covariance) for mean, covariance in zip(means, covariances)]
        arrays = [eqx.partition(part, eqx.is_array) for part in parts]
        self.sde = sde
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[array for array, _ in arrays])
        self.components = eqx.combine(stacked, arrays[0][1])
        self.log_weights = jnp.asarray(np.log(weights / weights.sum()), float)

    def __call__(self, x: State, t: Time) -> State:
        responsibilities = jax.nn.softmax(self._log_joint(x, t))
        scores = self._each(lambda component: component(x, t))
        return jnp.tensordot(responsibilities, scores, 1)

    def denoise(self, x: State, t: Time) -> State:
        """Return the posterior means of the components, averaged by their responsibilities."""
        responsibilities = jax.nn.softmax(self._log_joint(x, t))
        return jnp.tensordot(responsibilities, self._each(lambda component: component.denoise(x, t)), 1)

    def log_prob(self, x: State, t: Time) -> Scalar:
        """Return log p_t(x) in nats."""
        return jax.nn.logsumexp(self._log_joint(x, t))

    def sample(self, t: Time, *, key: Key) -> State:
        """Return one exact sample of p_t."""
        component_key, draw_key = jax.random.split(key)
        k = jax.random.categorical(component_key, self.log_weights)
        return self._each(lambda component: component.sample(t, key=draw_key))[k]

    def _log_joint(self, x: State, t: Time) -> Float[Array, " K"]:
        return self.log_weights + self._each(lambda component: component.log_prob(x, t))

    def _each(self, function):
        return eqx.filter_vmap(function, in_axes=(eqx.if_array(0),))(self.components)


def _decompose(size: int, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the eigenvalues and eigenvectors of a covariance, in float64 on the host."""
    if covariance.shape not in ((size,), (size, size)):
        raise ConfigError(
            f"covariance: expected shape ({size}, {size}) or ({size},) for a mean of {size} elements, "
            f"got {covariance.shape}"
        )
    if not np.isfinite(covariance).all():
        raise ConfigError("covariance: expected finite numbers, got NaN or infinity")
    if covariance.ndim == 1:
        variances, axes = covariance, None
    else:
        if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-12):
            raise ConfigError("covariance: expected a symmetric matrix; symmetrise it with (S + S.T) / 2")
        variances, axes = np.linalg.eigh((covariance + covariance.T) / 2)
        variances = np.where(abs(variances) < 1e-12 * abs(variances).max(), 0.0, variances)  # rounding of eigh
    if (variances < 0).any():
        raise ConfigError(f"covariance: expected no negative eigenvalue, got {variances.min():.3g}")
    return variances, axes
