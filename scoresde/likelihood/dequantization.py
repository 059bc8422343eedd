r"""Dequantization: densities q(x | v) on the bin of the integers v, and the bound that each gives.

An image has integers v in {0, ..., L-1}^D, and the model has a density p of real x at t_min. Let P(v) be the mass of p
on the bin of v. For any q(x | v) with support in that bin,

    log P(v) >= E_q[log p(x) - log q(x | v)],    the gap being KL(q(x | v) || p(x) restricted to the bin)
    bits/dim = -log P(v) / (D log 2)

The offset between nats in model coordinates and bits/dim is -log q, and so follows from the number of levels and the
range of the data; for the uniform q it is the log-Jacobian of the encoding, D log(2/L) for data in [-1, 1] (Theis et
al. 2016).

| q            | x                                              | meant for                                           |
|--------------|------------------------------------------------|-----------------------------------------------------|
| uniform      | v + u in model coordinates, u ~ U[0, 1)^D      | models trained on v + u                             |
| truncated    | alpha c + sigma N(0, 1), cut at the bin's edge | models trained on the centres c (Zheng et al. 2023) |
|   normal     | (alpha, sigma of t_min)                        |                                                     |
| variational  | v + u, u by a flow that was trained for it     | any model (Ho et al. 2019)                          |
| none         | c, no sample; a decoder of the integers gives  | bounds of models trained on the centres c           |
|              | P(v) itself                                    |                                                     |

The truncated normal is the distribution on which a model of bin centres is trained at t_min, where p is a comb of
Gaussians of width sigma. The bound is then tight, up to the mass outside the bins. The edge lies at tau = alpha h /
sigma standard deviations, where h is half the width of a bin.
"""

import abc
import math
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from scoresde.data import Dataset
from scoresde.data.codec import Bins
from scoresde.nets import Network, push
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractSDE
from scoresde.sde.base import as_time
from scoresde.types import Key, Scalar, State

Integers = Num[Array, "*x"]  # integers of one example, in any numeric type

_LEAST_TAU = 3  # below it 0.3 % of the model's mass and more lie outside the bins


class AbstractDequantization(eqx.Module):
    """Density q(x | v) on the bin of v. Apart from `draw`, a subclass states only what differs from the defaults."""

    @abc.abstractmethod
    def draw(self, sde: AbstractSDE, bins: Bins, v: Integers, *, key: Key) -> tuple[State, Scalar]:
        """Return a sample (x, log q(x | v)), with x in model coordinates at t_min and log q in nats."""

    @property
    def is_density(self) -> bool:
        """Return whether q is a density. Otherwise x is the centre of the bin and log q is 0; the flow then refuses x,
        and the bounds use a decoder of the integers."""
        return True

    @property
    def at_t_min(self) -> bool:
        """Return whether x has the noise of t_min. The bounds, which are on p at time 0, then refuse x."""
        return False

    @property
    def needs_pixels(self) -> bool:
        """Return whether x is sampled for coordinates in which every value of a record has the same alpha and sigma."""
        return False

    def note(self, sde: AbstractSDE, bins: Bins) -> str:
        """Return a warning for this process and these bins, or ""."""
        return ""

    def fitted(
        self, score: AbstractScore, dataset: Dataset, bins: Bins, *, seed: int, folder: pathlib.Path, parameters: str
    ) -> "AbstractDequantization":
        """Return the dequantization to draw from. One that must be trained is trained here, before its first use.

        Args:
          score: trained score, which stays fixed.
          dataset: data set, with the training records.
          bins: bins of the integers.
          seed: seed of the run.
          folder: folder of the run in which the result may be stored; it may not exist yet.
          parameters: CRC-32 of the parameters of the score, in hexadecimal.
        """
        return self


class UniformDequantization(AbstractDequantization):
    """Uniform dequantization x = encode(v + u), u ~ U[0, 1)^D; log q = -D log w (Theis et al. 2016); no arguments."""

    def draw(self, sde, bins, v, *, key):
        u = jax.random.uniform(key, v.shape)
        return bins.encode(v, u), jnp.asarray(-bins.log_jacobian(v.size), u.dtype)


class TruncatedNormalDequantization(AbstractDequantization):
    """Truncated-normal dequantization of models that were trained on bin centres (Zheng et al. 2023, i-DODE).

    x = alpha c + sigma z at t_min, with z ~ N(0, 1) truncated to [-tau, tau] and tau sigma = alpha w / 2, so that

        log q = -sum(z^2 / 2 + log sigma + log(2 pi) / 2 + log erf(tau / sqrt 2)).

    The bins are those of v shrunk by alpha(t_min), and the ODE starts at the time with this alpha and sigma, so
    training and evaluation use the same inputs. As tau -> 0 the density becomes uniform, and the mass of p outside the
    bins grows: below tau = 3 use another q. It has no arguments.
    """

    @property
    def at_t_min(self) -> bool:
        return True

    @property
    def needs_pixels(self) -> bool:
        return True

    def note(self, sde, bins):
        tau = float(self.tau(sde, bins))
        if tau >= _LEAST_TAU:
            return ""
        return (
            f"bins end {tau:.2g} deviations of the noise at t_min from their centres, and much of the model lies "
            f"outside them; below {_LEAST_TAU} uniform dequantization gives the better bound"
        )

    def draw(self, sde, bins, v, *, key):
        t = as_time(sde.t_min)
        sigma, tau = sde.sigma(t), self.tau(sde, bins)
        size_key, sign_key = jax.random.split(key)
        # Sign and size are sampled separately: a uniform number of -1 or 1 would make z infinite, and [0, 1) contains
        # neither.
        share = jax.random.uniform(size_key, v.shape) * jax.scipy.special.erf(tau / math.sqrt(2))
        z = jnp.minimum(math.sqrt(2) * jax.scipy.special.erfinv(share), tau) * jax.random.rademacher(
            sign_key, v.shape, share.dtype
        )
        log_mass = jnp.log(jax.scipy.special.erf(tau / math.sqrt(2)))
        log_q = -jnp.sum(0.5 * z**2 + jnp.log(sigma) + 0.5 * math.log(2 * math.pi) + log_mass)
        return sde.alpha(t) * bins.encode(v) + sigma * z, log_q

    def tau(self, sde: AbstractSDE, bins: Bins) -> Scalar:
        """Return half the width of a bin in standard deviations of the noise at t_min."""
        t = as_time(sde.t_min)
        return sde.alpha(t) * bins.width / (2 * sde.sigma(t))


class VariationalDequantization(AbstractDequantization):
    """Variational dequantization x = encode(v + u), with u from a conditional flow (Ho et al. 2019).

    log q(x | v) = log q(u | v) - D log w. An untrained flow gives u ~ U[0, 1)^D, the uniform bound.

    Args:
      flow: `scoresde.nets.CouplingFlow` as a `Network`, for the shape of one example.
    """

    flow: Network

    def draw(self, sde, bins, v, *, key):
        base = jax.random.logistic(key, v.shape)
        context = (2 * jnp.asarray(v, base.dtype) + 1) / bins.levels - 1  # bin centres on [-1, 1]
        place, log_det = push(self.flow, base, context)
        # The base is logistic, so u = sigmoid(place) is U[0, 1) where the flow is the identity.
        log_q = jnp.sum(_log_slope(base) - _log_slope(place)) - log_det
        return bins.encode(v, jax.nn.sigmoid(place)), log_q - bins.log_jacobian(v.size)


class NoDequantization(AbstractDequantization):
    """The centre of the bin, from which a bound with a decoder of the integers gives log P(v); no arguments."""

    @property
    def is_density(self) -> bool:
        return False

    @property
    def needs_pixels(self) -> bool:
        return True  # the decoder of the integers is one of pixels

    def draw(self, sde, bins, v, *, key):
        x = bins.encode(v)
        return x, jnp.zeros((), x.dtype)


def _log_slope(z):
    """Return the logarithm of d sigmoid / dz."""
    return -jax.nn.softplus(z) - jax.nn.softplus(-z)
