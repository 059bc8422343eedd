"""The process of DDPM: variance preserving, given by a table of betas (Ho et al. 2020).

    alpha(i/T)^2 = prod_{j <= i} (1 - beta_j),   sigma^2 = 1 - alpha^2,   i = 1, ..., T

Between the times of the table log alpha is linear in t, so that it is a process like any other. t_min = 1/T.
"""

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
    """VP through a table: t = i/T has the alpha and sigma of step i.

    Args:
      betas: beta_1 to beta_T, each in (0, 1), two or more.

    Raises:
      ConfigError: fewer than two betas, or one outside (0, 1).
    """

    log_alphas: Float[Array, " T+1"]  # log alpha at 0, 1/T, ..., 1
    t_max: float = eqx.field(static=True, default=1.0)

    def __init__(self, betas):
        betas = np.asarray(betas, np.float64)
        if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
            raise ConfigError(f"DiscreteVP: expected at least two betas between 0 and 1, got {betas.tolist()[:5]} ...")
        self.log_alphas = jnp.asarray(np.concatenate([[0.0], np.cumsum(np.log1p(-betas)) / 2]), float)
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
