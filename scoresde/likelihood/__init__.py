"""The probability-flow likelihood, and bits/dim from it."""

from scoresde.likelihood.bits import bits_per_dim, dequantized_log_likelihood, mean_and_error
from scoresde.likelihood.flow import LogLikelihood, log_likelihood

__all__ = ["LogLikelihood", "log_likelihood", "bits_per_dim", "dequantized_log_likelihood", "mean_and_error"]
