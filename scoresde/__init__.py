"""scoresde: score-based generative modelling with stochastic differential equations, in JAX.

The nouns are here. The verbs live in their rooms: `from scoresde.sample import sample`,
`from scoresde.likelihood import log_likelihood`, `from scoresde.train import fit`.
"""

from scoresde.sample import Adaptive, FixedGrid, ProbabilityFlow, ReverseSDE
from scoresde.score import (
    EDMPreconditioning,
    EpsPreconditioning,
    GaussianScore,
    MixtureScore,
    NetworkScore,
    ScorePreconditioning,
)
from scoresde.sde import VE, VP, Cosine, Karras, SubVP

__version__ = "0.1.0"
__all__ = [
    "VP", "SubVP", "VE", "Cosine", "Karras",
    "GaussianScore", "MixtureScore", "NetworkScore",
    "EDMPreconditioning", "EpsPreconditioning", "ScorePreconditioning",
    "ReverseSDE", "ProbabilityFlow", "FixedGrid", "Adaptive",
]
