"""Manifest of a checkpoint: CRC-32, dtype and shape of every leaf, computed without moving an array between hosts.

Each process reads the shards on its own devices and reduces those of a leaf to one integer, see crc32.py. The processes
exchange these integers, one for each leaf and each copy of it, and their XOR is the CRC-32 of the whole array in C
order. It does not depend on the sharding: a checkpoint that was saved on eight devices can be checked on two, and
manifests of earlier versions, which gathered the arrays, contain the same numbers.
"""

import functools
import json
import math
import operator
import zlib
from collections.abc import Collection, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, PyTree, UInt32

from scoresde.errors import CheckpointError, NumericError
from scoresde.runs import crc32


def manifest(state: PyTree) -> dict[str, dict]:
    """Return the CRC-32 of the bytes in C order, the dtype and the global shape of every leaf. The result does not
    depend on the sharding.

    If several devices have the same part, one of them is read. Call this on every process if a leaf is split over
    processes.

    Raises:
      NumericError: a value is not finite. The error is raised on all processes.
    """
    leaves = _named(state)
    crcs = _crcs(leaves, {path: 1 for path in leaves})
    return {
        path: {"crc32": int(crcs[0, i]), "dtype": str(_dtype(leaf)), "shape": list(np.shape(leaf))}
        for i, (path, leaf) in enumerate(leaves.items())
    }


def check_manifest(state: PyTree, stored: dict[str, dict]) -> None:
    """Compare a state with the manifest with which it was saved. Every copy on this process is read.

    Args:
      state: arrays to check.
      stored: manifest with the paths of `state`.

    Raises:
      NumericError: a value is not finite.
      ValueError: the CRC-32 of a leaf differs. For leaves that are split over processes, both errors are raised on all
        of them.
    """
    leaves = _named(state)
    copies = {path: _num_copies(leaf) for path, leaf in leaves.items()}
    crcs = _crcs(leaves, copies)
    broken = [path for i, path in enumerate(leaves) if (crcs[: copies[path], i] != stored[path]["crc32"]).any()]
    if broken:
        raise ValueError(f"CRC-32 differs at {broken[0]}" + (f" and {len(broken) - 1} more" if broken[1:] else ""))


def check_fit(step: int, target: PyTree, stored: dict[str, dict], needed: Collection[str] = ()) -> None:
    """Check the dtypes and shapes in the manifest of a checkpoint against those of a target.

    Without this check Orbax would cast dtypes silently, and print a long list of missing leaves.

    Args:
      step: step of the checkpoint, for messages.
      target: arrays or ShapeDtypeStructs to be restored.
      stored: manifest of the checkpoint.
      needed: paths of stored leaves that the target must have as well.

    Raises:
      CheckpointError: a dtype or shape differs, or a leaf is missing.
    """
    wanted = {path: (str(leaf.dtype), list(leaf.shape)) for path, leaf in _named(target).items()}
    for path in wanted.keys() | needed:
        want = wanted.get(path)
        have = (stored[path]["dtype"], stored[path]["shape"]) if path in stored else None
        if want != have:
            raise CheckpointError(
                f"checkpoint at step {step} does not fit: {path} is {have or 'absent'} there, {want or 'absent'} in "
                "this run; use the configuration it was saved with, or another --workdir"
            )


def _named(state: PyTree) -> dict[str, jax.Array | np.ndarray | jax.ShapeDtypeStruct]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _dtype(leaf) -> np.dtype:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def _crcs(leaves: dict, copies: dict[str, int]) -> UInt32[np.ndarray, "copies leaves"]:
    """Return the CRC-32 of each of the first `copies` copies of each leaf, and raise a NumericError if a value is not
    finite."""
    for path, leaf in leaves.items():
        for _, _, data in _parts(leaf, copies[path]):
            if isinstance(data, jax.Array):
                data.copy_to_host_async()
    found = np.zeros((max(copies.values(), default=1), len(leaves)), np.uint32)
    finite = np.ones(len(leaves), bool)
    for i, (path, leaf) in enumerate(leaves.items()):
        found[: copies[path], i], finite[i] = _read(leaf, copies[path])
    found, finite = _of_all_processes(found, finite, np.array([not _is_local(leaf) for leaf in leaves.values()], bool))
    if not finite.all():
        raise NumericError(
            f"values that are not finite at {list(leaves)[np.argmin(finite)]}: expected finite ones; nothing that "
            "follows from them is worth keeping"
        )
    sizes = [_dtype(leaf).itemsize * math.prod(np.shape(leaf)) for leaf in leaves.values()]
    return found ^ np.array([crc32.whole(0, size) for size in sizes], np.uint32)


def _of_all_processes(
    crcs: UInt32[np.ndarray, "copies leaves"], finite: Bool[np.ndarray, " leaves"], shared: Bool[np.ndarray, " leaves"]
) -> tuple[UInt32[np.ndarray, "copies leaves"], Bool[np.ndarray, " leaves"]]:
    """Combine the contributions of all processes to the leaves that they share. Only these integers are sent."""
    if not shared.any():
        return crcs, finite
    sent = np.concatenate([crcs, finite[None].astype(np.uint32)])
    of_all = np.asarray(multihost_utils.process_allgather(sent)).reshape(-1, *sent.shape)
    crcs = np.where(shared, np.bitwise_xor.reduce(of_all[:, :-1], axis=0), crcs)
    return crcs, np.where(shared, of_all[:, -1].all(axis=0), finite)


def _read(leaf, copies: int) -> tuple[list[int], bool]:
    """Return the contribution of this process to the CRC of each copy, and whether all values that it read are
    finite."""
    crcs, finite, held, known = [0] * copies, True, {}, {}
    for copy, start, data in _parts(leaf, copies):
        held.setdefault(copy, {})[start] = data
    for copy, parts in held.items():
        starts = tuple(parts)
        if starts not in known:  # devices of one process have the same bytes
            boxes = _joined({start: np.asarray(data) for start, data in parts.items()})
            finite = finite and all(_all_finite(array) for array in boxes.values())
            contributions = (crc32.part(array, start, np.shape(leaf)) for start, array in boxes.items())
            known[starts] = functools.reduce(operator.xor, contributions)
        crcs[copy] = known[starts]
    return crcs, finite


def _joined(parts: dict[tuple[int, ...], np.ndarray]) -> dict[tuple[int, ...], np.ndarray]:
    """Join the parts that this process holds, by their starts, into one array if together they fill a box.

    A part that is cut along the last axis consists of many short runs of bytes; neighbouring parts together have fewer
    and longer runs.
    """
    if len(parts) == 1:
        return parts
    starts = np.array(list(parts))
    first = starts.min(axis=0)
    shape = (starts + [array.shape for array in parts.values()]).max(axis=0) - first
    if shape.prod() != sum(array.size for array in parts.values()):
        return parts
    box = np.empty(shape, next(iter(parts.values())).dtype)
    for start, array in parts.items():
        box[tuple(slice(a, a + n) for a, n in zip(start - first, array.shape))] = array
    return {tuple(first.tolist()): box}


def _parts(leaf, copies: int) -> Iterator[tuple[int, tuple[int, ...], jax.Array | np.ndarray]]:
    """Yield (number of the copy, index of the first value, values) for the parts of the first `copies` on this
    process."""
    if not isinstance(leaf, jax.Array):
        yield 0, (0,) * np.ndim(leaf), np.asarray(leaf)
        return
    for shard in leaf.addressable_shards:
        if shard.replica_id < copies:
            yield shard.replica_id, tuple(axis.start or 0 for axis in shard.index), shard.data


def _num_copies(leaf) -> int:
    """Return the number of copies of an array on all processes together, or 1 if the array is on this process alone."""
    return 1 if _is_local(leaf) else 1 + max(shard.replica_id for shard in leaf.global_shards)


def _is_local(leaf) -> bool:
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable


def _all_finite(array: np.ndarray) -> bool:
    return not jnp.issubdtype(array.dtype, jnp.inexact) or bool(np.isfinite(array).all())


def crc_of_json(value: dict) -> int:
    """Return the CRC-32 of a JSON object, which does not depend on the order of its keys."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())
