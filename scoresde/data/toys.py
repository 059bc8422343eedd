"""Toy distributions in the plane with mean 0 and variance 1 per coordinate (for `two_moons`, on average).

`gaussian_mixture`: 8 equal Gaussians N(r (cos k pi/4, sin k pi/4), s^2 I) on a circle. The variance of a coordinate is
r^2/2 + s^2, so r = sqrt(2 (1 - s^2)) makes it 1. `mixture()` returns the parameters, for an exact score and likelihood.

`two_moons`: (cos a, sin a) or (1 - cos a, 1/2 - sin a), a ~ U(0, pi), plus N(0, s^2 I). The coordinates have variances
3/4 + s^2 and 9/16 - 1/pi + s^2; both are divided by one scale, which makes the mean variance 1 and keeps the shape.

`checkerboard`: uniform on the 8 squares (i + j even) of a 4 x 4 board of side sqrt(12), whose variance is 1.
"""

from typing import NamedTuple

import numpy as np

from scoresde.data.dataset import ArraySource

TRAIN, TEST = 10_000, 2_000
SEED = 0  # seed of the generated records, part of the definition of these sources
MIXTURE_COMPONENTS, MIXTURE_STD = 8, 0.1
MOONS_STD = 0.05  # standard deviation of the noise, before scaling


class Mixture(NamedTuple):
    """Gaussian mixture sum_k w_k N(mu_k, Sigma_k): means [K, 2], covariances [K, 2, 2], weights [K], float64."""

    means: np.ndarray
    covariances: np.ndarray
    weights: np.ndarray


def mixture() -> Mixture:
    """Return the parameters of the distribution `gaussian_mixture`."""
    angle = 2 * np.pi * np.arange(MIXTURE_COMPONENTS) / MIXTURE_COMPONENTS
    radius = np.sqrt(2 * (1 - MIXTURE_STD**2))
    means = radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    covariances = np.tile(MIXTURE_STD**2 * np.eye(2), (MIXTURE_COMPONENTS, 1, 1))
    return Mixture(means, covariances, np.full(MIXTURE_COMPONENTS, 1 / MIXTURE_COMPONENTS))


def gaussian_mixture(random: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample points [num, 2], and return them with the component of each, [num]."""
    means, covariances, weights = mixture()
    component = random.choice(len(weights), num, p=weights)
    factor = np.linalg.cholesky(covariances)[component]
    return means[component] + np.einsum("nij,nj->ni", factor, random.standard_normal((num, 2))), component


def two_moons(random: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample points [num, 2], and return them with the moon of each, [num]."""
    moon, angle = random.integers(0, 2, num), np.pi * random.random(num)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points = np.where(moon[:, None] == 0, upper, np.array([1.0, 0.5]) - upper)
    points = points + MOONS_STD * random.standard_normal((num, 2))
    scale = np.sqrt((3 / 4 + 9 / 16 - 1 / np.pi) / 2 + MOONS_STD**2)
    return (points - np.array([0.5, 0.25])) / scale, moon


def checkerboard(random: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample points [num, 2], and return them with the row of squares of each, [num]."""
    row, pair = random.integers(0, 4, num), random.integers(0, 2, num)
    corner = np.stack([2 * pair + row % 2, row], axis=-1)
    return (corner + random.random((num, 2)) - 2) * np.sqrt(12) / 4, row


def split(points: np.ndarray, labels: np.ndarray) -> tuple[ArraySource, ArraySource]:
    """Return the first 10,000 points as training records and the other 2,000 as test records, in float32."""
    points = points.astype(np.float32)
    return ArraySource(points[:TRAIN], labels[:TRAIN]), ArraySource(points[TRAIN:], labels[TRAIN:])
