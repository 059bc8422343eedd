"""Training by denoising score matching."""

from scoresde.train.augment import LABELS, augment
from scoresde.train.loop import averaged_score, fit
from scoresde.train.loss import (
    EDMWeighting,
    Likelihood,
    LogNormalSigma,
    LowDiscrepancy,
    NoiseField,
    Objective,
    SigmaSquared,
    Uniform,
    UniformLogSigma,
    UniformLogSNR,
    denoising_score_matching,
    half_sum,
)
from scoresde.train.run import Cadence, Run
from scoresde.train.step import TrainState

__all__ = [
    "fit", "averaged_score", "augment", "LABELS", "TrainState", "Run", "Cadence",
    "Objective", "denoising_score_matching", "half_sum",
    "SigmaSquared", "NoiseField", "Likelihood", "EDMWeighting",
    "Uniform", "LowDiscrepancy", "UniformLogSNR", "UniformLogSigma", "LogNormalSigma",
]
