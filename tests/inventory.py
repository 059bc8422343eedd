"""What the package offers, listed once. Whatever joins a list here gets the whole common suite.

An entry carries the fact that the suite needs and that the object cannot tell itself: the order of a solver from its paper.
"""

import diffrax as dfx

from scoresde.sample import FixedGrid, ProbabilityFlow, ReverseSDE, karras, uniform, uniform_log_snr
from scoresde.score import EDMPreconditioning, EpsPreconditioning, ScorePreconditioning
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

GRIDS = {"uniform": uniform, "uniform_log_snr": uniform_log_snr, "karras": karras}

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
}

PRECONDITIONINGS = {"EDM": EDMPreconditioning(), "eps": EpsPreconditioning(), "score": ScorePreconditioning()}
