r"""Bases in which a process is diagonal: a field on a grid <-> one coefficient per mode.

A field is [*grid, channels], its coefficients [*modes, channels] with as many modes as points. Except for `Pixel`, they
are coefficients of the function that the field samples, in an orthonormal system of L2 with the mean over the domain,

    c_k = <x, phi_k> = 1/n sum_i x(s_i) phi_k(s_i),     x = sum_k c_k phi_k,     1/n sum_i phi_k phi_l = delta_kl,

so that c_k of one function is the same number on every grid that resolves it. A field with independent coefficients of
variance v_k has the variance sum_k v_k, averaged over its points; white noise of unit variance has v_k = 1/n.

| basis     | phi_k, in one dimension of length L                     | eigenvalue of -d^2/ds^2  | points s_i        |
|-----------|---------------------------------------------------------|--------------------------|-------------------|
| `Pixel`   | the points themselves (c = x)                           | none                     | any               |
| `DCT`     | 1, sqrt 2 cos(pi k s / L): no slope at the ends         | (pi k / L)^2             | (i + 1/2) L / n   |
| `Fourier` | 1, sqrt 2 cos(2 pi k s / L), sqrt 2 sin: periodic       | (2 pi k / L)^2           | i L / n           |
| `Haar`    | 1, then square waves, each level half as long           | 4^level / L^2 (of scale) | (i + 1/2) L / n   |
| `Kernel`  | eigenvectors of a Gram matrix, see `scoresde.sde.kernel` | none                    | given             |

DCT, Fourier and Haar are products over the axes of a grid, their eigenvalues sums. `at` gives the same system on
another grid. With a network that accepts any resolution, this is sufficient for sampling at another one.
"""

import abc
import functools
import math
import operator
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from equinox import AbstractVar
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.sde.transforms import cosines, square_waves, waves
from scoresde.types import Coef, Scalar, State

# Points per axis above which the cosine transform is a fast one; benchmarks/transforms.py measures where that pays.
LARGEST_MATRIX = 512


class AbstractBasis(eqx.Module):
    """Orthonormal system on the points of a grid."""

    shape: AbstractVar[tuple[int, ...]]  # of the grid, without channels
    # Whether the basis belongs to one covariance, whose variances it has as `variances`.
    own_covariance: ClassVar[bool] = False
    # Whether the coefficients are the values at the points.
    pixelwise: ClassVar[bool] = False
    # Whether modes keep their meaning on other grids, so that coefficients can be cut off or padded.
    nested: ClassVar[bool] = False
    # Whether a low pass is diagonal in it; block means are diagonal in `Haar`.
    cuts_off: ClassVar[bool] = False

    @abc.abstractmethod
    def to_modes(self, x: State) -> State:
        """Return the coefficients of a field [*grid, channels]."""

    @abc.abstractmethod
    def from_modes(self, c: State) -> State:
        """Return the field of coefficients [*modes, channels]."""

    @abc.abstractmethod
    def at(self, grid) -> "AbstractBasis":
        """Return the same basis functions on another grid, given by its shape or, for `Kernel`, by its points."""

    @property
    def white(self) -> float:
        """Return the standard deviation of a coefficient of white noise of unit variance: n^{-1/2}."""
        return math.prod(self.shape) ** -0.5

    @property
    def eigenvalues(self) -> Float[Array, "*modes 1"]:
        """Return the eigenvalues of minus the Laplacian, in units of 1 / length^2.

        Raises:
          ConfigError: the basis has none.
        """
        raise ConfigError(f"{type(self).__name__} has no eigenvalues of a Laplacian; take DCT, Fourier or Haar")

    def same_as(self, other: "AbstractBasis") -> bool:
        """Return whether two bases give the same coefficients, at the same points if they have any (`sites`). Lengths
        only scale eigenvalues."""
        return type(self) is type(other) and self.shape == other.shape

    def sites(self) -> Float[Array, "n d"] | None:
        """Return the points of a basis that is made for any points, None for one of a regular grid."""
        return None

    def field_variance(self, variances: Coef) -> Scalar:
        """Return the variance of a field, averaged over its points, from the variances of its coefficients."""
        return jnp.mean(variances) / self.white**2

    def pixel_logdet(self, shape: tuple[int, ...]) -> float:
        """Return log |det dc/dx|, in nats, for a field of this shape: log p(x) = log p(c) + pixel_logdet."""
        return math.prod(shape) * math.log(self.white)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise a ConfigError unless fields [*grid, channels] of this shape are on the grid of this basis."""
        if tuple(shape[:-1]) != tuple(self.shape):
            raise ConfigError(
                f"{type(self).__name__}: expected a field of shape {(*self.shape, 'channels')}, got {tuple(shape)}; "
                "take the basis `at` the grid of the field"
            )


class Pixel(AbstractBasis):
    """Identity: each point is a mode, and white noise of unit variance has coefficients of unit variance.

    Args:
      shape: points along each axis; () for processes with one coefficient for all points, which fit every grid.
    """

    pixelwise: ClassVar[bool] = True

    shape: tuple[int, ...] = eqx.field(static=True, default=())

    white = 1.0

    def to_modes(self, x):
        return x

    def from_modes(self, c):
        return c

    def at(self, grid):
        return Pixel(_grid(grid) if self.shape else ())

    def check(self, shape):
        if self.shape:
            super().check(shape)


class AbstractSeparable(AbstractBasis):
    """Product of systems on the axes of a grid, each an orthogonal matrix."""

    nested: ClassVar[bool] = True

    lengths: AbstractVar[tuple[float, ...]]

    @abc.abstractmethod
    def axis_eigenvalues(self, n: int, length: float) -> np.ndarray:
        """Return the eigenvalues [n] of one axis."""

    @abc.abstractmethod
    def forward(self, x: Array, axis: int) -> Array:
        """Apply the orthogonal transform to one axis."""

    @abc.abstractmethod
    def backward(self, c: Array, axis: int) -> Array: ...

    @property
    def eigenvalues(self):
        axes = [self.axis_eigenvalues(n, length) for n, length in zip(self.shape, self.lengths)]
        return jnp.asarray(functools.reduce(np.add.outer, axes)[..., None], float)

    def to_modes(self, x):
        self.check(jnp.shape(x))
        return functools.reduce(self.forward, range(len(self.shape)), x) * self.white

    def from_modes(self, c):
        self.check(jnp.shape(c))
        return functools.reduce(self.backward, range(len(self.shape)), c / self.white)

    def at(self, grid):
        return type(self)(_grid(grid), self.lengths)


class DCT(AbstractSeparable):
    """Cosines, the discrete cosine transform of type II: functions without slope at the ends of [0, L].

    Up to `LARGEST_MATRIX` points per axis the transform is a matrix product, which runs on any device in any precision;
    above, it is a fast transform.

    Args:
      shape: points along each axis, each at least 1.
      lengths: length of the domain along each axis, above 0; None: 1. The number of points measures lengths in pixels.

    Raises:
      ConfigError: a size below 1, or not one positive length per axis.
    """

    cuts_off: ClassVar[bool] = True

    shape: tuple[int, ...] = eqx.field(static=True)
    lengths: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, shape, lengths=None):
        self.shape, self.lengths = _domain("DCT", shape, lengths)

    def axis_eigenvalues(self, n, length):
        return (np.pi * np.arange(n) / length) ** 2

    def forward(self, x, axis):
        if x.shape[axis] > LARGEST_MATRIX:
            return jax.scipy.fft.dct(x, axis=axis, norm="ortho")
        return along(cosines(x.shape[axis]), x, axis)

    def backward(self, c, axis):
        if c.shape[axis] > LARGEST_MATRIX:
            return jax.scipy.fft.idct(c, axis=axis, norm="ortho")
        return along(cosines(c.shape[axis]).T, c, axis)


class Fourier(AbstractSeparable):
    """Real sines and cosines of periodic functions: 1, cos 1, sin 1, cos 2, sin 2, ...; computed by matrix products.

    With an even number of points the sine of the highest frequency vanishes on the grid, so the last mode is +-1 and
    not sqrt 2 cos; only its coefficient depends on the grid.

    Args:
      shape: points along each axis, each at least 1.
      lengths: period along each axis, above 0; None: 1. The number of points measures lengths in pixels.

    Raises:
      ConfigError: a size below 1, or not one positive length per axis.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    lengths: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, shape, lengths=None):
        self.shape, self.lengths = _domain("Fourier", shape, lengths)

    def axis_eigenvalues(self, n, length):
        return (2 * np.pi * ((np.arange(n) + 1) // 2) / length) ** 2

    def forward(self, x, axis):
        return along(waves(x.shape[axis]), x, axis)

    def backward(self, c, axis):
        return along(waves(c.shape[axis]).T, c, axis)


class Haar(AbstractSeparable):
    """Haar's square waves: the mean, then differences of halves, quarters, ...; pixelation keeps the first modes.

    The "eigenvalue" 4^level / L^2 only orders the scales.

    Args:
      shape: points along each axis, powers of 2.
      lengths: length of the domain along each axis, above 0; None: 1. The number of points measures lengths in pixels.

    Raises:
      ConfigError: a size that is not a power of 2, or not one positive length per axis.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    lengths: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, shape, lengths=None):
        self.shape, self.lengths = _domain("Haar", shape, lengths)
        if any(n & (n - 1) for n in self.shape):
            raise ConfigError(
                f"Haar: expected powers of 2, got a grid {self.shape}; crop or resample the data, or take DCT"
            )

    def axis_eigenvalues(self, n, length):
        level = np.ceil(np.log2(np.arange(n) + 1))  # 0 the mean, 1 one wave, 2 two of them, 3 four, ...
        return np.where(level > 0, 4.0**level, 0) / length**2

    def forward(self, x, axis):
        return along(square_waves(x.shape[axis]), x, axis)

    def backward(self, c, axis):
        return along(square_waves(c.shape[axis]).T, c, axis)


def along(matrix, x: Array, axis: int) -> Array:
    """Return matrix @ x along one axis, at full precision: an accelerator's default of 10 bits is too coarse for log
    p."""
    matrix = jnp.asarray(matrix, jnp.result_type(x, jnp.float32))
    moved = jnp.tensordot(matrix, x, axes=(1, axis), precision=jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(moved, 0, axis)


def _grid(shape) -> tuple[int, ...]:
    sizes = (shape,) if np.ndim(shape) == 0 else tuple(shape)
    return tuple(operator.index(n) for n in sizes)


def _domain(name: str, shape, lengths) -> tuple[tuple[int, ...], tuple[float, ...]]:
    shape = _grid(shape)
    lengths = (1.0,) * len(shape) if lengths is None else tuple(float(length) for length in lengths)
    if not shape or min(shape) < 1:
        raise ConfigError(f"{name}: expected at least one point on each axis, got a grid {shape}")
    if len(lengths) != len(shape) or not all(length > 0 and math.isfinite(length) for length in lengths):
        raise ConfigError(f"{name}: expected a positive length for each of the {len(shape)} axes, got {lengths}")
    return shape, lengths
