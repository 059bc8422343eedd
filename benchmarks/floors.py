"""What one image must cost at the least: operations and bytes of each network, forward and in a training step, by
counting alone.

python benchmarks/floors.py

speed_count.py counts products and convolutions in the traced programs; nothing is allocated or compiled. Operations
over the device's matrix rate and bytes over its memory bandwidth are two times that no version goes below by much.
`optimizer` is the traffic of parameters, gradient, Adam's moments and the average once a step, whatever the batch: each
read once, and all but the gradient written once, in float32.
"""

import jax
import jax.numpy as jnp
from abstract_step import abstract_step
from record import record
from speed_count import least_work
from speed_jax import configuration
from speed_networks import twins

from scoresde.experiment import Experiment
from scoresde.train.step import with_params

BATCH = 32


def floors(told: dict, dtype: str) -> dict:
    config = configuration(told, dtype)
    small = configuration(
        told | {"ours": {"name": "mlp", "width": 4, "depth": 1, "num_classes": told["ours"].get("num_classes", 0)}},
        dtype,
    )
    network = Experiment.from_config(config).network
    score = Experiment.from_config(small, network).score()
    x, t = (jax.ShapeDtypeStruct((BATCH, *shape), jnp.float32) for shape in (told["shape"], ()))
    forward = least_work(jax.jit(lambda p, x, t: jax.vmap(with_params(score, p))(x, t)).trace(network.params, x, t))
    config.training.batch_size = BATCH
    train = least_work(abstract_step(config, jax.devices()[:1]).traced)
    per_image = {
        f"{name}_{key}": value / BATCH
        for name, work in (("forward", forward), ("train", train))
        for key, value in work.items()
    }
    return per_image | {"parameters": network.num_params, "optimizer_bytes": 4 * network.num_params * 9}


def main():
    rows = {}
    print(
        f"{'network':16} {'dtype':9} {'parameters':>12} {'forward':>15} {'':>10} {'train':>15} {'':>10} "
        f"{'optimizer':>10}"
    )
    for name, twin in twins().items():
        for dtype in ("float32", "bfloat16"):
            rows[f"{name}, {dtype}"] = r = floors(twin.told, dtype)
            print(
                f"{name:16} {dtype:9} {r['parameters']:12,} {r['forward_flops'] / 1e9:9.4g} GFLOP "
                f"{r['forward_bytes'] / 1e6:7.4g} MB "
                f"{r['train_flops'] / 1e9:9.4g} GFLOP {r['train_bytes'] / 1e6:7.4g} MB "
                f"{r['optimizer_bytes'] / 1e6:7.4g} MB", flush=True,
            )  # fmt: skip
    record("floors", {"batch": BATCH, "networks": rows})


if __name__ == "__main__":
    main()
