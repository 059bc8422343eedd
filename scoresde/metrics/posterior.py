r"""Gaussian processes conditioned on some of their values, and metrics of samples of their conditional distribution.

All functions work in float64 on vectors of D values: a function [*grid, channels] is raveled, which numbers its points.
"""

import math
from typing import Any

import numpy as np

from scoresde.errors import ConfigError, DataError

_cdf = np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2)), otypes=[float])


def gaussian_posterior(mean, covariance, index, values, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of u ~ N(m, K) given u[index] + noise * eps = values.

        m + K_o^T (K_oo + noise^2 I)^-1 (values - m_o),     K - K_o^T (K_oo + noise^2 I)^-1 K_o

    (Rasmussen and Williams 2006, equations 2.23 and 2.24). The mean is [D], or [B, D] for B rows of values, and the
    covariance [D, D].

    Args:
        mean: m, [D].
        covariance: K, [D, D].
        index: indices [M] of the observed values, all different.
        values: observed values, [M] or [B, M].
        noise: standard deviation of the noise of the observations, at least 0.

    Raises:
        ConfigError: the noise is negative or not finite.
        DataError: the shapes do not fit, or the observed covariance is singular and there is no noise.
    """
    mean, covariance = _law(mean, covariance)
    index, values = np.asarray(index), np.asarray(values, np.float64)
    if index.ndim != 1 or index.dtype.kind not in "iu" or index.size == 0 or len(np.unique(index)) != len(index):
        raise DataError(
            f"index: expected different integers [M], got {index.dtype} {list(index.shape)}; name each point once"
        )
    if index.min() < 0 or index.max() >= len(mean) or values.ndim not in (1, 2) or values.shape[-1] != len(index):
        raise DataError(
            f"expected index from 0 to {len(mean) - 1} and values [{len(index)}] or [B, {len(index)}], got index from "
            f"{index.min()} to {index.max()} and values {list(values.shape)}; give one value for each index"
        )
    if not 0 <= noise < math.inf:
        raise ConfigError(f"noise: expected a finite standard deviation from 0, got {noise}")
    observed = covariance[np.ix_(index, index)] + noise**2 * np.eye(len(index))
    gain = _solve(_cholesky(observed, "the observed covariance"), covariance[index])
    posterior = covariance - covariance[:, index] @ gain
    return mean + (values - mean[index]) @ gain, (posterior + posterior.T) / 2


def gaussian_nll(values, mean, covariance) -> np.ndarray:
    """Return -log N(values; mean, covariance) in nats, [B] for values [B, D].

    A covariance [D] is diagonal, and the result is then the sum over points.

    Raises:
        DataError: the covariance is singular, like that of smooth processes without noise on fine grids.
    """
    values, mean, covariance = (np.asarray(a, np.float64) for a in (values, mean, covariance))
    offset = np.atleast_2d(values - mean)
    if covariance.ndim == 1:
        if covariance.shape != offset.shape[-1:] or not (covariance > 0).all():
            raise DataError(
                f"covariance: expected [{offset.shape[-1]}] numbers above 0, got {list(covariance.shape)} or others; "
                "give variances"
            )
        square, log_det = np.sum(offset**2 / covariance, axis=-1), np.sum(np.log(covariance))
    else:
        _law(offset[0], covariance)
        factor = _cholesky(covariance, "the covariance")
        square, log_det = np.sum(offset * _solve(factor, offset.T).T, axis=-1), 2 * np.sum(np.log(np.diag(factor)))
    return 0.5 * (square + log_det + offset.shape[-1] * math.log(2 * math.pi))


def crps_gaussian(values, mean, std) -> np.ndarray:
    """Return the continuous ranked probability score of N(mean, std^2), elementwise, in units of the values.

        std (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi)),   z = (values - mean)/std

    Less is better (Gneiting and Raftery 2007, section 4.2).

    Raises:
        DataError: a standard deviation is not above 0.
    """
    values, mean, std = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (values, mean, std)))
    if not (std > 0).all():
        raise DataError("std: expected numbers above 0, got others; leave the observed points out")
    z = (values - mean) / std
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return np.asarray(std * (z * (2 * _cdf(z) - 1) + 2 * density - 1 / math.sqrt(math.pi)))


def crps_samples(values, samples) -> np.ndarray:
    """Return E|X - values| - E|X - X'|/2 from samples [N, *shape of values], elementwise and unbiased for N >= 2.

    The second mean is over pairs i != j (the fair score of Zamo and Naveau 2018), so that a finite N does not favour
    narrow samples.

    Raises:
        DataError: the shapes do not fit, or there are fewer than two samples.
    """
    values, samples = np.asarray(values, np.float64), _samples(samples)
    if samples.shape[1:] != values.shape:
        wanted = ", ".join(("N", *map(str, values.shape)))
        raise DataError(f"samples: expected [{wanted}], got {list(samples.shape)}; give N samples for each value")
    ordered, n = np.sort(samples, axis=0), len(samples)
    weight = (2 * np.arange(1, n + 1) - n - 1) / (n * (n - 1))  # sum_ij |x_i - x_j| / (2 n (n - 1)) of ordered samples
    return np.asarray(np.mean(np.abs(samples - values), axis=0) - np.tensordot(weight, ordered, 1))


def coverage(samples, mean, std, level: float = 0.9) -> float:
    """Return the exact probability under N(mean, std^2) of the samples' central interval, averaged over the points.

    It equals `level` if the samples follow the normal distribution, and exceeds it if they are too wide. Points whose
    std is below 1e-6 of the greatest std are observed points and are left out.

    Args:
        samples: samples, [N, *shape].
        mean: mean of the normal distribution, [*shape].
        std: standard deviation of the normal distribution, [*shape].
        level: nominal probability of the interval, between 0 and 1. The ends of the interval are interpolated between
            order statistics and on average leave (1 - level)/2 on either side, for which (N + 1)(1 - level)/2 must be 1
            or more.

    Raises:
        ConfigError: the level is out of range.
        DataError: the shapes do not fit, or all points are observed.
    """
    samples, mean, std = _samples(samples), np.asarray(mean, np.float64), np.asarray(std, np.float64)
    if samples.shape[1:] != mean.shape or mean.shape != std.shape:
        raise DataError(
            f"expected samples [N, *shape], mean and std of one shape, got {samples.shape}, {mean.shape}, {std.shape}; "
            "reshape"
        )
    if not 0 < level < 1 or (len(samples) + 1) * (1 - level) / 2 < 1 - 1e-9:
        raise ConfigError(
            f"level: expected between 0 and {1 - 2 / (len(samples) + 1):.3g} for {len(samples)} samples, got {level}; "
            "draw more"
        )
    known = std > 1e-6 * std.max()
    if not known.any():
        raise DataError("std: expected some points that are not observed, got 0 everywhere; leave some free")
    # With the weibull quantile the k-th of N order statistics has the mean probability k/(N+1).
    ends = np.quantile(samples[:, known], [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
    low, high = (_cdf((end - mean[known]) / std[known]) for end in ends)
    return float(np.mean(high - low))


def _law(mean: Any, covariance: Any) -> tuple[np.ndarray, np.ndarray]:
    mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise DataError(
            f"expected mean [D] and covariance [D, D], got {list(mean.shape)} and {list(covariance.shape)}; ravel them"
        )
    if not np.allclose(covariance, covariance.T, atol=1e-10 * np.abs(covariance).max(initial=0)):
        raise DataError(
            "covariance: expected a symmetric one, got another; average it with its transpose if that is rounding"
        )
    return mean, covariance


def _cholesky(matrix: np.ndarray, what: str) -> np.ndarray:
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise DataError(
            f"{what}: expected a positive definite matrix, got a singular one; give noise > 0, or fewer points"
        ) from None


def _solve(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.linalg.solve(factor.T, np.linalg.solve(factor, right))


def _samples(samples: Any) -> np.ndarray:
    samples = np.asarray(samples, np.float64)
    if samples.ndim < 1 or len(samples) < 2 or not np.isfinite(samples).all():
        raise DataError(
            f"samples: expected at least 2 finite ones [N, ...], got {list(samples.shape)}; leave bad ones out"
        )
    return samples
