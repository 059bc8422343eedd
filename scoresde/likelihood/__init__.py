"""Likelihoods: log-densities by the probability flow, bounds, and bits/dim of integers."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "bits": "bits_per_dim dequantize mean_and_error",
        "bounds": "Bound decoder_draws elbo elbo_per_mode",
        "chain": "vlb Discretization AbstractVariance BetaVariance BetaTildeVariance InterpolatedVariance",
        "decode": "AbstractDecoder GaussianDecoder DiscretizedGaussian CategoricalDecoder",
        "dequantization": (
            "AbstractDequantization Bins UniformDequantization TruncatedNormalDequantization VariationalDequantization "
            "NoDequantization"
        ),
        "flow": "LogLikelihood log_likelihood",
        "reference": "gaussian_kl relative_log_prob",
        "trace": "AbstractTrace ExactTrace Rademacher GaussianProbes HutchPlusPlus",
    },
)
