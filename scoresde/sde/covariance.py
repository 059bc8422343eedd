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
        """q_k, the variances of the coefficients. They do not depend on the grid."""

    def summable(self, dimensions: int) -> str:
        """Return why the sum of all q_k is infinite on a domain with this number of dimensions, or "" if it is
        finite."""
        del dimensions
        return ""


class PowerLaw(AbstractCovariance):
    """q_k = gain (screening + lambda_k)^{-index}, trace class in d dimensions for index > d/2.

    Matern's covariance with smoothness nu and length scale l is index = nu + d/2, screening = 2 nu / l^2.
    """

    index: float = eqx.field(static=True)
    screening: float = eqx.field(static=True, default=1.0)
    gain: float = eqx.field(static=True, default=1.0)

    @classmethod
    def normalised(cls, basis: AbstractBasis, index: float, screening: float, variance: float = 1.0) -> "PowerLaw":
        """Build the covariance whose gain makes the sum of the q_k of `basis` equal to `variance`. Other grids keep the
        gain."""
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
    """The covariance that a `Kernel` basis diagonalises: q_k are the eigenvalues of K / n."""

    def __call__(self, basis):
        if not basis.own_covariance:
            raise ConfigError(f"Gram: expected a Kernel basis, got {type(basis).__name__}; take PowerLaw")
        return basis.variances
