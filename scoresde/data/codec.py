r"""The map between records and the model's variable. It needs no record, so a run can be sampled without its data.

A record contains integers v in {0, ..., L-1} (L grey levels) or continuous values. The model's variable x is,
elementwise,

    y = (v + u) / L  in [0, 1),            u in [0, 1): dequantization noise, or 1/2, the centre of the bin
    x = 2 y - 1  if centered,  else  y     (`data.centered` in the code of Song et al. 2021)

so that `decode(x) = floor(L y)` inverts the map for every u. The map is affine with slope s = 2/L or 1/L, hence

    log p(v) = log p(x) + D log s,      D log s = `log_jacobian()`, in nats,

for D-dimensional data. The mean over u ~ U[0, 1) of the right-hand side is a lower bound on the log-probability of the
integers (Theis et al. 2016, section 3.1).

For continuous data (L = 0) the map is the identity and `log_jacobian()` is 0. If a source standardised the data,
`units(x) = offset + scale x` are the stored values.
"""

import math
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from scoresde.errors import ConfigError

MAX_LEVELS = 65536  # 16 bits; beyond it a bin is narrower than float32 resolves on [-1, 1)

# Bound on the error of y in float32 over encode and decode together: the sum v + u, the quotient by L (perhaps compiled
# as a product with 1/L), 2y - 1 and back, and the product L y, each rounding by at most 2^-24. A value of v + u within
# L * ROUNDING of an edge of its bin may be decoded as a neighbouring integer.
ROUNDING = 2.0**-22


class Bins(eqx.Module):
    """Division of [low, high] into L equal bins.

    Bin v is [low + v w, low + (v + 1) w] with w = (high - low) / L.

    Args:
      levels: L, the number of integers, at least 2.
      low: lower end of the range of the model.
      high: upper end of the range of the model; above low.

    Raises:
      ConfigError: levels < 2, or high not above low.
    """

    levels: int = eqx.field(static=True)
    low: float = eqx.field(static=True, default=-1.0)
    high: float = eqx.field(static=True, default=1.0)

    @property
    def width(self) -> float:
        return (self.high - self.low) / self.levels

    def encode(self, v: Any, u: Any = 0.5) -> Shaped[Array, "..."]:
        """Return low + (high - low) (v + u) / L; u in [0, 1] is the position within the bin, 1/2 its centre.

        At u = 0 and u = 1 the value lies on an edge, up to rounding. `Codec.encode` keeps values inside the bin.
        """
        return self.low + (self.high - self.low) * ((v + jnp.asarray(u, jnp.result_type(u, jnp.float32))) / self.levels)

    def log_jacobian(self, dimensions: int) -> float:
        """Return log |dx/dv| = D log w, in nats."""
        return dimensions * math.log(self.width)

    def __check_init__(self):
        problems = []
        if not self.levels >= 2:
            problems.append(f"Bins: levels = {self.levels!r}, expected at least 2")
        if not math.isfinite(self.low):
            problems.append(f"Bins: low = {self.low!r}, expected a finite number")
        if not (math.isfinite(self.high) and self.high > self.low):
            problems.append(f"Bins: high = {self.high!r}, expected high > low = {self.low}")
        if problems:
            raise ConfigError(*problems)


@dataclass(frozen=True, eq=False)
class Codec:
    """Map between records and the model's variable.

    `encode`, `decode` and `images` are traceable and accept any leading axes.

    Args:
        shape: shape of one record: [H, W, C] for images.
        levels: grey levels L of integer records, 2 to 65536; 0: continuous values.
        centered: the model's range is [-1, 1) if True, [0, 1) if False. For continuous data it affects only `images`.
        offset: number, or one per channel; the original values of continuous data are offset + scale x.
        scale: number, or one per channel; see `offset`.
        span: the values +-span of continuous data appear white and black; 0: the ends of the model's range do.

    Raises:
        ConfigError: `levels` is neither 0 nor 2 to 65536.
    """

    shape: tuple[int, ...]
    levels: int
    centered: bool
    offset: Any = 0.0
    scale: Any = 1.0
    span: float = 0.0

    def __post_init__(self):
        if self.levels != 0 and not 2 <= self.levels <= MAX_LEVELS:
            raise ConfigError(f"levels={self.levels}: expected 2 to {MAX_LEVELS} grey levels, or 0 if continuous")

    @property
    def low(self) -> float:
        """Return the lower end of the model's range; the upper end is 1."""
        return -1.0 if self.centered else 0.0

    @property
    def bins(self) -> Bins:
        """Return the bins of integer records in model coordinates.

        Raises:
            ConfigError: the records are continuous.
        """
        return Bins(self.levels, self.low, 1.0)

    def encode(self, v: Any, u: Any = 0.5) -> Shaped[Array, "..."]:
        """Return the model value x of the record v: y = (v + u)/L, x = 2y - 1 if centered else y; v itself if L = 0.

        In float32 a u within L * 2^-22 of 0 or 1 (6e-5 for L = 256) could be rounded into the neighbouring bin; u is
        moved to that distance from the edge, so that `decode` is exact for every u.

        Args:
            v: integers 0 to L-1, of any shape.
            u: dequantization noise in [0, 1), which broadcasts against v; 1/2 is the centre of the bin.

        Returns:
            x with the shape of v and u broadcast, at least float32.
        """
        if not self.levels:
            return jnp.asarray(v)
        dtype = jnp.promote_types(jnp.result_type(v, u), jnp.float32)
        edge = self.levels * ROUNDING
        return self.bins.encode(jnp.asarray(v, dtype), jnp.clip(jnp.asarray(u, dtype), edge, 1 - edge))

    def decode(self, x: Any) -> Shaped[Array, "..."]:
        """Return the record v = floor(L y), clipped to 0..L-1, of the model value x: the inverse of `encode` for every
        u.

        Returns:
            uint8 (uint16 if L > 256), or float32 if L = 0, with the shape of x. The integer of a NaN is undefined, so
            check for non-finite values first.
        """
        if not self.levels:
            return jnp.asarray(x, jnp.float32)
        v = jnp.clip(jnp.floor(self._unit(x) * self.levels), 0, self.levels - 1)
        return v.astype(jnp.uint8 if self.levels <= 256 else jnp.uint16)

    def units(self, x: Any) -> np.ndarray:
        """Return offset + scale x in float64: model values of continuous data in the units of the source."""
        return np.asarray(self.offset, np.float64) + np.asarray(self.scale, np.float64) * np.asarray(x, np.float64)

    def log_jacobian(self) -> float:
        """Return log |dx/dv| in nats: D log(2/L) if centered, else D log(1/L), for D dimensions; 0 if L = 0."""
        return self.bins.log_jacobian(math.prod(self.shape)) if self.levels else 0.0

    def images(self, x: Any) -> Shaped[Array, "..."]:
        """Return uint8 images 0..255 for display.

        They are 255 v/(L-1) of decoded records, and of continuous values 255 y, or 255 (x/span + 1)/2 if span > 0,
        clipped.
        """
        if self.levels:
            shade = self.decode(x).astype(jnp.float32) / (self.levels - 1)
        else:
            shade = jnp.clip((jnp.asarray(x) / self.span + 1) / 2 if self.span else self._unit(x), 0, 1)
        return jnp.round(255 * shade).astype(jnp.uint8)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON, from which `from_json` builds an equal codec."""
        return {
            "shape": list(self.shape), "levels": self.levels, "centered": self.centered,
            "offset": np.asarray(self.offset, np.float64).tolist(),
            "scale": np.asarray(self.scale, np.float64).tolist(), "span": float(self.span),
        }  # fmt: skip

    @classmethod
    def from_json(cls, stored: Any) -> "Codec":
        """Build the codec of a JSON object that `to_json` returned.

        Raises:
            ValueError: the object has not the fields of a codec, or a field is out of range.
        """
        try:
            shape, levels, centered = tuple(stored["shape"]), stored["levels"], stored["centered"]
            offset, scale, span = (np.asarray(stored[name], np.float64) for name in ("offset", "scale", "span"))
        except (TypeError, KeyError, ValueError):
            raise ValueError("its codec lacks a field, or has one of another kind") from None
        whole = all(type(size) is int and size > 0 for size in shape) and type(levels) is int
        finite = all(np.isfinite(part).all() for part in (offset, scale, span))
        if not (shape and whole and type(centered) is bool and finite and span.ndim == 0):
            raise ValueError("its codec has a field out of range")
        return cls(shape, levels, centered, offset[()], scale[()], float(span))

    def _unit(self, x: Any) -> Array:
        """Return y in [0, 1), the inverse of the last step of `encode`."""
        return (jnp.asarray(x) - self.low) / (1.0 - self.low)
