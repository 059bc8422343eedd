"""scoresde: score-based generative modelling with stochastic differential equations, in JAX.

The nouns are here. The verbs live in their rooms: `from scoresde.sample import sample`,
`from scoresde.likelihood import log_likelihood`, `from scoresde.train import fit`.
"""

from scoresde.sample import (
    DDIM,
    DEIS,
    IPNDM,
    SEEDS,
    Adaptive,
    Ancestral,
    AnnealedLangevin,
    DPMSolverPP,
    DPMSolverPPSinglestep,
    EulerEDM,
    FixedGrid,
    GottaGoFast,
    HeunEDM,
    Langevin,
    LangevinDynamics,
    PredictorCorrector,
    ProbabilityFlow,
    ReverseDiffusion,
    ReverseSDE,
    SASolver,
    SDEDPMSolverPP,
    UniPC,
)
from scoresde.score import (
    EDMPreconditioning,
    EpsPreconditioning,
    GaussianScore,
    MixtureScore,
    NetworkScore,
    ScorePreconditioning,
    VPreconditioning,
)
from scoresde.sde import DCT, VE, VP, Blur, ColouredVE, ColouredVP, Cosine, Heat, InverseHeat, Karras, PowerLaw, SubVP

__version__ = "0.1.0"
__all__ = [
    "VP", "SubVP", "VE", "Cosine", "Karras",
    "ColouredVP", "ColouredVE", "Heat", "Blur", "InverseHeat", "DCT", "PowerLaw",
    "GaussianScore", "MixtureScore", "NetworkScore",
    "EDMPreconditioning", "EpsPreconditioning", "ScorePreconditioning", "VPreconditioning",
    "ReverseSDE", "ProbabilityFlow", "FixedGrid", "Adaptive",
    "PredictorCorrector", "ReverseDiffusion", "Ancestral", "Langevin", "AnnealedLangevin", "LangevinDynamics",
    "EulerEDM", "HeunEDM", "DDIM", "DPMSolverPP", "DPMSolverPPSinglestep", "SDEDPMSolverPP", "UniPC", "DEIS", "IPNDM",
    "SASolver", "SEEDS", "GottaGoFast",
]
