"""Likelihoods: by the probability flow, bounds, and bits/dim of integers."""

from scoresde.likelihood.bits import bits_per_dim, dequantized, mean_and_error
from scoresde.likelihood.bounds import Bound, decoder_draws, elbo, elbo_per_mode
from scoresde.likelihood.chain import AbstractVariance, Beta, BetaTilde, Discretization, Interpolated, vlb
from scoresde.likelihood.decode import AbstractDecoder, CategoricalDecoder, DiscretizedGaussian, GaussianDecoder
from scoresde.likelihood.dequantize import (
    AbstractDequantization,
    Bins,
    TruncatedNormalDequantization,
    UniformDequantization,
    VariationalDequantization,
)
from scoresde.likelihood.flow import LogLikelihood, log_likelihood
from scoresde.likelihood.reference import gaussian_kl, relative_log_prob
from scoresde.likelihood.trace import AbstractTrace, ExactTrace, Gaussian, HutchPlusPlus, Rademacher

__all__ = [
    "LogLikelihood",
    "log_likelihood",
    "bits_per_dim",
    "dequantized",
    "mean_and_error",
    "AbstractTrace",
    "ExactTrace",
    "Rademacher",
    "Gaussian",
    "HutchPlusPlus",
    "AbstractDequantization",
    "Bins",
    "UniformDequantization",
    "TruncatedNormalDequantization",
    "VariationalDequantization",
    "Bound",
    "decoder_draws",
    "elbo",
    "elbo_per_mode",
    "vlb",
    "Discretization",
    "AbstractVariance",
    "Beta",
    "BetaTilde",
    "Interpolated",
    "gaussian_kl",
    "relative_log_prob",
    "AbstractDecoder",
    "GaussianDecoder",
    "DiscretizedGaussian",
    "CategoricalDecoder",
]
