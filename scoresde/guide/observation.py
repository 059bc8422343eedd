"""Observations of a field: a linear operator that is diagonal in a basis, and noise.

    y = h * x_0 + sigma_y white z,   z ~ N(0, I),   in the coefficients of `basis`; white: see `scoresde.sde.basis`

| constructor        | basis | h                                                    |
|--------------------|-------|------------------------------------------------------|
| `deblur`           | DCT   | exp(-lambda blur^2 / 2): a Gaussian blur             |
| `low_pass`         | DCT   | 1 in the first n / factor modes of each axis, else 0 |
| `super_resolution` | Haar  | the same: the means of blocks of `factor` points     |
| `inpaint`          | Pixel | a mask of 0 and 1; for curves this is imputation     |

These are operators whose singular vectors form a fast transform, as in Kawar et al. 2022 ("DDRM").
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.sde import DCT, AbstractBasis, Haar, Pixel
from scoresde.sde.base import check_parameters
from scoresde.types import Key, Scalar, State

# The variance of the data is assumed to be at least that of this many rounding errors of y, because a score is no more
# exact than that; a noiseless observation then outweighs the score by 1000 to 1.
_LEAST = 32


class Observation(eqx.Module):
    """Observation y = h * x_0 + noise, elementwise in a basis.

    Args:
      basis: basis with a shape; x_0 is a field on the grid of the basis.
      h: factors [*modes, 1], or an array that broadcasts to this shape; finite and at least 0. A mode with h = 0 is not
        observed.
      sigma_y: standard deviation of the noise at a point of the field if the noise is in every mode; a coefficient has
        sigma_y white. The mean of a block of b points then has a standard deviation of sigma_y / sqrt b.
      y: observed coefficients [*modes, channels]; see `given`.

    Raises:
      ConfigError: h is negative, not finite or of another shape; sigma_y is negative; the basis has no grid; or y
        belongs to another grid.
    """

    basis: AbstractBasis
    h: Float[Array, "*modes"]
    sigma_y: float = eqx.field(static=True, default=0.0)
    y: Float[Array, "*x"] | None = None

    def observe(self, x0: State, *, key: Key) -> State:
        """Return a sample of y for a field x_0; y is 0 in modes that are not observed."""
        noise = self.deviation * jax.random.normal(key, jnp.shape(x0), jnp.result_type(x0, float))
        return jnp.where(self.h > 0, self.h * self.basis.to_modes(x0) + noise, 0)

    def given(self, y: State) -> "Observation":
        """Return the observation with these observed coefficients."""
        return dataclasses.replace(self, y=y)

    @property
    def deviation(self) -> float:
        """Return the standard deviation of the noise in a coefficient."""
        return self.sigma_y * self.basis.white

    @property
    def rounding(self) -> Scalar:
        """Return the rounding error of a coefficient of y, and of h D computed from it: the machine epsilon times the
        root mean square of the field."""
        if self.y is None:
            raise ConfigError("Observation: expected its y; give it by observation.given(y)")
        return jnp.finfo(jnp.result_type(self.y, float)).eps * jnp.sqrt(self.basis.field_variance(self.y**2))

    def picture(self, y: State) -> State:
        """Return y as a field: the blurred field, the means of its blocks, or the observed points and 0 elsewhere."""
        return self.basis.from_modes(y)

    def __check_init__(self):
        check_parameters("Observation", sigma_y=(self.sigma_y, self.sigma_y >= 0, "a deviation, at least 0"))
        grid = self.basis.shape
        if not grid:
            raise ConfigError(
                "Observation: expected a basis with a grid, such as DCT((32, 32)) or Pixel((32, 32)), got no grid"
            )
        if jnp.ndim(self.h) != len(grid) + 1 or any(a not in (1, b) for a, b in zip(jnp.shape(self.h), (*grid, 1))):
            raise ConfigError(
                f"Observation: expected h of shape {(*grid, 1)}, one factor per mode, got {jnp.shape(self.h)}"
            )
        if not isinstance(self.h, jax.core.Tracer) and not bool(jnp.all((self.h >= 0) & jnp.isfinite(self.h))):
            raise ConfigError(
                "Observation: expected finite factors h of at least 0, got some that are not; give a sign to y instead"
            )
        if self.y is not None:
            self.basis.check(jnp.shape(self.y))


def with_rounding(deviation: float, variances, rounding) -> tuple:
    """Return the variance of the noise of y and the variances c_k^2 of the data, each increased by rounding errors.

    A mode in which h x_0 is below the rounding error of y then counts as not observed, because y / h would be a
    rounding error divided by h. The arrays may be of NumPy or of JAX.
    """
    return deviation**2 + rounding**2, variances + (_LEAST * rounding) ** 2


def deblur(shape, blur: float, *, sigma_y: float = 0.0) -> Observation:
    """Return the observation of a Gaussian blur with standard deviation `blur` in points, reflected at the edges, like
    the blur of `InverseHeat` in `scoresde.sde`.

    Raises:
      ConfigError: blur is negative, or the grid has no points.
    """
    check_parameters("deblur", blur=(blur, blur >= 0, "a deviation in points, at least 0"))
    basis = DCT(shape, tuple(float(n) for n in np.atleast_1d(shape)))
    return Observation(basis, jnp.exp(-0.5 * basis.eigenvalues * blur**2), sigma_y)


def low_pass(shape, factor: int | float, *, sigma_y: float = 0.0) -> Observation:
    """Return the observation of the first n / factor cosines of each axis, which is super-resolution for processes
    whose basis is the DCT.

    Raises:
      ConfigError: factor is not a positive whole number, or does not divide every size.
    """
    basis = DCT(shape, tuple(float(n) for n in np.atleast_1d(shape)))
    return Observation(basis, _coarse("low_pass", basis.shape, factor), sigma_y)


def super_resolution(shape, factor: int | float, *, sigma_y: float = 0.0) -> Observation:
    """Return the observation of the means of blocks of `factor` points along each axis.

    Args:
      shape: sizes of the grid, which are powers of 2; use `low_pass` for other grids.
      factor: points per block along each axis.
      sigma_y: standard deviation of the noise, see `Observation`.

    Raises:
      ConfigError: a size is not a power of 2, or factor does not divide every size.
    """
    basis = Haar(shape)
    return Observation(basis, _coarse("super_resolution", basis.shape, factor), sigma_y)


def inpaint(mask, *, sigma_y: float = 0.0) -> Observation:
    """Return the observation of the points where mask is 1.

    Args:
      mask: array [*grid] of 0 and 1 or of booleans.
      sigma_y: standard deviation of the noise, see `Observation`.

    Raises:
      ConfigError: mask has other values, or hides every point.
    """
    mask = np.asarray(mask)
    if mask.ndim < 1 or not np.isin(mask, (0, 1)).all():
        other = [] if mask.ndim < 1 else mask[~np.isin(mask, (0, 1))][:3].tolist()
        raise ConfigError(
            f"inpaint: expected a mask [*grid] of 0 (hidden) and 1 (seen), got shape {mask.shape} with {other}; "
            "threshold it"
        )
    if not mask.any():
        raise ConfigError(
            "inpaint: expected at least one point that is seen (mask = 1), got none; draw samples instead"
        )
    return Observation(Pixel(mask.shape), jnp.asarray(mask[..., None], float), sigma_y)


def _coarse(name: str, shape: tuple[int, ...], factor: int | float) -> Float[Array, "*modes"]:
    whole = isinstance(factor, (int, np.integer)) and not isinstance(factor, bool) and factor >= 1
    if not whole or any(n % factor for n in shape):
        raise ConfigError(
            f"{name}: expected a whole factor that divides every size of the grid {shape}, got {factor!r}"
        )
    h = np.zeros((*shape, 1))
    h[tuple(slice(n // factor) for n in shape)] = 1
    return jnp.asarray(h, float)
