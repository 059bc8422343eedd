"""Linear cold diffusion: the signal fades mode by mode under constant noise, and generation starts from degraded data.

| process         | basis | rates                                 | source                                   |
|-----------------|-------|---------------------------------------|------------------------------------------|
| `inverse_heat`  | DCT   | eigenvalues lambda_k: a Gaussian blur | Rissanen et al. 2023 ("IHDM")            |
| `pixelate`      | Haar  | 4^level: squares take their means     | Bansal et al. 2023                       |
| `fade`          | Pixel | 1: all points together                | Bansal et al. 2023                       |
| `mask`          | Pixel | a mask: a hole                        | Bansal et al. 2023          |
"""

import dataclasses
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.sde.base import as_time, check_parameters
from scoresde.sde.basis import DCT, AbstractBasis, Haar, Pixel
from scoresde.sde.resampling import resample
from scoresde.sde.spectral import AbstractSpectral
from scoresde.types import Coef, Key, Scalar, State, Time


class Cold(AbstractSpectral):
    """Linear cold diffusion, which includes inverse heat dissipation: the signal fades and the noise is constant.

        alpha_k = exp(-rate_k tau),   tau = scale^2 / 2,   scale = scale_min^{1 - t} scale_max^t,
        sigma_k = sigma white

    `inverse_heat`, `fade`, `mask` and `pixelate` are the published degradations. In the limit sigma -> 0 DDIM is
    algorithm 2 of Bansal et al. 2023. Generation starts from degraded data, not from noise: see `started_from`.

    Args:
      basis: basis in which the degradation is diagonal.
      rates: rate at which each mode fades, [*modes, 1], at least 0. None: the eigenvalues of the basis.
      sigma_noise: standard deviation of the noise at each point, in units of the data; above 0.
      scale_min: scale at t = 0; 0 < scale_min < scale_max. It has the unit of length if the rates are eigenvalues.
      scale_max: scale at t = 1, in the same unit; above 0.
      starts: coefficients of data, [N, *modes, channels]; the prior consists of them, degraded to t_max, plus noise.
      t_min: time at which sampling ends; 0 <= t_min < t_max.
      t_max: time at which sampling starts.

    Raises:
      ConfigError: parameters out of range; `sample_prior` and `log_prior` without `starts`.
    """

    needs_data: ClassVar[bool] = True
    basis: AbstractBasis = eqx.field()
    rates: Float[Array, "*modes 1"] | None = None
    sigma_noise: float = eqx.field(static=True, default=0.01)
    scale_min: float = eqx.field(static=True, default=0.5)
    scale_max: float = eqx.field(static=True, default=20.0)
    starts: Float[Array, "N *x"] | None = None
    t_min: float = eqx.field(static=True, default=0.0)
    t_max: float = eqx.field(static=True, default=1.0)

    def log_alpha(self, t: Time) -> Coef:
        rates = self.basis.eigenvalues if self.rates is None else self.rates
        return -0.5 * rates * jnp.exp(2 * self._log_scale(t))

    def sigma(self, t: Time) -> Scalar:
        return jnp.full_like(as_time(t), self.sigma_noise * self.basis.white)

    def reference_log_snr(self, t: Time) -> Scalar:
        """Return -2 log scale, because some modes never lose their signal. Up to a constant this is the log-SNR of a
        process whose sigma is the scale."""
        return -2 * self._log_scale(t)

    def _log_scale(self, t: Time) -> Scalar:
        return math.log(self.scale_min) + as_time(t) * math.log(self.scale_max / self.scale_min)

    def started_from(self, x0: Float[Array, "N *x"]) -> "Cold":
        """Return the process with the prior data `x0`, fields [N, *grid, channels] without degradation."""
        return dataclasses.replace(self, starts=jax.vmap(self.basis.to_modes)(jnp.asarray(x0, float)))

    def at(self, grid) -> "Cold":
        if self.rates is not None:
            raise ConfigError("Cold: its rates are of one grid; build it anew on the other one")
        basis, starts = self.basis.at(grid), self.starts
        if starts is not None:
            starts = jax.vmap(lambda c: resample(c, self.basis, basis))(starts)
        return dataclasses.replace(self, basis=basis, starts=starts)

    def sample_prior(self, shape, *, key: Key) -> State:
        pick, noise = jax.random.split(key)
        starts = self._starts()
        t = as_time(self.t_max)
        x0 = starts[jax.random.randint(pick, (), 0, len(starts))]
        return self.alpha(t) * x0 + self.sigma(t) * jax.random.normal(noise, shape)

    def log_prior(self, x: State) -> Scalar:
        """Return log 1/N sum_i N(x; alpha x_i, sigma^2), the density of the degraded training data."""
        return self._log_degraded(x, as_time(self.t_max))

    def prior_kl(self, x0: State, t: Time, *, key: Key) -> Scalar:
        """Return log q(x_t | x_0) - log prior(x_t) in nats, averaged over one sample z and its mirror image -z. This
        cancels the part linear in z, which is almost all of the variance if one data point is much nearer than
        others."""
        z = jax.random.normal(key, jnp.shape(x0), jnp.result_type(x0, float))
        log_q = -0.5 * jnp.sum(z**2) - jnp.size(z) * (jnp.log(self.sigma(t)) + 0.5 * math.log(2 * math.pi))
        mean, noise = self.alpha(t) * x0, self.sigma(t) * z
        return log_q - 0.5 * (self._log_degraded(mean + noise, t) + self._log_degraded(mean - noise, t))

    def _log_degraded(self, x: State, t: Time) -> Scalar:
        """Return the log-density at x of the prior data degraded to t."""
        sigma, starts = self.sigma(t), self._starts()
        apart = jax.vmap(lambda x0: jnp.sum(((x - self.alpha(t) * x0) / sigma) ** 2))(starts)
        constant = jnp.size(x) * (jnp.log(sigma) + 0.5 * math.log(2 * math.pi))
        return jax.nn.logsumexp(-0.5 * apart) - math.log(len(starts)) - constant

    def _starts(self):
        if self.starts is None:
            raise ConfigError(
                "Cold: its prior is degraded data; give them by process.started_from(x0), x0 [N, *grid, channels]"
            )
        return self.starts

    def __check_init__(self):
        rates = self.basis.eigenvalues if self.rates is None else self.rates
        if not isinstance(rates, jax.core.Tracer):
            if jnp.shape(rates) != (*self.basis.shape, 1) or not bool(jnp.all((rates >= 0) & jnp.isfinite(rates))):
                raise ConfigError(f"Cold: expected finite rates of at least 0 and shape {(*self.basis.shape, 1)}")
        check_parameters(
            "Cold",
            sigma_noise=(
                self.sigma_noise,
                self.sigma_noise > 0,
                "sigma_noise > 0, such as 0.01: without noise there is no score",
            ),
            scale_min=(
                self.scale_min,
                0 < self.scale_min < self.scale_max,
                f"0 < scale_min < scale_max = {self.scale_max}",
            ),
            scale_max=(self.scale_max, self.scale_max > 0, "scale_max > 0"),
            t_min=(self.t_min, 0 <= self.t_min < self.t_max, f"0 <= t_min < t_max = {self.t_max}"),
        )


def inverse_heat(shape, *, sigma: float = 0.01, blur_min: float = 0.5, blur_max: float = 20.0) -> Cold:
    """Return inverse heat dissipation in continuous time: a Gaussian blur that grows (Rissanen et al. 2023).

    The first step of the paper, from blur_min to no blur, is the final denoising here.

    Args:
      shape: points along each axis of the grid, or one number for a curve.
      sigma: standard deviation of the noise at each point, in units of the data; above 0.
      blur_min: standard deviation of the blur at t = 0, in pixels; 0 < blur_min < blur_max.
      blur_max: standard deviation of the blur at t = 1, in pixels.
    """
    basis = DCT(shape, tuple(float(n) for n in _sizes(shape)))
    return Cold(basis, None, sigma, blur_min, blur_max)


def fade(shape, *, sigma: float = 0.01) -> Cold:
    """Return cold diffusion in which all points fade together, with alpha from 0.98 to 2e-4 (Bansal et al. 2023).

    Args:
      shape: points along each axis of the grid, or one number for a curve.
      sigma: standard deviation of the noise at each point, in units of the data; above 0.
    """
    return Cold(Pixel(_sizes(shape)), jnp.ones((*_sizes(shape), 1)), sigma, 0.2, 4.1)


def mask(mask, *, sigma: float = 0.01) -> Cold:
    """Return cold diffusion in which points fade at rates proportional to a mask (Bansal et al. 2023).

    A mask of zeros and ones is inpainting; a smooth bump is a hole that grows.

    Args:
      mask: rate of each point, [*grid], values from 0 to 1; points with 0 do not fade.
      sigma: standard deviation of the noise at each point, in units of the data; above 0.
    """
    mask = jnp.asarray(mask, float)
    return Cold(Pixel(mask.shape), mask[..., None], sigma, 0.2, 4.1)


def pixelate(shape, *, sigma: float = 0.01) -> Cold:
    """Return cold diffusion in which squares of 2, 4, 8, ... points lose all but their means (Bansal et al. 2023).

    Args:
      shape: points along each axis of the grid, powers of 2, or one number for a curve.
      sigma: standard deviation of the noise at each point, in units of the data; above 0.
    """
    sizes = _sizes(shape)
    basis = Haar(sizes, tuple(float(n) for n in sizes))
    return Cold(basis, None, sigma, 0.5, 2.0 * max(sizes))


def _sizes(shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)
