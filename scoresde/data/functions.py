r"""Random functions with a known distribution, at any resolution: curves [points, 1] and fields [H, W, channels].

Grids are cell-centred: on a domain [a, b] the n points are x_i = a + (b - a)(i + 1/2)/n, the points of the DCT-II. Each
family samples the coefficients of a function and then evaluates the function, so that one seed gives the same functions
on every grid, and records with 64, 128 and 256 points are samples of the same random function.

`gaussian_process`: a Whittle-Matern process on [0, 1] (or [0, 1]^2, channels independent) with reflecting boundary,

    u = sum_k sqrt(v_k) xi_k phi_k,   v_k ~ (pi^2 |k|^2 + 2 nu / l^2)^-(nu + d/2),
    phi_k = prod_i sqrt(2) cos(pi k_i x_i)

(1 in place of sqrt(2) cos where k_i = 0) with nu = 3/2, l = 1/5, sum_k v_k = 1 and k_i < 1024 in 1-D, 128 in 2-D
(Lindgren, Rue and Lindstrom 2011). The variance is 1 on average and larger at the boundary, where the process is
reflected. The cosine coefficients are independent on the grid as well: those with k_i >= n are aliased to 2n - k_i.

`gp_mixture`: on [0, 1] two equal Gaussian processes of mean 10 x - 5 and 5 - 10 x with covariance 0.4 exp(-d^2/(2
l^2)), l = 0.1 (Kerrigan, Ley and Smyth 2023), divided by 3, so that the variance is near 1. They are sampled from the
Fourier series of the kernel with period 2, which changes the covariance by less than 1e-21.

`quadratic`: y = (a x^2 + e)/50 on [-10, 10], a = 1 or -1, e ~ N(0, 1), one of each per curve (Lim et al. 2023, HDM, who
put points at both ends of the interval). The pointwise variance is 0.8 on average; the curves are not scaled.

There are 5000 training curves, 1000 for quadratic, as published, and 1000 test curves. The label is the component of a
mixture.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scoresde.data.dataset import ArraySource
from scoresde.data.toys import Mixture
from scoresde.errors import ConfigError, DataError

SEED, TEST = 0, 1000
SMOOTHNESS, LENGTH, MODES = 1.5, 0.2, {1: 1024, 2: 128}  # gaussian_process
RBF_VARIANCE, RBF_LENGTH, SLOPE, SCALE = 0.4, 0.1, 10.0, 3.0  # gp_mixture
CHUNK = 256  # records sampled at once
PERIOD, WAVES = 2.0, 32  # Fourier series of the kernel; the omitted terms are below e^-50


class Family(NamedTuple):
    """Family of random functions.

    Attributes:
        sample: function (random, num, shape) -> values [num, *shape], and labels [num] or None.
        law: function (shape) -> exact distribution of the values.
        train: number of training records.
        fields: whether the family also has fields [H, W, channels].
    """

    sample: Callable
    law: Callable
    train: int
    fields: bool


def centres(points: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Return the cell centres low + (high - low)(i + 1/2)/n, float64 [points]."""
    return low + (high - low) * (np.arange(points) + 0.5) / points


def draw(name: str, num: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Sample `num` new functions of the family `name`, float64 [num, *shape], independent of the data set.

    The same seed and num give the same functions on every grid.

    Raises:
        ConfigError: an unknown family, num < 1 or seed < 0.
        DataError: a shape that the family does not have.
    """
    family = _family(name, shape)
    if num < 1 or seed < 0:
        raise ConfigError(f"draw: expected num >= 1 and seed >= 0, got num={num}, seed={seed}")
    return family.sample(_generator(name, seed, 1), num, tuple(shape))[0]


def law(name: str, shape: tuple[int, ...]) -> Mixture:
    """Return the exact distribution on the grid as a Gaussian mixture with D = prod(shape).

    Its means are [K, D], its covariances [K, D, D] and its weights [K].

    Raises:
        ConfigError: an unknown family.
        DataError: a shape that the family does not have.
    """
    return _family(name, shape).law(tuple(shape))


def moments(name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean [D] and covariance [D, D] of `law`, over all components."""
    means, covariances, weights = law(name, shape)
    mean = weights @ means
    apart = means - mean
    return mean, np.einsum("k,kij->ij", weights, covariances) + np.einsum("k,ki,kj->ij", weights, apart, apart)


def dataset(name: str, shape: tuple[int, ...]) -> tuple[ArraySource, ArraySource, str]:
    """Return the fixed training and test records, float32, and their fingerprint."""
    family = _family(name, shape)
    values, labels = family.sample(_generator(name, SEED, 0), family.train + TEST, tuple(shape))
    values, parts = values.astype(np.float32), (slice(family.train), slice(family.train, None))
    train, test = (ArraySource(values[part], None if labels is None else labels[part]) for part in parts)
    # The fingerprint is made of the name and not of the bytes: the last bits of a cosine may differ between machines.
    grid = "x".join(map(str, shape))
    return train, test, f"{name}:{grid}:{len(train)}+{len(test)}:seed{SEED}"


def calibration(num: int, shape: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """Sample `quadratic` and distributions near it, [num, *shape] each, to calibrate two-sample tests of curves.

    The distributions are `quadratic` itself; a Gaussian process with the same mean and covariance (a ~ N(0, 1)); 70 %
    of the curves with a = 1; all curves with a = 1; offsets e of standard deviation 5; white noise at each point in
    place of the offset.
    """
    family = _family("quadratic", shape)
    changes = {
        "fresh truth": {}, "moment-matched Gaussian process": {"gaussian": True},
        "70/30 branch weights": {"weight": 0.7},
        "one branch missing": {"weight": 1.0}, "offset std x5": {"offset": 5.0}, "white pixel noise": {"white": True},
    }  # fmt: skip
    return {
        case: family.sample(_generator(case, seed, 2), num, tuple(shape), **change)[0]
        for case, change in changes.items()
    }


def gaussian_process(random: np.random.Generator, num: int, shape: tuple[int, ...]):
    std = np.sqrt(_variances(len(shape) - 1))[..., None]
    values = np.empty((num, *shape))
    for start in range(0, num, CHUNK):  # the coefficients of all fields at once would fill the memory
        part = std * random.standard_normal((min(CHUNK, num - start), *std.shape[:-1], shape[-1]))
        for axis, points in enumerate(shape[:-1], start=1):
            part = np.moveaxis(np.tensordot(part, _cosines(points, part.shape[axis]), (axis, 1)), -1, axis)
        values[start : start + CHUNK] = part
    return values, None


def gp_mixture(random: np.random.Generator, num: int, shape: tuple[int, ...]):
    x = centres(shape[0])
    branch = random.integers(0, 2, num)
    wave = 2 * np.pi * np.arange(WAVES) / PERIOD
    # By Poisson's summation formula the Fourier coefficients of a periodic Gaussian are a Gaussian.
    weight = RBF_VARIANCE * RBF_LENGTH * np.sqrt(2 * np.pi) / PERIOD * np.exp(-0.5 * (RBF_LENGTH * wave) ** 2)
    weight[1:] *= 2
    phase = wave[:, None] * x
    series = np.concatenate([np.cos(phase), np.sin(phase)]) * np.sqrt(np.tile(weight, 2))[:, None]
    values = random.standard_normal((num, 2 * WAVES)) @ series + _slopes(x)[branch]
    return values[..., None] / SCALE, branch


def quadratic(
    random: np.random.Generator, num: int, shape: tuple[int, ...], weight=0.5, offset=1.0, gaussian=False, white=False
):
    """Sample the family `quadratic`; `calibration` uses the keywords."""
    x = centres(shape[0], -10, 10)
    branch = (random.random(num) < weight).astype(np.int32)
    a = random.standard_normal(num) if gaussian else 2.0 * branch - 1
    noise = offset * random.standard_normal((num, shape[0] if white else 1))
    return ((a[:, None] * x**2 + noise) / 50)[..., None], branch


def _gaussian_process_law(shape: tuple[int, ...]) -> Mixture:
    variances, grid = _variances(len(shape) - 1), shape[:-1]
    covariance = variances
    for axis, points in enumerate(grid):
        # Each mode axis is contracted to a pair of axes [n, n], which are appended at the end.
        basis = _cosines(points, variances.shape[axis])
        covariance = np.tensordot(covariance, basis[:, None] * basis[None], (0, 2))
    d, size = len(grid), int(np.prod(grid))
    covariance = covariance.transpose(*range(0, 2 * d, 2), *range(1, 2 * d, 2)).reshape(size, size)
    covariance = np.kron(covariance, np.eye(shape[-1]))  # channels are independent
    return Mixture(np.zeros((1, len(covariance))), covariance[None], np.ones(1))


def _gp_mixture_law(shape: tuple[int, ...]) -> Mixture:
    x = centres(shape[0])
    covariance = RBF_VARIANCE * np.exp(-((x[:, None] - x) ** 2) / (2 * RBF_LENGTH**2)) / SCALE**2
    return Mixture(_slopes(x) / SCALE, np.stack([covariance] * 2), np.full(2, 0.5))


def _quadratic_law(shape: tuple[int, ...]) -> Mixture:
    x, one = centres(shape[0], -10, 10), np.ones((shape[0],) * 2)
    return Mixture(np.stack([-(x**2), x**2]) / 50, np.stack([one, one]) / 50**2, np.full(2, 0.5))


FAMILIES = {
    "gaussian_process": Family(gaussian_process, _gaussian_process_law, 5000, True),
    "gp_mixture": Family(gp_mixture, _gp_mixture_law, 5000, False),
    "quadratic": Family(quadratic, _quadratic_law, 1000, False),
}


def _family(name: str, shape: tuple[int, ...]) -> Family:
    if name not in FAMILIES:
        raise ConfigError(f"no family of functions '{name}'; there are: {', '.join(FAMILIES)}")
    family, shape = FAMILIES[name], tuple(shape)
    wanted = "(points, channels) or (height, width, channels)" if family.fields else "(points, 1)"
    known = len(shape) == 2 and (family.fields or shape[-1] == 1) or len(shape) == 3 and family.fields
    if not known or min(shape) < 1 or max(shape[:-1]) < 2:
        raise DataError(f"{name}: expected shape {wanted} with at least 2 points, got {shape}; declare such a shape")
    return family


def _generator(name: str, seed: int, stream: int) -> np.random.Generator:
    """Return a generator that is independent for every name, seed and stream: 0 is the data set, 1 `draw`, 2
    `calibration`."""
    return np.random.Generator(
        np.random.Philox(key=np.array([seed, zlib.crc32(f"{stream}:{name}".encode())], np.uint64))
    )


def _variances(dimension: int) -> np.ndarray:
    """Return v_k of `gaussian_process`, [K] or [K, K]."""
    square = (np.pi * np.arange(MODES[dimension])) ** 2
    total = square if dimension == 1 else square[:, None] + square
    variances = (total + 2 * SMOOTHNESS / LENGTH**2) ** -(SMOOTHNESS + dimension / 2)
    return variances / variances.sum()


def _cosines(points: int, modes: int) -> np.ndarray:
    """Return phi_k at the cell centres, [points, modes]."""
    return np.where(
        np.arange(modes) == 0, 1.0, np.sqrt(2) * np.cos(np.pi * np.outer(centres(points), np.arange(modes)))
    )


def _slopes(x: np.ndarray) -> np.ndarray:
    """Return the two means of `gp_mixture` before scaling, [2, points]."""
    return np.stack([SLOPE * x - SLOPE / 2, SLOPE / 2 - SLOPE * x])
