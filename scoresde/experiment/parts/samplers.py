"""Constructors of samplers and solvers from numbers and names."""

from collections.abc import Callable

import diffrax as dfx

from scoresde import sample
from scoresde.errors import ConfigError
from scoresde.experiment.component import constructor
from scoresde.runtime.streams import fixed_stream
from scoresde.sample.schedule_on_grid import one_log_snr
from scoresde.score import AbstractScore
from scoresde.sde import AbstractSDE


@constructor
def reverse_sde(steps: int = 1000, grid: Callable = "log_snr", solver: dfx.AbstractSolver = "euler"):
    """Return the reverse SDE on a fixed grid (Song et al. 2021, eq. 6), by a solver of diffrax.

    Args:
      steps: number of steps of the grid.
      grid: grid of times.
      solver: solver of the SDE: euler, heun, sea, shark, sra1 or slowrk.
    """
    return sample.ReverseSDE(solver, _fixed("reverse_sde", steps, grid))


@constructor
def adaptive_sde(sde_tolerance: float = 0.02):
    """Return the reverse SDE with the solver ShARK and adaptive steps.

    Args:
      sde_tolerance: relative and absolute error of a step.
    """
    return sample.ReverseSDE(dfx.ShARK(), sample.Adaptive(sde_tolerance))


@constructor
def gotta_go_fast(sde_tolerance: float = 0.02, absolute_tolerance: float = 1 / 128):
    """Return the adaptive sampler of Jolicoeur-Martineau et al. (2021).

    Args:
      sde_tolerance: relative error of a step.
      absolute_tolerance: absolute error of a step; the default is one grey level of data in [-1, 1].
    """
    return sample.GottaGoFast(sde_tolerance, absolute_tolerance)


@constructor
def probability_flow(
    steps: int = 0, grid: Callable = "log_snr", solver: dfx.AbstractSolver = "tsit5", tolerance: float = 1e-5
):
    """Return the probability-flow ODE (Song et al. 2021, eq. 13), by a solver of diffrax.

    Args:
      steps: number of steps of the grid; 0: adaptive steps.
      grid: grid of times if steps is above 0.
      solver: solver of the ODE: tsit5, dopri5, dopri8, bosh3, heun, euler, kvaerno3 or kvaerno5.
      tolerance: relative and absolute error of a step.
    """
    if not steps:
        if isinstance(solver, dfx.Euler):
            raise ConfigError("probability_flow: euler has no error estimate: give steps > 0, or tsit5")
        return sample.ProbabilityFlow(solver, sample.Adaptive(tolerance))
    if isinstance(solver, dfx.AbstractImplicitSolver):  # its root finder needs a tolerance
        solver = type(solver)(root_finder=dfx.VeryChord(rtol=tolerance, atol=tolerance))
    return sample.ProbabilityFlow(solver, _fixed("probability_flow", steps, grid))


@constructor
def predictor_corrector(
    steps: int = 1000,
    grid: Callable = "log_snr",
    predictor: sample.AbstractPredictor | None = "ancestral",
    corrector: sample.AbstractCorrector | None = "annealed_langevin",
):
    """Return predictor-corrector sampling (Song et al. 2021, algorithms 2 to 5).

    Args:
      steps: number of steps of the grid.
      grid: grid of times.
      predictor: predictor: ancestral, ancestral_transition, reverse_diffusion or none.
      corrector: corrector: annealed_langevin, langevin (published; for images) or none.
    """
    return sample.PredictorCorrector(steps, grid, predictor, corrector)


@constructor
def langevin_dynamics(steps: int = 1000, grid: Callable = "log_snr", corrections: int = 1, step_size: float = 0.2):
    """Return annealed Langevin dynamics (Song and Ermon 2019).

    Args:
      steps: number of noise levels.
      grid: grid of the times of these levels.
      corrections: number of steps per noise level.
      step_size: size of a step, in units of sigma^2.
    """
    return sample.LangevinDynamics(steps, grid, corrections, step_size)


@constructor
def ipndm(steps: int = 15, grid: Callable = "karras", order: int = 4):
    """Return iPNDM (Zhang and Chen 2023, appendix H.2).

    Args:
      steps: number of steps of the grid.
      grid: grid of times.
      order: number of points of the polynomial, 1 to 4.
    """
    return sample.IPNDM(steps, grid, order)


@constructor
def no_predictor():
    """Return None, so that only the corrector changes the samples."""
    return None


@constructor
def no_corrector():
    """Return None, so that there is no corrector."""
    return None


@constructor
def ancestral_transition() -> sample.Ancestral:
    """Return ancestral sampling whose noise has the variance of the forward transition."""
    return sample.Ancestral("transition")


@constructor
def optimised(steps: int, score: AbstractScore | None, shape: tuple[int, ...], sde: AbstractSDE) -> Callable:
    """Return the grid that is fitted to the score (Chen et al. 2024) when a sampler is built for it."""
    one_log_snr(sde, "optimised", "one grid is fitted to all coordinates; use log_snr")
    if not 0 < steps <= sample.CANDIDATES:
        raise ConfigError(f"optimised: expected steps from 1 to {sample.CANDIDATES}, got {steps}")
    if score is None:
        return sample.uniform_log_snr  # used while only the arguments are checked
    return sample.optimised_times(score, shape, steps=steps, key=fixed_stream("optimised_grid"))


def _fixed(name: str, steps: int, grid: Callable) -> sample.FixedGrid:
    if steps < 1:
        raise ConfigError(f"{name}: steps = {steps}, expected at least 1")
    return sample.FixedGrid(steps, grid)
