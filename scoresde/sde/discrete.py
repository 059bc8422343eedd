"""Processes of DDPM: variance preserving, given by a table of betas (Ho et al. 2020).

    alpha_i^2 = prod_{j <= i} (1 - beta_j),   sigma^2 = 1 - alpha^2,   i = 1, ..., T

`DiscreteVP` has alpha_i at t = i/T, and alpha(0) = 1. `TabulatedVP` is the process of a network that was trained with
the table: it has alpha_i at t = (i - 1)/(T - 1), where the network gets the label i - 1. Both interpolate log alpha
between the times of the table, so that each is a process in continuous time.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.sde.base import AbstractSDE, as_time
from scoresde.types import Scalar, Time

# Largest beta of a table: a step must not remove all of the signal (Nichol and Dhariwal 2021, sec. 3.2).
_LARGEST_BETA = 0.999


class DiscreteVP(AbstractSDE):
    """VP process with the alpha and sigma of step i of a table at t = i/T; log alpha is linear between; t_min = 1/T.

    Args:
      betas: beta_1 to beta_T, the noise variance added by each step; two or more, each between 0 and 1.

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
        """Build DDPM's linear table, beta_min/T to beta_max/T: 1e-4 to 0.02 for T = 1000; cut off at 0.999.

        Args:
          steps: T, the number of steps.
          beta_min: T beta_1.
          beta_max: T beta_T.
        """
        return cls(np.minimum(np.linspace(beta_min / steps, beta_max / steps, steps), _LARGEST_BETA))

    @property
    def t_min(self) -> float:
        return 1 / (len(self.log_alphas) - 1)

    @property
    def times(self) -> Float[Array, " T"]:
        """Return the times of the table: 1/T, 2/T, ..., 1."""
        steps = len(self.log_alphas) - 1
        return jnp.arange(1, steps + 1) / steps

    def log_alpha(self, t: Time) -> Scalar:
        t = as_time(t)
        return jnp.interp(t, jnp.linspace(0, 1, len(self.log_alphas)), self.log_alphas).astype(t.dtype)

    def sigma(self, t: Time) -> Scalar:
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))


class TabulatedVP(AbstractSDE):
    """VP process with alpha and sigma of step n + 1 of a table at t = n/(T - 1), the time of label n = 0, ..., T - 1.

    Between the times of the table log alpha is a monotone cubic (Fritsch and Carlson 1980), so that drift and noise do
    not jump.

    Args:
      betas: beta_1 to beta_T, the noise variance added by each step; two or more, each between 0 and 1.

    Raises:
      ConfigError: fewer than two betas, or one outside (0, 1).
    """

    # Coefficients of log alpha, cubic first, as polynomials in the position within the piece, from 0 to 1.
    pieces: Float[Array, "4 pieces"]
    t_min: float = eqx.field(static=True, default=0.0)
    t_max: float = eqx.field(static=True, default=1.0)

    def __init__(self, betas):
        table = _log_alphas("TabulatedVP", betas)
        from scipy.interpolate import PchipInterpolator  # imported here because it takes a third of a second

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
    """Return the cosine table of improved DDPM, with beta cut off at 0.999 (Nichol and Dhariwal 2021, eq. 17).

        alpha_i^2 = f(i/T) / f(0),   f(u) = cos^2((u + s) / (1 + s) pi / 2)

    Args:
      steps: T, the number of steps; at least 2.
      offset: s, which keeps the first betas from being too small; at least 0.
    """
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], _LARGEST_BETA)


def _log_alphas(name: str, betas) -> Float[np.ndarray, " T"]:
    """Return log alpha_1 to log alpha_T.

    Raises:
      ConfigError: fewer than two betas, or one outside (0, 1).
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
        raise ConfigError(f"{name}: expected at least two betas between 0 and 1, got {betas.tolist()[:5]} ...")
    return np.cumsum(np.log1p(-betas)) / 2
