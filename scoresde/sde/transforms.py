"""Orthogonal transforms along one axis of n points, as matrices in float64: the discrete systems behind the bases."""

import functools

import numpy as np


@functools.lru_cache
def cosines(n: int) -> np.ndarray:
    """Return the matrix of the orthogonal DCT of type II."""
    matrix = np.sqrt(2 / n) * np.cos(np.pi * np.outer(np.arange(n), np.arange(n) + 0.5) / n)
    matrix[0] /= np.sqrt(2)
    return matrix


@functools.lru_cache
def waves(n: int) -> np.ndarray:
    """Return the matrix with rows 1, cos 1, sin 1, cos 2, ... of norm 1; for even n the last row alternates in
    sign."""
    frequency = (np.arange(n) + 1) // 2
    angle = 2 * np.pi * np.outer(frequency, np.arange(n)) / n
    matrix = np.sqrt(2 / n) * np.where(np.arange(n)[:, None] % 2 == 1, np.cos(angle), np.sin(angle))
    matrix[0] = n**-0.5
    if n % 2 == 0:
        matrix[-1] /= np.sqrt(2)
    return matrix


@functools.lru_cache
def square_waves(n: int) -> np.ndarray:
    """Return the matrix of the orthogonal Haar transform of n = 2^m values: the mean, then differences of halves,
    coarse to fine."""
    if n == 1:
        return np.ones((1, 1))
    half = square_waves(n // 2)
    coarse, fine = np.kron(half, [1.0, 1.0]), np.kron(np.eye(n // 2), [1.0, -1.0])
    return np.concatenate([coarse, fine]) / np.sqrt(2)
