"""What a sampler costs beyond the network: its time over that of a bare loop with as many calls of the score.

python benchmarks/sampler_speed.py

The network is that of configs/digits_vp.py, the batch 64 images, 24 calls. Sampler and loop run in turn, A B A B ...;
the figure is the median of the ratios pair by pair.
"""

import time

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np
from record import record

from scoresde import sample as s
from scoresde.experiment import Experiment
from scoresde.experiment.config import load_config

IMAGES, CALLS, PAIRS = 64, 24, 9
SHAPE = (8, 8, 1)
SAMPLERS = {
    "DDIM": s.DDIM(24),
    "DDIM eta=1": s.DDIM(24, eta=1.0),
    "Euler EDM": s.EulerEDM(24),
    "Heun EDM": s.HeunEDM(12),
    "Heun EDM, churn": s.HeunEDM(12, churn=3.0),
    "DPM-Solver++ 2S": s.DPMSolverPPSinglestep(12),
    "DPM-Solver++ 2M": s.DPMSolverPP(24),
    "DPM-Solver++ 3M": s.DPMSolverPP(24, order=3),
    "SDE-DPM-Solver++ 2M": s.SDEDPMSolverPP(24),
    "UniPC-3": s.UniPC(24),
    "DEIS-3": s.DEIS(24),
    "iPNDM-4": s.IPNDM(24),
    "SA-Solver-3": s.SASolver(24),
    "SEEDS-2": s.SEEDS(12),
    "reverse diffusion": s.PredictorCorrector(24, predictor=s.ReverseDiffusion()),
    "PC, Langevin": s.PredictorCorrector(12, predictor=s.ReverseDiffusion(), corrector=s.Langevin()),
    "Langevin dynamics": s.LangevinDynamics(6, repeats=4),
    "Euler-Maruyama (diffrax)": s.ReverseSDE(dfx.Euler(), s.FixedGrid(24)),
    "ShARK (diffrax)": s.ReverseSDE(dfx.ShARK(), s.FixedGrid(12)),
    "Heun (diffrax)": s.ProbabilityFlow(dfx.Heun(), s.FixedGrid(12)),
}


@eqx.filter_jit
def bare(score, keys):
    """CALLS calls of the score in a loop, each at the x that the one before made."""
    times = s.uniform(score.sde, CALLS)[1:]

    def one(key):
        def step(x, t):
            return 0.5 * (x - score(x, t) * score.sde.sigma(t)), None

        return jax.lax.scan(step, jax.random.normal(key, SHAPE), times)[0]

    return jax.vmap(one)(keys)


def seconds(function) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def main():
    score = Experiment.from_config(load_config("configs/digits_vp.py", [])).score()
    keys = jax.random.split(jax.random.key(0), IMAGES)
    loop = lambda: bare(score, keys)  # noqa: E731
    seconds(loop)
    figures = {}
    for name, sampler in SAMPLERS.items():
        drawn = s.draw(sampler, score, SHAPE, keys=keys)
        assert int(drawn.nfe[0]) == CALLS, (name, drawn.nfe[0])
        pairs = np.array(
            [(seconds(lambda: s.draw(sampler, score, SHAPE, keys=keys).x), seconds(loop)) for _ in range(PAIRS)]
        )
        ratio = pairs[:, 0] / pairs[:, 1]
        low, high = np.quantile(ratio, [0.25, 0.75])
        figures[name] = {
            "ratio": round(float(np.median(ratio)), 3),
            "quartiles": [round(float(low), 3), round(float(high), 3)],
        }
        print(f"{name:26s} {figures[name]}", flush=True)
    record("sampler_speed", {"images": IMAGES, "calls": CALLS, "pairs": PAIRS, "samplers": figures})


if __name__ == "__main__":
    main()
