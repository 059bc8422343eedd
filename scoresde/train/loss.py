"""Denoising score matching, with one formula for all processes, weightings and distributions of t.

    loss = E_{t ~ law} E_{x_0, z}  w(t) |sigma(t) s(x_t, t) + z|^2,    x_t = alpha x_0 + sigma z     (Vincent 2011)

| weighting     | w(t)                                           | minimises                                      |
|---------------|------------------------------------------------|------------------------------------------------|
| SigmaSquared  | 1                                              | Song et al. 2021, eq. 7, lambda = sigma^2      |
| NoiseField    | sigma_k^2 / mean of sigma^2 over the modes     | the L2 error of the noise as a field           |
| Likelihood-   | g^2 / (sigma^2 p(t))                           | 2 x a bound on -log p, see below               |
|   Weighting   |                                                |                                                |
| EDMWeighting  | (alpha^2 c^2 + sigma^2) / (alpha^2 c^2)        | Karras et al. 2022, sec. 5 (c = sigma_data)    |

With one coefficient per mode, SigmaSquared is the Cameron-Martin norm of the error of the noise field (Kerrigan et al.
2023: the KL divergence of Gaussians), NoiseField its L2 norm (Lim et al. 2023); they are the same for white noise.
LikelihoodWeighting is the ELBO, mode by mode. EDMWeighting is the L2 error of the quantity that the network in
`EDMPreconditioning` learns, c_out^{-2} |D - x_0|^2 with D = E[x_0 | x_t]; the table has its form for one coefficient.

p(t) is the density of the distribution of t. The mean of the likelihood weighting is the same integral under every
distribution, but a finite sample estimates it only if the distribution covers all of the integrand: LogNormalSigma has
7e-8 of its mass in the cleaner third of sub-VP's log-SNR, below the spacing of float32 uniforms. `effective_share`
measures the coverage, and `Objective.check` refuses pairs without it. As g^2/sigma^2 = -d lambda/dt, the likelihood
weighting is constant under `UniformLogSNR`: importance sampling without a table (Song, Durkan, Murray and Ermon 2021,
eq. 12).

`UniformLogSigma` makes the weighting constant for the error of the velocity, alpha z - sigma x_0, if alpha^2 + sigma^2
= 1; this error is alpha times as large as that of the noise (Zheng et al. 2023, i-DODE). The loss then has less
variance at the noisy end.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.errors import ConfigError
from scoresde.score import AbstractScore, DataSpectrum
from scoresde.sde import AbstractSDE
from scoresde.sde.base import derivative
from scoresde.train.law import AbstractTimeLaw, StratifiedTime, effective_share
from scoresde.types import Coef, Key, Scalar, State

# Uniform t with t_min = 1e-5 (Song, Durkan, Murray and Ermon 2021) has 0.0019 under VP; LogNormalSigma 0.0007 there,
# 0.00008 under Cosine, where a gradient came out at 0.6 of its value, and 1e-21 under sub-VP.
_LEAST_SHARE = 5e-4


class AbstractWeighting(eqx.Module):
    def check(self, sde: AbstractSDE, law: AbstractTimeLaw) -> None:
        """Raise a ConfigError for a distribution of t that does not cover the integrand of the weighting."""

    @abc.abstractmethod
    def error(self, score: AbstractScore, x0: State, x_t: State, z: State, t: Scalar, density: Scalar) -> State:
        """Return the weighted squared error of the score in every mode, where `density` is p(t), with one score
        call."""


class AbstractNoiseWeighting(AbstractWeighting):
    """Weighting of the form w(t) |sigma s + z|^2."""

    @abc.abstractmethod
    def __call__(self, sde: AbstractSDE, t: Scalar, density: Scalar) -> Coef:
        """Return w(t)."""

    def error(self, score, x0, x_t, z, t, density):
        sde = score.sde
        return self(sde, t, density) * (sde.sigma(t) * score(x_t, t) + z) ** 2


class SigmaSquared(AbstractNoiseWeighting):
    """Weighting w = 1 of the error of sigma times the score (Song et al. 2021, eq. 7); it has no arguments."""

    def __call__(self, sde, t, density):
        return jnp.ones_like(t)


class NoiseField(AbstractNoiseWeighting):
    """Weighting by the share of each mode in the noise field, w_k = sigma_k^2 / mean of sigma^2; it has no arguments.

    For a process with one coefficient w = 1.
    """

    def __call__(self, sde, t, density):
        variance = sde.sigma(t) ** 2
        return variance / jnp.mean(variance)


class LikelihoodWeighting(AbstractNoiseWeighting):
    """Likelihood weighting w = g^2 / (sigma^2 p(t)); it has no arguments.

    The mean is the integral of g^2 |s + z / sigma|^2 over t, for a distribution of t that covers all of the integrand.
    """

    def check(self, sde, law):
        share = effective_share(law, sde)
        if not share >= _LEAST_SHARE:
            raise ConfigError(
                f"likelihood weighting under {type(law).__name__} for {type(sde).__name__}: expected that one draw of "
                "t in "
                f"{1 / _LEAST_SHARE:.0f} counts at the least, got an effective share of {share:.1g}, as the law leaves "
                "out times that "
                "the integral needs; take UniformLogSNR (log_snr)"
            )

    def __call__(self, sde, t, density):
        return -derivative(sde.log_snr, t) / density


class EDMWeighting(AbstractWeighting):
    """EDM's weighting |D - x_0|^2 / c_out^2, with which every noise level starts with the same loss.

    For one coefficient it is (alpha^2 c^2 + sigma^2) / (alpha^2 c^2) |sigma s + z|^2. It is computed from D, because D
    cannot be recovered from s where alpha is close to 0.

    Args:
      spectrum: variances of the data in each mode, the same as in the preconditioning.
    """

    spectrum: DataSpectrum = DataSpectrum()

    def error(self, score, x0, x_t, z, t, density):
        sde = score.sde
        off = score.denoise(x_t, t) - x0
        # All points of the field have the same weight: 1/n in the modes of a basis with coefficients of functions.
        return (off / (self.spectrum.remainder(sde, t) * sde.basis.white)) ** 2


def half_sum(x: State) -> Scalar:
    """Return half the sum over dimensions (Song et al. 2021 with reduce_mean = False).

    Args:
      x: weighted squared errors of one example.
    """
    return 0.5 * jnp.sum(x)


class Objective(eqx.Module):
    """Training objective: a weighting, a distribution of t and a reduction.

    Attributes:
      weighting: weighting of the squared error of the score, see the top of this file.
      time_law: distribution from which t is sampled, see `law`.
      reduce: reduction over the dimensions of one example, `jnp.mean` or `half_sum`.
    """

    weighting: AbstractWeighting = SigmaSquared()
    time_law: AbstractTimeLaw = StratifiedTime()
    reduce: Callable = eqx.field(default=jnp.mean, static=True)

    def check(self, sde: AbstractSDE) -> None:
        """Raise a ConfigError if the distribution of t does not cover the integrand for this weighting and process."""
        self.weighting.check(sde, self.time_law)

    def __call__(self, score: AbstractScore, x0: State, *, batch_key: Key, key: Key, rank: Scalar) -> Scalar:
        """Return the loss of one example. The batch shares `batch_key`; `key` and `rank` = i / B are those of the
        example."""
        time_key, noise_key = jax.random.split(key)
        t = self.time_law.quantile(score.sde, self.time_law.uniform(batch_key=batch_key, key=time_key, rank=rank))
        return self.at(score, x0, t, key=noise_key)

    def at(self, score: AbstractScore, x0: State, t: Scalar, *, key: Key) -> Scalar:
        """Return the loss of one example at one time, w |sigma s(x_t, t) + z|^2 reduced over values (Vincent 2011)."""
        sde = score.sde
        x_t, z = sde.perturb(x0, t, key=key)
        return self.reduce(self.weighting.error(score, x0, x_t, z, t, self.time_law.density(sde, t)))
