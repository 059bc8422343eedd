"""Training by denoising score matching."""

from scoresde.train.augment import LABELS, augment
from scoresde.train.average import average_name, power_name
from scoresde.train.law import LogNormalSigma, StratifiedTime, UniformLogSigma, UniformLogSNR, UniformTime
from scoresde.train.loop import averaged_score, fit
from scoresde.train.loss import (
    EDMWeighting,
    LikelihoodWeighting,
    NoiseField,
    Objective,
    SigmaSquared,
    half_sum,
)
from scoresde.train.parallelism import Parallelism
from scoresde.train.step import TrainState

__all__ = [
    "fit",
    "Parallelism",
    "averaged_score",
    "augment",
    "LABELS",
    "TrainState",
    "average_name",
    "power_name",
    "Objective",
    "half_sum",
    "SigmaSquared",
    "NoiseField",
    "LikelihoodWeighting",
    "EDMWeighting",
    "UniformTime",
    "StratifiedTime",
    "UniformLogSNR",
    "UniformLogSigma",
    "LogNormalSigma",
]
