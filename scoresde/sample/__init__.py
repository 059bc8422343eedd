"""Sampling: time grids, samplers, `sample`, and the probability flow in both directions."""

from scoresde.sample.base import AbstractSampler, Draw, denoised_draw, draw, sample
from scoresde.sample.ddim import DDIM
from scoresde.sample.deis import DEIS, IPNDM
from scoresde.sample.dpm import DPMSolverPP, DPMSolverPPSinglestep, SDEDPMSolverPP
from scoresde.sample.edm import EulerEDM, HeunEDM
from scoresde.sample.gotta_go_fast import GottaGoFast
from scoresde.sample.grid import Times, geometric, karras, quadratic, uniform, uniform_log_snr
from scoresde.sample.integrate import Adaptive, FixedGrid, ProbabilityFlow, ReverseSDE
from scoresde.sample.latent import decode, encode, interpolate, slerp
from scoresde.sample.optimise import CANDIDATES, optimised_times
from scoresde.sample.predictor_corrector import (
    Ancestral,
    AnnealedLangevin,
    Langevin,
    LangevinDynamics,
    PredictorCorrector,
    ReverseDiffusion,
)
from scoresde.sample.sa import SASolver
from scoresde.sample.seeds import SEEDS
from scoresde.sample.trajectory import Trajectory, trajectory
from scoresde.sample.unipc import UniPC

__all__ = [
    "AbstractSampler",
    "Draw",
    "sample",
    "draw",
    "denoised_draw",
    "encode",
    "decode",
    "interpolate",
    "slerp",
    "Trajectory",
    "trajectory",
    "ReverseSDE",
    "ProbabilityFlow",
    "FixedGrid",
    "Adaptive",
    "PredictorCorrector",
    "ReverseDiffusion",
    "Ancestral",
    "Langevin",
    "AnnealedLangevin",
    "LangevinDynamics",
    "EulerEDM",
    "HeunEDM",
    "DDIM",
    "DPMSolverPP",
    "DPMSolverPPSinglestep",
    "SDEDPMSolverPP",
    "UniPC",
    "DEIS",
    "IPNDM",
    "SASolver",
    "SEEDS",
    "GottaGoFast",
    "uniform",
    "quadratic",
    "geometric",
    "uniform_log_snr",
    "karras",
    "Times",
    "optimised_times",
    "CANDIDATES",
]
