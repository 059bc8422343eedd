"""Decoders: the last step of a bound, from x_t at its first time back to the data. L_0 is -E[log p(data | x_t)].

Decoders depend on three numbers: the noise z in x_t = alpha x_0 + sigma z; the residual r = z + sigma s(x_t, t), which
is the error of the denoised x_0-hat = (x_t + sigma^2 s) / alpha = x_0 + (sigma / alpha) r; and the decoder's standard
deviation.

| decoder             | p(data | x_t)                                         | data              | source            |
|---------------------|-------------------------------------------------------|-------------------|-------------------|
| GaussianDecoder     | N(x_0; x_0-hat, std^2)                                | continuous, at 0  | Song et al. 2021b |
| DiscretizedGaussian | that Gaussian's mass on the bin, outermost bins open  | integers          | Ho et al. 2020    |
| CategoricalDecoder  | proportional to N(x_t; alpha c_v, sigma^2) over all v | integers          | Kingma et al. 2021|
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.likelihood.dequantization import Bins
from scoresde.types import Coef, Scalar, State


class AbstractDecoder(eqx.Module):
    """Decoder with log p(data | x_t) for independent coordinates."""

    @abc.abstractmethod
    def log_prob(self, x0: State, *, z: State, residual: State, ratio: Coef, std: Coef) -> Scalar:
        """Return log p(data | x_t) in nats.

        Args:
          x0: data, in model coordinates.
          z: noise in x_t.
          residual: z + sigma s(x_t, t).
          ratio: sigma / alpha at t.
          std: standard deviation of the decoder in units of x_0, for decoders with a free one.
        """


class GaussianDecoder(AbstractDecoder):
    """Gaussian decoder log N(x_0; x_0-hat, std^2), a density of x_0 at time 0 in model coordinates; no arguments."""

    def log_prob(self, x0, *, z, residual, ratio, std):
        std = jnp.broadcast_to(std, x0.shape)
        return -0.5 * jnp.sum((ratio * residual / std) ** 2 + 2 * jnp.log(std) + math.log(2 * math.pi))


class DiscretizedGaussian(AbstractDecoder):
    """Decoder with the mass of N(x_0-hat, std^2) in the bin of x_0; the outermost bins reach to infinity.

    Args:
      bins: bins of the integers; x_0 is the centre of a bin.
    """

    bins: Bins

    def log_prob(self, x0, *, z, residual, ratio, std):
        v, half = _index(self.bins, x0), self.bins.width / 2
        low = jnp.where(v == 0, -jnp.inf, (-half - ratio * residual) / std)
        high = jnp.where(v == self.bins.levels - 1, jnp.inf, (half - ratio * residual) / std)
        return jnp.sum(_log_interval(low, high))


class CategoricalDecoder(AbstractDecoder):
    """Decoder with the softmax over all L bins of -(x_t - alpha c)^2 / (2 sigma^2); x_0 is the centre of its bin.

    Args:
      bins: bins of the integers.
    """

    bins: Bins

    def log_prob(self, x0, *, z, residual, ratio, std):
        levels = jnp.arange(self.bins.levels).reshape(-1, *[1] * x0.ndim)
        # Distances are in units of sigma from the true centre: float32 x_t does not resolve a small sigma.
        distance = (_index(self.bins, x0) - levels) * (self.bins.width / ratio)
        return -jnp.sum(jnp.log(jnp.sum(jnp.exp(-0.5 * distance * (distance + 2 * z)), axis=0)))


def _index(bins: Bins, x0: State) -> State:
    """Return the integers, as floats, whose bins have the centre x0."""
    return jnp.round((x0 - bins.low) / bins.width - 0.5)


def _log_interval(low: State, high: State) -> State:
    """Return log(Phi(high) - Phi(low)) for low < high, computed on the negative side, where Phi keeps its relative
    precision."""
    low, high = jnp.where(low > 0, -high, low), jnp.where(low > 0, -low, high)
    log_low, log_high = jax.scipy.special.log_ndtr(low), jax.scipy.special.log_ndtr(high)
    return log_high + jnp.log(-jnp.expm1(log_low - log_high))
