"""Time of saving a checkpoint: its CRCs, the part during which no step is taken, and until all is on disk.

    PYTHONPATH=. python benchmarks/checkpoint_crc.py --megabytes 50 --repeats 11
    PYTHONPATH=. python benchmarks/checkpoint_crc.py --distributed 127.0.0.1:9123,2,0    # and ...,2,1 at the same time

The state is float32, split over all devices as in training with `training.fsdp=0`: half of it along the first axis of
matrices, half along the last of convolution kernels, whose shards are many short runs of bytes. Prints medians in ms.
"""

import argparse
import json
import statistics
import tempfile
import time

import jax
import numpy as np

from scoresde.runs.checkpoint import Checkpoints, manifest
from scoresde.runtime.peers import join
from scoresde.runtime.sharding import data_mesh, state_sharding

MATRIX, KERNEL = (1024, 512), (3, 3, 128, 456)  # 2.1 MB each


def make_state(megabytes: int) -> dict[str, jax.Array]:
    """Random values: every process makes all of them and keeps its parts."""
    rng, pairs = np.random.default_rng(0), round(megabytes / 4.2)
    shapes = {f"{kind}_{i}": shape for i in range(pairs) for kind, shape in (("matrix", MATRIX), ("kernel", KERNEL))}
    plain = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    where = state_sharding(data_mesh(jax.device_count()), plain)
    return jax.tree.map(lambda x, to: jax.make_array_from_callback(x.shape, to, lambda index: x[index]), plain, where)


def fresh(state: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The same values in new arrays, of which no copy on the host is kept."""
    return jax.block_until_ready(jax.jit(lambda tree: jax.tree.map(lambda x: -x, tree))(state))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--distributed", help="HOST:PORT,PROCESSES,RANK")
    parser.add_argument("--folder", help="shared by all processes; default: a new one")
    arguments = parser.parse_args()
    if arguments.distributed:
        join(arguments.distributed)
    state = make_state(arguments.megabytes)
    times = {"crc": [], "blocked": [], "written": []}
    with tempfile.TemporaryDirectory() as own:
        checkpoints = Checkpoints(arguments.folder or own)
        for step in range(arguments.repeats + 1):
            state = fresh(state)
            begin = time.perf_counter()
            manifest(state)
            crc = time.perf_counter() - begin
            state = fresh(state)
            begin = time.perf_counter()
            checkpoints.save(step, state, {})
            blocked = time.perf_counter() - begin
            checkpoints.wait()
            written = time.perf_counter() - begin
            if step:  # the first one opens the folder and compiles
                for name, value in {"crc": crc, "blocked": blocked, "written": written}.items():
                    times[name].append(1000 * value)
        checkpoints.close()
    size = sum(leaf.nbytes for leaf in state.values()) / 1e6
    medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
    about = {"megabytes": round(size, 1), "devices": jax.device_count(), "processes": jax.process_count()}
    if jax.process_index() == 0:
        print(json.dumps(about | medians))


if __name__ == "__main__":
    main()
