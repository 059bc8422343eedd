"""Transfer of batches from the data set to the devices."""

import itertools
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree


class BatchIterator:
    """The batches of a run, [n, B, ...] for n steps at a time.

    Args:
      dataset, seed, batch_size: as in `fit`. The order is that of `dataset.stream`.
      mesh: the result of `data_mesh`; each process reads the rows of its devices.
    """

    def __init__(self, dataset, seed: int, batch_size: int, mesh: Mesh):
        share = batch_size // jax.process_count()
        self._rows = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
        self._dataset, self._seed, self._batch_size = dataset, seed, batch_size
        self.sharding = batches_sharding(mesh)

    def shapes(self, n: int) -> PyTree[jax.ShapeDtypeStruct]:
        """Return the shapes and dtypes of n batches, from one record."""
        stream = self._dataset.stream(self._seed, self._batch_size, 0, rows=slice(1))
        like = next(stream)
        stream.close()

        def of(x) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((n, self._batch_size, *x.shape[1:]), x.dtype, sharding=self.sharding)

        return jax.tree.map(of, like)

    def read(self, start: int, ends: list[int]) -> Iterator[PyTree[np.ndarray]]:
        """Yield for each of `ends` the batches of the steps up to it, starting from step `start`."""
        stream = self._dataset.stream(self._seed, self._batch_size, start, rows=self._rows)
        try:
            for first, end in zip([start, *ends], ends):
                parts = list(itertools.islice(stream, end - first))
                yield jax.tree.map(lambda *arrays: np.stack(arrays), *parts)
        finally:
            stream.close()

    def put(self, batches: PyTree[np.ndarray]) -> PyTree[jax.Array]:
        return jax.tree.map(lambda array: jax.make_array_from_process_local_data(self.sharding, array), batches)


def batches_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of [n, B, ...]: each batch is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(None, mesh.axis_names))


def prefetch(batches: Iterable, put: Callable) -> Iterator:
    """Yield `put(batch)` for each batch, one batch ahead, so that the transfer overlaps with the previous step."""
    for one, _on_its_way in itertools.pairwise(itertools.chain(map(put, batches), [None])):
        yield one
