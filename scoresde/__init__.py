"""scoresde: score-based generative modelling with stochastic differential equations, in JAX.

The nouns are here. The verbs live in their rooms: `from scoresde.sample import sample`,
`from scoresde.likelihood import log_likelihood`, `from scoresde.train import fit`.
"""

from scoresde.runtime.lazy import exports

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "sample": (
            "ReverseSDE ProbabilityFlow FixedGrid Adaptive PredictorCorrector ReverseDiffusion Ancestral "
            "Langevin AnnealedLangevin LangevinDynamics EulerEDM HeunEDM DDIM DPMSolverPP DPMSolverPPSinglestep "
            "SDEDPMSolverPP UniPC DEIS IPNDM SASolver SEEDS GottaGoFast"
        ),
        "score": (
            "GaussianScore MixtureScore NetworkScore EDMPreconditioning EpsPreconditioning ScorePreconditioning "
            "VPreconditioning"
        ),
        "sde": "VP SubVP VE Cosine Karras coloured_vp coloured_ve Heat Blur inverse_heat DCT PowerLaw",
    },
)
