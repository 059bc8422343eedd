"""Placement of arrays: on a mesh [data, fsdp] of all devices, or on one axis over the devices of this process.

Training splits a batch over both axes. The state of a run (parameters, moments, averages) is split over "fsdp" and
copied along "data": fsdp = 1 is data parallelism, fsdp = all devices is fully sharded (Rajbhandari et al. 2020, ZeRO
stage 3), and for values between, each group of fsdp devices has one copy. XLA's partitioner inserts the collectives.

Axis types are Auto, because diffrax does not support explicit axes.
"""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

SMALL = 2**14  # arrays with fewer values are not split, because that would save little memory


def data_mesh(fsdp: int = 1, devices: list | None = None) -> Mesh:
    """Return the mesh [data, fsdp] of all devices of all processes, or of `devices`; `fsdp` divides their number."""
    devices = jax.devices() if devices is None else devices
    shape, types = (len(devices) // fsdp, fsdp), (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh(shape, ("data", "fsdp"), axis_types=types, devices=devices)


def shardings(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """Return two shardings: a copy on every device, and a split of the first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def state_sharding(mesh: Mesh, tree: PyTree) -> PyTree:
    """Return the sharding of each array of `tree` between steps: its longest axis that "fsdp" divides is split."""

    def sharding(array) -> NamedSharding:
        n, shape = mesh.shape["fsdp"], np.shape(array)
        whole = [i for i, length in enumerate(shape) if length % n == 0]
        if n == 1 or not whole or np.prod(shape) < SMALL:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(whole, key=lambda i: shape[i])
        return NamedSharding(mesh, PartitionSpec(*["fsdp" if i == longest else None for i in range(len(shape))]))

    return jax.tree.map(sharding, tree)


def all_gather(tree: PyTree) -> PyTree:
    """Return every array complete on every device that has a part of it. Every process must call this function."""
    split = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array) and not x.is_fully_replicated]
    if not split:
        return tree
    everywhere = NamedSharding(split[0].sharding.mesh, PartitionSpec())
    return jax.jit(lambda x: x, out_shardings=everywhere)(tree)


def memory_limit() -> int | None:
    """Return the bytes that one device can allocate: the limit of the allocator, or on the CPU a device's share of the
    memory of the machine. None if neither is known."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // jax.local_device_count()
    except (AttributeError, OSError, ValueError):
        return None


def shard(tree: PyTree) -> PyTree:
    """Split the first axis of every array over the devices of this process, which must divide it."""
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return jax.device_put(tree, shardings(mesh)[1])


def local_copy(tree: PyTree) -> PyTree:
    """Return a copy of arrays on the devices of this process only."""
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return jax.device_put(jax.tree.map(on_host, tree), shardings(mesh)[0])


def on_host(array) -> np.ndarray:
    """Return the complete array in the memory of this process."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        if array.is_fully_replicated:
            return np.asarray(array.addressable_data(0))
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def pad(array: np.ndarray, size: int) -> np.ndarray:
    """Extend `array` to `size` rows by repeating its last row, so that all batches have one shape and none is
    dropped."""
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)]) if len(array) < size else array


def batch_for_devices(batch_size: int, num: int) -> int:
    """Return the batch size for `num` examples: no larger than needed, and a multiple of the number of devices of this
    process."""
    count = jax.local_device_count()
    return -(-max(min(batch_size, num), 1) // count) * count
