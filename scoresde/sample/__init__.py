"""From noise to data: time grids, samplers, and `sample`."""

from scoresde.sample.base import AbstractSampler, Draw, denoised_draw, draw, sample
from scoresde.sample.grid import karras, uniform, uniform_log_snr
from scoresde.sample.integrate import Adaptive, FixedGrid, ProbabilityFlow, ReverseSDE

__all__ = [
    "AbstractSampler", "Draw", "ReverseSDE", "ProbabilityFlow", "FixedGrid", "Adaptive",
    "sample", "draw", "denoised_draw", "uniform", "uniform_log_snr", "karras",
]
