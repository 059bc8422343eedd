"""Constructors of processes in function space, of their bases and of their covariances, from numbers and the grid."""

import jax
import jax.numpy as jnp
import numpy as np

from scoresde import sde
from scoresde.errors import ConfigError
from scoresde.experiment.component import constructor

_CHECKED = 17  # number of times at which the coefficients of a process are checked
_DDPM_STEPS = 1000  # number of steps of the networks that were trained with a table (Ho et al. 2020)
Grid = tuple[int, ...]


@constructor
def ddpm_cosine() -> sde.TabulatedVP:
    """Return the 1000 steps of the cosine schedule (Nichol and Dhariwal 2021) as a process in continuous time."""
    return sde.TabulatedVP(sde.cosine_betas(_DDPM_STEPS))


@constructor
def dct(grid: Grid, length: float = 1.0) -> sde.DCT:
    """Return the basis of cosines, for fields that are mirrored at the boundary.

    Args:
      grid: shape of the fields without channels, which the builder supplies.
      length: length of the domain along each axis; 0: the number of grid points, so that lengths are in pixels.
    """
    return sde.DCT(_with_neighbours(grid, "dct"), _lengths(grid, length))


@constructor
def fourier(grid: Grid, length: float = 1.0) -> sde.Fourier:
    """Return the basis of waves, for periodic fields.

    Args:
      grid: shape of the fields without channels, which the builder supplies.
      length: length of the domain along each axis; 0: the number of grid points, so that lengths are in pixels.
    """
    return sde.Fourier(_with_neighbours(grid, "fourier"), _lengths(grid, length))


@constructor
def haar(grid: Grid, length: float = 1.0) -> sde.Haar:
    """Return the basis of Haar's square waves.

    Args:
      grid: shape of the fields without channels, which the builder supplies.
      length: length of the domain along each axis; 0: the number of grid points, so that lengths are in pixels.
    """
    return sde.Haar(_with_neighbours(grid, "haar"), _lengths(grid, length))


@constructor
def kernel(
    grid: Grid,
    kernel: str = "exponential",
    length: float = 1.0,
    length_scale: float = 0.2,
    variance: float = 1.0,
    jitter: float = 1e-6,
) -> sde.IntervalKernel:
    """Return the eigenbasis of a kernel on the centres of equal cells of an interval, for curves.

    Args:
      grid: shape of the fields without channels, which the builder supplies.
      kernel: covariance function: rbf, exponential, matern12, matern32 or matern52.
      length: length of the interval; 0: the number of grid points.
      length_scale: length scale of the kernel, in the units of `length`.
      variance: variance of the kernel at distance 0.
      jitter: number added to the diagonal of the Gram matrix, at least 0.
    """
    if len(_with_neighbours(grid, "kernel")) > 1:
        raise ConfigError(f"kernel: expected curves, got a grid {grid}; take dct")
    if kernel not in sde.KERNELS:
        raise ConfigError(f"kernel: kernel = {kernel!r}, expected one of {', '.join(sde.KERNELS)}")
    if jitter < 0:
        raise ConfigError(f"kernel: jitter = {jitter}, expected at least 0")
    (length,) = _lengths(grid, length)
    return sde.IntervalKernel(grid[0], sde.KERNELS[kernel](length_scale, variance), length, jitter)


@constructor
def power_law(
    basis: sde.AbstractBasis, index: float = 1.5, screening: float = 9.0, variance: float = 1.0
) -> sde.AbstractCovariance:
    """Return the covariance of noise whose mode k has a variance proportional to (screening + lambda_k)^-index. A
    kernel basis belongs to one covariance, which the noise has instead.

    Args:
      basis: basis of the modes, which the process supplies.
      index: decay of the variances; above half the dimensions of the domain.
      screening: number added to the eigenvalue of the Laplacian, in 1 / length^2.
      variance: variance of the noise at a point of the grid.
    """
    if basis.own_covariance:
        return sde.Gram()
    return sde.PowerLaw.normalised(basis, index, screening, variance)


@constructor
def coloured_vp(
    basis: sde.AbstractBasis = "dct",
    covariance: sde.AbstractCovariance = "power_law",
    beta_min: float = 0.1,
    beta_max: float = 20.0,
    t_min: float = 1e-5,
) -> sde.Coloured:
    """Return the variance-preserving process with coloured noise.

    Args:
      basis: basis of the modes.
      covariance: covariance of the noise.
      beta_min: noise rate at t = 0.
      beta_max: noise rate at t = 1.
      t_min: smallest time.
    """
    return sde.Coloured(basis, covariance, sde.VP(beta_min, beta_max, t_min=t_min))


@constructor
def coloured_ve(
    basis: sde.AbstractBasis = "dct",
    covariance: sde.AbstractCovariance = "power_law",
    sigma_min: float = 0.01,
    sigma_max: float = 50.0,
    t_min: float = 1e-5,
) -> sde.Coloured:
    """Return the variance-exploding process with coloured noise.

    Args:
      basis: basis of the modes.
      covariance: covariance of the noise.
      sigma_min: noise level at t = 0.
      sigma_max: noise level at t = 1.
      t_min: smallest time.
    """
    return sde.Coloured(basis, covariance, sde.VE(sigma_min, sigma_max, t_min=t_min))


@constructor
def coloured_cosine(
    basis: sde.AbstractBasis = "dct",
    covariance: sde.AbstractCovariance = "power_law",
    log_snr_min: float = -15.0,
    log_snr_max: float = 15.0,
    t_min: float = 1e-5,
) -> sde.Coloured:
    """Return the cosine process with coloured noise.

    Args:
      basis: basis of the modes.
      covariance: covariance of the noise.
      log_snr_min: log-SNR at t = 1.
      log_snr_max: log-SNR at t = 0.
      t_min: smallest time.
    """
    return sde.Coloured(basis, covariance, sde.Cosine(log_snr_min, log_snr_max, t_min=t_min))


@constructor
def heat(
    basis: sde.AbstractBasis = "dct",
    index: float = 1.5,
    screening: float = 9.0,
    variance: float = 1.0,
    t_min: float = 1e-5,
) -> sde.Heat:
    """Return the stochastic heat equation.

    Args:
      basis: basis of the modes.
      index: smoothness of the noise; mode k has a variance proportional to (screening + lambda_k)^-(index + 1).
      screening: number added to the eigenvalue of the Laplacian, in 1 / length^2.
      variance: variance of the stationary noise at a point of the grid.
      t_min: smallest time.
    """
    gain = sde.PowerLaw.normalised(basis, index + 1, screening, variance).gain
    return sde.Heat(basis, index, screening, gain, t_min=t_min)


@constructor
def blur(
    basis: sde.AbstractBasis = "dct",
    log_snr_min: float = -15.0,
    log_snr_max: float = 15.0,
    blur_max: float = 20.0,
    min_scale: float = 1e-3,
    t_min: float = 1e-5,
) -> sde.Blur:
    """Return blurring diffusion (Hoogeboom and Salimans 2023).

    Args:
      basis: basis of the modes.
      log_snr_min: log-SNR of the mean at t = 1.
      log_snr_max: log-SNR of the mean at t = 0.
      blur_max: width of the blur at t = 1, in the units of the length of the basis.
      min_scale: remaining amplitude of the highest mode.
      t_min: smallest time.
    """
    return sde.Blur(basis, sde.Cosine(log_snr_min, log_snr_max, t_min=t_min), blur_max, min_scale)


@constructor
def inverse_heat(
    basis: sde.AbstractBasis = "dct", noise: float = 0.01, blur_min: float = 0.5, blur_max: float = 20.0
) -> sde.Cold:
    """Return inverse heat dissipation (Rissanen et al. 2023). Its prior is blurred data.

    Args:
      basis: basis of the modes.
      noise: standard deviation of the noise at each point.
      blur_min: width of the blur at t = 0, in the units of the length of the basis.
      blur_max: width of the blur at t = 1.
    """
    return sde.Cold(basis, None, noise, blur_min, blur_max)


@constructor
def pixelate(grid: Grid, noise: float = 0.01) -> sde.Cold:
    """Return cold diffusion by averages over ever larger blocks (Bansal et al. 2023). Its prior is degraded data.

    Args:
      grid: shape of the fields without channels, which the builder supplies.
      noise: standard deviation of the noise at each point.
    """
    return sde.pixelate(_with_neighbours(grid, "pixelate"), sigma=noise)


@constructor
def fade(grid: Grid, noise: float = 0.01) -> sde.Cold:
    """Return cold diffusion in which all points fade. Its prior is degraded data.

    Args:
      grid: shape of the fields without channels, which the builder supplies.
      noise: standard deviation of the noise at each point.
    """
    return sde.fade(_with_neighbours(grid, "fade"), sigma=noise)


def out_of_range(process: sde.AbstractSDE) -> str | None:
    """Return the name of a coefficient of a process that leaves the range of float32 at t_min or t_max, or None.

    alpha and sigma are squared in variances and in signal-to-noise ratios, so their squares must be finite and above
    float32's smallest normal number. A process in modes may let some of them fade to zero, but not all.
    """
    (tiny, largest), drop = (float(limit) for limit in (np.finfo(np.float32).tiny, np.finfo(np.float32).max)), []
    for name, time in (("t_min", process.t_min), ("t_max", process.t_max)):
        t = jnp.float32(time)
        alpha, sigma, log_snr = (
            np.float64(np.asarray(of(t), np.float32)) for of in (process.alpha, process.sigma, process.log_snr)
        )
        squares = (("alpha^2", np.max(alpha**2)), ("sigma^2", np.min(sigma**2)), ("sigma^2", np.max(sigma**2)))
        for what, value in squares:
            if not tiny <= value <= largest:
                return f"{what} = {value:.3g} at {name} = {time:g}"
        if not np.isfinite(log_snr).all():
            return f"log-SNR = {log_snr[~np.isfinite(log_snr)].flat[0]} at {name} = {time:g}"
        drop.append(log_snr)
    times = jnp.linspace(process.t_min, process.t_max, _CHECKED, dtype=jnp.float32)
    levels = np.asarray(jax.vmap(process.reference_log_snr)(times), np.float64)
    if (rises := np.flatnonzero(np.diff(levels) > 1e-3)).size:
        first, second = rises[0], rises[0] + 1
        return (
            f"log-SNR = {levels[first]:.6g} at t = {times[first]:.3g} and {levels[second]:.6g} at t = "
            f"{times[second]:.3g}, which must fall"
        )
    if not np.max(drop[0] - drop[1]) > 0:
        ends = f"{np.max(drop[0]):.6g} at t_min and {np.max(drop[1]):.6g} at t_max"
        return f"log-SNR = {ends}, which must fall"
    return None


def _with_neighbours(grid: Grid, name: str) -> Grid:
    if not grid:
        raise ConfigError(f"{name}: expected a grid, data.image_size above 0; vectors have no neighbours")
    return grid


def _lengths(grid: Grid, length: float) -> tuple[float, ...]:
    if not length >= 0:
        raise ConfigError(f"length = {length}, expected at least 0")
    return tuple(length or float(n) for n in grid)
