"""Scores: exact ones, and scores from a network."""

from scoresde.score.base import (
    AbstractScore,
    eps_from_score,
    score_from_eps,
    score_from_v,
    score_from_x0,
    v_from_score,
    x0_from_score,
)
from scoresde.score.exact import GaussianScore, MixtureScore
from scoresde.score.network import (
    AbstractPreconditioning,
    DataSpectrum,
    EDMPreconditioning,
    EpsPreconditioning,
    NetworkScore,
    ScorePreconditioning,
    VPreconditioning,
)

__all__ = [
    "AbstractScore",
    "GaussianScore",
    "MixtureScore",
    "NetworkScore",
    "AbstractPreconditioning",
    "DataSpectrum",
    "EDMPreconditioning",
    "EpsPreconditioning",
    "ScorePreconditioning",
    "VPreconditioning",
    "x0_from_score",
    "score_from_x0",
    "eps_from_score",
    "score_from_eps",
    "v_from_score",
    "score_from_v",
]
