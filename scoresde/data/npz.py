"""Records from an NPZ file of the user, with arrays named x_train, y_train, x_test, y_test, or as in `data.arrays`.

    x_*  [N, *shape]  integers 0..L-1 for L grey levels, or finite floats for L = 0; [N, H, W] counts as one channel
    y_*  [N]          integers from 0; optional. Class k is the k-th label in y_train, see `scoresde.data.labels`

The file is read by `scoresde.runtime.arrays.Npz`, which refuses object arrays, because they contain a pickle that could
run code, and arrays whose header does not match their values. All records are checked before training starts, so that
errors state their position and a remedy.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scoresde.data.conditions import checked
from scoresde.data.dataset import ArraySource
from scoresde.data.labels import numbered
from scoresde.data.shapes import remedy
from scoresde.errors import ConfigError, DataError
from scoresde.runtime.arrays import Npz
from scoresde.runtime.files import MissingError, UnreadableError

KEYS = ("x_train", "y_train", "x_test", "y_test")
_LARGE = 20  # standardised data rarely reach this value
REMEDY = f"name them with keys=({', '.join(KEYS)}), where one array may stand for train and test"


def read(
    path: str, keys: tuple[str, ...], shape: tuple[int, ...], levels: int
) -> tuple[ArraySource, ArraySource, tuple[str, ...]]:
    """Return train and test records of an NPZ file, and the names of their labels.

    Args:
        path: the file; `~` is the home folder.
        keys: four names of arrays, in the order of `KEYS`, with "" for missing labels; () for `KEYS` themselves.
        shape: declared shape of one record.
        levels: declared grey levels L; 0: continuous values.

    Raises:
        ConfigError: the number of names is not four.
        DataError: the file or an array is missing or damaged, or has another shape or other levels.
    """
    if keys and len(keys) != len(KEYS):
        raise ConfigError(f"keys={tuple(keys)}: expected names for {', '.join(KEYS)}, in this order; '' for no labels")
    names, given = (tuple(keys) or KEYS), bool(keys)
    file = Path(path).expanduser()
    values_of, labels_of = [], []
    with opened(file) as archive:
        for x_name, y_name in (names[:2], names[2:]):
            values = records(member(archive, x_name, file, REMEDY), f"{file}: {x_name}", shape, levels)
            if levels > 2 and values.max() <= 1:
                warnings.warn(
                    f"{file}: {x_name} holds only 0 and 1, but levels={levels}; if the images were scaled to [0, 1] "
                    "before they became integers, the grey levels are lost; if they are black and white, set levels=2",
                    stacklevel=2,
                )
            if not levels and len(shape) > 1 and np.abs(values).max() > _LARGE:
                warnings.warn(
                    f"{file}: {x_name} holds values up to {np.abs(values).max():.4g}, and levels=0 leaves them as they "
                    "are; processes expect "
                    "data of about unit size: declare levels for grey levels, or standardise the array",
                    stacklevel=2,
                )
            # A label array with the default name is optional, but one named by the user must exist.
            wanted = y_name and (given or y_name in archive)
            values_of.append(values)
            labels_of.append(_labels(archive, y_name, file, len(values)) if wanted else None)
    *labels, label_names = numbered(*labels_of)
    train, test = map(ArraySource, values_of, labels)
    return train, test, label_names


def condition(path: str, name: str, kind: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a condition for train and for test, from the arrays NAME_train and NAME_test.

    Args:
        path: the file.
        name: name of the condition.
        kind: kind of the condition; its `fields` may name two other arrays.

    Raises:
        ConfigError: `fields` does not name two arrays.
        DataError: an array is missing or damaged, or its values are not those of the kind.
    """
    names, file = kind.fields or (f"{name}_train", f"{name}_test"), Path(path).expanduser()
    if len(names) != 2:
        raise ConfigError(f"conditions.{name}.fields = {names}: expected the names of two arrays, for train and test")
    with opened(file) as archive:
        return tuple(checked(kind, member(archive, array, file), f"{file}: {array}") for array in names)


def records(values: np.ndarray, what: str, shape: tuple[int, ...] | None, levels: int) -> np.ndarray:
    """Check an array against the declared shape and levels, and return it in the smallest type: uint8, uint16 or
    float32.

    Args:
        values: the array.
        what: name of the array in messages.
        shape: declared shape of one record; None: any shape.
        levels: declared grey levels L; 0: continuous values.

    Raises:
        DataError: a wrong shape, a wrong kind of number, or values that are out of 0..L-1 or not finite; the message
            states the first bad record.
    """
    shape = values.shape[1:] if shape is None else shape
    if values.shape[1:] + (1,) == shape and len(shape) == 3:
        values = values[..., None]
    if values.shape[1:] != shape or values.ndim == 0 or len(values) == 0:
        advice = remedy(values.shape[1:], shape) if values.size else "give at least one record"
        raise DataError(
            f"{what}: expected [N, {', '.join(map(str, shape))}] with N >= 1, got {list(values.shape)}; {advice}"
        )
    if levels == 0:
        return _continuous(values, what)
    if values.dtype.kind not in "iub":
        raise DataError(
            f"{what}: expected integers 0..{levels - 1} (levels={levels}), got {values.dtype}{_range(values)}; "
            f"use levels=0 for continuous values, or give integers 0..{levels - 1}{_scaling(values, levels)}"
        )
    if values.min() < 0 or values.max() >= levels:
        bad = _first((values < 0) | (values >= levels))
        raise DataError(
            f"{what}: expected values 0..{levels - 1} (levels={levels}), got {values.min()}..{values.max()}, "
            f"the first in record {bad}; set levels to the number of grey levels, or mend it"
        )
    return values.astype(np.uint8 if levels <= 256 else np.uint16, copy=False)


def _range(values: np.ndarray) -> str:
    return f" values {values.min():.4g}..{values.max():.4g}" if values.dtype.kind == "f" else ""


def _scaling(values: np.ndarray, levels: int) -> str:
    """Return the expression that turns scaled images back into integers, or "" if none is known."""
    if values.dtype.kind != "f" or not np.isfinite(low := values.min()) or not np.isfinite(high := values.max()):
        return ""
    kind = "uint8" if levels <= 256 else "uint16"
    if low >= 0 and 1 < high < levels and (values == np.round(values)).all():
        return f": x.astype(np.{kind})"
    if low >= 0 and high <= 1:
        return f": np.round({levels - 1} * x).astype(np.{kind})"
    if low >= -1 and high <= 1:
        return f": np.round({(levels - 1) / 2:g} * (x + 1)).astype(np.{kind})"
    return ""


def _continuous(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise DataError(f"{what}: expected real numbers (levels=0), got {values.dtype}; save it as float32")
    with np.errstate(over="ignore"):  # values that overflow float32 are reported below
        values = values.astype(np.float32, copy=False)
    bad = ~np.isfinite(values)
    if bad.any():
        count = int(bad.reshape(len(values), -1).any(axis=1).sum())
        raise DataError(
            f"{what}: expected finite values, got NaN or infinity in {count} of {len(values)} records, "
            f"the first in record {_first(bad)}; remove or mend them"
        )
    return values


def _first(bad: np.ndarray) -> int:
    """Return the number of the first record with a bad value."""
    return int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))


def opened(file: Path) -> Npz:
    """Open the archive of an NPZ file.

    Raises:
        DataError: the file does not exist, is damaged or is not an NPZ file.
    """
    if file.is_dir():
        raise DataError(f"{file}: expected an NPZ file, found a folder there; check the path")
    try:
        return Npz(file)
    except MissingError:
        raise DataError(f"{file}: expected an NPZ file, found nothing there; check the path") from None
    except UnreadableError as error:
        raise DataError(
            f"{file} cannot be read as an NPZ file: {error}; check the path, or write it with numpy.savez"
        ) from error


def member(archive: Npz, name: str, file: Path, remedy: str = "") -> np.ndarray:
    """Return the array with this name.

    Raises:
        DataError: the array does not exist (the message then ends with `remedy`), or cannot be read.
    """
    return _of_member(archive, name, file, remedy, archive.array)


def mapped(archive: Npz, name: str, file: Path, remedy: str = "") -> np.ndarray:
    """Return the array like `member`, but as a memory map if it is stored uncompressed, so that 50,000 large images
    need no memory."""
    return _of_member(
        archive,
        name,
        file,
        remedy,
        lambda name: found if (found := archive.mapped(name)) is not None else archive.array(name),
    )


def _of_member(archive: Npz, name: str, file: Path, remedy: str, read: Callable[[str], np.ndarray]) -> np.ndarray:
    if name not in archive:
        raise DataError(
            f"{file}: expected an array '{name}', the file has {', '.join(sorted(archive)) or 'none'}"
            + (remedy and f"; {remedy}")
        )
    try:
        return read(name)
    except UnreadableError as error:
        raise DataError(f"{file}: '{name}': {error}") from error


def _labels(archive: Npz, name: str, file: Path, count: int) -> np.ndarray:
    labels = member(archive, name, file, REMEDY)
    if labels.dtype.kind not in "iu":
        raise DataError(f"{file}: expected integer labels in '{name}', got {labels.dtype}; save class numbers from 0")
    labels = labels.reshape(len(labels)) if labels.shape[1:] == (1,) else labels
    if labels.shape != (count,) or labels.min() < 0:
        raise DataError(
            f"{file}: expected {count} labels counted from 0 in '{name}', one per record, got shape {labels.shape} "
            "with least value "
            f"{labels.min(initial=0)}; give class numbers, not one-hot rows, or no labels"
        )
    return labels
