"""The eigenbasis of a kernel on given points, and stationary kernels (Rasmussen and Williams 2006, chapter 4).

A kernel is a function of distances, evaluated on the host: length scale l, variance v = k(0).
"""

import functools
import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.sde.basis import AbstractBasis, along

# Eigenvalues of a Gram matrix below this share of the largest are rounding of float64.
_ROUNDING = 1e-12


class Kernel(AbstractBasis):
    """Eigenvectors of the Gram matrix K_ij = k(|s_i - s_j|) of given points, for any set of points and any kernel.

    K / n has the eigenvalues q_k, so that a field with independent coefficients of variances q_k is a sample of
    N(0, K). Each q_k approximates an eigenvalue of the integral operator of k and therefore converges on finer grids of
    the same domain.

    Args:
      points: coordinates of the points, [n, dimensions] or [n]; finite.
      kernel: k, a function of distances: `rbf`, `exponential`, `matern` or a function of the same form.
      jitter: variance added to the diagonal of K, in units of the data squared; at least 0.

    Raises:
      ConfigError: points that are not [n] or [n, dimensions], or a Gram matrix with an eigenvalue at rounding level.
    """

    points: Float[Array, "n d"]
    kernel: Callable = eqx.field(static=True)
    jitter: float = eqx.field(static=True)
    vectors: Float[Array, "n n"]
    variances: Float[Array, "n 1"]  # q_k, in decreasing order

    own_covariance = True

    def __init__(self, points, kernel: Callable, jitter: float = 0.0):
        points = np.asarray(points, np.float64)
        points = points[:, None] if points.ndim == 1 else points
        if points.ndim != 2 or len(points) < 1 or not np.isfinite(points).all():
            raise ConfigError(f"Kernel: expected finite points [n] or [n, dimensions], got shape {points.shape}")
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
        gram = kernel(distances) + jitter * np.eye(len(points))
        values, vectors = np.linalg.eigh(gram)
        least, largest = values[0], values[-1]
        if not least > _ROUNDING * largest:
            raise ConfigError(
                f"Kernel: the Gram matrix of {len(points)} points has an eigenvalue of {least:.2g} beside "
                f"{largest:.2g}: the kernel is "
                "too smooth for so fine a grid; take jitter=1e-6, fewer points, a shorter length scale or a rougher "
                "kernel"
            )
        self.points, self.kernel, self.jitter = jnp.asarray(points, float), kernel, jitter
        self.vectors = jnp.asarray(vectors[:, ::-1], float)
        self.variances = jnp.asarray(values[::-1, None] / len(points), float)

    @property
    def shape(self):
        return (len(self.points),)

    def same_as(self, other):
        return super().same_as(other) and (self.kernel, self.jitter) == (other.kernel, other.jitter)

    def sites(self):
        return self.points

    def to_modes(self, x):
        self.check(jnp.shape(x))
        return along(self.vectors.T, x, 0) * self.white

    def from_modes(self, c):
        self.check(jnp.shape(c))
        return along(self.vectors, c / self.white, 0)

    def at(self, grid):
        return Kernel(grid, self.kernel, self.jitter)


class IntervalKernel(Kernel):
    """The `Kernel` basis at the centres of n equal cells of an interval.

    Args:
      points: n.
      kernel: k, a function of distances.
      length: of the interval.
      jitter: added to the diagonal of K.
    """

    length: float = eqx.field(static=True)

    def __init__(self, points: int, kernel: Callable, length: float = 1.0, jitter: float = 0.0):
        super().__init__((np.arange(points) + 0.5) * length / points, kernel, jitter)
        self.length = length

    def at(self, grid):
        """Return the basis with another number of points, (n,), on the same interval."""
        (points,) = grid
        return IntervalKernel(points, self.kernel, self.length, self.jitter)


def rbf(length_scale: float, variance: float = 1.0) -> Callable:
    """Return the Gaussian kernel k(d) = v exp(-d^2 / (2 l^2)).

    In the convention without the 1/2 (Lim et al. 2023, "HDM") the same kernel has an l larger by sqrt 2.

    Args:
      length_scale: l, in units of the points; above 0.
      variance: v, the variance at a point, in units of the data squared; above 0.
    """
    return _Stationary("rbf", length_scale, variance, lambda r: np.exp(-0.5 * r**2))


def exponential(length_scale: float, variance: float = 1.0) -> Callable:
    """Return the exponential kernel k(d) = v exp(-d / l), which is Matern's with smoothness 1/2.

    Args:
      length_scale: l, in units of the points; above 0.
      variance: v, the variance at a point, in units of the data squared; above 0.
    """
    return _Stationary("exponential", length_scale, variance, lambda r: np.exp(-r))


def matern(smoothness: float, length_scale: float, variance: float = 1.0) -> Callable:
    """Return Matern's kernel of r = sqrt(2 nu) d / l (Rasmussen and Williams 2006, from eq. 4.14 on).

    Args:
      smoothness: nu; 0.5, 1.5 or 2.5.
      length_scale: l, in units of the points; above 0.
      variance: v, the variance at a point, in units of the data squared; above 0.

    Raises:
      ConfigError: another smoothness.
    """
    forms = {
        0.5: lambda r: np.exp(-r),
        1.5: lambda r: (1 + r) * np.exp(-r),
        2.5: lambda r: (1 + r + r**2 / 3) * np.exp(-r),
    }
    if smoothness not in forms:
        raise ConfigError(f"matern: smoothness = {smoothness}, expected 0.5, 1.5 or 2.5; above, take rbf")
    form = forms[smoothness]
    return _Stationary(f"matern {smoothness}", length_scale, variance, lambda r: form(math.sqrt(2 * smoothness) * r))


class _Stationary:
    """Kernel v form(d / l). Two kernels with the same numbers are equal, so that a basis can be a static argument."""

    def __init__(self, name: str, length_scale: float, variance: float, form: Callable):
        for what, value in (("length scale", length_scale), ("variance", variance)):
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"kernel {name}: {what} = {value}, expected a finite number above 0")
        self.identity, self.form = (name, length_scale, variance), form

    def __call__(self, distance):
        _, length_scale, variance = self.identity
        return variance * self.form(distance / length_scale)

    def __eq__(self, other):
        return isinstance(other, _Stationary) and self.identity == other.identity

    def __hash__(self):
        return hash(self.identity)


# Kernels of (length scale, variance) by name.
KERNELS = {
    "rbf": rbf,
    "exponential": exponential,
    "matern12": functools.partial(matern, 0.5),
    "matern32": functools.partial(matern, 1.5),
    "matern52": functools.partial(matern, 2.5),
}
