"""What a likelihood costs: one call with its divergence, and a whole solve.

python -m scoresde.train --config configs/digits_vp.py && python benchmarks/likelihood_cost.py --workdir runs/digits_vp

- call: FLOPs (by the compiler) and time of value and divergence, as ratios to one forward call of the same score, one
  probe; forward mode (ours), reverse mode, and score_sde's way: the drift in one compiled function, the divergence with
  a forward and a vjp of its own in another. The digits U-Net, and a small DDPM++-like U-Net for 32 x 32 x 3.
- solve: the likelihood of 16 test digits, the run's score: ours against SciPy's RK45 driven from the host, in float64
  with one step size for the batch, around the same compiled function, as in score_sde. Tolerance 1e-5, one Rademacher
  probe.
- estimators: variance of the trace at equal numbers of directional derivatives, the run's score at noisy test digits.

Times: the candidates run in turn, A B C A B C ...; the figure is the median of the ratios round by round.
"""

import argparse
import functools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
from record import record
from scipy.integrate import solve_ivp

from scoresde.experiment import Experiment
from scoresde.experiment.config import default, load_config
from scoresde.experiment.load import load_run
from scoresde.likelihood import GaussianProbes, HutchPlusPlus, Rademacher, log_likelihood

ROUNDS, IMAGES, TOLERANCE = 15, 16, 1e-5
TIMES, DERIVATIVES, KEYS = (0.02, 0.1, 0.3, 0.6), (3, 6, 12, 24, 48), 100


def small_ddpmpp():
    c = default()
    c.data.image_size, c.data.channels = 32, 3
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention = 32, (1, 2, 2, 2), 1, (16,)
    return Experiment.from_config(c).score()


def ways(score):
    """name -> the functions of (x, e) it compiles; all at one time t."""
    sde, t = score.sde, jnp.float32(0.3)

    def forward(x, e):
        return score(x, t)

    def ours(x, e):
        return Rademacher(1).flow(score, x, t, e[None])

    def reverse(x, e):
        s, pull = jax.vjp(lambda x: score(x, t), x)
        return s, jnp.sum(pull(e)[0] * e)

    def drift(x, e):
        return sde.f(t) * x - 0.5 * sde.g2(t) * score(x, t)

    def divergence(x, e):
        return jnp.sum(jax.grad(lambda x: jnp.sum(drift(x, e) * e))(x) * e)

    named = {"forward": [forward], "ours": [ours], "reverse": [reverse], "score_sde": [drift, divergence]}
    return {name: [jax.jit(jax.vmap(f)) for f in functions] for name, functions in named.items()}


def seconds(function) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def call_cost(score, shape, batch: int) -> dict:
    x, e = jax.random.normal(jax.random.key(0), (2, batch, *shape))
    compiled = {name: [f.lower(x, e).compile() for f in fs] for name, fs in ways(score).items()}
    flops = {name: sum(c.cost_analysis()["flops"] for c in cs) for name, cs in compiled.items()}
    run = {name: functools.partial(lambda cs: [c(x, e) for c in cs], cs) for name, cs in compiled.items()}
    for function in run.values():
        seconds(function)
    rounds = np.array([[seconds(run[name]) for name in run] for _ in range(ROUNDS)])
    ratios = np.median(rounds / rounds[:, :1], axis=0)
    return {
        name: {"flops_ratio": round(flops[name] / flops["forward"], 3), "time_ratio": round(float(ratio), 3)}
        for name, ratio in zip(run, ratios, strict=True)
    } | {
        "forward_gflops": round(flops["forward"] / 1e9, 3),
        "forward_ms": round(1e3 * float(np.median(rounds[:, 0])), 2),
    }


def host_driven(score, x0, e) -> tuple[np.ndarray, int]:
    """log p of a batch as score_sde takes it, but for value and divergence in one pass, as ours has them."""
    sde, shape = score.sde, x0.shape
    fused = jax.jit(lambda x, t: jax.vmap(lambda x, e: Rademacher(1).flow(score, x, t, e[None]))(x, e))

    def slope(t, state):
        x = jnp.asarray(state[: x0.size].reshape(shape), jnp.float32)
        flow, divergence = fused(x, jnp.float32(t))
        return np.concatenate([np.asarray(flow).ravel(), np.asarray(divergence).ravel()]).astype(np.float64)

    start = np.concatenate([np.asarray(x0, np.float64).ravel(), np.zeros(len(x0))])
    solved = solve_ivp(slope, (sde.t_min, sde.t_max), start, rtol=TOLERANCE, atol=TOLERANCE, method="RK45")
    latent = jnp.asarray(solved.y[: x0.size, -1].reshape(shape), jnp.float32)
    return np.asarray(jax.vmap(sde.log_prior)(latent)) + solved.y[x0.size :, -1], solved.nfev


def solve_cost(trained) -> dict:
    score, dataset = trained.score, trained.dataset
    x0 = dataset.encode(dataset.test.rows(np.arange(IMAGES))[0])
    # Centres of bins are rare under a model of dequantized data; noise puts them where its likelihoods are taken.
    x0 = x0 + (jax.random.uniform(jax.random.key(1), x0.shape) - 0.5) * math.exp(dataset.log_jacobian() / x0[0].size)
    key = jax.random.key(2)
    keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(IMAGES))
    e = jax.vmap(lambda key: Rademacher(1).directions(x0[0], key=key)[0])(keys)  # the same probes
    ours = lambda: log_likelihood(score, x0, key=key, tolerance=TOLERANCE)  # noqa: E731
    mine, (theirs, calls) = ours(), host_driven(score, x0, e)
    assert mine.ok.all()
    pairs = np.array([(seconds(ours), seconds(lambda: host_driven(score, x0, e)[0])) for _ in range(5)])
    return {
        "time_ratio_ours_to_scipy": round(float(np.median(pairs[:, 0] / pairs[:, 1])), 3),
        "ours_s": round(float(np.median(pairs[:, 0])), 2), "scipy_s": round(float(np.median(pairs[:, 1])), 2),
        "ours_calls_mean": float(mine.nfe.mean()), "ours_calls_largest": int(mine.nfe.max()), "scipy_calls": calls,
        "largest_difference_bits_per_dim": float(abs(mine.log_prob - theirs).max() / x0[0].size / math.log(2)),
        "images": IMAGES, "tolerance": TOLERANCE,
    }  # fmt: skip


def estimator_variance(trained) -> dict:
    """Variance of the mean over the estimates, summed over points and times, relative to Rademacher's."""
    score, dataset = trained.score, trained.dataset
    sde, x0 = score.sde, dataset.encode(dataset.test.rows(np.arange(4))[0])

    @functools.partial(jax.jit, static_argnums=0)
    def variance(trace, x, t):
        one = lambda key: jnp.mean(trace.flow(score, x, t, trace.directions(x, key=key))[1])  # noqa: E731
        return jnp.var(jax.lax.map(one, jax.random.split(jax.random.key(3), KEYS), batch_size=25), ddof=1)

    table = {}
    for t in map(jnp.float32, TIMES):
        x = sde.alpha(t) * x0 + sde.sigma(t) * jax.random.normal(jax.random.key(4), x0.shape)
        for count in DERIVATIVES:
            found = [
                sum(float(variance(kind(count), x_k, t)) for x_k in x)
                for kind in (Rademacher, GaussianProbes, HutchPlusPlus)
            ]
            row = {"rademacher": found[0], "gaussian_ratio": found[1] / found[0], "hutchpp_ratio": found[2] / found[0]}
            table[f"t={float(t):g}, {count} derivatives"] = {name: float(f"{v:.3g}") for name, v in row.items()}
    return table


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workdir", required=True, help="a trained run of configs/digits_vp.py")
    trained = load_run(parser.parse_args().workdir)
    figures = {
        "call": {
            "digits": call_cost(Experiment.from_config(load_config("configs/digits_vp.py", [])).score(), (8, 8, 1), 64),
            "small DDPM++": call_cost(small_ddpmpp(), (32, 32, 3), 8),
        },
        "solve": solve_cost(trained),
        "estimators": estimator_variance(trained),
    }
    for name, part in figures.items():
        print(name, *part.items(), sep="\n  ")
    record("likelihood_cost", figures)


if __name__ == "__main__":
    main()
