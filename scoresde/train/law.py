"""Distributions of t, each with a quantile function and a density.

They are sampled from uniforms. Stratified uniforms (u + i/B) mod 1 share one u in a batch and cover [0, 1) evenly
(Kingma et al. 2021, appendix I.1), which reduces the variance at no cost.
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.sde import AbstractSDE
from scoresde.sde.base import as_time, check_parameters, derivative
from scoresde.types import Key, Scalar

# Quadrature points of `effective_share`, uniform in log-SNR. With 8 times as many the result changes by 0.2 %.
_SHARE_POINTS = 1000


class AbstractTimeLaw(eqx.Module):
    """Distribution of t, defined by its uniforms, its quantile function and its density."""

    @abc.abstractmethod
    def uniform(self, *, batch_key: Key, key: Key, rank: Scalar) -> Scalar:
        """Return u in [0, 1) for the example at `rank` = i / B of its batch. `batch_key` is shared by the batch."""

    @abc.abstractmethod
    def quantile(self, sde: AbstractSDE, u: Scalar) -> Scalar:
        """Return t with P(time <= t) = u, or, for distributions in noise level, P(time > t) = u."""

    @abc.abstractmethod
    def density(self, sde: AbstractSDE, t: Scalar) -> Scalar:
        """Return p(t) on [t_min, t_max]."""


def _stratified(batch_key: Key, rank: Scalar) -> Scalar:
    return jnp.mod(jax.random.uniform(batch_key) + rank, 1.0)


def _fall(sde: AbstractSDE, t: Scalar) -> Scalar:
    """Return -d lambda/dt of the reference log-SNR: g^2 / sigma^2 of its mode."""
    return -derivative(sde.reference_log_snr, t)


def _uniform_in_time(sde: AbstractSDE, u: Scalar) -> Scalar:
    return sde.t_min + u * (sde.t_max - sde.t_min)


class UniformTime(AbstractTimeLaw):
    """Uniform distribution of t on [t_min, t_max], independent for each example (Song et al. 2021); no arguments."""

    def uniform(self, *, batch_key, key, rank):
        return jax.random.uniform(key)

    def quantile(self, sde, u):
        return _uniform_in_time(sde, u)

    def density(self, sde, t):
        return jnp.full_like(t, 1 / (sde.t_max - sde.t_min))


class StratifiedTime(AbstractTimeLaw):
    """Uniform distribution of t, stratified over the batch (Kingma et al. 2021, appendix I.1); no arguments."""

    def uniform(self, *, batch_key, key, rank):
        return _stratified(batch_key, rank)

    def quantile(self, sde, u):
        return _uniform_in_time(sde, u)

    def density(self, sde, t):
        return jnp.full_like(t, 1 / (sde.t_max - sde.t_min))


class UniformLogSNR(AbstractTimeLaw):
    """Distribution of t with a uniform reference log-SNR, stratified over the batch; it has no arguments.

    p(t) = (g^2/sigma^2) / (lambda(t_min) - lambda(t_max)).
    """

    def uniform(self, *, batch_key, key, rank):
        return _stratified(batch_key, rank)

    def quantile(self, sde, u):
        first, last = sde.reference_log_snr(sde.t_min), sde.reference_log_snr(sde.t_max)
        return sde.time_of_log_snr(first + u * (last - first))

    def density(self, sde, t):
        return _fall(sde, t) / (sde.reference_log_snr(sde.t_min) - sde.reference_log_snr(sde.t_max))


class UniformLogSigma(AbstractTimeLaw):
    """Distribution of t with a uniform log sigma, stratified over the batch; it has no arguments.

    sigma is that of the process scaled to alpha^2 + sigma^2 = 1, whose log sigma is -softplus(lambda) / 2. p(t) is
    proportional to alpha^2 g^2 / sigma^2: the importance sampling of Zheng et al. 2023 (i-DODE) for VP.
    """

    def uniform(self, *, batch_key, key, rank):
        return _stratified(batch_key, rank)

    def quantile(self, sde, u):
        first, last = self._ends(sde)
        return sde.time_of_log_snr(jnp.log(jnp.expm1((1 - u) * first + u * last)))  # a sum of positive terms: never 0

    def density(self, sde, t):
        first, last = self._ends(sde)
        return jax.nn.sigmoid(sde.reference_log_snr(t)) * _fall(sde, t) / (first - last)

    def _ends(self, sde) -> tuple[Scalar, Scalar]:
        """Return -2 log sigma at t_min and at t_max."""
        return tuple(jax.nn.softplus(sde.reference_log_snr(t)) for t in (sde.t_min, sde.t_max))


class LogNormalSigma(AbstractTimeLaw):
    """Distribution of t with log(sigma / alpha) ~ N(mean, std^2), truncated at t_min and t_max (Karras et al. 2022).

    It is EDM's, their table 1, and is stratified over the batch.

    Args:
      mean: mean of log(sigma / alpha), in nats; finite.
      std: standard deviation of log(sigma / alpha), in nats; above 0.

    Raises:
      ConfigError: a parameter is out of range.
    """

    mean: float = -1.2
    std: float = 1.2

    def uniform(self, *, batch_key, key, rank):
        return _stratified(batch_key, rank)

    def quantile(self, sde, u):
        first, last = self._ends(sde)
        standard = jax.scipy.special.ndtri(first + u * (last - first))
        return sde.time_of_log_snr(-2 * (self.mean + self.std * standard))

    def density(self, sde, t):
        first, last = self._ends(sde)
        standard = (-sde.reference_log_snr(t) / 2 - self.mean) / self.std
        per_log_sigma = jnp.exp(-0.5 * standard**2) / (self.std * math.sqrt(2 * math.pi)) / (last - first)
        return per_log_sigma * _fall(sde, t) / 2

    def _ends(self, sde) -> tuple[Scalar, Scalar]:
        """Return P(log(sigma / alpha) below its value) at t_min and at t_max."""
        standard = lambda t: (-sde.reference_log_snr(t) / 2 - self.mean) / self.std  # noqa: E731
        return tuple(jax.scipy.special.ndtr(standard(t)) for t in (sde.t_min, sde.t_max))

    def __check_init__(self):
        check_parameters(
            "LogNormalSigma",
            mean=(self.mean, True, "a finite number"), std=(self.std, self.std > 0, "std > 0"),
        )  # fmt: skip


def effective_share(law: AbstractTimeLaw, sde: AbstractSDE) -> float:
    """Return 1 / E_p[(h/p)^2] for the integrand h of the likelihood weighting, normalised to the mean 1: the effective
    sample size of importance sampling, as a share of the samples (Kong 1992). It is 1 if all samples have the same
    weight.

    h(t) = sum_k -d lambda_k/dt SNR_k / (1 + SNR_k) holds for data of variance 1 in every mode with their exact score.
    """
    first, last = (sde.reference_log_snr(as_time(t)) for t in (sde.t_min, sde.t_max))
    levels = first + (last - first) * (jnp.arange(_SHARE_POINTS) + 0.5) / _SHARE_POINTS

    def per_level(t: Scalar) -> tuple[Scalar, Scalar]:
        fall = _fall(sde, t)
        integrand = jnp.sum(-derivative(sde.log_snr, t) * jax.nn.sigmoid(sde.log_snr(t)))
        return integrand / fall, law.density(sde, t) / fall

    h, p = jax.vmap(lambda level: per_level(sde.time_of_log_snr(level)))(levels)
    h = h / jnp.sum(h) * _SHARE_POINTS / (first - last)
    return float(1 / (jnp.mean(h**2 / p) * (first - last)))
