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
    """The eigenvectors of the Gram matrix K_ij = k(|s_i - s_j|) of given points: any set of points, any kernel.

    K / n has the eigenvalues q_k, so that independent coefficients of variances q_k are a draw from N(0, K). Each is an
    approximation of an eigenvalue of the integral operator of k, and so settles on finer grids of the same domain.

    Args:
      points: [n, dimensions] or [n].
      kernel: k, a function of distances; see `rbf`, `matern`, `exponential`.
      jitter: added to the diagonal of K.

    Raises:
      ConfigError: points that are not [n] or [n, d], or a Gram matrix with eigenvalues that float32 cannot tell from 0.
    """

    points: Float[Array, "n d"]
    kernel: Callable = eqx.field(static=True)
    jitter: float = eqx.field(static=True)
    vectors: Float[Array, "n n"]
    variances: Float[Array, "n 1"]  # q_k, falling

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
    """k(d) = v exp(-d^2 / (2 l^2)). Without the 1/2 (Lim et al. 2023, "HDM") the same kernel has l larger by sqrt 2."""
    return _Stationary("rbf", length_scale, variance, lambda r: np.exp(-0.5 * r**2))


def exponential(length_scale: float, variance: float = 1.0) -> Callable:
    """k(d) = v exp(-d / l): Matern's with smoothness 1/2."""
    return _Stationary("exponential", length_scale, variance, lambda r: np.exp(-r))


def matern(smoothness: float, length_scale: float, variance: float = 1.0) -> Callable:
    """Matern's kernel with smoothness nu = 1/2, 3/2 or 5/2 and r = sqrt(2 nu) d / l (Rasmussen and Williams 2006, eq.
    4.14 on).

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
    """v form(d / l), equal to another one of the same numbers, so that a basis can be a static argument."""

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
