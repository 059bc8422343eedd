"""Exact answers to compare with: distributions, the published f and g^2, and a two-sample test. NumPy in float64."""

import numpy as np

from scoresde.score import GaussianScore, MixtureScore

# What a two-sample test calls a surprise: one draw in a thousand, for a test whose seed is fixed.
LEVEL = 1e-3


def mixture_parameters(seed: int = 0, *, components: int = 3, dimension: int = 5):
    """Means [K, D], full covariances [K, D, D], weights [K]: modes a few standard deviations apart, data of size 1."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(components, dimension))
    factors = 0.3 * rng.normal(size=(components, dimension, dimension))
    covariances = factors @ factors.transpose(0, 2, 1) / dimension + 0.02 * np.eye(dimension)
    return means, covariances, rng.dirichlet(5 * np.ones(components))


def mixture(sde, seed: int = 0, **size) -> MixtureScore:
    return MixtureScore(sde, *mixture_parameters(seed, **size))


def wide_gaussian(sde, dimension: int = 3072) -> GaussianScore:
    """Independent coordinates whose variances span four decades, as those of natural images do."""
    rng = np.random.default_rng(1)
    return GaussianScore(sde, 0.1 * rng.normal(size=dimension), np.geomspace(1e-4, 1.0, dimension))


def mixture_log_prob(means, covariances, weights, alpha, sigma, x) -> float:
    """log sum_k w_k N(x; alpha m_k, alpha^2 S_k + sigma^2 I), by the determinant and a linear solve."""
    terms = []
    for mean, covariance, weight in zip(means, covariances, weights):
        at_t = alpha**2 * covariance + sigma**2 * np.eye(len(mean))
        offset = x - alpha * mean
        _, log_det = np.linalg.slogdet(2 * np.pi * at_t)
        terms.append(np.log(weight) - 0.5 * (offset @ np.linalg.solve(at_t, offset) + log_det))
    return float(np.logaddexp.reduce(terms))


def closed_forms(sde, t):
    """(f, g^2) as printed: Song et al. 2021, eqs. 30, 32 and 33; Karras et al. 2022; the Cosine by hand from its
    angle."""
    t = np.asarray(t, np.float64)
    match type(sde).__name__:
        case "VP" | "SubVP" as name:
            beta = sde.beta_min + t * (sde.beta_max - sde.beta_min)
            integral = sde.beta_min * t + 0.5 * t**2 * (sde.beta_max - sde.beta_min)
            return -beta / 2, beta if name == "VP" else -beta * np.expm1(-2 * integral)
        case "VE":
            ratio = sde.sigma_max / sde.sigma_min
            return 0 * t, (sde.sigma_min * ratio**t) ** 2 * 2 * np.log(ratio)
        case "Cosine":
            first, last = np.arctan(np.exp(-sde.log_snr_max / 2)), np.arctan(np.exp(-sde.log_snr_min / 2))
            angle, speed = first + (last - first) * t, last - first
            return -speed * np.tan(angle), 2 * speed * np.tan(angle)
        case "Karras":
            return 0 * t, 2 * t
    raise AssertionError(f"no closed form for {sde}")


def energy_p_value(x, y, *, permutations: int = 999, seed: int = 0) -> float:
    """p-value of 'x and y have one distribution': the energy distance (Szekely and Rizzo 2004) against permutations."""
    rng = np.random.default_rng(seed)
    pooled = np.concatenate([np.asarray(part, np.float64).reshape(len(part), -1) for part in (x, y)])
    square = np.sum(pooled**2, axis=1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * pooled @ pooled.T, 0))
    signs = np.repeat([1 / len(x), -1 / len(y)], [len(x), len(y)])
    signs = np.stack([signs] + [rng.permutation(signs) for _ in range(permutations)])
    statistics = -np.einsum("pi,pi->p", signs @ distance, signs)
    return float(np.mean(statistics >= statistics[0] * (1 - 1e-12)))
