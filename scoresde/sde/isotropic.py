"""The processes with one coefficient for all coordinates: two formulas each.

| process | log alpha              | sigma                         | source                             |
|---------|------------------------|-------------------------------|------------------------------------|
| VP      | -B/2                   | sqrt(1 - exp(-B))             | Song et al. 2021, eq. 33           |
| sub-VP  | -B/2                   | 1 - exp(-B)                   | Song et al. 2021, eq. 33           |
| VE      | 0                      | s_min (s_max / s_min)^t       | Song et al. 2021, eq. 31           |
| Cosine  | log cos(a + (b - a) t) | sin(a + (b - a) t)            | Hoogeboom et al. 2023, appendix    |
| Karras  | 0                      | t                             | Karras et al. 2022, table 1 (EDM)  |

B(t) = beta_min t + (beta_max - beta_min) t^2 / 2 is the integral of beta(t) = beta_min + t (beta_max - beta_min).
1 - exp(-B) is written -expm1(-B): in float32 the plain difference is 2.4 % off at t = 1e-5 and 0 at t = 1e-7.
"""

import math

import equinox as eqx
import jax.numpy as jnp

from scoresde.sde.base import AbstractSDE, as_time, check_parameters
from scoresde.types import Scalar, Time


class VP(AbstractSDE):
    """Variance-preserving process: log alpha = -B/2, sigma^2 = 1 - exp(-B) (Song et al. 2021, eq. 33).

    alpha^2 + sigma^2 = 1. B(t) is the integral of beta, see the top of this file.

    Args:
      beta_min: noise rate beta(0), per unit of t; 0 < beta_min <= beta_max.
      beta_max: noise rate at t = 1, per unit of t; above 0.
      t_min: time at which sampling ends; 0 < t_min < t_max, because sigma(0) is 0.
      t_max: time at which sampling starts.

    Raises:
      ConfigError: a parameter is out of range.
    """

    beta_min: float = eqx.field(static=True, default=0.1)
    beta_max: float = eqx.field(static=True, default=20.0)
    t_min: float = eqx.field(static=True, default=1e-5)
    t_max: float = eqx.field(static=True, default=1.0)

    def log_alpha(self, t: Time) -> Scalar:
        return -0.5 * _integrated_beta(self, t)

    def sigma(self, t: Time) -> Scalar:
        return jnp.sqrt(-jnp.expm1(-_integrated_beta(self, t)))

    def __check_init__(self):
        _check_beta(self)


class SubVP(AbstractSDE):
    """Sub-variance-preserving process: log alpha = -B/2, sigma = 1 - exp(-B) (Song et al. 2021, eq. 33).

    B(t) is the integral of beta, see the top of this file.

    Args:
      beta_min: noise rate beta(0), per unit of t; 0 < beta_min <= beta_max.
      beta_max: noise rate at t = 1, per unit of t; above 0.
      t_min: time at which sampling ends; 0 < t_min < t_max, because sigma(0) is 0.
      t_max: time at which sampling starts.

    Raises:
      ConfigError: a parameter is out of range.
    """

    beta_min: float = eqx.field(static=True, default=0.1)
    beta_max: float = eqx.field(static=True, default=20.0)
    t_min: float = eqx.field(static=True, default=1e-5)
    t_max: float = eqx.field(static=True, default=1.0)

    def log_alpha(self, t: Time) -> Scalar:
        return -0.5 * _integrated_beta(self, t)

    def sigma(self, t: Time) -> Scalar:
        return -jnp.expm1(-_integrated_beta(self, t))

    def __check_init__(self):
        _check_beta(self)


class VE(AbstractSDE):
    """Variance-exploding process: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t (Song et al. 2021, eq. 31).

    The kernel is sigma(t), not sqrt(sigma(t)^2 - sigma_min^2). The published models were trained with sigma(t), which
    treats the data as already blurred by N(0, sigma_min^2 I) at t = 0. The alternative vanishes at t = 0 (it is 77
    times smaller at t = 1e-5), which leaves the score unbounded. A likelihood at t_min is therefore the likelihood of
    data + N(0, sigma(t_min)^2 I); quote t_min and sigma_min with it.

    Args:
      sigma_min: standard deviation of the noise at t = 0, in units of the data; 0 < sigma_min < sigma_max.
      sigma_max: standard deviation of the noise at t = 1, in units of the data; above 0.
      t_min: time at which sampling ends; 0 <= t_min < t_max.
      t_max: time at which sampling starts.

    Raises:
      ConfigError: a parameter is out of range.
    """

    sigma_min: float = eqx.field(static=True, default=0.01)
    sigma_max: float = eqx.field(static=True, default=50.0)
    t_min: float = eqx.field(static=True, default=1e-5)
    t_max: float = eqx.field(static=True, default=1.0)

    def log_alpha(self, t: Time) -> Scalar:
        return jnp.zeros_like(as_time(t))

    def sigma(self, t: Time) -> Scalar:
        # Starting from the middle of the range halves the exponent and with it the rounding error.
        middle = math.sqrt(self.sigma_min * self.sigma_max)
        return middle * jnp.exp((as_time(t) - 0.5) * math.log(self.sigma_max / self.sigma_min))

    def __check_init__(self):
        check_parameters(
            "VE",
            **_time_rules(self, positive=False),
            t_max=(self.t_max, True, "a finite number"),
            **_sigma_rules(self),
        )


class Cosine(AbstractSDE):
    """Cosine process: lambda(t) = -2 log tan(a + (b - a) t), lambda(0) = log_snr_max, lambda(1) = log_snr_min.

    alpha is the cosine and sigma the sine of that angle (Nichol and Dhariwal 2021, with the ends of Hoogeboom et al.
    2023). Near t = 1 the cosine is computed as the sine of the complementary angle, which keeps its relative precision.

    Args:
      log_snr_min: log-SNR at t = 1, in nats; from -60 to below log_snr_max.
      log_snr_max: log-SNR at t = 0, in nats; from -60 to 60.
      t_min: time at which sampling ends; 0 <= t_min < t_max.
      t_max: time at which sampling starts; at most 1.

    Raises:
      ConfigError: a parameter is out of range.
    """

    log_snr_min: float = eqx.field(static=True, default=-15.0)
    log_snr_max: float = eqx.field(static=True, default=15.0)
    t_min: float = eqx.field(static=True, default=0.0)
    t_max: float = eqx.field(static=True, default=1.0)

    def log_alpha(self, t: Time) -> Scalar:
        first, span, last = self._angles()
        return jnp.log(jnp.sin(last + span * (1 - as_time(t))))

    def sigma(self, t: Time) -> Scalar:
        first, span, last = self._angles()
        return jnp.sin(first + span * as_time(t))

    def _angles(self) -> tuple[float, float, float]:
        """Return the angle at t = 0, the range of the angle, and the complement of the angle at t = 1."""
        first, last = math.atan(math.exp(-self.log_snr_max / 2)), math.atan(math.exp(self.log_snr_min / 2))
        return first, math.pi / 2 - first - last, last

    def __check_init__(self):
        check_parameters(
            "Cosine",
            **_time_rules(self, positive=False),
            t_max=(self.t_max, self.t_max <= 1, "t_max <= 1, where lambda is log_snr_min"),
            log_snr_min=(
                self.log_snr_min,
                -60 <= self.log_snr_min < self.log_snr_max,
                "a number from -60 and below log_snr_max",
            ),
            log_snr_max=(self.log_snr_max, abs(self.log_snr_max) <= 60, "a number between -60 and 60"),
        )


class Karras(AbstractSDE):
    """EDM's process: alpha = 1, sigma = t for t in [sigma_min, sigma_max] (Karras et al. 2022, table 1).

    Args:
      sigma_min: t_min, the smallest noise level, in units of the data; 0 < sigma_min < sigma_max.
      sigma_max: t_max, the largest noise level, in units of the data; above 0.

    Raises:
      ConfigError: a parameter is out of range.
    """

    sigma_min: float = eqx.field(static=True, default=0.002)
    sigma_max: float = eqx.field(static=True, default=80.0)

    @property
    def t_min(self) -> float:
        return self.sigma_min

    @property
    def t_max(self) -> float:
        return self.sigma_max

    def log_alpha(self, t: Time) -> Scalar:
        return jnp.zeros_like(as_time(t))

    def sigma(self, t: Time) -> Scalar:
        return as_time(t)

    def __check_init__(self):
        check_parameters("Karras", **_sigma_rules(self))


def _integrated_beta(sde: VP | SubVP, t: Time) -> Scalar:
    t = as_time(t)
    return t * (sde.beta_min + 0.5 * (sde.beta_max - sde.beta_min) * t)


def _time_rules(sde: AbstractSDE, *, positive: bool) -> dict:
    holds = (sde.t_min > 0 if positive else sde.t_min >= 0) and sde.t_min < sde.t_max
    bound = "0 < t_min (sigma(0) is 0)" if positive else "0 <= t_min"
    return {"t_min": (sde.t_min, holds, f"{bound} and t_min < t_max = {sde.t_max}")}


def _check_beta(sde: VP | SubVP) -> None:
    check_parameters(
        type(sde).__name__,
        **_time_rules(sde, positive=True),
        t_max=(sde.t_max, True, "a finite number"),
        beta_min=(sde.beta_min, 0 < sde.beta_min <= sde.beta_max, f"0 < beta_min <= beta_max = {sde.beta_max}"),
        beta_max=(sde.beta_max, sde.beta_max > 0, "beta_max > 0"),
    )


def _sigma_rules(sde: VE | Karras) -> dict:
    return {
        "sigma_min": (sde.sigma_min, 0 < sde.sigma_min < sde.sigma_max, f"0 < sigma_min < sigma_max = {sde.sigma_max}"),
        "sigma_max": (sde.sigma_max, sde.sigma_max > 0, "sigma_max > 0"),
    }
