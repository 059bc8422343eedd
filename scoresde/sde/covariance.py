"""The covariance of noise in a basis: the variance of each coefficient.

A covariance is trace class on a domain if its variances have a finite sum: only then is the noise a random function,
with the same distribution on every grid that resolves it.
"""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.sde.basis import AbstractBasis


class AbstractCovariance(eqx.Module):
    """A covariance that is diagonal in a basis."""

    @abc.abstractmethod
    def __call__(self, basis: AbstractBasis) -> Float[Array, "*modes 1"]:
        """Return q_k, the variances of the coefficients of `basis`; they do not depend on the grid."""

    def summable(self, dimensions: int) -> str:
        """Return why the sum of all q_k is infinite on a domain with this number of dimensions, or "" if it is
        finite."""
        del dimensions
        return ""


class PowerLaw(AbstractCovariance):
    """Power-law covariance q_k = gain (screening + lambda_k)^{-index}, trace class in d dimensions for index > d/2.

    Matern's covariance with smoothness nu and length scale l has index = nu + d/2 and screening = 2 nu / l^2.

    Args:
      index: exponent of the decay, a finite number; above d/2 for noise that is a function on every grid.
      screening: constant added to the eigenvalues lambda_k of -Laplacian, in 1 / length^2; above 0.
      gain: factor on all variances; above 0. `normalised` computes it from the variance at a point.

    Raises:
      ConfigError: a parameter is out of range.
    """

    index: float = eqx.field(static=True)
    screening: float = eqx.field(static=True, default=1.0)
    gain: float = eqx.field(static=True, default=1.0)

    @classmethod
    def normalised(cls, basis: AbstractBasis, index: float, screening: float, variance: float = 1.0) -> "PowerLaw":
        """Build the covariance whose gain makes the sum of the q_k of `basis` equal to `variance`.

        The gain stays the same on other grids.

        Args:
          basis: the basis, on the grid of training.
          index: exponent of the decay, a finite number.
          screening: constant added to the eigenvalues of -Laplacian, in 1 / length^2; above 0.
          variance: variance of the noise at a point of the grid, in units of the data squared; above 0.
        """
        total = float(jnp.sum(cls(index, screening)(basis)))
        return cls(index, screening, variance / total)

    def __call__(self, basis):
        return self.gain * (self.screening + basis.eigenvalues) ** -self.index

    def summable(self, dimensions):
        if self.index > dimensions / 2:
            return ""
        return f"index {self.index} is not above {dimensions}/2, half the dimensions of the domain"

    def __check_init__(self):
        for name in ("screening", "gain"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(
                    f"PowerLaw: {name} = {value}, expected a finite number above 0: a mode without noise has no score"
                )
        if not math.isfinite(self.index):
            raise ConfigError(f"PowerLaw: index = {self.index}, expected a finite number above half the dimensions")


class Gram(AbstractCovariance):
    """Covariance that a `Kernel` basis diagonalises: q_k are the eigenvalues of K / n. It has no arguments."""

    def __call__(self, basis):
        if not basis.own_covariance:
            raise ConfigError(f"Gram: expected a Kernel basis, got {type(basis).__name__}; take PowerLaw")
        return basis.variances
