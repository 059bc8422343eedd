import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.sde import AbstractSDE


class LinearLogSNR(AbstractSDE):
    """Variance preserving process whose log-SNR falls linearly (Kingma et al. 2021, appendix).

    Args:
      log_snr_max: log-SNR at t = 0.
      log_snr_min: log-SNR at t = 1.
    """

    log_snr_max: float = eqx.field(static=True, default=10.0)
    log_snr_min: float = eqx.field(static=True, default=-10.0)
    t_min: float = eqx.field(static=True, default=0.0)
    t_max: float = eqx.field(static=True, default=1.0)

    def _log_snr(self, t):
        return self.log_snr_max + (self.log_snr_min - self.log_snr_max) * jnp.asarray(t, float)

    def log_alpha(self, t):
        return -0.5 * jax.nn.softplus(-self._log_snr(t))

    def sigma(self, t):
        return jnp.exp(-0.5 * jax.nn.softplus(self._log_snr(t)))


class Growing(AbstractSDE):
    """A mistake: its noise falls with t."""

    t_min: float = eqx.field(static=True, default=0.0)
    t_max: float = eqx.field(static=True, default=1.0)

    def log_alpha(self, t):
        return jnp.zeros_like(jnp.asarray(t, float))

    def sigma(self, t):
        return 2.0 - jnp.asarray(t, float)


class Raising(LinearLogSNR):
    """A mistake: its constructor raises."""

    def __check_init__(self):
        raise RuntimeError("the moon is not in the third quarter")
