"""The names of processes and bases in a configuration, and the objects behind them."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from scoresde import sde
from scoresde.errors import ConfigError

KERNELS = {
    "rbf": sde.rbf,
    "exponential": sde.exponential,
    "matern12": lambda length, variance: sde.matern(0.5, length, variance),
    "matern32": lambda length, variance: sde.matern(1.5, length, variance),
    "matern52": lambda length, variance: sde.matern(2.5, length, variance),
}
# Why the probability flow gives no likelihood of the data.
DEGRADED = "the density of {0} at t_min is that of degraded data"
BASES = ("dct", "fourier", "haar", "kernel")


_DDPM_STEPS = 1000  # of the networks that were trained with a table (Ho et al. 2020)


class Entry(NamedTuple):
    """A process by name. `spectral`: it has one coefficient per mode; `modal_alpha`: alpha also differs between modes.
    `starts`: its prior is degraded data, which must be supplied."""

    build: Callable[[ConfigDict, tuple[int, ...]], sde.AbstractSDE]
    spectral: bool = False
    modal_alpha: bool = False
    starts: bool = False


def _coloured(inside: Callable) -> Callable:
    def build(c, grid):
        basis = build_basis(c, grid)
        if c.basis == "kernel":
            return sde.Coloured(basis, sde.Gram(), inside(c))
        return sde.Coloured(basis, sde.PowerLaw.normalised(basis, c.index, c.screening, c.variance), inside(c))

    return build


def _heat(c, grid):
    basis = build_basis(c, grid)
    gain = sde.PowerLaw.normalised(basis, c.index + 1, c.screening, c.variance).gain
    return sde.Heat(basis, c.index, c.screening, gain, t_min=c.t_min)


def _check_grid(c, grid) -> None:
    if not grid:
        raise ConfigError(f"{c.name}: expected a grid, data.image_size above 0; vectors have no neighbours")


def _pixelate(c, grid):
    _check_grid(c, grid)
    return sde.pixelate(grid, sigma=c.noise)


def _cosine(c, _=None):
    return sde.Cosine(c.log_snr_min, c.log_snr_max, t_min=c.t_min)


def _vp(c, _=None):
    return sde.VP(c.beta_min, c.beta_max, t_min=c.t_min)


def _ve(c, _=None):
    return sde.VE(c.sigma_min, c.sigma_max, t_min=c.t_min)


PROCESSES = {
    "vp": Entry(_vp),
    "subvp": Entry(lambda c, _: sde.SubVP(c.beta_min, c.beta_max, t_min=c.t_min)),
    "ve": Entry(_ve),
    "cosine": Entry(_cosine),
    "ddpm_cosine": Entry(lambda *_: sde.TabulatedVP(sde.cosine_betas(_DDPM_STEPS))),
    "karras": Entry(lambda c, _: sde.Karras(c.sigma_min, c.sigma_max)),
    "coloured_vp": Entry(_coloured(_vp), spectral=True),
    "coloured_ve": Entry(_coloured(_ve), spectral=True),
    "coloured_cosine": Entry(_coloured(_cosine), spectral=True),
    "heat": Entry(_heat, spectral=True, modal_alpha=True),
    "blur": Entry(
        lambda c, grid: sde.Blur(build_basis(c, grid), _cosine(c), c.blur_max, c.min_scale),
        spectral=True,
        modal_alpha=True,
    ),
    "inverse_heat": Entry(
        lambda c, grid: sde.Cold(build_basis(c, grid), None, c.noise, c.blur_min, c.blur_max),
        spectral=True,
        modal_alpha=True,
        starts=True,
    ),
    "pixelate": Entry(_pixelate, spectral=True, modal_alpha=True, starts=True),
    "fade": Entry(lambda c, grid: sde.fade(grid, sigma=c.noise), spectral=True, modal_alpha=True, starts=True),
}


def build_basis(c: ConfigDict, grid: tuple[int, ...]) -> sde.AbstractBasis:
    """Build the basis of the section `sde` on a grid. `sde.length` = 0 measures lengths in points of this grid.

    Raises:
      ConfigError: parameters that the basis refuses, or no grid.
    """
    _check_grid(c, grid)
    lengths = tuple(c.length or float(n) for n in grid)
    if c.basis == "kernel":
        if len(grid) > 1:
            raise ConfigError(f"sde.basis = 'kernel': expected curves, got a grid {grid}; take dct")
        return sde.Kernel(_centres(grid[0], lengths[0]), KERNELS[c.kernel](c.length_scale, c.variance), c.jitter)
    return {"dct": sde.DCT, "fourier": sde.Fourier, "haar": sde.Haar}[c.basis](grid, lengths)


def _centres(points: int, length: float) -> np.ndarray:
    return (np.arange(points) + 0.5) * length / points


def on_grid(process: sde.AbstractSpectral, config: ConfigDict, grid: tuple[int, ...]) -> sde.AbstractSpectral:
    """Return the process of a run on another grid of the same domain."""
    if config.sde.basis != "kernel":
        return process.at(grid)
    return process.at(_centres(grid[0], config.sde.length or float(config.data.image_size[0])))


def build_sde(config: ConfigDict, grid: tuple[int, ...]) -> sde.AbstractSDE:
    """Build the process of a configuration for fields on `grid`, () for vectors.

    Raises:
      ConfigError: parameters that the process refuses.
    """
    return PROCESSES[config.sde.name].build(config.sde, grid)


def data_covariance(config: ConfigDict, grid: tuple[int, ...]) -> sde.AbstractCovariance | None:
    """Return the shares of the modes in the square of `model.sigma_data`, on the training grid; None: equal shares. In
    a kernel basis they are those of the noise."""
    c, spectral = config.model, PROCESSES[config.sde.name].spectral
    if spectral and config.sde.basis == "kernel":
        return sde.Gram()
    return (
        sde.PowerLaw.normalised(build_sde(config, grid).basis, c.data_index, c.data_screening) if c.data_index else None
    )


def out_of_range(process: sde.AbstractSDE) -> str | None:
    """Return which coefficient of a process leaves the range of float32 at t_min or t_max, or None.

    alpha and sigma are squared in variances and in signal-to-noise ratios, so their squares must be finite and above
    float32's smallest normal number. A process in modes may let some of them fade to zero, but not all.
    """
    (tiny, largest), drop = (float(limit) for limit in (np.finfo(np.float32).tiny, np.finfo(np.float32).max)), []
    for name, time in (("t_min", process.t_min), ("t_max", process.t_max)):
        t = jnp.float32(time)
        alpha, sigma, log_snr = (
            np.float64(np.asarray(of(t), np.float32)) for of in (process.alpha, process.sigma, process.log_snr)
        )
        for what, values in (
            ("alpha^2", np.max(alpha**2)),
            ("sigma^2", np.min(sigma**2)),
            ("sigma^2", np.max(sigma**2)),
        ):
            if not tiny <= values <= largest:
                return f"{what} = {values:.3g} at {name} = {time:g}"
        if not np.isfinite(log_snr).all():
            return f"log-SNR = {log_snr[~np.isfinite(log_snr)].flat[0]} at {name} = {time:g}"
        drop.append(log_snr)
    if not np.max(drop[0] - drop[1]) > 0:
        return f"log-SNR = {np.max(drop[0]):.6g} at both ends"
    return None


def give_prior_data(process: sde.AbstractSDE, config: ConfigDict, fields: Callable[[], np.ndarray]) -> sde.AbstractSDE:
    """Return the process with the data of its prior, if it needs them; `fields()` reads them."""
    return process.started_from(jnp.asarray(fields())) if PROCESSES[config.sde.name].starts else process
