r"""Measured or simulated functions from an NPZ file of the user: `functions:PATH` and the name of one array.

    [N, points], [N, points, channels]        curves, for a declared shape (points, channels)
    [N, H, W], [N, H, W, channels]            fields, for a declared shape (H, W, channels)

- Coarser grids: if the declared points are fewer by a whole factor, each is the mean of a block of stored points along
  every axis. The declared grid is therefore cell-centred if the stored grid is.
- Parts: the records are put into a fixed random order; the last tenth, at least one record, is for testing.
- Scale: x = (v - m)/s with the mean m and the standard deviation s of each channel over records and points of the
  training part. They are one number per channel and not functions, because the model should learn the mean function.
  `Dataset.units` returns v.
"""

from pathlib import Path

import numpy as np

from scoresde.data import npz
from scoresde.data.dataset import ArraySource
from scoresde.data.shapes import remedy
from scoresde.data.stream import permutation
from scoresde.errors import ConfigError, DataError

TEST_PART = 10


def read(
    path: str, keys: tuple[str, ...], shape: tuple[int, ...]
) -> tuple[ArraySource, ArraySource, np.ndarray, np.ndarray]:
    """Return standardised train and test records, and the mean and standard deviation [channels] of the training part.

    Raises:
        ConfigError: not exactly one name, or a declared shape that is neither of a curve nor of a field.
        DataError: the file or the array is missing, damaged, too small or does not fit the declared shape.
    """
    if len(keys) != 1 or not keys[0]:
        raise ConfigError(f"functions: expected the name of one array, got {tuple(keys)}; set data.arrays=('NAME',)")
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ConfigError(f"functions: expected shape (points, channels) or (H, W, channels), got {shape}; declare one")
    file = Path(path).expanduser()
    what = f"{file}: {keys[0]}"
    with npz.opened(file) as archive:
        values = npz.member(archive, keys[0], file, "name one with data.arrays=('NAME',)")
    values = coarsened(npz.records(_with_channels(values, what, shape), what, None, 0), what, shape[:-1])
    if len(values) < 2:
        raise DataError(f"{what}: expected at least 2 records, to train and to test on, got {len(values)}; add records")
    values = values[permutation(0, 0, len(values))]
    cut = len(values) - max(1, len(values) // TEST_PART)
    axes = tuple(range(values.ndim - 1))
    mean, std = (f(values[:cut].astype(np.float64), axis=axes) for f in (np.mean, np.std))
    if (std <= 1e-6 * np.abs(mean)).any() or (std == 0).any():
        raise DataError(
            f"{what}: expected values that vary, got the same number all over channel {int(np.argmin(std))}; leave it "
            "out"
        )
    values = ((values - mean) / std).astype(np.float32)
    return ArraySource(values[:cut]), ArraySource(values[cut:]), mean, std


def coarsened(values: np.ndarray, what: str, grid: tuple[int, ...]) -> np.ndarray:
    """Return the means of [N, *stored grid, channels] over blocks, on the coarser grid `grid`.

    Raises:
        DataError: the stored points are not a multiple of the declared ones.
    """
    stored = values.shape[1:-1]
    if any(have % want for have, want in zip(stored, grid, strict=True)):
        fitting = " or ".join(
            str(tuple(n // f for n in stored)) for f in range(1, 9) if all(n % f == 0 for n in stored)
        )
        raise DataError(
            f"{what}: declared grid {grid}, but the data have {stored} points, which is no multiple of it; declare "
            f"{fitting}"
        )
    for axis, (have, want) in enumerate(zip(stored, grid, strict=True), start=1):
        if have != want:
            values = values.reshape(*values.shape[:axis], want, have // want, *values.shape[axis + 1 :])
            values = values.mean(axis=axis + 1, dtype=np.float64)
    return values


def _with_channels(values: np.ndarray, what: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the values as [N, *grid, channels] for the declared shape.

    Raises:
        DataError: the values do not fit the declared shape.
    """
    if values.ndim == len(shape) and shape[-1] == 1:
        values = values[..., None]
    if values.ndim != len(shape) + 1 or values.shape[-1] != shape[-1] or len(values) == 0:
        grid = ", ".join(("points",) if len(shape) == 2 else ("H", "W"))
        raise DataError(
            f"{what}: expected [N, {grid}, {shape[-1]}]{f' or [N, {grid}]' if shape[-1] == 1 else ''} for the declared "
            f"shape {shape}, got {list(values.shape)}; {remedy(values.shape[1:], shape)}"
        )
    return values
