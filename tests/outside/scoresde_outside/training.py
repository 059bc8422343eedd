import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.config import constructor
from scoresde.train import AbstractTimeLaw, AbstractWeighting, Objective


class Truncated(AbstractWeighting):
    """Weighting of the error of the noise by max(SNR, least), as in Salimans and Ho 2022.

    Args:
      least: smallest weight.
    """

    least: float = eqx.field(static=True, default=1.0)

    def error(self, score, x0, x_t, z, t, density):
        sde = score.sde
        weight = jnp.clip(jnp.exp(sde.log_snr(t)), self.least, 5.0)
        return weight * (sde.sigma(t) * score(x_t, t) + z) ** 2


class Scaled(Objective):
    """The usual objective times a factor.

    Args:
      factor: above 0.
    """

    factor: float = eqx.field(static=True, default=1.0)

    def at(self, score, x0, t, *, key):
        return self.factor * super().at(score, x0, t, key=key)


class Power(AbstractTimeLaw):
    """P(time <= t) = u for t = t_min + (t_max - t_min) u^power.

    Args:
      power: above 1 favours small times.
    """

    power: float = eqx.field(static=True, default=1.5)

    def uniform(self, *, batch_key, key, rank):
        return jax.random.uniform(key)

    def quantile(self, sde, u):
        return sde.t_min + (sde.t_max - sde.t_min) * u**self.power

    def density(self, sde, t):
        u = ((t - sde.t_min) / (sde.t_max - sde.t_min)) ** (1 / self.power)
        return u ** (1 - self.power) / (self.power * (sde.t_max - sde.t_min))


@constructor
def radius(samples, records, power: float = 2.0):
    """Return the mean of a power of the distances of the samples from the origin, over that of the records.

    Args:
      power: above 0.
    """
    first, second = ((jnp.linalg.norm(x, axis=-1) ** power).mean() for x in (samples, records))
    return float(first / second)
