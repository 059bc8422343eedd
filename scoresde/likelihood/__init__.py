"""Likelihoods: by the probability flow, bounds, and bits/dim of integers."""

from scoresde.likelihood.bits import bits_per_dim, dequantize, mean_and_error
from scoresde.likelihood.bounds import Bound, decoder_draws, elbo, elbo_per_mode
from scoresde.likelihood.chain import (
    AbstractVariance,
    BetaTildeVariance,
    BetaVariance,
    Discretization,
    InterpolatedVariance,
    vlb,
)
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
from scoresde.likelihood.trace import AbstractTrace, ExactTrace, GaussianProbes, HutchPlusPlus, Rademacher

__all__ = [
    "LogLikelihood",
    "log_likelihood",
    "bits_per_dim",
    "dequantize",
    "mean_and_error",
    "AbstractTrace",
    "ExactTrace",
    "Rademacher",
    "GaussianProbes",
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
    "BetaVariance",
    "BetaTildeVariance",
    "InterpolatedVariance",
    "gaussian_kl",
    "relative_log_prob",
    "AbstractDecoder",
    "GaussianDecoder",
    "DiscretizedGaussian",
    "CategoricalDecoder",
]
