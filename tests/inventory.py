"""What the package offers, listed once. Whatever joins a list here gets the whole common suite.

An entry carries the fact that the suite needs and that the object cannot tell itself: the order of a solver from its
paper.
"""

import diffrax as dfx

from scoresde.sample import (
    DDIM,
    DEIS,
    IPNDM,
    SEEDS,
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
    geometric,
    karras,
    quadratic,
    uniform,
    uniform_log_snr,
)
from scoresde.score import EDMPreconditioning, EpsPreconditioning, ScorePreconditioning, VPreconditioning
from scoresde.sde import VE, VP, Cosine, Karras, SubVP

# Every process at its defaults: what the expensive tests run on.
SDES = {"VP": VP(), "SubVP": SubVP(), "VE": VE(), "Cosine": Cosine(), "Karras": Karras()}

# The same and some unusual parameters: what the cheap tests run on.
ALL_SDES = SDES | {
    "VP-constant-beta": VP(beta_min=3.0, beta_max=3.0),
    "VP-wide": VP(beta_min=0.01, beta_max=40.0, t_min=1e-4, t_max=1.5),
    "SubVP-late": SubVP(beta_max=10.0, t_min=1e-3),
    "VE-unit": VE(sigma_min=0.1, sigma_max=1.0, t_min=0.0),
    "Cosine-narrow": Cosine(log_snr_min=-6.0, log_snr_max=8.0, t_min=1e-3, t_max=0.9),
    "Karras-narrow": Karras(sigma_min=0.1, sigma_max=10.0),
}

GRIDS = {
    "uniform": uniform, "quadratic": quadratic, "geometric": geometric, "uniform_log_snr": uniform_log_snr,
    "karras": karras,
}  # fmt: skip

# Order of convergence at a fixed time, for a smooth right-hand side.
ODE_SOLVERS = {"Euler": (dfx.Euler(), 1), "Heun": (dfx.Heun(), 2), "Bosh3": (dfx.Bosh3(), 3)}

# Weak order for additive noise, and the calls of the score in n steps.
SDE_SOLVERS = {
    "Euler": (dfx.Euler(), 1, 1),
    "Heun": (dfx.Heun(), 2, 2),
    "ShARK": (dfx.ShARK(), 2, 2),
    "SRA1": (dfx.SRA1(), 2, 2),
    "SlowRK": (dfx.SlowRK(), 2, 2),
    "SEA": (dfx.SEA(), 1, 1),
}

# What must draw from p_{t_min} for every process.
SAMPLERS = {
    "Euler-Maruyama": ReverseSDE(dfx.Euler(), FixedGrid(200, uniform_log_snr)),
    "ShARK": ReverseSDE(dfx.ShARK(), FixedGrid(64, uniform_log_snr)),
    "probability flow": ProbabilityFlow(),
    "gotta go fast": GottaGoFast(0.01, 0.005),
    "predictor-corrector": PredictorCorrector(300, uniform_log_snr, Ancestral(), Langevin(0.05)),
    "UniPC": UniPC(20),
}

# A sampler of the tables below that differs from another one in a number alone; left to `pytest -m slow`.
TWINS = (
    "UniPC-1", "UniPC-2 bh1", "DEIS-2 log rho", "DEIS-4 log rho", "DDIM, eta 0.5", "SDE-DPM++ 1", "SDE-DPM++ 3M",
    "SA-Solver-1",
    "Euler EDM, churn", "ancestral, transition",
)  # fmt: skip

# Samplers of the probability flow on n steps: order of convergence, calls of the score a step.
FLOWS = {
    "DDIM": (lambda n, grid: DDIM(n, grid), 1, 1),
    "Euler EDM": (lambda n, grid: EulerEDM(n, grid), 1, 1),
    "Heun EDM": (lambda n, grid: HeunEDM(n, grid), 2, 2),
    "DPM++ 2S": (lambda n, grid: DPMSolverPPSinglestep(n, grid), 2, 2),
    "DPM++ 2M": (lambda n, grid: DPMSolverPP(n, grid), 2, 1),
    "DPM++ 3M": (lambda n, grid: DPMSolverPP(n, grid, order=3), 3, 1),
    "UniPC-1": (lambda n, grid: UniPC(n, grid, order=1), 2, 1),
    "UniPC-2 bh1": (lambda n, grid: UniPC(n, grid, order=2, variant="bh1"), 3, 1),
    "UniPC-2 bh2": (lambda n, grid: UniPC(n, grid, order=2), 3, 1),
    "UniPC-3": (lambda n, grid: UniPC(n, grid), 4, 1),
    "DEIS-2 log rho": (lambda n, grid: DEIS(n, grid, order=2, variable="log_rho"), 2, 1),
    "DEIS-3 t": (lambda n, grid: DEIS(n, grid, variable="t"), 3, 1),
    "DEIS-3 rho": (lambda n, grid: DEIS(n, grid, variable="rho"), 3, 1),
    "DEIS-4 log rho": (lambda n, grid: DEIS(n, grid, order=4, variable="log_rho"), 4, 1),
    "iPNDM": (lambda n, grid: IPNDM(n, grid), 2, 1),
    "SA-Solver, tau 0": (lambda n, grid: SASolver(n, grid, tau=0.0), 4, 1),
}

# Stochastic samplers on n steps: order of the variance on Gaussian data, calls a step.
NOISY = {
    "DDIM, eta 1": (lambda n, grid: DDIM(n, grid, eta=1.0), 1, 1),
    "DDIM, eta 0.5": (lambda n, grid: DDIM(n, grid, eta=0.5), 1, 1),
    "SDE-DPM++ 1": (lambda n, grid: SDEDPMSolverPP(n, grid, order=1), 1, 1),
    "SDE-DPM++ 2M": (lambda n, grid: SDEDPMSolverPP(n, grid), 2, 1),
    "SDE-DPM++ 3M": (lambda n, grid: SDEDPMSolverPP(n, grid, order=3), 2, 1),
    "SA-Solver-1": (lambda n, grid: SASolver(n, grid, order=1, tau_low=0.0, tau_high=1e9), 2, 1),
    "SA-Solver-3": (lambda n, grid: SASolver(n, grid, tau_low=0.0, tau_high=1e9), 2, 1),
    "SEEDS": (lambda n, grid: SEEDS(n, grid), 2, 2),
    "Euler EDM, churn": (lambda n, grid: EulerEDM(n, grid, churn=10.0), 1, 1),
    "Heun EDM, churn": (lambda n, grid: HeunEDM(n, grid, churn=10.0), 2, 2),
    "reverse diffusion": (lambda n, grid: PredictorCorrector(n, grid, ReverseDiffusion()), 1, 1),
    "ancestral": (lambda n, grid: PredictorCorrector(n, grid, Ancestral()), 1, 1),
    "ancestral, transition": (lambda n, grid: PredictorCorrector(n, grid, Ancestral("transition")), 1, 1),
}

# The same kinds without an order: their error does not vanish with the step size.
LANGEVIN = {
    "corrected": (
        lambda n, grid: PredictorCorrector(n, grid, Ancestral(), AnnealedLangevin(0.05, repeats=2)), 3,
    ),
    "corrector alone": (lambda n, grid: PredictorCorrector(n, grid, None, Langevin(0.05)), 1),
    "Langevin dynamics": (lambda n, grid: LangevinDynamics(n, grid, repeats=4, step_size=0.05), 4),
}  # fmt: skip

PRECONDITIONINGS = {
    "EDM": EDMPreconditioning(),
    "eps": EpsPreconditioning(),
    "score": ScorePreconditioning(),
    "v": VPreconditioning(),
}
