"""Where arrays live: one mesh axis "data" over all devices, or over those of this process.

Axis types are Auto: diffrax does not take explicit ones.
"""

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree


def data_mesh() -> Mesh:
    """All devices of all processes along "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def shardings(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """(a copy on every device, split along the first axis)."""
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


def spread(tree: PyTree) -> PyTree:
    """Split the first axis of every array over the devices of this process, which must divide it."""
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return jax.device_put(tree, shardings(mesh)[1])


def local_copy(tree: PyTree) -> PyTree:
    """This process's copy of arrays that every device holds, on its own devices alone."""
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return jax.device_put(jax.tree.map(on_host, tree), shardings(mesh)[0])


def on_host(array) -> np.ndarray:
    """The whole array in the memory of this process."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        if array.is_fully_replicated:
            return np.asarray(array.addressable_data(0))
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """`array` made `size` long by repeating its last row, so that every batch has one shape and none is dropped."""
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)]) if len(array) < size else array


def batch_for_devices(batch_size: int, num: int) -> int:
    """The batch size to use for `num` examples: no larger than needed, and divided by the devices of this process."""
    count = jax.local_device_count()
    return -(-max(min(batch_size, num), 1) // count) * count
