r"""Processes in function space: one coefficient per mode of a basis, two formulas each.

| process         | log alpha_k                             | sigma_k^2                                            | source                       |
|-----------------|-----------------------------------------|------------------------------------------------------|------------------------------|
| Coloured        | that of the inner process               | q_k sigma^2 of that process                          | Lim et al. 2023 ("DDO")      |
| Heat            | -B (s + lambda_k) / 2                   | q_k (1 - exp(-B (s + lambda_k))) / (s + lambda_k)    | Lim et al. 2023 ("HDM")      |
| Blur            | log a + log[(1 - d) exp(-lambda_k tau) + d] | sigma^2 / n, white; a, sigma of Cosine           | Hoogeboom and Salimans 2023  |
| Cold            | -rate_k tau                             | constant, white; in `cold`                           | Bansal et al. 2023           |

lambda_k are the eigenvalues of -Laplacian in the basis, q_k those of the covariance of the noise, B(t) the integral of
beta. The marginals are those of the stochastic partial differential equations of the papers; f and g follow as for any
process.
"""

import dataclasses
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import AbstractVar

from scoresde.errors import ConfigError
from scoresde.sde.base import AbstractSDE, as_time, check_parameters
from scoresde.sde.basis import AbstractBasis
from scoresde.sde.covariance import AbstractCovariance, PowerLaw
from scoresde.sde.isotropic import VE, VP, Cosine
from scoresde.types import Coef, Scalar, Time

# Lim et al. 2023, after Nichol and Dhariwal 2021: the offset keeps beta(0) above 0.
_OFFSET = 0.008


class AbstractSpectral(AbstractSDE):
    """Process with one coefficient per mode. Its reference mode is the first one, the mean of the field."""

    basis: AbstractVar[AbstractBasis]  # of the subclass: `eqx.field()`, as the class itself has the pixels
    per_mode: ClassVar[bool] = True

    def at(self, grid) -> "AbstractSpectral":
        """Return the process on another grid, given by its shape or, for a `Kernel` basis, by its points."""
        return dataclasses.replace(self, basis=self.basis.at(grid))


class Coloured(AbstractSpectral):
    """Process in function space with the alpha of an inner process and sigma_k = q_k^{1/2} sigma.

    These are the denoising diffusion operators of Lim et al. 2023 and the functional DDPM of Kerrigan et al. 2023. With
    trace-class noise the state at every noise level is a random function whose distribution is the same on every grid.

    Args:
      basis: basis in which the covariance of the noise is diagonal: `DCT`, `Fourier`, `Haar` or `Kernel`.
      covariance: covariance of the noise: `PowerLaw(...)`, or `Gram()` with a `Kernel` basis.
      process: inner process, which defines alpha and sigma: VP, SubVP, VE, Cosine or Karras.

    Raises:
      ConfigError: noise that is not trace class (for white noise use the inner process), or a variance that is not
        positive.
    """

    has_function_prior: ClassVar[bool] = True
    basis: AbstractBasis = eqx.field()
    covariance: AbstractCovariance = eqx.field()
    process: AbstractSDE = VP()

    @property
    def t_min(self) -> float:
        return self.process.t_min

    @property
    def t_max(self) -> float:
        return self.process.t_max

    def log_alpha(self, t: Time) -> Scalar:
        return self.process.log_alpha(t)

    def sigma(self, t: Time) -> Coef:
        return self.process.sigma(t) * jnp.sqrt(self.covariance(self.basis))

    def reference_log_snr(self, t: Time) -> Scalar:
        """Return the log-SNR of the inner process; modes differ from it by constants."""
        return self.process.log_snr(t)

    def __check_init__(self):
        _check_variances("Coloured", self.covariance(self.basis))
        _check_trace_class("Coloured", self.covariance, self.basis, "take VP or VE without colour, or")


def coloured_vp(basis: AbstractBasis, covariance: AbstractCovariance, **of_vp) -> Coloured:
    """Return `Coloured` with the inner process VP(**of_vp).

    Args:
      basis: basis in which the covariance of the noise is diagonal.
      covariance: covariance of the noise: `PowerLaw(...)`, or `Gram()` with a `Kernel` basis.
      of_vp: arguments of `VP`.
    """
    return Coloured(basis, covariance, VP(**of_vp))


def coloured_ve(basis: AbstractBasis, covariance: AbstractCovariance, **of_ve) -> Coloured:
    """Return `Coloured` with the inner process VE(**of_ve).

    Args:
      basis: basis in which the covariance of the noise is diagonal.
      covariance: covariance of the noise: `PowerLaw(...)`, or `Gram()` with a `Kernel` basis.
      of_ve: arguments of `VE`.
    """
    return Coloured(basis, covariance, VE(**of_ve))


class Heat(AbstractSpectral):
    """Hilbert diffusion model, the stochastic heat equation (Lim et al. 2023, eq. 19 and 20).

        dX = -beta/2 (s - Laplacian) X dt + sqrt(beta) Q^{1/2} dW,   Q = gain (s - Laplacian)^{-index},

    with B(t) = -2 log[cos(a(t)) / cos(a(0))], a(t) = (t + 0.008) / 1.008 pi/2. High modes lose their signal first: at
    t_max their alpha is below float32, and only its logarithm is used.

    Args:
      basis: basis with eigenvalues: `DCT`, `Fourier` or `Haar`.
      index: exponent of Q. The stationary noise has the exponent -(index + 1); index + 1 > dimensions/2 (trace class).
      screening: s, in 1 / length^2; above 0, because otherwise the mean of a field would never lose its signal.
      gain: factor on the variance of the noise; above 0.
      t_min: time at which sampling ends; 0 < t_min < t_max, because sigma(0) is 0.
      t_max: time at which sampling starts; below 1, where the integral of beta is infinite.

    Raises:
      ConfigError: parameters out of range, or noise that is not trace class.
    """

    has_function_prior: ClassVar[bool] = True
    basis: AbstractBasis = eqx.field()
    index: float = eqx.field(static=True, default=0.0)
    screening: float = eqx.field(static=True, default=1.0)
    gain: float = eqx.field(static=True, default=1.0)
    t_min: float = eqx.field(static=True, default=1e-5)
    t_max: float = eqx.field(static=True, default=0.9946)

    def log_alpha(self, t: Time) -> Coef:
        return -0.5 * self._exponent(t)

    def sigma(self, t: Time) -> Coef:
        return jnp.sqrt(-jnp.expm1(-self._exponent(t)) * self.stationary(self.basis))

    @property
    def stationary(self) -> PowerLaw:
        """Return the covariance to which the noise converges."""
        return PowerLaw(self.index + 1, self.screening, self.gain)

    def _exponent(self, t: Time) -> Coef:
        first, angle = (math.pi / 2 * (u + _OFFSET) / (1 + _OFFSET) for u in (0.0, as_time(t)))
        # 1 - cos(b)/cos(a) is computed by the sine of half the difference, which keeps its precision near t = 0.
        fall = 2 * jnp.sin((angle - first) / 2) * jnp.sin((angle + first) / 2) / math.cos(first)
        return -2 * jnp.log1p(-fall) * (self.screening + self.basis.eigenvalues)

    def __check_init__(self):
        check_parameters(
            "Heat",
            index=(self.index, True, "a finite number"),
            screening=(self.screening, self.screening > 0, "screening > 0"),
            gain=(self.gain, self.gain > 0, "gain > 0"),
            t_min=(
                self.t_min,
                0 < self.t_min < self.t_max,
                f"0 < t_min (sigma(0) is 0) and t_min < t_max = {self.t_max}",
            ),
            t_max=(self.t_max, self.t_max < 1, "t_max < 1, where the integral of beta is infinite"),
        )
        _check_trace_class("Heat", self.stationary, self.basis, "raise index, or")
        _check_variances("Heat", self.sigma(self.t_min) ** 2)


class Blur(AbstractSpectral):
    """Blurring diffusion: a field is blurred while white noise is added (Hoogeboom and Salimans 2023).

        alpha_k = a [(1 - d) exp(-lambda_k tau) + d],   tau = blur(t)^2 / 2,   blur(t) = blur_max sin^2(pi t / 2),
        sigma^2 white

    Args:
      basis: basis with eigenvalues, such as `DCT`; lengths equal to the number of points measure the blur in pixels.
      process: inner process, which defines a and sigma; its t_max is at most 1.
      blur_max: standard deviation of the blur at t = 1, in units of the basis's length; at least 0.
      min_scale: d, the remaining amplitude of the highest mode, between 0 and 1; it keeps every alpha in float32.

    Raises:
      ConfigError: parameters out of range.
    """

    basis: AbstractBasis = eqx.field()
    process: AbstractSDE = Cosine(-10.0, 10.0)
    blur_max: float = eqx.field(static=True, default=20.0)
    min_scale: float = eqx.field(static=True, default=1e-3)

    @property
    def t_min(self) -> float:
        return self.process.t_min

    @property
    def t_max(self) -> float:
        return self.process.t_max

    def log_alpha(self, t: Time) -> Coef:
        tau = 0.5 * (self.blur_max * jnp.sin(0.5 * math.pi * as_time(t)) ** 2) ** 2
        u, d = self.basis.eigenvalues * tau, self.min_scale
        # Two forms of log[(1 - d) e^{-u} + d]: one is accurate where it is close to log 1, one where close to log d.
        near, far = jnp.log1p((1 - d) * jnp.expm1(-u)), jnp.logaddexp(math.log1p(-d) - u, math.log(d))
        return self.process.log_alpha(t) + jnp.where(u < 0.5, near, far)

    def sigma(self, t: Time) -> Scalar:
        return self.process.sigma(t) * self.basis.white

    def reference_log_snr(self, t: Time) -> Scalar:
        """Return the log-SNR of the inner process. The zero mode's is larger by the constant log n."""
        return self.process.log_snr(t)

    def __check_init__(self):
        self.basis.eigenvalues  # raises a ConfigError if the basis has none
        check_parameters(
            "Blur",
            process=(
                self.process.t_max,
                self.process.t_max <= 1,
                "a process with t_max <= 1, where the blur is largest",
            ),
            blur_max=(self.blur_max, self.blur_max >= 0, "blur_max >= 0"),
            min_scale=(self.min_scale, 0 < self.min_scale < 1, "a number between 0 and 1, such as 0.001"),
        )


def _check_trace_class(name: str, covariance: AbstractCovariance, basis: AbstractBasis, remedy: str) -> None:
    if reason := covariance.summable(len(basis.shape)):
        raise ConfigError(
            f"{name}: noise that is not trace class ({reason}) is no function on ever finer grids; {remedy} an index "
            "above "
            f"{len(basis.shape)}/2"
        )


def _check_variances(name: str, q: Coef) -> None:
    if not isinstance(q, jax.core.Tracer) and not bool(jnp.all((q > 0) & jnp.isfinite(q))):
        raise ConfigError(
            f"{name}: expected a positive variance in every mode, got {float(jnp.min(q)):.2g} at the least: the score "
            "of a mode "
            "without noise does not exist; take a jitter, fewer points or a smaller index"
        )
