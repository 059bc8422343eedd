"""Likelihoods: by the probability flow, bounds, and bits/dim of integers."""

from scoresde.likelihood.bits import bits_per_dim, dequantized_log_likelihood, mean_and_error
from scoresde.likelihood.dequantize import (
    AbstractDequantization,
    Bins,
    TruncatedNormalDequantization,
    UniformDequantization,
    VariationalDequantization,
)
from scoresde.likelihood.flow import LogLikelihood, log_likelihood
from scoresde.likelihood.trace import AbstractTrace, ExactTrace, Gaussian, HutchPlusPlus, Rademacher

__all__ = [
    "LogLikelihood", "log_likelihood", "bits_per_dim", "dequantized_log_likelihood", "mean_and_error",
    "AbstractTrace", "ExactTrace", "Rademacher", "Gaussian", "HutchPlusPlus",
    "AbstractDequantization", "Bins", "UniformDequantization", "TruncatedNormalDequantization", "VariationalDequantization",
]
