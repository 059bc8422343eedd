"""Every sampler with its default options and grid on every process, in 6 dimensions: results/sampler_defaults.json and
a table.

python benchmarks/sampler_defaults.py [--samples 2048]

- variance: of the axis that is furthest off, over the true one, on a Gaussian with eigenvalues 1.5 to 0.01
- weight: of the smallest component of a mixture with weights .70, .25, .05, deviation 0.2 and distances of 2.5 to 3.9

Scores are exact. A call is one of the score, the denoising included; the samplers of `OLD` have the defaults of before.
"""

import argparse
import pathlib
import sys

import jax
import numpy as np
from record import record

from scoresde import VE, VP, Cosine, Karras, MixtureScore, SubVP, sample
from scoresde.experiment.building import make_sampler
from scoresde.experiment.component import arguments, resolve
from scoresde.experiment.config import default, override
from scoresde.experiment.kinds import SAMPLER

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))
from any_process import each_process  # noqa: E402

CALLS = (50, 200, 1000)
CALLS_A_STEP = {"heun_edm": 2, "dpmpp_2s": 2, "seeds": 2, "predictor_corrector": 2}
OLD = {
    "reverse_sde, uniform": ["sampling.sampler=reverse_sde", "sampling.grid=uniform"],
    "predictor_corrector, as published": [
        "sampling.sampler=predictor_corrector", "sampling.predictor=reverse_diffusion", "sampling.corrector=langevin",
        "sampling.grid=uniform",
    ],
}  # fmt: skip
NEW = {
    name: [f"sampling.sampler={name}"]
    for name in SAMPLER.names
    if arguments(SAMPLER, resolve(SAMPLER, name, "sampling")).get("steps")
}
PROCESSES = each_process({"VP": VP(), "SubVP": SubVP(), "VE": VE(), "Cosine": Cosine(), "Karras": Karras()})
EIGENVALUES = np.geomspace(1.5, 0.01, 6)
WEIGHTS = np.array([0.7, 0.25, 0.05])
MEANS = np.random.default_rng(0).normal(size=(3, 6))
VARIANCE = 0.04


def build(options: list[str], calls: int):
    """A sampler of at most so many calls, one of which is the denoising."""
    config = default()
    override(config, options)
    c = config.sampling
    a_step = CALLS_A_STEP.get(c.name, 1)
    if c.name == "langevin_dynamics":  # else 50 calls have 50 levels, and one step at each
        c.corrections = a_step = 5
    c.steps = (calls - 1) // a_step
    return make_sampler(c.to_dict(), VP(), None, ())


def figures(sampler, sde, num: int) -> dict:
    keys = jax.random.split(jax.random.key(0), num)
    same = MixtureScore(
        sde, np.zeros((3, 6)), np.tile(EIGENVALUES, (3, 1)), WEIGHTS
    )  # a Gaussian, by the program of the mixture
    mixture = MixtureScore(sde, MEANS, np.full((3, 6), VARIANCE), WEIGHTS)
    x, y = (np.asarray(sample.denoised_draw(sampler, score, (6,), keys=keys).x, float) for score in (same, mixture))
    ratios = x.var(axis=0) / EIGENVALUES
    nearest = np.argmin(((y[:, None] - MEANS) ** 2).sum(axis=-1), axis=1)
    return {
        "variances": ratios.round(4).tolist(),
        "weights": (np.bincount(nearest, minlength=3) / num).round(4).tolist(),
        "ok": bool(np.isfinite(x).all() and np.isfinite(y).all()),
    }


def cell(found: dict) -> str:
    if not found["ok"]:
        return "failed"
    ratios = np.array(found["variances"])
    worst = ratios[np.argmax(abs(np.log(ratios)))]
    return f"{worst:.2f}, {found['weights'][2]:.3f}" if worst < 100 else f"{worst:.0e}, {found['weights'][2]:.3f}"


def table(cells: dict) -> list[str]:
    lines = [f"| sampler | calls | {' | '.join(PROCESSES)} |", "|" + "---|" * (len(PROCESSES) + 2)]
    for name in (*OLD, *NEW):
        for calls in CALLS:
            row = [cells[f"{name} | {calls} | {process}"] for process in PROCESSES]
            lines.append(f"| {name} | {calls} | {' | '.join(cell(found) for found in row)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2048)
    num = parser.parse_args().samples
    cells = {}
    for calls in (200, 50, 1000):
        for name, options in {**OLD, **NEW}.items():
            sampler = build(options, calls)
            for process, sde in PROCESSES.items():
                cells[f"{name} | {calls} | {process}"] = figures(sampler, sde, num)
            print(
                name,
                calls,
                *(cell(cells[f"{name} | {calls} | {process}"]) for process in PROCESSES),
                sep="  ",
                flush=True,
            )
            jax.clear_caches()
    record("sampler_defaults", {"samples": num, "eigenvalues": EIGENVALUES.tolist(), "cells": cells})
    print("\n".join(table(cells)))


if __name__ == "__main__":
    main()
