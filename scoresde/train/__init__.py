"""Training by denoising score matching."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "augmentation": "AbstractAugmentation EDMAugmentation augment LABELS",
        "average": "average_name power_name",
        "law": "AbstractTimeLaw UniformTime StratifiedTime UniformLogSNR UniformLogSigma LogNormalSigma",
        "loop": "fit averaged_score",
        "loss": "AbstractWeighting Objective half_sum SigmaSquared NoiseField LikelihoodWeighting EDMWeighting",
        "parallelism": "Parallelism",
        "step": "TrainState",
    },
)
