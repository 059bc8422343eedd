"""What diffrax costs: a fixed-grid `diffeqsolve` against a bare `lax.scan` of the same Euler-Maruyama steps.

python benchmarks/diffrax_overhead.py

The network is that of configs/digits_vp.py, the batch 64 images, 50 steps. The two run in turn, A B A B ...; the figure
is the median of the ratios pair by pair.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from record import record

from scoresde import FixedGrid, ReverseSDE
from scoresde.experiment import Experiment
from scoresde.experiment.config import load_config
from scoresde.sample import draw, uniform

IMAGES, STEPS, PAIRS = 64, 50, 15


def bare(score, shape, keys):
    """The same steps written by hand, per image, under vmap."""

    sde = score.sde

    def one(key):
        prior_key, path_key = jax.random.split(key)
        times = uniform(sde, STEPS)

        def step(x, i):
            t, dt = times[i], times[i] - times[i + 1]
            z = jax.random.normal(jax.random.fold_in(path_key, i), shape)
            drift = sde.g2(t) * score(x, t) - sde.f(t) * x
            return x + drift * dt + jnp.sqrt(sde.g2(t) * dt) * z, None

        return jax.lax.scan(step, sde.sample_prior(shape, key=prior_key), jnp.arange(STEPS))[0]

    return jax.vmap(one)(keys)


def main():
    score = Experiment.from_config(load_config("configs/digits_vp.py", [])).score()
    shape = (8, 8, 1)
    keys = jax.random.split(jax.random.key(0), IMAGES)
    sampler = ReverseSDE(stepping=FixedGrid(STEPS, uniform))
    by_hand = jax.jit(lambda score, keys: bare(score, shape, keys))

    def seconds(function) -> float:
        start = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - start

    def a():
        return draw(sampler, score, shape, keys=keys).x

    def b():
        return by_hand(score, keys)

    seconds(a), seconds(b)
    pairs = np.array([(seconds(a), seconds(b)) for _ in range(PAIRS)])
    ratios = pairs[:, 0] / pairs[:, 1]
    figures = {"ratio_median": round(float(np.median(ratios)), 3), "ratio_quartiles": np.quantile(ratios, [0.25,
    0.75]).round(3).tolist(),
               "diffrax_ms": round(1e3 * float(np.median(pairs[:, 0])), 1),
               "scan_ms": round(1e3 * float(np.median(pairs[:, 1])), 1),
               "images": IMAGES, "steps": STEPS, "pairs": PAIRS}  # fmt: skip
    print(figures)
    record("diffrax_overhead", figures)


if __name__ == "__main__":
    main()
