"""Training by denoising score matching."""

from scoresde.train.augment import LABELS, augment
from scoresde.train.average import average_name, power_name
from scoresde.train.law import LogNormalSigma, LowDiscrepancy, Uniform, UniformLogSigma, UniformLogSNR
from scoresde.train.layout import Layout
from scoresde.train.loop import averaged_score, fit
from scoresde.train.loss import (
    EDMWeighting,
    Likelihood,
    NoiseField,
    Objective,
    SigmaSquared,
    half_sum,
)
from scoresde.train.step import TrainState

__all__ = [
    "fit",
    "Layout",
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
    "Likelihood",
    "EDMWeighting",
    "Uniform",
    "LowDiscrepancy",
    "UniformLogSNR",
    "UniformLogSigma",
    "LogNormalSigma",
]
