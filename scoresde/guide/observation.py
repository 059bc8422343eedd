"""What was seen of a field: a linear operator that is diagonal in a basis, and noise.

    y = h * x_0 + sigma_y white z,   z ~ N(0, I),   in the coefficients of `basis`; white: see `scoresde.sde.basis`

| constructor        | basis | h                                                    |
|--------------------|-------|------------------------------------------------------|
| `deblur`           | DCT   | exp(-lambda blur^2 / 2): a Gaussian blur             |
| `low_pass`         | DCT   | 1 in the first n / factor modes of each axis, else 0 |
| `super_resolution` | Haar  | the same: the means of blocks of `factor` points     |
| `inpaint`          | Pixel | a mask of 0 and 1; for curves this is imputation     |

These are the operators whose singular vectors are a fast transform, the cases of Kawar et al. 2022 ("DDRM").
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

# The data are taken to vary by at least this many roundings of y: a score is no more exact than that, and what was seen
# without noise outweighs it by 1000 to 1.
_LEAST = 32


class Observation(eqx.Module):
    """y = h * x_0 + noise, elementwise in a basis.

    Args:
      basis: with a shape; x_0 is a field on its grid.
      h: [*modes, 1] or what broadcasts to it, finite and at least 0; 0: the mode is not seen.
      sigma_y: deviation of the noise at a point of the field, were it on every mode: sigma_y white in a coefficient.
        The mean of a block of b points then has a deviation of sigma_y / sqrt b.
      y: coefficients [*modes, channels] that were seen; see `given`.

    Raises:
      ConfigError: h negative, not finite or of another shape; sigma_y negative; a basis without a grid; y of another
        grid.
    """

    basis: AbstractBasis
    h: Float[Array, "*modes"]
    sigma_y: float = eqx.field(static=True, default=0.0)
    y: Float[Array, "*x"] | None = None

    def observe(self, x0: State, *, key: Key) -> State:
        """y of a field x_0; 0 where nothing is seen."""
        noise = self.deviation * jax.random.normal(key, jnp.shape(x0), jnp.result_type(x0, float))
        return jnp.where(self.h > 0, self.h * self.basis.to_modes(x0) + noise, 0)

    def given(self, y: State) -> "Observation":
        """With these coefficients seen."""
        return dataclasses.replace(self, y=y)

    @property
    def deviation(self) -> float:
        """Of the noise in a coefficient."""
        return self.sigma_y * self.basis.white

    @property
    def rounding(self) -> Scalar:
        """What rounding leaves of a field y, and of h D that is computed from it, in a coefficient: the machine epsilon
        times the root mean square of the field."""
        if self.y is None:
            raise ConfigError("Observation: expected its y; give it by observation.given(y)")
        return jnp.finfo(jnp.result_type(self.y, float)).eps * jnp.sqrt(self.basis.field_variance(self.y**2))

    def picture(self, y: State) -> State:
        """y as a field: the blurred one, the means of its blocks, or the points seen and 0 elsewhere."""
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
    """The variance of the noise of y, and those of the data, c_k^2, each with what rounding adds; arrays of either
    kind.

    So a mode in which h x_0 is below the rounding of y counts as not seen; y / h would be rounding divided by h.
    """
    return deviation**2 + rounding**2, variances + (_LEAST * rounding) ** 2


def deblur(shape, blur: float, *, sigma_y: float = 0.0) -> Observation:
    """A Gaussian blur with the deviation `blur` in points, reflected at the edges, as of `InverseHeat` in
    `scoresde.sde`.

    Raises:
      ConfigError: blur < 0, or a grid without points.
    """
    check_parameters("deblur", blur=(blur, blur >= 0, "a deviation in points, at least 0"))
    basis = DCT(shape, tuple(float(n) for n in np.atleast_1d(shape)))
    return Observation(basis, jnp.exp(-0.5 * basis.eigenvalues * blur**2), sigma_y)


def low_pass(shape, factor: int | float, *, sigma_y: float = 0.0) -> Observation:
    """The first n / factor cosines of each axis: super-resolution for processes whose basis is the DCT.

    Raises:
      ConfigError: a factor that is not a whole number from 1, or does not divide every size.
    """
    basis = DCT(shape, tuple(float(n) for n in np.atleast_1d(shape)))
    return Observation(basis, _coarse("low_pass", basis.shape, factor), sigma_y)


def super_resolution(shape, factor: int | float, *, sigma_y: float = 0.0) -> Observation:
    """The means of blocks of `factor` points along each axis.

    Args:
      shape: powers of 2; for other grids take `low_pass`.

    Raises:
      ConfigError: a size that is no power of 2, or a factor that does not divide every size.
    """
    basis = Haar(shape)
    return Observation(basis, _coarse("super_resolution", basis.shape, factor), sigma_y)


def inpaint(mask, *, sigma_y: float = 0.0) -> Observation:
    """The points where mask is 1.

    Args:
      mask: [*grid], of 0 and 1 or truth values.

    Raises:
      ConfigError: other values, or no point that is seen.
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
