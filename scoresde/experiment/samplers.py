"""The names of samplers and grids in a configuration, and the objects behind them."""

from collections.abc import Callable
from typing import NamedTuple

import diffrax as dfx
from ml_collections import ConfigDict

from scoresde import sample, score
from scoresde.runtime.streams import fixed_stream

GRIDS = {
    "uniform": sample.uniform,
    "quadratic": sample.quadratic,
    "geometric": sample.geometric,
    "log_snr": sample.uniform_log_snr,
    "karras": sample.karras,
}
# Fitted to the score when a sampler is built; the other grids are known beforehand.
OPTIMISED = "optimised"

SDE_SOLVERS = {
    "euler": dfx.Euler,
    "heun": dfx.Heun,
    "sea": dfx.SEA,
    "shark": dfx.ShARK,
    "sra1": dfx.SRA1,
    "slowrk": dfx.SlowRK,
}
ODE_SOLVERS = {
    "euler": dfx.Euler, "heun": dfx.Heun, "bosh3": dfx.Bosh3, "tsit5": dfx.Tsit5, "dopri5": dfx.Dopri5,
    "dopri8": dfx.Dopri8,
    "kvaerno3": dfx.Kvaerno3, "kvaerno5": dfx.Kvaerno5,
}  # fmt: skip
PREDICTORS = {
    "reverse_diffusion": sample.ReverseDiffusion,
    "ancestral": sample.Ancestral,
    "ancestral_transition": lambda: sample.Ancestral("transition"),
    "none": lambda: None,
}
CORRECTORS = {
    "langevin": lambda c: sample.Langevin(c.snr, c.corrections, c.norm),
    "annealed_langevin": lambda c: sample.AnnealedLangevin(c.snr, c.corrections),
    "none": lambda c: None,
}


class Entry(NamedTuple):
    """A sampler by name. `steps` and `grid` are the defaults for `sampling.steps` = 0 and `sampling.grid` = "". The
    grid is one in noise level, which suits every process; a grid in t suits only processes whose noise grows evenly in
    t. `one_alpha`: the sampler refuses processes whose alpha differs between modes."""

    build: Callable[[ConfigDict, int, Callable], sample.AbstractSampler]
    steps: int  # 0: the solver chooses its steps
    grid: str = "log_snr"
    one_alpha: bool = False


def _flow(c, steps, grid):
    solver = ODE_SOLVERS[c.ode_solver]()
    if not steps:
        return sample.ProbabilityFlow(solver, sample.Adaptive(c.tolerance))
    if isinstance(solver, dfx.AbstractImplicitSolver):  # nothing else sets the tolerance of its root finder
        solver = ODE_SOLVERS[c.ode_solver](root_finder=dfx.VeryChord(rtol=c.tolerance, atol=c.tolerance))
    return sample.ProbabilityFlow(solver, sample.FixedGrid(steps, grid))


def _predictor_corrector(c, steps, grid):
    return sample.PredictorCorrector(steps, grid, PREDICTORS[c.predictor](), CORRECTORS[c.corrector](c))


def _churn(c) -> dict:
    return dict(churn=c.churn, s_min=c.s_min, s_max=c.s_max, s_noise=c.s_noise)


def _order(c, own: int) -> int:
    return c.order or own


SAMPLERS = {
    "reverse_sde": Entry(
        lambda c, n, grid: sample.ReverseSDE(SDE_SOLVERS[c.sde_solver](), sample.FixedGrid(n, grid)), 1000
    ),
    "adaptive_sde": Entry(lambda c, n, grid: sample.ReverseSDE(dfx.ShARK(), sample.Adaptive(c.sde_tolerance)), 0),
    "gotta_go_fast": Entry(lambda c, n, grid: sample.GottaGoFast(c.sde_tolerance, c.absolute_tolerance), 0),
    "probability_flow": Entry(_flow, 0),
    "predictor_corrector": Entry(_predictor_corrector, 1000),
    "langevin_dynamics": Entry(
        lambda c, n, grid: sample.LangevinDynamics(n, grid, c.corrections, c.step_size), 1000, one_alpha=True
    ),
    "euler_edm": Entry(lambda c, n, grid: sample.EulerEDM(n, grid, **_churn(c)), 50, "karras", one_alpha=True),
    "heun_edm": Entry(lambda c, n, grid: sample.HeunEDM(n, grid, **_churn(c)), 17, "karras", one_alpha=True),
    "ddim": Entry(lambda c, n, grid: sample.DDIM(n, grid, c.eta), 50),
    "dpmpp_2s": Entry(lambda c, n, grid: sample.DPMSolverPPSinglestep(n, grid), 10),
    "dpmpp": Entry(lambda c, n, grid: sample.DPMSolverPP(n, grid, _order(c, 2)), 20),
    "sde_dpmpp": Entry(lambda c, n, grid: sample.SDEDPMSolverPP(n, grid, _order(c, 2)), 50),
    "unipc": Entry(lambda c, n, grid: sample.UniPC(n, grid, _order(c, 3), c.variant), 15),
    "deis": Entry(lambda c, n, grid: sample.DEIS(n, grid, _order(c, 3), c.variable), 15, one_alpha=True),
    "ipndm": Entry(lambda c, n, grid: sample.IPNDM(n, grid, _order(c, 4)), 15, "karras", one_alpha=True),
    "sa_solver": Entry(lambda c, n, grid: sample.SASolver(n, grid, _order(c, 3), c.tau, c.tau_low, c.tau_high), 30),
    "seeds": Entry(lambda c, n, grid: sample.SEEDS(n, grid), 50),
}


def steps_of(config: ConfigDict) -> int:
    """Return the number of steps of the sampler; 0 if the solver chooses them."""
    c = config.sampling
    return c.steps or SAMPLERS[c.sampler].steps


def build_sampler(config: ConfigDict, model: score.NetworkScore | None = None, shape: tuple[int, ...] = ()):
    """Build the sampler of a configuration. An optimised grid needs the score and the shape of an example.

    Raises:
      ConfigError: parameters that the sampler refuses.
    """
    c = config.sampling
    entry, steps = SAMPLERS[c.sampler], steps_of(config)
    name = c.grid or entry.grid
    if name != OPTIMISED:
        grid = GRIDS[name]
    elif model is None:
        grid = sample.uniform_log_snr  # placeholder when only the parameters are checked
    else:
        grid = sample.optimised_times(model, shape, steps=steps, key=fixed_stream("optimised_grid"))
    return entry.build(c, steps, grid)
