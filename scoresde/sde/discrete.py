"""Processes of DDPM: variance preserving, given by a table of betas (Ho et al. 2020).

    alpha_i^2 = prod_{j <= i} (1 - beta_j),   sigma^2 = 1 - alpha^2,   i = 1, ..., T

`DiscreteVP` has alpha_i at t = i/T, and alpha(0) = 1. `TabulatedVP` is the process of a network that was trained with
the table: it has alpha_i where the network is given the label i - 1, at t = (i - 1)/(T - 1). Between the times of the
table log alpha is interpolated, so that each is a process like any other.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.sde.base import AbstractSDE, as_time
from scoresde.types import Scalar, Time

# Largest beta of a scaled linear table; a step may not forget everything (Nichol and Dhariwal 2021, sec. 3.2).
_LARGEST_BETA = 0.999


class DiscreteVP(AbstractSDE):
    """VP through a table: t = i/T has the alpha and sigma of step i. log alpha is linear between. t_min = 1/T.

    Args:
      betas: beta_1 to beta_T, each in (0, 1), two or more.

    Raises:
      ConfigError: fewer than two betas, or one outside (0, 1).
    """

    log_alphas: Float[Array, " T+1"]  # log alpha at 0, 1/T, ..., 1
    t_max: float = eqx.field(static=True, default=1.0)

    def __init__(self, betas):
        self.log_alphas = jnp.asarray(np.concatenate([[0.0], _log_alphas("DiscreteVP", betas)]), float)
        self.t_max = 1.0

    @classmethod
    def linear(cls, steps: int, beta_min: float = 0.1, beta_max: float = 20.0) -> "DiscreteVP":
        """DDPM's linear table, beta_min/T to beta_max/T: 1e-4 to 0.02 for T = 1000; cut off at 0.999."""
        return cls(np.minimum(np.linspace(beta_min / steps, beta_max / steps, steps), _LARGEST_BETA))

    @property
    def t_min(self) -> float:
        return 1 / (len(self.log_alphas) - 1)

    @property
    def times(self) -> Float[Array, " T"]:
        """1/T, 2/T, ..., 1."""
        steps = len(self.log_alphas) - 1
        return jnp.arange(1, steps + 1) / steps

    def log_alpha(self, t: Time) -> Scalar:
        t = as_time(t)
        return jnp.interp(t, jnp.linspace(0, 1, len(self.log_alphas)), self.log_alphas).astype(t.dtype)

    def sigma(self, t: Time) -> Scalar:
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))


class TabulatedVP(AbstractSDE):
    """VP through a table: the label n = 0, ..., T - 1 at t = n/(T - 1) has alpha and sigma of step n + 1.

    Between them log alpha is a monotone cubic (Fritsch and Carlson 1980), so that drift and noise do not jump.

    Args:
      betas: beta_1 to beta_T, each in (0, 1), two or more.

    Raises:
      ConfigError: fewer than two betas, or one outside (0, 1).
    """

    pieces: Float[Array, "4 pieces"]  # of log alpha, from the cube down, in the place within the piece from 0 to 1
    t_min: float = eqx.field(static=True, default=0.0)
    t_max: float = eqx.field(static=True, default=1.0)

    def __init__(self, betas):
        table = _log_alphas("TabulatedVP", betas)
        from scipy.interpolate import PchipInterpolator  # here, as its import takes a third of a second

        self.pieces = jnp.asarray(PchipInterpolator(np.arange(len(table)), table).c, float)
        self.t_min, self.t_max = 0.0, 1.0

    def log_alpha(self, t: Time) -> Scalar:
        t = as_time(t)
        count = self.pieces.shape[1]
        place = t * count
        piece = jnp.clip(jnp.floor(place), 0, count - 1).astype(int)
        return jnp.polyval(self.pieces[:, piece], place - piece).astype(t.dtype)

    def sigma(self, t: Time) -> Scalar:
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))


def cosine_betas(steps: int, offset: float = 0.008) -> Float[np.ndarray, " T"]:
    """Nichol and Dhariwal 2021, eq. 17: alpha_i^2 = f(i/T) / f(0), f(u) = cos^2((u + s) / (1 + s) pi / 2).

    beta is cut off at 0.999.
    """
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], _LARGEST_BETA)


def _log_alphas(name: str, betas) -> Float[np.ndarray, " T"]:
    """log alpha_1 to log alpha_T."""
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
        raise ConfigError(f"{name}: expected at least two betas between 0 and 1, got {betas.tolist()[:5]} ...")
    return np.cumsum(np.log1p(-betas)) / 2
