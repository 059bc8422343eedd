"""Records in, arrays out: what the tasks of `python -m scoresde.sample` other than `generate` share."""

import os
import pathlib
import zipfile
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import PyTree

from scoresde.devices import batch_for_devices, padded, spread
from scoresde.errors import DataError
from scoresde.progress import Progress
from scoresde.sample import Draw
from scoresde.trained import Trained

PICTURE = 64  # images shown in OUT/grid.png


def records_of(trained: Trained, source: str | None, split: str, num: int) -> np.ndarray:
    """Records of the run's data set, or the array `samples` of a file of the same shape and kind."""
    if source is None:
        chosen = {"train": trained.dataset.train, "test": trained.dataset.test}[split]
        return chosen.rows(np.arange(min(num, len(chosen))))[0]
    values, levels = read_array(source, "samples", trained.dataset.shape)[:num], trained.dataset.levels
    if levels and (values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= levels):
        raise DataError(f"{source}: expected integers from 0 to {levels - 1}, got {values.dtype} from {values.min()} to {values.max()}")
    if not levels and not (values.dtype.kind == "f" and np.isfinite(values).all()):
        raise DataError(f"{source}: expected finite floating-point values, got {values.dtype}")
    return values


def read_array(source: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with np.load(source, allow_pickle=False) as file:
            array = file[name]
    except KeyError:
        raise DataError(f"{source}: expected an array {name!r} in it, found {', '.join(file.files) or 'none'}") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{source}: expected an NPZ file with an array {name!r}: {error}") from None
    if array.shape[1:] != shape or not len(array):
        raise DataError(f"{source}: expected {name} of shape [N, {', '.join(map(str, shape))}], got {list(array.shape)}")
    return array


def data_values(trained: Trained, drawn: Draw) -> np.ndarray:
    return np.asarray(trained.dataset.decode(np.nan_to_num(drawn.x)))


def in_batches(trained: Trained, function: Callable, rows: PyTree, each: int = 1) -> Draw:
    """`function` of the rows, arrays with a common first axis, in batches of one shape on the devices of this process; each
    row stands for `each` solves."""
    num = len(jax.tree.leaves(rows)[0])
    size = batch_for_devices(max(1, trained.config.sampling.batch_size // each), num)
    progress, parts = Progress(0, num, items=1, unit="record"), []
    for first in range(0, num, size):
        last = min(first + size, num)
        drawn = function(spread(jax.tree.map(lambda a: padded(a[first:last], size), rows)))
        parts.append(jax.tree.map(lambda a: np.asarray(a)[: last - first], drawn))
        progress.show(last, f"ok {int(parts[-1].ok.sum())} of {parts[-1].ok.size}")
    progress.close()
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def told(drawn: Draw) -> str:
    nfe = f"{drawn.nfe.mean():.1f} (largest {drawn.nfe.max()})" if drawn.nfe.min() >= 0 else "unknown"
    return f"NFE {nfe}, solver ok for {int(drawn.ok.sum())} of {drawn.ok.size}"


def write(path: pathlib.Path, **arrays) -> pathlib.Path:
    scratch = path.with_suffix(".tmp.npz")
    np.savez(scratch, **arrays)
    os.replace(scratch, path)  # a kill in the middle leaves an older file as it was
    return path
