r"""The posterior of all modes together: for observations whose modes depend on each other, such as the points of a curve.

With x_0 | x_t taken for N(D, R), R the covariance that it would have if the data were Gaussian with covariance C = U diag(v) U^T,

    R = U diag(v sigma^2 / (alpha^2 v + sigma^2)) U^T
    E[x_0 | x_t, y] = D + R H (H R H + sigma_y^2)^{-1} (y - H D),   H = diag(h)

which is exact for Gaussian data of any covariance. U is found once, as one alpha and one sigma commute with it. Each time t costs
a solve of D equations, for all examples together on a fixed grid: for fields of some thousand values at most.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.guide.observation import Observation
from scoresde.guide.posterior import AbstractGuided, isotropic, to_modes
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractBasis, AbstractSDE
from scoresde.types import State, Time

# Values of a field above which a solve in every step is out of proportion.
LARGEST = 4096


class ModeCovariance(eqx.Module):
    """U diag(v) U^T, the covariance of the coefficients [*modes, channels] of data, in C order.

    Args:
      covariance: [D, D], symmetric; eigenvalues below 0 by rounding count as 0.

    Raises:
      ConfigError: another shape, not finite, not symmetric, more than `LARGEST` values, or clearly negative eigenvalues.
    """

    variances: Float[Array, " D"]
    axes: Float[Array, "D D"]

    def __init__(self, covariance):
        covariance = np.asarray(covariance, np.float64)
        size = len(covariance) if covariance.ndim else 0
        if covariance.shape != (size, size) or not 0 < size <= LARGEST or not np.isfinite(covariance).all():
            raise ConfigError(
                f"ModeCovariance: expected a finite matrix [D, D] with D up to {LARGEST}, got {covariance.shape}; take a variance per mode"
            )
        if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9 * abs(covariance).max()):
            raise ConfigError("ModeCovariance: expected a symmetric matrix; symmetrise it with (C + C.T) / 2")
        variances, axes = np.linalg.eigh((covariance + covariance.T) / 2)
        if variances[0] < -1e-6 * abs(variances).max():
            raise ConfigError(f"ModeCovariance: expected no negative eigenvalue, got {variances[0]:.3g}")
        self.variances, self.axes = jnp.asarray(np.maximum(variances, 0), float), jnp.asarray(axes, float)


class JointPosterior(AbstractGuided):
    """As `Posterior`, by the formulas above.

    Args:
      sde: a process with one alpha and one sigma, such as VP.
      score, observation: as of `Posterior`.
      covariance: of the data, in the basis of the observation; see `mode_covariance`.

    Raises:
      ConfigError: another process, a covariance of another size, or no y.
    """

    sde: AbstractSDE
    score: AbstractScore
    observation: Observation
    covariance: ModeCovariance

    def denoise(self, sde: AbstractSDE, x: State, t: Time) -> State:
        """E[x_0 | x_t = x, y]."""
        h, y = self.observation.h, self.observation.y
        mean = self._to_modes(self.score.denoise(sde, x, t))
        moved = self.gain(t) @ jnp.ravel(y - h * mean)
        return self._from_modes(mean + moved.reshape(jnp.shape(y)))

    def gain(self, t: Time) -> Float[Array, "D D"]:
        """R H (H R H + sigma_y^2)^{-1}."""
        h = jnp.ravel(jnp.broadcast_to(self.observation.h, jnp.shape(self.observation.y)))
        sigma2, v, axes = self._sigma(t) ** 2, self.covariance.variances, self.covariance.axes
        remainder = v * (sigma2 / (self.sde.alpha(t) ** 2 * v + sigma2))
        seen = h[:, None] * ((axes * remainder) @ axes.T)
        # What rounding leaves of the smallest eigenvalues must not turn negative.
        least = len(h) * jnp.finfo(remainder.dtype).eps * jnp.max(remainder) + jnp.finfo(remainder.dtype).tiny
        total = seen * h + (self.observation.deviation**2 + least) * jnp.eye(len(h), dtype=remainder.dtype)
        return jax.scipy.linalg.solve(total, seen, assume_a="pos").T

    def __check_init__(self):
        if not isotropic(self.sde):
            raise ConfigError(
                f"JointPosterior: expected a process with one alpha and one sigma, such as VP, got {type(self.sde).__name__}; its "
                "coefficients do not commute with a covariance: take Posterior"
            )
        if len(self.covariance.variances) != jnp.size(self.observation.y):
            raise ConfigError(
                f"JointPosterior: expected a covariance of {jnp.size(self.observation.y)} values, got {len(self.covariance.variances)}"
            )


def mode_covariance(basis: AbstractBasis, x: Float[Array, "N *x"]) -> ModeCovariance:
    """Of the coefficients of N fields [N, *grid, channels], about their mean. Take several times as many as a field has values.

    Raises:
      ConfigError: fewer than two fields, on another grid, or fields too large.
    """
    if len(x) < 2 or x[0].size > LARGEST:
        raise ConfigError(f"mode_covariance: expected at least 2 fields of up to {LARGEST} values, got {len(x)} of {x[0].size}")
    return ModeCovariance(np.cov(np.asarray(to_modes(basis, x), np.float64).reshape(len(x), -1), rowvar=False).reshape(x[0].size, -1))
