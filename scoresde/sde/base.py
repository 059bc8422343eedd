"""Forward processes: two formulas define a process, and everything else is derived from them.

    x_t | x_0 ~ N(alpha(t) x_0, sigma(t)^2 I),   t in [t_min, t_max]            (Song et al. 2021, eq. 29)

    dx = f(t) x dt + g(t) dw,   f = d log alpha / dt,   g^2 = d sigma^2 / dt - 2 f sigma^2
    lambda(t) = log-SNR = 2 log(alpha / sigma),         g^2 / sigma^2 = -d lambda / dt

The state x is stored in the coordinates in which the process is diagonal, those of `basis`. For isotropic processes
such as VP and VE these are the pixels. A coefficient is one number, or one number per mode that broadcasts against x.
The covariance C of the noise is diagonal there and part of sigma, so g^2 s is what the literature on function space
writes as C grad log p.

Methods take one time t (a scalar) and one example x; use `jax.vmap` for batches. Time is float32 by default,
independently of the compute dtype of the network.
"""

import abc
import math
import numbers
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import AbstractVar
from jaxtyping import Array, Bool

from scoresde.errors import ConfigError
from scoresde.sde.basis import AbstractBasis, Pixel
from scoresde.types import Coef, Key, Scalar, State, Time

# Halvings of [t_min, t_max] in `time_where`: enough for the last bit of a float64 next to 1e-5.
_BISECTIONS = 72


class AbstractSDE(eqx.Module):
    """Forward process x_t | x_0 ~ N(alpha x_0, sigma^2 I).

    A subclass defines `log_alpha` and `sigma`; everything else is derived from them. alpha is defined by its logarithm
    because alpha may underflow float32, sigma directly because its relative precision matters down to t_min.
    """

    t_min: AbstractVar[float]
    t_max: AbstractVar[float]

    # The coordinates of the state. Processes with one coefficient per mode have a field with this name.
    basis: ClassVar[AbstractBasis] = Pixel()
    # Whether the coefficients differ between modes; then no single log-SNR describes a noise level.
    per_mode: ClassVar[bool] = False
    # Whether the prior is a distribution of degraded data, which `started_from` supplies.
    needs_data: ClassVar[bool] = False
    # Whether the prior is a Gaussian measure on functions, so that densities relative to it exist on every grid.
    has_function_prior: ClassVar[bool] = False

    @abc.abstractmethod
    def log_alpha(self, t: Time) -> Coef:
        """Return log alpha(t)."""

    @abc.abstractmethod
    def sigma(self, t: Time) -> Coef:
        """Return sigma(t), the standard deviation of x_t given x_0."""

    def alpha(self, t: Time) -> Coef:
        """Return alpha(t), the factor of x_0 in the mean of x_t."""
        return jnp.exp(self.log_alpha(t))

    def log_sigma(self, t: Time) -> Coef:
        return jnp.log(self.sigma(t))

    def f(self, t: Time) -> Coef:
        """Return the drift coefficient f = d log alpha / dt: the drift is f(t) x."""
        return derivative(self.log_alpha, t)

    def g2(self, t: Time) -> Coef:
        """Return the squared diffusion coefficient g^2 = d sigma^2/dt - 2 f sigma^2.

        It is computed as -sigma^2 d lambda/dt, whose two terms have the same sign, so that nothing cancels in float32.
        """
        return -(self.sigma(t) ** 2) * derivative(self.log_snr, t)

    def log_snr(self, t: Time) -> Coef:
        """Return lambda(t) = 2 log(alpha / sigma), which is strictly decreasing in t."""
        return 2 * (self.log_alpha(t) - self.log_sigma(t))

    def reference_log_snr(self, t: Time) -> Scalar:
        """Return the log-SNR used by grids, distributions of t and noise labels: lambda(t), or that of the first
        mode."""
        return jnp.ravel(self.log_snr(t))[0]

    def time_of_log_snr(self, log_snr: Time) -> Scalar:
        """Return the t in [t_min, t_max] with this reference log-SNR; values outside the range give the nearer end.

        Bisection, then one Newton step from the fixed root: it carries the derivative dt/dlambda = -sigma^2/g^2.
        """
        log_snr = as_time(log_snr)
        fixed = jax.lax.stop_gradient(log_snr)
        root = time_where(self, lambda t: self.reference_log_snr(t) < fixed, log_snr.dtype)
        slope = jax.lax.stop_gradient(derivative(self.reference_log_snr, root))
        newton = root - (self.reference_log_snr(root) - log_snr) / slope
        return jnp.clip(newton, self.t_min, self.t_max)

    def perturb(self, x0: State, t: Time, *, key: Key) -> tuple[State, State]:
        """Return (x_t, z) with x_t = alpha x_0 + sigma z and z ~ N(0, I)."""
        z = jax.random.normal(key, jnp.shape(x0), jnp.result_type(x0, float))
        return self.alpha(t) * x0 + self.sigma(t) * z, z

    def sample_prior(self, shape: tuple[int, ...], *, key: Key) -> State:
        """Return one sample x_T ~ N(0, sigma(t_max)^2 I) of this shape, in the coordinates of `basis`."""
        return self.sigma(as_time(self.t_max)) * jax.random.normal(key, shape)

    def log_prior(self, x: State) -> Scalar:
        """Return log N(x; 0, sigma(t_max)^2 I) in nats. It replaces p_T, which also contains alpha(t_max) x_0."""
        sigma = jnp.broadcast_to(self.sigma(as_time(self.t_max)), jnp.shape(x))
        return -0.5 * jnp.sum((x / sigma) ** 2 + 2 * jnp.log(sigma) + math.log(2 * math.pi))

    def prior_kl(self, x0: State, t: Time, *, key: Key) -> Scalar:
        """Return KL(q(x_t | x_0) || prior) in nats for a prior at time t, usually t_max.

        For the prior N(0, sigma^2 I) it is |alpha x_0 / sigma|^2 / 2. A process whose prior has no closed form returns
        an unbiased estimate that uses `key`.
        """
        del key
        return 0.5 * jnp.sum((jnp.exp(self.log_snr(t) / 2) * x0) ** 2)


def time_where(sde: AbstractSDE, noisier: Callable[[Scalar], Bool[Array, ""]], dtype) -> Scalar:
    """Return the smallest t in [t_min, t_max] for which `noisier(t)` holds, by bisection to the last bit."""

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        after = noisier(middle)
        return jnp.where(after, low, middle), jnp.where(after, middle, high)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, tuple(jnp.asarray(t, dtype) for t in (sde.t_min, sde.t_max)))
    return (low + high) / 2


def as_time(t: Time) -> Scalar:
    """Convert t to a floating array: Python numbers and integers are accepted."""
    return jnp.asarray(t, jnp.result_type(t, float))


def derivative(function, t: Time) -> Coef:
    """Return d function / dt by forward mode."""
    t = as_time(t)
    return jax.jvp(function, (t,), (jnp.ones_like(t),))[1]


def check_parameters(name: str, **rules: tuple[object, bool, str]) -> None:
    """Raise one ConfigError that lists every parameter breaking its rule.

    `rules` maps a field to (value, holds, what is expected). A value that is not a finite number breaks every rule.
    """
    problems = [
        f"{name}: {field} = {value!r}, expected {expected}"
        for field, (value, holds, expected) in rules.items()
        if not (_is_number(value) and holds)
    ]
    if problems:
        raise ConfigError(*problems)


def at_least(value, least: int) -> tuple:
    """Return the rule of `check_parameters` for a whole number."""
    return (
        value,
        isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= least,
        f"a whole number, at least {least}",
    )


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)
