"""Scores conditioned on an observation, for restoration, super-resolution and imputation."""

from scoresde.guide.batch import continued, guide_of, replace, restore, restore_by
from scoresde.guide.joint import JointPosterior, ModeCovariance, mode_covariance
from scoresde.guide.observation import Observation, deblur, inpaint, low_pass, super_resolution
from scoresde.guide.posterior import AbstractGuided, Posterior, Replacement, mode_variances

__all__ = [
    "Observation", "deblur", "low_pass", "super_resolution", "inpaint",
    "AbstractGuided", "Posterior", "JointPosterior", "Replacement", "mode_variances", "ModeCovariance",
    "mode_covariance",
    "restore", "guide_of", "restore_by", "replace", "continued",
]  # fmt: skip
