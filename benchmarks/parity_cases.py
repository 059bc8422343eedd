"""The cases of parity.py: our samplers, the public ones, and the public formulas that ours differ from on purpose.

Where ours take an exact integral and the public code a shorter or a wrong form, the public form is written out here too
("as published" in the names). It agrees with the public code to rounding: one coefficient is the whole difference.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from scoresde.sample import (
    DDIM,
    DEIS,
    IPNDM,
    Ancestral,
    DPMSolverPP,
    DPMSolverPPSinglestep,
    EulerEDM,
    HeunEDM,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    SASolver,
    SDEDPMSolverPP,
    UniPC,
)
from scoresde.sample.multistep import AbstractMultistep, MultistepCoefficients, StepCoefficients, warm_up_orders
from scoresde.sample.schedule_on_grid import exponential_weights, history_nodes

STEPS = 20

HALVED = (
    "The published third-order update multiplies D2, the second divided difference times h^2, by phi_3. D2 is half of "
    "h^2 D'', whose weight is phi_3: ours, the integral of the parabola through three predictions, has twice as much."
)
SIGN = (
    "With H = 2h, diffusers weighs D2 by (1 - e^-H - H) / H^2 - 1/2, which tends to -1 for small steps. The integral "
    "of the parabola, ours, gives 2 [(1 - e^-H - H) / H^2 + 1/2], which tends to 0."
)
SHORT = (
    "Where diffusers has two points to go through, it replaces the exact weight of their slope, (H - 1 + e^-H) / c, by "
    'c h^2 / 2, H = c h, c = 1 + tau^2 ("only for few steps", says its comment). Ours is exact, as in the paper.'
)


def halved(H):
    """The weight of D2 in the published 3M, ODE and SDE."""
    return 0.5 - (H - 1 + jnp.exp(-H)) / H**2


def wrong_sign(H):
    """The weight of D2 in diffusers' 3M SDE."""
    return (1 - jnp.exp(-H) - H) / H**2 - 0.5


class PublishedThree(AbstractMultistep):
    """x' = keep x + alpha' [(1 - e^-H) D0 + (1 - (1 - e^-H) / H) D1 + third(H) D2] + noise,  H = rate h.

    D1 and D2 are h and h^2 times the slope and the second divided difference at the last of three predictions.
    `second` = "short" gives D1 of the second step the weight (1 - e^-H) / 2, as in 2M.
    """

    steps: int
    grid: Callable
    rate: float = 1.0
    third: Callable = halved
    second: str = "short"

    def table(self, sde, levels):
        noise_share = self.rate - 1  # 0: the flow; 1: the reverse SDE
        keep = levels.sigma[1:] / levels.sigma[:-1] * jnp.exp(-noise_share * levels.h)
        noise = levels.sigma[1:] * jnp.sqrt(-jnp.expm1(-2 * levels.h)) if noise_share else None
        weights = functools.partial(self._weights, levels)
        return MultistepCoefficients(StepCoefficients(keep, warm_up_orders(self.steps, 3, weights), noise))

    def _weights(self, levels, rows, points):
        h = levels.h[rows]
        H, alpha = self.rate * h, levels.alpha[1:][rows]
        total = -jnp.expm1(-H)
        slope = 1 - total / H
        if points == 1:
            return [alpha * total]
        r, *older = (-node / h for node in history_nodes(levels, rows, points)[1:])
        if points == 2:
            first = (total / 2 if self.second == "short" else slope) / r
            return [alpha * (total + first), -alpha * first]
        s = older[0] - r
        # The predictions' shares in D1 and D2, from (D_i - D_{i-1}) / r and (D_{i-1} - D_{i-2}) / s.
        d1 = (1 / r + 1 / (r + s), -1 / r - r / (r + s) * (1 / r + 1 / s), r / (r + s) / s)
        d2 = (1 / r / (r + s), -(1 / r + 1 / s) / (r + s), 1 / s / (r + s))
        third = self.third(H)
        return [alpha * (base + slope * a + third * b) for base, a, b in zip((total, 0, 0), d1, d2)]


class PublishedSA(AbstractMultistep):
    """SA-Solver with one tau, and the short weights wherever there are two points."""

    steps: int
    grid: Callable
    order: int
    tau: float

    def table(self, sde, levels):
        h, c = levels.h, 1 + self.tau**2
        keep = levels.sigma[1:] / levels.sigma[:-1] * jnp.exp(-(self.tau**2) * h)
        noise = levels.sigma[1:] * jnp.sqrt(-jnp.expm1(-2 * self.tau**2 * h)) if self.tau else None

        def weights(rows, points, ahead):
            nodes = [*[h[rows]] * ahead, *history_nodes(levels, rows, points)]
            found = exponential_weights(h[rows], nodes, c)
            if len(nodes) == 2:
                slope = c * h[rows] ** 2 / 2 / (nodes[0] - nodes[1])
                constant = -jnp.expm1(-c * h[rows])
                found = [slope, constant - slope] if ahead else [constant + slope, -slope]
            return [levels.alpha[1:][rows] * w for w in found]

        predictor = warm_up_orders(self.steps, self.order, functools.partial(weights, ahead=0))
        new, *corrector = warm_up_orders(self.steps, self.order, functools.partial(weights, ahead=1), extra=1)
        return MultistepCoefficients(
            StepCoefficients(keep, predictor, noise), StepCoefficients(keep, tuple(corrector), noise), new
        )


class Case(NamedTuple):
    ours: Callable  # (steps, grid) -> sampler
    theirs: dict  # what parity_reference.py is told
    note: str  # why they differ, where they do


def with_(sampler, **options) -> Callable:
    return lambda steps, grid: sampler(steps, grid, **options)


def k_diffusion(function, ours, note="", grid="karras", **options) -> Case:
    return Case(ours, {"library": "k_diffusion", "function": function, "grid": grid, "options": options}, note)


def azula(function, ours, note="", grid="vp", **options) -> Case:
    return Case(ours, {"library": "azula", "function": function, "grid": grid, "options": options}, note)


def diffusers(function, ours, note="", library="diffusers", *, more=None, **options) -> Case:
    theirs = {"library": library, "function": function, "steps": STEPS, "options": options, **(more or {})}
    return Case(ours, theirs, note)


def cases() -> dict[str, Case]:
    """All by name."""
    return {**_on_karras(), **_on_vp(), **_on_schedulers(), **_dpm_on_schedulers(), **_sa_on_schedulers()}


def order_case(steps: int, published: bool) -> Case:
    """A multistep solver with three points on a fine grid: the published one, or azula's exact one."""
    ours, grid = with_(DPMSolverPP, order=3), f"order {steps}"
    if published:
        return k_diffusion("sample_dpmpp_3m_sde", ours, grid=grid, eta=0.0)
    return azula("xEABSampler", ours, grid=grid, order=3)


def _on_karras() -> dict[str, Case]:
    """k-diffusion, alpha = 1. "karras, 0" appends sigma = 0, which counts in its churn and denoises at the end."""
    ours = {"churn": 10.0, "s_min": 0.05, "s_max": 50.0, "s_noise": 1.003}
    theirs = {"s_churn": 10.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003, "grid": "karras, 0"}
    three = functools.partial(with_, PublishedThree, second="exact")
    ancestral = with_(PredictorCorrector, predictor=Ancestral("posterior"))
    return {
        "DDIM eta=0": k_diffusion("sample_euler", with_(DDIM)),
        "DDIM eta=1": k_diffusion("sample_euler_ancestral", with_(DDIM, eta=1.0)),
        "Ancestral posterior": k_diffusion("sample_euler_ancestral", ancestral),
        "EulerEDM churn=10": k_diffusion("sample_euler", with_(EulerEDM, **ours), **theirs),
        "HeunEDM": k_diffusion("sample_heun", with_(HeunEDM)),
        "HeunEDM churn=10": k_diffusion("sample_heun", with_(HeunEDM, **ours), **theirs),
        "DPMSolverPP 2": k_diffusion("sample_dpmpp_2m", with_(DPMSolverPP, order=2)),
        "DPMSolverPPSinglestep": k_diffusion("sample_dpmpp_2s_ancestral", with_(DPMSolverPPSinglestep), eta=0.0),
        "DPMSolverPP 3": k_diffusion("sample_dpmpp_3m_sde", with_(DPMSolverPP, order=3), HALVED, eta=0.0),
        "as published, 3M": k_diffusion("sample_dpmpp_3m_sde", three(), eta=0.0),
        "SDEDPMSolverPP 2": k_diffusion("sample_dpmpp_2m_sde", with_(SDEDPMSolverPP, order=2)),
        "SDEDPMSolverPP 3": k_diffusion("sample_dpmpp_3m_sde", with_(SDEDPMSolverPP, order=3), HALVED),
        "as published, 3M SDE": k_diffusion("sample_dpmpp_3m_sde", three(rate=2.0)),
        "DEIS 4, rho": k_diffusion("sample_lms", with_(DEIS, order=4, variable="rho"), order=4),
    }


def _on_vp() -> dict[str, Case]:
    """azula, and the one scheduler of diffusers that takes a grid, on continuous VP."""
    ancestral = with_(PredictorCorrector, predictor=Ancestral("posterior"))
    ipndm = {"library": "ipndm", "function": "IPNDMScheduler", "grid": "vp"}
    return {
        "DDIM eta=0, VP": azula("DDIMSampler", with_(DDIM), eta=0.0),
        "DDIM eta=1, VP": azula("DDIMSampler", with_(DDIM, eta=1.0), eta=1.0),
        "Ancestral posterior, VP": azula("DDPMSampler", ancestral),
        "HeunEDM, VP": azula("HeunSampler", with_(HeunEDM)),
        "DPMSolverPP 3, VP": azula("xEABSampler", with_(DPMSolverPP, order=3), order=3),
        "DEIS 2, log rho, VP": azula("zEABSampler", with_(DEIS, order=2, variable="log_rho"), order=2),
        "DEIS 3, log rho, VP": azula("zEABSampler", with_(DEIS, order=3, variable="log_rho"), order=3),
        "DEIS 3, rho, VP": azula("zABSampler", with_(DEIS, order=3, variable="rho"), order=3),
        "IPNDM 4, VP": Case(with_(IPNDM, order=4), ipndm, ""),
    }


def _on_schedulers() -> dict[str, Case]:
    """diffusers on its own discrete VP and VE."""
    scheduler = functools.partial(diffusers, prediction_type="sample")
    ddim = functools.partial(
        scheduler, "DDIMScheduler", clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing"
    )
    ddpm = functools.partial(
        scheduler, "DDPMScheduler", clip_sample=False, timestep_spacing="leading", more={"skip": 1}
    )
    unipc = functools.partial(
        scheduler, "UniPCMultistepScheduler", final_sigmas_type="sigma_min", lower_order_final=False
    )
    ve = functools.partial(diffusers, "ScoreSdeVeScheduler", library="sde_ve", snr=0.15)
    reverse_diffusion = with_(PredictorCorrector, predictor=ReverseDiffusion())
    langevin = with_(PredictorCorrector, predictor=ReverseDiffusion(), corrector=Langevin(snr=0.15))
    found = {}
    for eta in (0.0, 0.5, 1.0):
        found[f"DDIM eta={eta:g}, table"] = ddim(with_(DDIM, eta=eta), more={"step_options": {"eta": eta}})
    for ours, variance in {"posterior": "fixed_small", "transition": "fixed_large"}.items():
        predictor = with_(PredictorCorrector, predictor=Ancestral(ours))
        found[f"Ancestral {ours}, table"] = ddpm(predictor, variance_type=variance)
    for order in (2, 3):
        found[f"DEIS {order}, log rho, table"] = scheduler(
            "DEISMultistepScheduler", with_(DEIS, order=order, variable="log_rho"), solver_order=order
        )
        for variant in ("bh1", "bh2"):
            ours = with_(UniPC, order=order, variant=variant)
            found[f"UniPC {order} {variant}, table"] = unipc(ours, solver_order=order, solver_type=variant)
    found["ReverseDiffusion, VE"] = ve(reverse_diffusion, more={"correct": False})
    found["ReverseDiffusion, Langevin, VE"] = ve(langevin, more={"correct": True})
    return found


def _dpm_on_schedulers() -> dict[str, Case]:
    plus = functools.partial(
        diffusers, "DPMSolverMultistepScheduler", prediction_type="sample", final_sigmas_type="sigma_min"
    )
    sde = functools.partial(plus, algorithm_type="sde-dpmsolver++")
    return {
        "DPMSolverPP 2, table": plus(with_(DPMSolverPP, order=2), solver_order=2),
        "DPMSolverPP 3, table": plus(with_(DPMSolverPP, order=3), HALVED, solver_order=3),
        "as published, 3M, table": plus(with_(PublishedThree), solver_order=3),
        "SDEDPMSolverPP 1, table": sde(with_(SDEDPMSolverPP, order=1), solver_order=1),
        "SDEDPMSolverPP 2, table": sde(with_(SDEDPMSolverPP, order=2), solver_order=2),
        "SDEDPMSolverPP 3, table": sde(with_(SDEDPMSolverPP, order=3), SIGN, solver_order=3),
        "as published, 3M SDE, table": sde(with_(PublishedThree, rate=2.0, third=wrong_sign), solver_order=3),
    }


def _sa_on_schedulers() -> dict[str, Case]:
    sa = functools.partial(diffusers, "SASolverScheduler", prediction_type="sample", lower_order_final=False)
    found = {}
    for order in (2, 3):
        for tau in (0.0, 1.0):
            options = {"more": {"tau": tau}, "predictor_order": order, "corrector_order": order + 1}
            ours = with_(SASolver, order=order, tau=tau, tau_low=0.0, tau_high=math.inf)
            found[f"SASolver {order}, tau={tau:g}, table"] = sa(ours, SHORT if order == 2 else "", **options)
            published = with_(PublishedSA, order=order, tau=tau)
            found[f"as published, SA {order}, tau={tau:g}, table"] = sa(published, **options)
    return found
