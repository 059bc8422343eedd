"""Every sampler on every process against exact answers: writes docs/samplers.md, its plot, and results/samplers.json.

python benchmarks/samplers.py            (about an hour on two cores; needs matplotlib, in the extra `docs`)
python benchmarks/samplers.py --pages    (the page anew from results/samplers.json)
python benchmarks/samplers.py --target "Gaussian in 6 dimensions" --nfes 15 20 35 50    (one target beside the published
figures)

- error: sliced Wasserstein-2 distance between the denoised samples and the data, over 64 fixed directions, against the
  exact quantiles of each projection. Three targets: a ring of 8 Gaussians in the plane, a mixture of 10 in 64
  dimensions, and a Gaussian in 6 dimensions, in units of the deviation of each axis, so that the narrow ones count as
  much as the wide.
- floor: the same for as many exact draws, mean over 8 sets.
- order: float64; flows against a solve at tolerance 1e-13 from the same x_T, stochastic samplers
  by the variance on Gaussian data, which is computed without sampling (see `law_error`).
"""

import argparse
import json
import pathlib
import sys
import time

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from record import FOLDER, commit, record
from samplers_page import write_page

from scoresde import VE, VP, Cosine, Karras, MixtureScore, SubVP
from scoresde import sample as s

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))
from any_process import each_process  # noqa: E402
from orders import ends, graded, law_error, smooth_flow  # noqa: E402

PARTIAL = FOLDER / "samplers.partial.json"  # of an interrupted run, which the same command continues
NFES = (10, 20, 5, 8, 15, 50, 6, 12, 35, 100, 1000)
# One program serves them all: compiling is most of the time.
PROCESSES = each_process({"VP": VP(), "SubVP": SubVP(), "VE": VE(), "Cosine": Cosine(), "Karras": Karras()})
# A thousand calls are for fewer samples: they take as long as all the others together.
LONG, LONG_SAMPLES = 1000, 2048
DIRECTIONS = 64
LOG_SNR, KARRAS, UNIFORM = s.uniform_log_snr, s.karras, s.uniform


def per_step(calls, build):
    """A sampler of `nfe` calls, the last of which is the denoising: as many steps as fit."""
    return lambda nfe, grid: build((nfe - 1) // calls, grid) if nfe > calls else None


# name: (sampler of (nfe, grid), grid, deterministic, order of the flow or of the variance on Gaussian data)
SAMPLERS = {
    "DDIM": (per_step(1, s.DDIM), LOG_SNR, True, 1),
    "Euler EDM": (per_step(1, s.EulerEDM), KARRAS, True, 1),
    "Heun EDM": (per_step(2, s.HeunEDM), KARRAS, True, 2),
    "DPM-Solver++ 2S": (per_step(2, s.DPMSolverPPSinglestep), LOG_SNR, True, 2),
    "DPM-Solver++ 2M": (per_step(1, lambda n, g: s.DPMSolverPP(n, g, 2)), LOG_SNR, True, 2),
    "DPM-Solver++ 3M": (per_step(1, lambda n, g: s.DPMSolverPP(n, g, 3)), LOG_SNR, True, 3),
    "UniPC-2 bh1": (per_step(1, lambda n, g: s.UniPC(n, g, 2, "bh1")), LOG_SNR, True, 3),
    "UniPC-2 bh2": (per_step(1, lambda n, g: s.UniPC(n, g, 2, "bh2")), LOG_SNR, True, 3),
    "UniPC-3": (per_step(1, lambda n, g: s.UniPC(n, g, 3)), LOG_SNR, True, 4),
    "DEIS-3 t": (per_step(1, lambda n, g: s.DEIS(n, g, 3, "t")), KARRAS, True, 3),
    "DEIS-3 rho": (per_step(1, lambda n, g: s.DEIS(n, g, 3, "rho")), LOG_SNR, True, 3),
    "DEIS-3 log rho": (per_step(1, lambda n, g: s.DEIS(n, g, 3, "log_rho")), LOG_SNR, True, 3),
    "iPNDM-4": (per_step(1, s.IPNDM), KARRAS, True, 2),
    "Heun (diffrax)": (per_step(2, lambda n, g: s.ProbabilityFlow(dfx.Heun(), s.FixedGrid(n, g))), LOG_SNR, True, 2),
    "Tsit5 (diffrax)": (
        lambda nfe, g: s.ProbabilityFlow(dfx.Tsit5(), s.FixedGrid((nfe - 2) // 6, g)) if nfe >= 8 else None, LOG_SNR,
        True, None,
    ),
    "DDIM eta=1": (per_step(1, lambda n, g: s.DDIM(n, g, 1.0)), LOG_SNR, False, 1),
    "SDE-DPM-Solver++ 2M": (per_step(1, lambda n, g: s.SDEDPMSolverPP(n, g, 2)), LOG_SNR, False, 2),
    "SDE-DPM-Solver++ 3M": (per_step(1, lambda n, g: s.SDEDPMSolverPP(n, g, 3)), LOG_SNR, False, 2),
    "SA-Solver-3": (per_step(1, lambda n, g: s.SASolver(n, g, 3)), LOG_SNR, False, 2),
    "SEEDS-2": (per_step(2, s.SEEDS), LOG_SNR, False, 2),
    "Heun EDM, churn 3": (per_step(2, lambda n, g: s.HeunEDM(n, g, churn=3.0)), KARRAS, False, 2),
    "Euler-Maruyama": (per_step(1, lambda n, g: s.ReverseSDE(dfx.Euler(), s.FixedGrid(n, g))), LOG_SNR, False, 1),
    "ShARK": (per_step(2, lambda n, g: s.ReverseSDE(dfx.ShARK(), s.FixedGrid(n, g))), LOG_SNR, False, 2),
    "reverse diffusion": (per_step(1, lambda n, g: s.PredictorCorrector(n, g, s.ReverseDiffusion())), LOG_SNR, False,
    1),
    "ancestral": (per_step(1, lambda n, g: s.PredictorCorrector(n, g, s.Ancestral())), LOG_SNR, False, 1),
    "PC, Langevin": (
        per_step(2, lambda n, g: s.PredictorCorrector(n, g, s.ReverseDiffusion(), s.Langevin(0.16))), LOG_SNR, False,
        None,
    ),
    "Langevin dynamics": (
        per_step(1, lambda n, g: s.LangevinDynamics(max(n // 5, 1), g, 5) if n >= 5 else None), LOG_SNR, False, None,
    ),
}  # fmt: skip
ADAPTIVE = {
    "probability flow": lambda tolerance: s.ProbabilityFlow(stepping=s.Adaptive(tolerance)),
    "Gotta go fast": lambda tolerance: s.GottaGoFast(tolerance, tolerance / 2),
    "adaptive ShARK": lambda tolerance: s.ReverseSDE(dfx.ShARK(), s.Adaptive(tolerance)),
}
TOLERANCES = {
    "probability flow": (1e-1, 1e-2, 1e-3, 1e-5), "Gotta go fast": (0.1, 0.02, 0.005), "adaptive ShARK": (0.1, 0.02,
    0.005),
}  # fmt: skip
GRID_SAMPLERS = ("DDIM", "DPM-Solver++ 2M", "UniPC-3", "iPNDM-4", "Heun EDM")
GRIDS = {"uniform": UNIFORM, "quadratic": s.quadratic, "geometric": s.geometric, "log_snr": LOG_SNR, "karras": KARRAS}
GRID_NFES = (8, 12, 20)


class Target:
    """A mixture with diagonal covariances, and the quantiles of its projections in the given unit of each
    coordinate."""

    def __init__(self, means, variances, weights, num: int, unit=1.0):
        self.parameters, self.num, self.dimension, self.unit = (means, variances, weights), num, means.shape[1], unit
        directions = np.random.default_rng(7).normal(size=(DIRECTIONS, self.dimension))
        self.directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        self.quantiles = self._quantiles()

    def score(self, sde) -> MixtureScore:
        return MixtureScore(sde, *self.parameters)

    def _quantiles(self):
        """Of every projection at (k + 1/2) / num, by bisection of its distribution function."""
        means, variances, weights = self.parameters
        directions = self.directions / self.unit
        centre, std = directions @ means.T, np.sqrt(directions**2 @ variances.T)
        level = (np.arange(self.num) + 0.5) / self.num

        def halve(_, bracket):
            low, high = bracket
            middle = (low + high) / 2
            z = (middle[..., None] - centre[:, None]) / std[:, None]
            above = jnp.sum(weights * jax.scipy.stats.norm.cdf(z), axis=-1) > level
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        edge = np.max(abs(centre) + 8 * std, axis=1)[:, None] * np.ones(self.num)
        low, high = jax.jit(lambda a, b: jax.lax.fori_loop(0, 40, halve, (a, b)))(-edge, edge)
        return np.asarray((low + high) / 2, np.float32)

    def error(self, x) -> float:
        projected = np.sort((np.asarray(x) / self.unit) @ self.directions.T, axis=0).T
        return float(np.sqrt(np.mean((projected - self.quantiles) ** 2)))

    def floor(self) -> float:
        means, variances, weights = self.parameters
        errors = []
        for seed in range(8):
            random = np.random.default_rng(100 + seed)
            k = random.choice(len(weights), self.num, p=weights)
            errors.append(self.error(means[k] + np.sqrt(variances[k]) * random.normal(size=(self.num, self.dimension))))
        return float(np.mean(errors))


def targets(plane: int = 8192, wide: int = 4096) -> dict[str, Target]:
    angle = 2 * np.pi * np.arange(8) / 8
    ring = 0.7 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    weights = np.array([4, 1, 2, 1, 3, 1, 2, 2]) / 16
    random = np.random.default_rng(3)
    spectrum = np.geomspace(0.5, 1e-3, 64)
    means = random.normal(size=(10, 64)) * np.sqrt(spectrum)
    narrow = np.geomspace(1.5, 0.01, 6)
    return {
        "ring in 2 dimensions": Target(ring, np.full((8, 2), 0.05**2), weights, plane),
        "mixture in 64 dimensions": Target(
            means, np.tile(spectrum, (10, 1)) * 0.2, random.dirichlet(5 * np.ones(10)), wide
        ),
        "Gaussian in 6 dimensions": Target(np.zeros((1, 6)), narrow[None], np.ones(1), plane, np.sqrt(narrow)),
    }


def drawn_error(target: Target, sampler, sde) -> dict:
    keys = jax.random.split(jax.random.key(0), target.num)
    drawn = s.denoised_draw(sampler, target.score(sde), (target.dimension,), keys=keys)
    ok = np.asarray(drawn.ok)
    return {
        "error": target.error(drawn.x) if ok.all() else None,
        "nfe": float(drawn.nfe.mean()),
        "ok": float(ok.mean()),
    }


def flow_order(build, sde) -> float:
    """log2 of the ratio of errors between 320 and 640 calls, from the same x_T, on a smooth mixture."""
    score, x_T, exact = smooth_flow(sde, examples=16)
    errors = [jnp.sqrt(jnp.mean((ends(build(nfe, graded), score, x_T) - exact) ** 2)) for nfe in (321, 641)]
    return float(np.log2(errors[0] / errors[1]))


def law_order(build, sde) -> float:
    errors = [abs(law_error(build(nfe, LOG_SNR), sde, nfe)) for nfe in (161, 321)]
    return float(np.log2(errors[0] / errors[1]))


def measure_orders() -> dict:
    orders = {}
    with jax.enable_x64(True):
        for name, (build, _, deterministic, order) in SAMPLERS.items():
            if order is None or (not deterministic and "ShARK" in name) or name == "Euler-Maruyama":
                continue  # diffrax draws its own noise: the orders of its SDE solvers are measured in the tests
            measure = flow_order if deterministic else law_order
            orders[name] = {p: measure(build, sde) for p, sde in PROCESSES.items()}
            print("order", name, {p: round(v, 2) for p, v in orders[name].items()}, flush=True)
    return orders


def measure_errors(where: dict[str, Target], names: list[str], nfes, kept: dict, save) -> dict:
    """Error per target, sampler, process and NFE. `kept` holds what an interrupted run has measured; it is extended."""
    few = {name: target for name, target in targets(LONG_SAMPLES, LONG_SAMPLES).items() if name in where}
    for nfe in nfes:
        for name in names:
            build, grid, *_ = SAMPLERS[name]
            if (sampler := build(nfe, grid)) is None:
                continue
            for target_name, target in (few if nfe == LONG else where).items():
                for process, sde in PROCESSES.items():
                    row = f"{target_name} | {name} | {process} | {nfe}"
                    if row not in kept:
                        kept[row] = drawn_error(target, sampler, sde)
            save()
            jax.clear_caches()  # thousands of programs exhaust the mappings of a process
        print(f"NFE {nfe} done", time.strftime("%H:%M:%S"), flush=True)
    return kept


def measure_grids(target: Target) -> dict:
    table = {}
    for process in ("VP", "VE", "Karras"):
        sde = PROCESSES[process]
        score = target.score(sde)
        for name in GRID_SAMPLERS:
            build = SAMPLERS[name][0]
            for nfe in GRID_NFES:
                steps = build(nfe, LOG_SNR).steps
                times = s.optimised_times(score, (target.dimension,), steps=steps, key=jax.random.key(5))
                for grid_name, grid in {**GRIDS, "optimised": times}.items():
                    table[f"{process} | {name} | {nfe} | {grid_name}"] = drawn_error(target, build(nfe, grid), sde)
        print("grids", process, time.strftime("%H:%M:%S"), flush=True)
    return table


def measure_adaptive(where: dict[str, Target]) -> dict:
    return {
        f"{target_name} | {name} | {process} | {tolerance}": drawn_error(target, build(tolerance), sde)
        for target_name, target in where.items()
        for name, build in ADAPTIVE.items()
        for process, sde in PROCESSES.items()
        for tolerance in TOLERANCES[name]
    }


def measured(target: Target) -> dict:
    return {"dimension": target.dimension, "samples": target.num, "time": time.strftime("%Y-%m-%d"), "commit": commit()}


def few_adaptive() -> dict[str, Target]:
    """The targets of adaptive samplers, with few samples: the slowest of a batch decides how long it takes."""
    where = targets(plane=1024, wide=1024)
    return {name: where[name] for name in ("mixture in 64 dimensions", "Gaussian in 6 dimensions")}


def measure_all(figures: dict, save) -> None:
    where = targets()
    stages = {
        "targets": lambda: {name: measured(target) for name, target in where.items()},
        "theory": lambda: {name: entry[3] for name, entry in SAMPLERS.items()},
        "deterministic": lambda: {name: entry[2] for name, entry in SAMPLERS.items()},
        "floors": lambda: {name: target.floor() for name, target in where.items()},
        "long": lambda: {
            "nfe": LONG,
            "samples": LONG_SAMPLES,
            "floors": {name: target.floor() for name, target in targets(LONG_SAMPLES, LONG_SAMPLES).items()},
        },
        "orders": measure_orders,
        "grids": lambda: measure_grids(where["mixture in 64 dimensions"]),
        "errors": lambda: measure_errors(where, list(SAMPLERS), NFES, figures.setdefault("partial errors", {}), save),
        "adaptive": lambda: measure_adaptive(few_adaptive()),
    }
    for name, stage in stages.items():
        if name not in figures:
            figures[name] = stage()
            save()
    figures.pop("partial errors", None)


def measure_target(name: str, names: list[str], nfes: list[int], figures: dict, save) -> None:
    """These samplers at these numbers of calls on one target more, beside figures that are there."""
    target = targets()[name]
    figures["targets"][name], figures["floors"][name] = measured(target), target.floor()
    if LONG in nfes:
        figures["long"]["floors"][name] = targets(LONG_SAMPLES, LONG_SAMPLES)[name].floor()
    measure_errors({name: target}, names, nfes, figures["errors"], save)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", action="store_true", help="write the page from results/samplers.json")
    parser.add_argument(
        "--target", help="measure this target alone, and keep the other figures of results/samplers.json"
    )
    parser.add_argument(
        "--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS), metavar="NAME", help="with --target"
    )
    parser.add_argument("--nfes", type=int, nargs="+", default=NFES, help="with --target: numbers of calls")
    arguments = parser.parse_args()
    published = FOLDER / "samplers.json"
    if not arguments.pages:
        interrupted = PARTIAL if PARTIAL.exists() else published if arguments.target else None
        figures = json.loads(interrupted.read_text()) if interrupted else {}
        save = lambda: PARTIAL.write_text(json.dumps(figures))  # noqa: E731
        if arguments.target:
            measure_target(arguments.target, arguments.samplers, arguments.nfes, figures, save)
            published.write_text(json.dumps(figures, indent=1) + "\n")
        else:
            measure_all(figures, save)
            record("samplers", figures)
        PARTIAL.unlink(missing_ok=True)
    write_page(json.loads(published.read_text()))


if __name__ == "__main__":
    main()
