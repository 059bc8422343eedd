"""A short training with and without decay of the rate, and with averages of several lengths: what
`configs/cifar10_fast.py` takes from it.

    python benchmarks/short_training.py cifar10.npz --steps 1500 --runs 4e-3:0:0.99 4e-3:1.5:0.99 4e-3:1:0.99

CIFAR-10 averaged to 8 x 8, ten classes, flips; a U-Net of 190,051 parameters under EDM's preconditioning, weighting and
law; batches of 64. A run is RATE:DECAY:BETA2, where DECAY is the step at which the cosine reaches a hundredth, in units
of the steps; 0: constant. Printed is the loss of 2048 test images under one and the same noise and quantiles of the
law, of the last parameters and of averages with half-lives of 0.5, 1, 2 and 5 % of the images; then differences to the
first run for the average of 2 %, with paired standard errors.
"""

import argparse
import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from scoresde.experiment import Experiment
from scoresde.experiment.presets import edm
from scoresde.train.step import init_state, make_step, with_params

BATCH, TESTED, AT_ONCE = 64, 2048, 512
SHARES = (0.005, 0.01, 0.02, 0.05)  # half-lives of the averages, of all images


def shrunk(source: str, folder: Path) -> Path:
    """CIFAR-10 as means over 4 x 4 pixels."""
    with np.load(source, allow_pickle=False) as file:
        arrays = dict(file)
    for name in ("x_train", "x_test"):
        means = arrays[name].astype(np.float32).reshape(-1, 8, 4, 8, 4, 3).mean((2, 4))
        arrays[name] = np.round(means).astype(np.uint8)
    np.savez(folder / "cifar8.npz", **arrays)
    return folder / "cifar8.npz"


def configuration(path: Path, steps: int, rate: float, decay: float, beta2: float):
    c = edm("edm_ddpmpp_cifar10", images=steps * BATCH, batch_size=BATCH, augment=0.0)
    c.data.source, c.data.image_size, c.data.random_flip = f"npz:{path}", 8, True
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention = 16, (1, 2), 1, (4,)
    c.model.dropout, c.model.num_classes, c.training.reduce_mean, c.seed = 0.0, 10, True, 0
    c.training.ema = tuple(share * steps * BATCH for share in SHARES)
    c.optim.learning_rate, c.optim.beta2, c.optim.grad_clip = rate, beta2, 1.0
    c.optim.warmup, c.optim.decay_steps = steps // 50, int(decay * steps)
    return c


def losses(score, objective, values, labels) -> np.ndarray:
    """[images], each at its own quantile of the law."""
    u = jnp.asarray((np.random.default_rng(5).permutation(len(values)) + 0.5) / len(values), jnp.float32)
    keys = jax.random.split(jax.random.key(9), len(values))

    @functools.partial(
        jax.jit, compiler_options={"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    )
    @jax.vmap
    def one(x0, label, u, key):
        return objective.at(score.given({"class": label}), x0, objective.time_law.quantile(score.sde, u), key=key)

    parts = [slice(k, k + AT_ONCE) for k in range(0, len(values), AT_ONCE)]
    return np.concatenate([np.asarray(one(values[p], labels[p], u[p], keys[p])) for p in parts])


def trained(c, dataset) -> np.ndarray:
    """[1 + averages, images]: the losses of the last parameters and of each average, as `training.ema` has them."""
    score, objective, optimizer = (
        Experiment.from_config(c).score(),
        Experiment.from_config(c).objective,
        Experiment.from_config(c).optimizer,
    )
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    step = make_step(
        score, objective, optimizer, prepare=Experiment.from_config(c).prepare(dataset), accumulation=1, mesh=mesh
    )
    state = init_state(score.network.params, optimizer, tuple(c.training.ema), jax.random.key(c.seed))
    for _, batch in zip(range(c.training.steps), dataset.stream(c.seed, BATCH)):
        state, _ = step(state, batch)
    values, conditions = dataset.test.rows(np.arange(TESTED))
    values, labels = jnp.asarray(dataset.encode(values)), jnp.asarray(conditions["class"])
    ordered = [state.params, *(state.ema[str(float(memory))] for memory in c.training.ema)]
    return np.stack([losses(with_params(score, params), objective, values, labels) for params in ordered])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="NPZ with x_train, y_train, x_test, y_test")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--runs", nargs="+", default=["4e-3:0:0.99", "4e-3:1.5:0.99", "4e-3:1:0.99"])
    found, first = parser.parse_args(), None
    print(
        "run".ljust(16)
        + "".join(f"{name:>9}" for name in ("last", *(f"{share:.1%}" for share in SHARES)))
        + "   less the first run"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = shrunk(found.source, Path(folder))
        for text in found.runs:
            c = configuration(path, found.steps, *map(float, text.split(":")))
            each = trained(c, Experiment.from_config(c).dataset())
            first = each if first is None else first
            off = each[3] - first[3]
            error = off.std(ddof=1) / len(off) ** 0.5
            print(
                text.ljust(16)
                + "".join(f"{value:9.5f}" for value in each.mean(1))
                + f"   {off.mean():+.5f} +- {error:.5f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
