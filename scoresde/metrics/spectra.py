r"""Statistics of functions by point and by wavenumber, and the projection between grids.

Cosine coefficients (DCT-II) on a cell-centred grid of n_1 x ... x n_d points over [0, 1]^d, normalised as in L2:

    c_k = mean over the grid of u(x) phi_k(x),     phi_k = prod_i sqrt(2) cos(pi k_i x_i)   (1 where k_i = 0),

so that sum_k c_k^2 is the mean of u^2, and c_k of a smooth function does not depend on the grid. Cosines are used
instead of a Fourier series because functions on [0, 1] need not be periodic, and a jump at the ends would hide the
slope of the spectrum.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.fft

from scoresde.errors import ConfigError, DataError
from scoresde.metrics.arrays import functions, pair

# Rounding to float32 causes energies of 1e-16 per wavenumber, relative to the total; the floor is 10,000 times larger.
FLOOR = 1e-12


class SpectrumError(NamedTuple):
    """Root mean square of log10(E_x/E_y), over all wavenumbers, over those that the training grid resolves, and over
    higher ones.

    A part without wavenumbers is NaN.
    """

    all: float
    below: float
    above: float


class FieldMoments(NamedTuple):
    """Moments of every point, [*grid, channels]. The kurtosis of a Gaussian is 3; where the variance is 0, skewness and
    kurtosis are 0."""

    mean: np.ndarray
    variance: np.ndarray
    skewness: np.ndarray
    kurtosis: np.ndarray


def cosine_coefficients(x) -> np.ndarray:
    """Return c_k of functions [N, *grid, channels], in the same shape."""
    x = functions(x, "x", 1)
    axes = range(1, x.ndim - 1)
    return scipy.fft.dctn(x, axes=axes, norm="ortho") / np.sqrt(math.prod(x.shape[1:-1]))


def from_cosine_coefficients(c) -> np.ndarray:
    """Return the functions of cosine coefficients; the inverse of `cosine_coefficients`."""
    c = functions(c, "c", 1)
    axes = range(1, c.ndim - 1)
    return scipy.fft.idctn(c, axes=axes, norm="ortho") * np.sqrt(math.prod(c.shape[1:-1]))


def project(x, grid: tuple[int, ...]) -> np.ndarray:
    """Return functions [N, *grid, channels] on another grid, by truncating or zero-padding their cosine coefficients.

    The projection to a finer grid and back is the identity.
    """
    c, grid = cosine_coefficients(x), tuple(grid)
    if len(grid) != c.ndim - 2 or min(grid) < 1:
        raise ConfigError(f"grid: expected {c.ndim - 2} numbers of points above 0, got {grid}")
    out = np.zeros((len(c), *grid, c.shape[-1]))
    part = (slice(None), *(slice(min(have, want)) for have, want in zip(c.shape[1:-1], grid, strict=True)))
    out[part] = c[part]
    return from_cosine_coefficients(out)


def energy_spectrum(x) -> np.ndarray:
    """Return E(q) for q = 0, 1, ...: the mean over functions of the sum of c_k^2 over channels and a shell of k.

    The shell is q - 1/2 <= |k| < q + 1/2. q is below the smallest number of points along an axis, because further
    shells are not complete. A wave of wavenumber k has k half-periods on [0, 1].
    """
    c = cosine_coefficients(x)
    energy = np.mean(np.sum(c**2, axis=-1), axis=0)
    k = np.sqrt(sum(np.meshgrid(*(np.arange(n, dtype=float) ** 2 for n in energy.shape), indexing="ij")))
    shells = np.floor(k + 0.5).astype(int)
    return np.bincount(shells.ravel(), weights=energy.ravel())[: min(energy.shape)]


def spectrum_error(x, y, nyquist: int | None = None, floor: float = FLOOR) -> SpectrumError:
    """Return the root mean square over wavenumbers of log10 of the ratio of the `energy_spectrum`s of x and y.

    Args:
        x: functions [N, *grid, channels].
        y: functions [M, *grid, channels] on the same grid.
        nyquist: points of the training grid along an axis, whose modes are 0 to nyquist - 1; None: the whole spectrum
            is below.
        floor: smallest energy as a share of the total; smaller energies are raised to it. Set it to the accuracy that
            matters: most energies of smooth functions are tiny, and with a low floor their ratios dominate.
    """
    x, y = pair(x, y, least=1)
    if not 0 < floor < 1:
        raise ConfigError(f"floor: expected between 0 and 1, got {floor}")
    decades = []
    for z in (x, y):
        energy = energy_spectrum(z)
        if not energy.sum() > 0:
            raise DataError(
                "spectrum_error: expected functions that are not 0 everywhere, got such; look at the samples"
            )
        decades.append(np.log10(np.maximum(energy, floor * energy.sum())))
    square, cut = (decades[0] - decades[1]) ** 2, len(decades[0]) if nyquist is None else nyquist
    if cut < 1:
        raise ConfigError(f"nyquist: expected at least 1, got {nyquist}")
    parts = (square, square[:cut], square[cut:])
    return SpectrumError(*(float(np.sqrt(part.mean())) if part.size else float("nan") for part in parts))


def moments(x) -> FieldMoments:
    """Return mean, variance, skewness E z^3 and kurtosis E z^4 of each value over the N functions, z standardised."""
    x = functions(x, "x")
    mean = x.mean(axis=0)
    apart = x - mean
    variance = np.mean(apart**2, axis=0)
    z = apart / np.sqrt(np.where(variance > 0, variance, 1.0))
    return FieldMoments(mean, variance, np.mean(z**3, axis=0), np.mean(z**4, axis=0))


def moment_errors(x, y) -> dict[str, float]:
    """Return the mean over the grid of the squared difference of each of the `moments`."""
    x, y = pair(x, y)
    a, b = moments(x)._asdict(), moments(y)._asdict()
    return {name: float(np.mean((a[name] - b[name]) ** 2)) for name in a}


def autocorrelation(x, axis: int = 0) -> np.ndarray:
    """Return the autocorrelation along one grid axis, averaged over the other axes, [n // 2 + 1, channels].

        A(h) = [sum_i E[u(x_i) u(x_{i+h})] / (n - h)] / [sum_i E u(x_i)^2 / n],    u minus its pointwise mean

    The lags h end at half the grid, beyond which there are few pairs.
    """
    x = functions(x, "x")
    if not 0 <= axis < x.ndim - 2:
        raise ConfigError(f"axis: expected a grid axis from 0 to {x.ndim - 3}, got {axis}")
    x = np.moveaxis(x - x.mean(axis=0), axis + 1, 1)
    n = x.shape[1]
    others = (0, *range(2, x.ndim - 1))
    wave = np.fft.rfft(x, 2 * n, axis=1)  # zero-padded, so that no lag wraps around
    energy = np.mean(np.abs(wave) ** 2, axis=others)
    sums = np.fft.irfft(energy, axis=0)[: n // 2 + 1]
    if not (sums[0] > 0).all():
        raise DataError("autocorrelation: expected functions that vary, got one and the same; look at the samples")
    return sums / (n - np.arange(len(sums)))[:, None] / (sums[0] / n)


def autocorrelation_error(x, y) -> float:
    """Return the mean over lags, channels and grid axes of the squared difference of the `autocorrelation`s."""
    x, y = pair(x, y)
    errors = [(autocorrelation(x, axis) - autocorrelation(y, axis)) ** 2 for axis in range(x.ndim - 2)]
    return float(np.mean([np.mean(error) for error in errors]))
