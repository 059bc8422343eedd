"""What tests/test_manifest.py runs in processes of its own, on simulated devices. Prints one line of JSON.

    python sharded_checkpoint.py RANK,PROCESSES,PORT FSDP FOLDER save|damage|restore

The state is split as in training with `training.fsdp = FSDP`. Every array that a process sends to another and every
part of which it computes a CRC is noted.
"""

import json
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from scoresde.errors import CheckpointError, NumericError
from scoresde.runs import checkpoint, crc32
from scoresde.runs.checkpoint import Checkpoints
from scoresde.runs.manifest import check_manifest, manifest
from scoresde.runtime import sharding

SHAPES = {
    "rows": ((256, 64), np.float32),  # split along its first axis: consecutive bytes
    "columns": ((3, 3, 16, 128), np.float32),  # along its last: many short runs
    "middle": ((4, 1024, 6), np.float16),
    "half": ((128, 128), jnp.bfloat16),
    "bytes": ((20000,), np.uint8),
    "small": ((7,), np.float32),  # whole on every device
    "step": ((), np.int32),
}


def values() -> dict[str, np.ndarray]:
    """The same on every process."""
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 250, shape).astype(dtype) for name, (shape, dtype) in SHAPES.items()}


def with_a_flipped_byte(state: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """One bit of the byte in the middle is flipped."""
    array = np.array(state[name])
    raw = array.reshape(-1).view(np.uint8)
    raw[len(raw) // 2] ^= 1
    return state | {name: array}


def split(state: PyTree, fsdp: int) -> PyTree:
    where = sharding.state_sharding(sharding.data_mesh(fsdp), state)
    return jax.tree.map(lambda x, to: jax.make_array_from_callback(x.shape, to, lambda index: x[index]), state, where)


def note_sizes() -> tuple[list[int], dict[tuple, int]]:
    """(bytes of each array that is sent, largest number of bytes by shape that a CRC is computed of), filled later."""
    sent, read = [], {}
    gather, part = multihost_utils.process_allgather, crc32.part

    def noted_gather(tree, **options):
        sent.extend(leaf.nbytes for leaf in jax.tree.leaves(tree))
        return gather(tree, **options)

    def noted_part(array, start, shape):
        read[shape] = max(read.get(shape, 0), array.nbytes)
        return part(array, start, shape)

    def forbidden(*_):
        raise AssertionError("an array was gathered")

    multihost_utils.process_allgather, crc32.part = noted_gather, noted_part
    sharding.on_host = sharding.all_gather = forbidden
    return sent, read


def restore(folder: Path, target: PyTree) -> dict:
    """What was reported, and whether a state came back."""
    lines = []
    try:
        Checkpoints(folder, report=lines.append).restore(target, accept=lambda meta: None, set_aside=False)
    except CheckpointError:
        return {"restored": False, "lines": lines}
    return {"restored": True, "lines": lines}


def save(folder: Path, state: PyTree) -> None:
    """Write the state as step 1."""
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, state, {})
    checkpoints.wait()
    checkpoints.close()


def spoiled(plain: dict, fsdp: int, last: bool) -> dict[str, str]:
    """What the check says where the last process alone holds another byte, or values that are not finite."""
    nan = plain | {"middle": plain["middle"].copy()}
    nan["middle"][:, -1] = np.nan  # of the part that it holds where the array is split over processes
    states, stored, said = (
        {"same": plain, "byte": with_a_flipped_byte(plain, "small"), "nan": nan},
        manifest(split(plain, fsdp)),
        {},
    )
    for name, state in states.items():
        try:
            check_manifest(split(state if last else plain, fsdp), stored)
            said[name] = ""
        except (ValueError, NumericError) as error:
            said[name] = str(error)
    return said


def main() -> None:
    where, fsdp, folder, task = sys.argv[1:]
    rank, processes, port = map(int, where.split(","))
    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, rank)
    folder, plain = Path(folder), values()
    state = split(plain, int(fsdp))
    sent, read = note_sizes()
    if task == "save":
        save(folder, state)
        found = {"saved": restore(folder, state)} | spoiled(plain, int(fsdp), last=rank == processes - 1)
    elif task == "damage":  # a checkpoint for each array, whose manifest is that of the state before the byte flipped
        stored = manifest(state)
        checkpoint.manifest = lambda _: stored
        for name in plain:
            save(folder / name, split(with_a_flipped_byte(plain, name), int(fsdp)))
        found = {}
    else:
        found = {path.name: restore(path, state) for path in sorted(folder.iterdir())}
    largest = {
        name: read.get(shape, 0) / plain[name].nbytes
        for name, (shape, _) in SHAPES.items()
        if math.prod(shape) >= sharding.SMALL
    }
    print(json.dumps({"devices": jax.device_count(), "sent": max(sent, default=0), "largest": largest, "found": found}))


if __name__ == "__main__":
    main()
