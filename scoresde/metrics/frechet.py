r"""Frechet distance of two Gaussians, FD = |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2) (Dowson and Landau 1982).

FID (Heusel et al. 2017) is this distance between the means and covariances of Inception features. With factors
C = F F^T,

    tr (C1 C2)^(1/2) = the sum of the singular values of F1^T F2.

A square root of the product C1 C2, which is not symmetric, gives complex numbers and loses half of the digits if a
covariance is singular; singular values do not. The computation is in float64 on the host: single precision does not
resolve the small eigenvalues of a covariance, and not every accelerator has float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scoresde.errors import DataError

_BLOCK = 4096  # rows read at once


class Moments(NamedTuple):
    """Mean [D], covariance [D, D] (divided by N - 1) and number of features."""

    mean: Float[np.ndarray, "D"]
    covariance: Float[np.ndarray, "D D"]
    num: int


def moments(features: Float[np.ndarray, "N D"]) -> Moments:
    """Return the moments of features in memory or on disk (a memory map), which are read in blocks, twice.

    Raises:
        DataError: there are fewer than two features, or values that are not finite.
    """
    num, dimensions = features.shape
    if num < 2:
        raise DataError(f"expected at least 2 features, got {num}; a covariance needs them")
    blocks = [slice(first, first + _BLOCK) for first in range(0, num, _BLOCK)]
    mean = sum(np.sum(features[block], axis=0, dtype=np.float64) for block in blocks) / num
    if not np.isfinite(mean).all():
        raise DataError("features: expected finite values, got NaN or infinity; look at the images they are of")
    covariance = np.zeros((dimensions, dimensions))
    for block in blocks:
        y = features[block].astype(np.float64) - mean
        covariance += y.T @ y
    return Moments(mean, covariance / (num - 1), num)


def frechet_distance(fake: Moments, real: Moments) -> float:
    """Return FD in squared units of a feature; it is 0 for equal moments, symmetric, and valid for singular
    covariances.

    Raises:
        DataError: the features differ in their number of dimensions.
    """
    _same_dimensions(fake, real)
    overlap = np.linalg.svd(_factor(fake.covariance)[0].T @ _factor(real.covariance)[0], compute_uv=False).sum()
    return _combined(fake, real, overlap)


def frechet_with_error(fake: Moments, real: Moments, features: Float[np.ndarray, "N D"]) -> tuple[float, float | None]:
    r"""Return FD and its standard error due to the finite number of fakes, for a fixed reference.

    The error follows from the delta method: with the optimal map T from fake to real, C1 -> T C1 T = C2 (Dowson and
    Landau, section 2), a fake feature m1 + y has the influence

        psi(y) = 2 (m1 - m2).y + y.y - y.T y - E[.],        standard error = std(psi)/sqrt(N).

    It is the spread over samples of fakes and does not include the bias, which for N fakes of the true distribution is
    about tr(C) D/(4 N) (the value for equal variances) and is the reason why FIDs with different N cannot be compared.
    D or fewer features do not determine C1, and the error is then None.

    Args:
        fake: moments of the fakes.
        real: moments of the reference.
        features: features of the fakes, [N, D].

    Raises:
        DataError: the features differ in their number of dimensions.
    """
    _same_dimensions(fake, real)
    (factor, root, axes), (other, _, _) = _factor(fake.covariance), _factor(real.covariance)
    left, singular, _ = np.linalg.svd(factor.T @ other, full_matrices=False)
    value = _combined(fake, real, singular.sum())
    if fake.num <= len(fake.mean):
        return value, None
    whiten = np.sqrt(singular)[:, None] * (left.T / root) @ axes.T  # T = whiten^T whiten
    psi = []
    for first in range(0, fake.num, _BLOCK):
        y = features[first : first + _BLOCK].astype(np.float64) - fake.mean
        psi.append(2 * y @ (fake.mean - real.mean) + np.sum(y**2, axis=1) - np.sum((y @ whiten.T) ** 2, axis=1))
    return value, float(np.concatenate(psi).std(ddof=1) / np.sqrt(fake.num))


def _factor(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return F [D, r] = U diag(root), root [r] and U [D, r] with F F^T = C of rank r, without the eigenvalues that are
    zero to rounding."""
    values, axes = np.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    root, axes = np.sqrt(values[kept]), axes[:, kept]
    return axes * root, root, axes


def _combined(fake: Moments, real: Moments, overlap: float) -> float:
    difference = fake.mean - real.mean
    value = difference @ difference + np.trace(fake.covariance) + np.trace(real.covariance) - 2 * overlap
    return float(max(value, 0.0))  # negative values are rounding errors


def _same_dimensions(fake: Moments, real: Moments) -> None:
    if len(fake.mean) != len(real.mean):
        raise DataError(
            f"expected features of one kind, got {len(fake.mean)} and {len(real.mean)} dimensions; use one network for "
            "both"
        )
