"""From a score of the data to a score of the data given an observation: restoration, super-resolution, imputation."""

from scoresde.guide.observation import Observation, deblur, inpaint, low_pass, super_resolution
from scoresde.guide.posterior import AbstractGuided, Posterior, Replacement, mode_variances
from scoresde.guide.restore import continued, replace, restore

__all__ = [
    "Observation", "deblur", "low_pass", "super_resolution", "inpaint",
    "AbstractGuided", "Posterior", "Replacement", "mode_variances", "restore", "replace", "continued",
]  # fmt: skip
