"""Denoising score matching, in one line for all processes, weightings and laws of t.

    loss = E_{t ~ law} E_{x_0, z}  w(t) |sigma(t) s(x_t, t) + z|^2,    x_t = alpha x_0 + sigma z     (Vincent 2011)

| weighting     | w(t)                                           | what it minimises                              |
|---------------|------------------------------------------------|------------------------------------------------|
| SigmaSquared  | 1                                              | Song et al. 2021, eq. 7, lambda = sigma^2      |
| NoiseField    | sigma_k^2 / mean of sigma^2 over the modes     | the L2 error of the noise as a field           |
| Likelihood    | g^2 / (sigma^2 p(t))                           | 2 x a bound on -log p, see below               |
| EDMWeighting  | (alpha^2 c^2 + sigma^2) / (alpha^2 c^2)        | Karras et al. 2022, sec. 5 (c = sigma_data)    |

With one coefficient per mode, SigmaSquared is the Cameron-Martin norm of the error of the noise field (Kerrigan et al. 2023: the
KL divergence of Gaussians), NoiseField its L2 norm (Lim et al. 2023); they are the same for white noise. Likelihood is the
ELBO, mode by mode. EDMWeighting is the L2 error of what the network in `EDMPreconditioning` learns, c_out^{-2} |D - x_0|^2 with
D = E[x_0 | x_t]; the table has its form for one coefficient.

p(t) is the density of the law of t. The mean of Likelihood is the same integral under every law, but a finite number of draws has it
only under a law that visits all of the integrand: LogNormalSigma has 1e-26 of its mass in the cleaner half of sub-VP's log-SNR,
which float32 uniforms never reach. `effective_share` measures it, and `Objective.check` refuses such pairs. As g^2/sigma^2 = -d lambda/dt, the likelihood weighting is constant under
`UniformLogSNR`: importance sampling with nothing to tabulate (Song, Durkan, Murray and Ermon 2021, eq. 12).

`UniformLogSigma` makes it constant for the error of the velocity, alpha z - sigma x_0, where alpha^2 + sigma^2 = 1: with that of the
noise it is alpha times as large (Zheng et al. 2023, i-DODE). Such a loss has less variance at the noisy end.

A law of t is its quantile function; randomness comes as uniforms. Stratified uniforms (u + i/B) mod 1 share one u in
a batch and cover [0, 1) evenly (Kingma et al. 2021, appendix I.1): less variance at no cost.
"""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.errors import ConfigError
from scoresde.score import AbstractScore, DataSpectrum
from scoresde.sde import AbstractSDE
from scoresde.sde.base import as_time, check_parameters, derivative
from scoresde.types import Coef, Key, Scalar, State

# Of `effective_share`: points of the quadrature, uniform in log-SNR. With 8 times as many it moves by 0.2 %.
_SHARE_POINTS = 1000
# Uniform t with t_min = 1e-5 (Song, Durkan, Murray and Ermon 2021) has 0.0019 under VP; LogNormalSigma 0.0007 there, 0.00008 under
# Cosine, where a gradient came out at 0.6 of its value, and 1e-21 under sub-VP.
_LEAST_SHARE = 5e-4


class AbstractTimeLaw(eqx.Module):
    """The law of t, given by how it takes uniforms, its quantile function and its density."""

    @abc.abstractmethod
    def uniform(self, *, batch_key: Key, key: Key, rank: Scalar) -> Scalar:
        """u in [0, 1) for the example at `rank` = i / B of its batch. `batch_key` is shared by the batch."""

    @abc.abstractmethod
    def quantile(self, sde: AbstractSDE, u: Scalar) -> Scalar:
        """t with P(time <= t) = u, or, for laws in noise level, P(time > t) = u."""

    @abc.abstractmethod
    def density(self, sde: AbstractSDE, t: Scalar) -> Scalar:
        """p(t) on [t_min, t_max]."""


def _stratified(batch_key: Key, rank: Scalar) -> Scalar:
    return jnp.mod(jax.random.uniform(batch_key) + rank, 1.0)


def _fall(sde: AbstractSDE, t: Scalar) -> Scalar:
    """-d lambda/dt of the reference log-SNR: g^2 / sigma^2 of its mode."""
    return -derivative(sde.reference_log_snr, t)


def _uniform_in_time(sde: AbstractSDE, u: Scalar) -> Scalar:
    return sde.t_min + u * (sde.t_max - sde.t_min)


class Uniform(AbstractTimeLaw):
    """t ~ U[t_min, t_max], independent for each example (Song et al. 2021)."""

    def uniform(self, *, batch_key, key, rank):
        return jax.random.uniform(key)

    def quantile(self, sde, u):
        return _uniform_in_time(sde, u)

    def density(self, sde, t):
        return jnp.full_like(t, 1 / (sde.t_max - sde.t_min))


class LowDiscrepancy(AbstractTimeLaw):
    """t ~ U[t_min, t_max], stratified over the batch (Kingma et al. 2021, appendix I.1)."""

    def uniform(self, *, batch_key, key, rank):
        return _stratified(batch_key, rank)

    def quantile(self, sde, u):
        return _uniform_in_time(sde, u)

    def density(self, sde, t):
        return jnp.full_like(t, 1 / (sde.t_max - sde.t_min))


class UniformLogSNR(AbstractTimeLaw):
    """The reference log-SNR uniform between its two ends, stratified: p(t) = (g^2/sigma^2) / (lambda(t_min) - lambda(t_max))."""

    def uniform(self, *, batch_key, key, rank):
        return _stratified(batch_key, rank)

    def quantile(self, sde, u):
        first, last = sde.reference_log_snr(sde.t_min), sde.reference_log_snr(sde.t_max)
        return sde.time_of_log_snr(first + u * (last - first))

    def density(self, sde, t):
        return _fall(sde, t) / (sde.reference_log_snr(sde.t_min) - sde.reference_log_snr(sde.t_max))


class UniformLogSigma(AbstractTimeLaw):
    """log sigma uniform, stratified, for the process scaled to alpha^2 + sigma^2 = 1, whose log sigma is -softplus(lambda) / 2.

    p(t) is proportional to alpha^2 g^2 / sigma^2: the importance sampling of Zheng et al. 2023 (i-DODE) for VP.
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
        """-2 log sigma at t_min and at t_max."""
        return tuple(jax.nn.softplus(sde.reference_log_snr(t)) for t in (sde.t_min, sde.t_max))


class LogNormalSigma(AbstractTimeLaw):
    """log(sigma / alpha) ~ N(mean, std^2) cut off at t_min and t_max, stratified (Karras et al. 2022, table 1)."""

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
        """P(log(sigma / alpha) below its value) at t_min and at t_max."""
        return tuple(
            jax.scipy.special.ndtr((-sde.reference_log_snr(t) / 2 - self.mean) / self.std) for t in (sde.t_min, sde.t_max)
        )

    def __check_init__(self):
        check_parameters(
            "LogNormalSigma",
            mean=(self.mean, True, "a finite number"),
            std=(self.std, self.std > 0, "std > 0"),
        )


def effective_share(law: AbstractTimeLaw, sde: AbstractSDE) -> float:
    """1 / E_p[(h/p)^2] for the integrand h of the likelihood weighting, normalised to the mean 1: the share of the draws of the law
    that count (the effective sample size of importance sampling, Kong 1992). 1: every draw weighs the same.

    h(t) = sum_k -d lambda_k/dt SNR_k / (1 + SNR_k) is that of data of variance 1 in every mode under their exact score.
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


class AbstractWeighting(eqx.Module):
    def check(self, sde: AbstractSDE, law: AbstractTimeLaw) -> None:
        """Raises a ConfigError for a law of t under which the mean is not what the weighting says."""

    @abc.abstractmethod
    def error(self, score: AbstractScore, sde: AbstractSDE, x0: State, x_t: State, z: State, t: Scalar, density: Scalar) -> State:
        """The weighted squared error of the score in every mode, where `density` is p(t). One call of the score."""


class AbstractNoiseWeighting(AbstractWeighting):
    """w(t) |sigma s + z|^2."""

    @abc.abstractmethod
    def __call__(self, sde: AbstractSDE, t: Scalar, density: Scalar) -> Coef:
        """w(t)."""

    def error(self, score, sde, x0, x_t, z, t, density):
        return self(sde, t, density) * (sde.sigma(t) * score(x_t, t) + z) ** 2


class SigmaSquared(AbstractNoiseWeighting):
    """w = 1."""

    def __call__(self, sde, t, density):
        return jnp.ones_like(t)


class NoiseField(AbstractNoiseWeighting):
    """w_k = sigma_k^2 / mean of sigma^2: modes count by their share in the noise as a field; 1 for one coefficient."""

    def __call__(self, sde, t, density):
        variance = sde.sigma(t) ** 2
        return variance / jnp.mean(variance)


class Likelihood(AbstractNoiseWeighting):
    """w = g^2 / (sigma^2 p(t)): the mean is the integral of g^2 |s + z / sigma|^2 over t, for a law that visits all of it."""

    def check(self, sde, law):
        share = effective_share(law, sde)
        if not share >= _LEAST_SHARE:
            raise ConfigError(
                f"likelihood weighting under {type(law).__name__} for {type(sde).__name__}: expected that one draw of t in "
                f"{1 / _LEAST_SHARE:.0f} counts at the least, got an effective share of {share:.1g}, as the law leaves out times that "
                "the integral needs; take UniformLogSNR (log_snr)"
            )

    def __call__(self, sde, t, density):
        return -derivative(sde.log_snr, t) / density


class EDMWeighting(AbstractWeighting):
    """|D - x_0|^2 / c_out^2: every noise level starts with the same loss. For one coefficient this is
    (alpha^2 c^2 + sigma^2) / (alpha^2 c^2) |sigma s + z|^2. It is taken of D, as s does not hold it where alpha is next to 0.

    Args:
      spectrum: that of the preconditioning.
    """

    spectrum: DataSpectrum = DataSpectrum()

    def error(self, score, sde, x0, x_t, z, t, density):
        off = score.denoise(sde, x_t, t) - x0
        # Points of the field count alike: 1/n in the modes of a basis with coefficients of functions.
        return (off / (self.spectrum.remainder(sde, t) * sde.basis.white)) ** 2


def half_sum(x: State) -> Scalar:
    """Half the sum over dimensions (Song et al. 2021 with reduce_mean = False)."""
    return 0.5 * jnp.sum(x)


class Objective(eqx.Module):
    """What training minimises.

    Attributes:
      weighting, time_law: see the top of this file.
      reduce: over the dimensions of one example, `jnp.mean` or `half_sum`.
    """

    weighting: AbstractWeighting = SigmaSquared()
    time_law: AbstractTimeLaw = LowDiscrepancy()
    reduce: Callable = eqx.field(default=jnp.mean, static=True)

    def check(self, sde: AbstractSDE) -> None:
        """Raises a ConfigError where the weighting, under this law and process, does not have the mean that it says."""
        self.weighting.check(sde, self.time_law)

    def __call__(
        self, score: AbstractScore, sde: AbstractSDE, x0: State, *, batch_key: Key, key: Key, rank: Scalar
    ) -> Scalar:
        """The loss of one example. `batch_key` is shared by the batch, `key` its own, `rank` its place i / B."""
        time_key, noise_key = jax.random.split(key)
        t = self.time_law.quantile(sde, self.time_law.uniform(batch_key=batch_key, key=time_key, rank=rank))
        return self.at(score, sde, x0, t, key=noise_key)

    def at(self, score: AbstractScore, sde: AbstractSDE, x0: State, t: Scalar, *, key: Key) -> Scalar:
        """The loss of one example at one time."""
        x_t, z = sde.perturb(x0, t, key=key)
        return self.reduce(self.weighting.error(score, sde, x0, x_t, z, t, self.time_law.density(sde, t)))


def denoising_score_matching(
    score: AbstractScore, sde: AbstractSDE, x0: State, *, key: Key, weight: Coef, time: Scalar, reduce=jnp.mean
) -> Scalar:
    """reduce(w |sigma s(x_t, t) + z|^2) of one example at one time (Vincent 2011)."""
    x_t, z = sde.perturb(x0, time, key=key)
    residual = sde.sigma(time) * score(x_t, time) + z
    return reduce(weight * residual**2)
