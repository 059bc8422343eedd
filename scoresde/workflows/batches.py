"""Reading of records and batching, shared by the tasks of `python -m scoresde.sample` other than `generate`."""

import pathlib
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import PyTree

from scoresde.data import npz
from scoresde.data.conditions import LABEL
from scoresde.errors import DataError
from scoresde.experiment.load import TrainedModel
from scoresde.runtime.files import replacing
from scoresde.runtime.progress import Progress
from scoresde.runtime.sharding import batch_for_devices, pad, shard
from scoresde.sample import Draw

PICTURE = 64  # images shown in OUT/grid.png


def records_of(trained: TrainedModel, source: str | None, split: str, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first records of the run's data set, or of the array `samples` of a file, and their indices.

    If the score has a class and the data set has labels, only records of this class are used.

    Raises:
        DataError: there are no records, or those of the file have another shape or type.
    """
    codec, label = trained.codec, trained.fixed.get(LABEL)
    if source is not None:
        records = npz.records(read_array(source, "samples"), f"{source}: samples", codec.shape, codec.levels)[:num]
        return records, np.arange(len(records))
    dataset = trained.dataset
    chosen = {"train": dataset.train, "test": dataset.test}[split]
    if label is None or not dataset.classes:
        numbers = np.arange(min(num, len(chosen)))
    else:
        numbers = np.flatnonzero(chosen.labels == int(label))[:num]
    if not len(numbers):
        raise DataError(
            f"{dataset.name}: no {split} record has the label {trained.classes[int(label)]}; take another --split or "
            "--label, or give --input"
        )
    return chosen.rows(numbers)[0], numbers


def read_array(source: str, name: str) -> np.ndarray:
    file = pathlib.Path(source).expanduser()
    with npz.opened(file) as archive:
        return npz.member(archive, name, file)


def data_values(trained: TrainedModel, drawn: Draw) -> np.ndarray:
    return np.asarray(trained.codec.decode(np.nan_to_num(drawn.x)))


def in_batches(trained: TrainedModel, function: Callable, rows: PyTree, each: int = 1) -> Draw:
    """Apply `function` to rows, arrays with a common first axis, in batches of one shape on the devices of this
    process; each row counts as `each` solves."""
    num = len(jax.tree.leaves(rows)[0])
    size = batch_for_devices(max(1, trained.experiment.sampling.batch_size // each), num)
    progress, parts = Progress(0, num, items=1, unit="record"), []
    for first in range(0, num, size):
        last = min(first + size, num)
        drawn = function(shard(jax.tree.map(lambda a: pad(a[first:last], size), rows)))
        parts.append(jax.tree.map(lambda a: np.asarray(a)[: last - first], drawn))
        progress.show(last, f"ok {int(parts[-1].ok.sum())} of {parts[-1].ok.size}")
    progress.close()
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def format_solver_status(drawn: Draw) -> str:
    nfe = f"{drawn.nfe.mean():.1f} (largest {drawn.nfe.max()})" if drawn.nfe.min() >= 0 else "unknown"
    return f"NFE {nfe}, solver ok for {int(drawn.ok.sum())} of {drawn.ok.size}"


def write(path: pathlib.Path, **arrays) -> pathlib.Path:
    with replacing(path) as scratch:
        np.savez(scratch, **arrays)
    return path
