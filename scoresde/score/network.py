"""Scores from a network inside a preconditioning.

A preconditioning defines the input and the prediction of the raw network F. F maps a field to a field: `NetworkScore`
transforms to the basis of the process and back, and the formulas are elementwise in its modes. With c_k^2 the variance
of the data in mode k and |v| = the variance of a field with mode variances v, averaged over its points,

| class                 | score                                                         | input          | noise label   |
|-----------------------|---------------------------------------------------------------|----------------|---------------|
| EDMPreconditioning    | -x / V + alpha c_out / sigma^2 F                              | x / |V|^{1/2}  | -lambda / 8   |
| EpsPreconditioning    | -sigma_rms / sigma^2 F                                        | x              | 999 t / t_max |
| ScorePreconditioning  | sigma_rms / sigma^2 F                                         | x              | log sigma_rms |
| VPreconditioning      | -x / r^2 - alpha / (r sigma) F                                | x / r          | 999 t / t_max |

V = alpha^2 c^2 + sigma^2 is the variance of x_t, sigma_rms^2 = |sigma^2|. EDM's denoiser (Karras et al. 2022, eq. 7) is
D = c_skip x + c_out F with, for any alpha and in every mode,

    c_skip = alpha c^2 / V,   c_out^2 = |sigma^2 c^2 / V|,   c_in = |V|^{-1/2},   c_noise = log(sigma / alpha) / 4.

c_skip is one number per mode, c_out and c_in are one number for all modes: c_out^2 is the variance, at a point of the
field, of the remainder to predict. F therefore learns a field of unit variance that is as rough as the remainder; with
one c_out per mode F would have to be white noise, which is not a function. The score (alpha D - x) / sigma^2 is
simplified by hand to the form in the table: alpha c_skip - 1 = -sigma^2 / V, so that nothing cancels in float32.
EpsPreconditioning and ScorePreconditioning are from Song et al. 2021, appendix C; their F is the noise as a field,
coloured if the noise is. With one coefficient for all pixels the formulas are the published ones.

VPreconditioning is v-prediction (Salimans and Ho 2022, appendix D), F = (alpha z - sigma x_0) / r with r^2 = alpha^2 +
sigma^2, which is 1 for variance-preserving processes: x_0 = (alpha x / r - sigma F) / r and z = (sigma x / r + alpha F)
/ r.
"""

import abc
import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from scoresde.errors import ConfigError
from scoresde.nets import AbstractCondition, parse_condition
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractCovariance, AbstractSDE
from scoresde.sde.base import check_parameters
from scoresde.types import Coef, Key, Scalar, State, Time

# Song et al. 2021 give the times of a continuous model the labels of the 1000 steps of DDPM.
_LAST_LABEL = 999.0
# Below this log alpha at t_max, x_0 is lost in the rounding of the noise in float32.
_LEAST_LOG_ALPHA = -20.0


class AbstractPreconditioning(eqx.Module):
    """Conversion of a raw network F(x, c_noise) to a score. `network` maps one example and one noise label to the
    shape of x."""

    @abc.abstractmethod
    def __call__(self, network: Callable, sde: AbstractSDE, x: State, t: Time) -> State:
        """Return the score at (x, t)."""

    @abc.abstractmethod
    def denoise(self, network: Callable, sde: AbstractSDE, x: State, t: Time) -> State:
        """Return E[x_0 | x_t = x] from one call of the network."""

    def check(self, sde: AbstractSDE) -> None:
        """Raise a ConfigError for a process that this preconditioning does not support."""

    def data_spectrum(self) -> "DataSpectrum | None":
        """Return the variances that it takes the data to have, by which input and output of the network are scaled;
        None if it does not use any."""
        return None


class DataSpectrum(eqx.Module):
    """Assumed variance c_k^2 of the data in each mode.

    Args:
      sigma_data: standard deviation of the data at a point, in model range; above 0.
      covariance: share of each mode in sigma_data^2, such as `PowerLaw.normalised(basis, ...)`; the shares sum to 1 on
        the training grid and are the same on other grids. None: equal shares, which depend on the grid.

    Raises:
      ConfigError: sigma_data is not above 0.
    """

    sigma_data: float = 0.5
    covariance: AbstractCovariance | None = None

    def variances(self, sde: AbstractSDE) -> Coef:
        basis = sde.basis
        if self.covariance is None:
            return jnp.asarray((self.sigma_data * basis.white) ** 2, float)
        return self.sigma_data**2 * self.covariance(basis)

    def remainder(self, sde: AbstractSDE, t: Time) -> Scalar:
        """Return c_out: the standard deviation of x_0 given x_t at a point of the field, for Gaussian data with these
        variances."""
        c2, sigma2 = self.variances(sde), sde.sigma(t) ** 2
        return jnp.sqrt(sde.basis.field_variance(sigma2 * c2 / (sde.alpha(t) ** 2 * c2 + sigma2)))

    def __check_init__(self):
        check_parameters("DataSpectrum", sigma_data=(self.sigma_data, self.sigma_data > 0, "sigma_data > 0"))


class EDMPreconditioning(AbstractPreconditioning):
    """EDM's preconditioning: input and target of the network have unit variance at every noise level.

    It generalises Karras et al. 2022, table 1, to processes with an alpha and to modes.

    Args:
      sigma_data: standard deviation of the data at a point, in model range; above 0.
      covariance: share of each mode in sigma_data^2, see `DataSpectrum`; None: equal shares.

    Raises:
      ConfigError: sigma_data is not above 0.
    """

    spectrum: DataSpectrum

    def __init__(self, sigma_data: float = 0.5, covariance: AbstractCovariance | None = None):
        self.spectrum = DataSpectrum(sigma_data, covariance)

    def data_spectrum(self):
        return self.spectrum

    def __call__(self, network, sde, x, t):
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        variance, output = self._parts(network, sde, x, t)
        return -x / variance + alpha / sigma * (self.spectrum.remainder(sde, t) / sigma) * output

    def denoise(self, network, sde, x, t):
        variance, output = self._parts(network, sde, x, t)
        c2 = self.spectrum.variances(sde)
        return sde.alpha(t) * c2 / variance * x + self.spectrum.remainder(sde, t) * output

    def check(self, sde: AbstractSDE) -> None:
        self.spectrum.variances(sde)  # raises a ConfigError if the basis does not fit the covariance

    def _parts(self, network, sde, x, t) -> tuple[Coef, State]:
        variance = sde.alpha(t) ** 2 * self.spectrum.variances(sde) + sde.sigma(t) ** 2
        output = network(x / jnp.sqrt(sde.basis.field_variance(variance)), -sde.reference_log_snr(t) / 8)
        return variance, output


class AbstractNoisePreconditioning(AbstractPreconditioning):
    """Preconditioning with F equal to the noise, or minus the noise, as a field of unit variance at every point."""

    @abc.abstractmethod
    def noise(self, network: Callable, sde: AbstractSDE, x: State, t: Time) -> State:
        """Return the network's estimate of sigma z in x = alpha x_0 + sigma z."""

    def __call__(self, network, sde, x, t):
        return -self.noise(network, sde, x, t) / sde.sigma(t) ** 2

    def denoise(self, network, sde, x, t):
        return (x - self.noise(network, sde, x, t)) / sde.alpha(t)

    def check(self, sde: AbstractSDE) -> None:
        if (least := float(jnp.min(sde.log_alpha(sde.t_max)))) < _LEAST_LOG_ALPHA:
            raise ConfigError(
                f"{type(self).__name__}: log alpha of {type(sde).__name__} falls to {least:.3g}, where noise no longer "
                "tells x_0; "
                "take EDMPreconditioning, which predicts x_0"
            )


def _rms(sde: AbstractSDE, t: Time) -> Scalar:
    """Return the standard deviation of the noise at a point of the field."""
    return jnp.sqrt(sde.basis.field_variance(sde.sigma(t) ** 2))


class EpsPreconditioning(AbstractNoisePreconditioning):
    """Preconditioning whose network predicts the noise; it has no arguments.

    It is that of Song et al. 2021 for VP and sub-VP, and in function space of Lim et al. 2023 and Kerrigan et al. 2023.
    """

    def noise(self, network, sde, x, t):
        return _rms(sde, t) * network(x, _LAST_LABEL * t / sde.t_max)


class ScorePreconditioning(AbstractNoisePreconditioning):
    """Preconditioning whose network predicts minus the noise and has the noise label log sigma; it has no arguments.

    It is that of Song et al. 2021 for VE with scale_by_sigma.
    """

    def check(self, sde: AbstractSDE) -> None:
        super().check(sde)
        if not float(_rms(sde, sde.t_max)) > float(_rms(sde, sde.t_min)):
            raise ConfigError(
                f"ScorePreconditioning: sigma of {type(sde).__name__} stands still and cannot tell t; take "
                "EDMPreconditioning"
            )

    def noise(self, network, sde, x, t):
        rms = _rms(sde, t)
        return -rms * network(x, jnp.log(rms))


class VPreconditioning(AbstractPreconditioning):
    """Preconditioning whose network predicts v = (alpha z - sigma x_0) / r (Salimans and Ho 2022); it has no arguments.

    v is the noise if x is only signal, and minus the signal if x is only noise.
    """

    def __call__(self, network, sde, x, t):
        alpha, sigma, r, v = self._parts(network, sde, x, t)
        return -x / r**2 - alpha / (r * sigma) * v

    def denoise(self, network, sde, x, t):
        alpha, sigma, r, v = self._parts(network, sde, x, t)
        return (alpha * x / r - sigma * v) / r

    def check(self, sde: AbstractSDE) -> None:
        if jnp.size(sde.sigma(sde.t_max)) > 1:
            raise ConfigError(
                f"VPreconditioning: expected a process with one coefficient, got {type(sde).__name__}, whose noise as "
                "a field is not as rough "
                "as data; take EDMPreconditioning"
            )

    def _parts(self, network, sde, x, t):
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        r = jnp.sqrt(alpha**2 + sigma**2)
        return alpha, sigma, r, network(x / r, _LAST_LABEL * t / sde.t_max)


class NetworkScore(AbstractScore):
    """Score s(x, t) of a network inside a preconditioning.

    Args:
      sde: process whose score this is.
      network: callable `(x [B, *x], c_noise [B], condition or None, key=None) -> [B, *x]` on fields, such as
        `scoresde.nets.Network`. It is called with B = 1, because Flax treats the first axis as a batch; `jax.vmap`
        turns the calls into one batched call.
      preconditioning: conversion of the output of the network to a score.
      condition: values of the entries of y by name, as the network takes them; entries that are not there are absent.
        `given` sets them from values in the units of the data.
      scales: mean and deviation by which the values of an entry are standardised, by name.
      key: key of the dropout; None switches dropout off.
    """

    sde: AbstractSDE
    network: Callable
    preconditioning: AbstractPreconditioning = EDMPreconditioning()
    condition: dict[str, Array] = eqx.field(default_factory=dict)
    scales: dict[str, tuple[Array, Array]] = eqx.field(default_factory=dict)
    key: Key | None = None

    def __call__(self, x: State, t: Time) -> State:
        return self.preconditioning(self._in_modes, self.sde, x, t)

    def denoise(self, x: State, t: Time) -> State:
        return self.preconditioning.denoise(self._in_modes, self.sde, x, t)

    @property
    def conditions(self) -> dict[str, AbstractCondition]:
        return getattr(self.network, "conditions", {})

    def given(self, condition):
        if not condition:
            return self
        return self.under(parse_condition(self.conditions, condition, self.scales))

    def under(self, condition: dict[str, Array]) -> "NetworkScore":
        """Return the score with values of entries as the network takes them."""
        return dataclasses.replace(self, condition=self.condition | condition)

    def _in_modes(self, x: State, c_noise: Scalar) -> State:
        condition = {name: value[None] for name, value in self.condition.items()} or None
        field = self.sde.basis.from_modes(x)
        output = self.network(field[None], jnp.asarray(c_noise)[None], condition, key=self.key)[0]
        return self.sde.basis.to_modes(output)
