"""Sampling: time grids, samplers, `sample`, and the probability flow in both directions."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "base": "AbstractSampler Draw sample draw denoised_draw",
        "ddim": "DDIM",
        "deis": "DEIS IPNDM",
        "dpm": "DPMSolverPP DPMSolverPPSinglestep SDEDPMSolverPP",
        "edm": "EulerEDM HeunEDM",
        "gotta_go_fast": "GottaGoFast",
        "grid": "uniform quadratic geometric uniform_log_snr karras Times",
        "integrate": "ReverseSDE ProbabilityFlow FixedGrid Adaptive",
        "latent": "encode decode interpolate slerp",
        "optimise": "optimised_times CANDIDATES",
        "predictor_corrector": (
            "AbstractPredictor AbstractCorrector PredictorCorrector ReverseDiffusion Ancestral Langevin "
            "AnnealedLangevin LangevinDynamics"
        ),
        "sa": "SASolver",
        "seeds": "SEEDS",
        "path": "Trajectory trajectory",
        "unipc": "UniPC",
    },
)
