"""Records from a set prepared by TensorFlow Datasets, read without TensorFlow.

A prepared set is stored in `data_dir/NAME[/CONFIG]/VERSION/` with its `features.json`. In the array_record file format
any record can be read by its number. This module downloads nothing: for a set that is not prepared it raises an error
with instructions, because a download can take hours, needs a network, and for images needs TensorFlow.

Records have a feature `image` of fixed shape [H, W, C] and may have a class label `label`. The test records are the
split `test`, or `validation` if there is no test split. Preparation shuffles the records. Records with a feature `id`,
such as CIFAR-10's, are read in the order of `id`, which is that of the original files, so that two preparations, and
the same images as NPZ, give the same batches. A set that fits into `memory` GiB is read once, when the first record is
needed.
"""

import functools
import os
import threading
from pathlib import Path

import numpy as np

from scoresde.data.labels import MISSING
from scoresde.data.npz import records
from scoresde.errors import DataError
from scoresde.runtime.places import local

DEFAULT_DATA_DIR = "~/tensorflow_datasets"  # the default of TensorFlow Datasets
CHECKED = 256  # records of each split checked before training; checking all would read the whole set
# Plain arrays are read at 15,000 records/s (32 x 32 x 3) by 1 to 8 threads alike, because they share the interpreter
# lock; decoding PNG releases it. With threads a training step waits 0.4 ms instead of 10 ms.
READ_THREADS = 4


class PreparedSource:
    """One split of a prepared set; `rows` reads from its files.

    Args:
        split: random-access sequence of {"image": [H, W, C], "label": int}.
        undecoded: the same sequence with images that are not decoded.
        classes: number of label classes; 0: no labels.
        shape: declared shape of one image.
        levels: declared grey levels L.
        what: name of the split in messages.
        order: number of each record in `split`.
        memory: GiB; a split that fits is kept in memory.

    Raises:
        DataError: one of the first 256 images does not have the declared shape and levels.
    """

    def __init__(
        self, split, undecoded, classes: int, shape: tuple[int, ...], levels: int, what: str, order: np.ndarray,
        memory: float,
    ):  # fmt: skip
        self.split, self.undecoded, self.classes = split, undecoded, classes
        self.shape, self.levels, self.what = tuple(shape), levels, what
        self.order, self._kept, self._lock, self.labelled = order, None, threading.Lock(), False
        if len(order) == 0:
            raise DataError(f"{what}: expected at least one record, got none; prepare the set again")
        first, labels = self._read(np.arange(min(CHECKED, len(order))))
        self.labelled = bool((labels != MISSING).all())  # then all other records must have one
        self.in_memory = len(order) * first[0].nbytes <= memory * 2**30
        self.threads = 0 if self.in_memory else READ_THREADS

    def __len__(self) -> int:
        return len(self.order)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return images [n, H, W, C] and conditions.

        Raises:
            DataError: an image cannot be read, or does not have the declared shape and levels.
        """
        if not self.in_memory:
            values, labels = self._read(indices)
            return values, {"class": labels} if self.classes else {}
        with self._lock:
            if self._kept is None:
                parts = [
                    self._read(np.arange(len(self))[first : first + CHECKED]) for first in range(0, len(self), CHECKED)
                ]
                self._kept = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
        values, labels = self._kept
        return values[indices], {"class": labels[indices]} if self.classes else {}

    def _read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = _records(self.split, self.order[indices], self.what)
        shapes = {record["image"].shape for record in found}
        if len(shapes) > 1:
            raise DataError(
                f"{self.what}: expected images of shape {self.shape}, got several: {sorted(shapes)[:3]}; "
                "make them one size and store them as NPZ (npz:PATH)"
            )
        values = records(np.stack([record["image"] for record in found]), self.what, self.shape, self.levels)
        return values, self._labels_of(found)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Return the labels of all records, which are read once, without decoding the images."""
        if self._kept is not None:
            return self._kept[1]
        if not self.classes:
            return np.full(len(self), MISSING, np.int32)
        chunks = (self.order[first : first + CHECKED] for first in range(0, len(self), CHECKED))
        return np.concatenate([self._labels_of(_records(self.undecoded, chunk, self.what)) for chunk in chunks])

    def _labels_of(self, found: list[dict]) -> np.ndarray:
        """Return the labels of the records; sets write a missing label as a number below 0."""
        given = [record["label"] for record in found] if self.classes else [MISSING] * len(found)
        labels = np.maximum(np.asarray(given).astype(np.int32), MISSING)
        if self.labelled and (labels == MISSING).any():
            raise DataError(
                f"{self.what}: {(labels == MISSING).sum()} of {len(labels)} records have no label, where the first "
                "ones have; add them"
            )
        return labels


def _records(split, numbers: np.ndarray, what: str) -> list[dict]:
    """Return the records with these numbers.

    Raises:
        DataError: a record cannot be read.
    """
    try:
        found = split.__getitems__([int(number) for number in numbers])
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise DataError(f"{what}: cannot be read ({_first_line(error)}); prepare the set again") from error
    if any(record["image"] is None for record in found):  # result of a truncated file
        raise DataError(f"{what}: records are missing from its files; prepare the set again")
    return found


def read(
    name: str, data_dir: str | None, shape: tuple[int, ...], levels: int, memory: float
) -> tuple[PreparedSource, PreparedSource, str, tuple[str, ...]]:
    """Return train and test records of the prepared set `name`, their identity, and the names of the classes.

    Args:
        name: NAME or NAME/CONFIG, each with or without :VERSION.
        data_dir: folder of the prepared sets; None: $TFDS_DATA_DIR, or ~/tensorflow_datasets.
        shape: declared shape of one image.
        levels: declared grey levels.
        memory: GiB; a set that fits is kept in memory.

    Raises:
        DataError: the set is not prepared, is prepared in another format, or has another shape or other levels.
    """
    builder = builder_of(name, data_dir)
    info = builder.info
    names = tuple(getattr(info.features["label"], "names", None) or ()) if "label" in info.features else ()
    splits = ("train", "test" if "test" in info.splits else "validation")
    missing = [split for split in splits if split not in info.splits]
    if missing:
        raise DataError(
            f"tfds:{name}: expected the splits train and test (or validation), got "
            f"{', '.join(info.splits)}; store the set as NPZ (npz:PATH)"
        )
    counts = "+".join(str(info.splits[split].num_examples) for split in splits)
    train, test = (
        PreparedSource(
            builder.as_data_source(split, file_format="array_record"), _undecoded(builder, split), len(names), shape,
            levels, f"tfds:{name}, {split}", _order(builder, split), memory,
        )
        for split in splits
    )  # fmt: skip
    return train, test, f"tfds:{info.full_name}:{counts}{':by id' if 'id' in info.features else ''}", names


def builder_of(name: str, data_dir: str | None):
    """Return the builder of the prepared set `name`, which has images in array_record files.

    Raises:
        DataError: the set is not prepared, is prepared in another format, or has no images.
    """
    root = Path(local(data_dir or os.environ.get("TFDS_DATA_DIR") or DEFAULT_DATA_DIR))
    folder = find(name, root)
    import tensorflow_datasets as tfds  # imported after the search, which does not need it

    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # errors of JSON, protobuf or the file system for a damaged description
        raise DataError(f"{folder}: cannot be read ({_first_line(error)}); prepare the set again") from error
    info = builder.info
    if "array_record" not in {form.value for form in info.available_file_formats()}:
        converted = root.with_name(root.name + "_array_record")
        raise DataError(
            f"{folder}: expected files in the array_record format, got {info.file_format.value}; convert them with "
            f"`pip install 'scoresde[tfds]'` and `python -m tensorflow_datasets.scripts.convert_format "
            f"--dataset_version_dir={folder} --out_file_format=array_record "
            f"--out_dir={converted / folder.relative_to(root)}`, then set data_dir to {converted}"
        )
    if "image" not in info.features:
        raise DataError(
            f"{folder}: expected a feature 'image', got {', '.join(sorted(info.features))}; only sets of "
            "images are read this way, store others as NPZ (npz:PATH)"
        )
    return builder


def _undecoded(builder, split: str):
    """Return the records of a split without decoding their images."""
    import tensorflow_datasets as tfds

    return builder.as_data_source(split, file_format="array_record", decoders={"image": tfds.decode.SkipDecoding()})


def _order(builder, split: str) -> np.ndarray:
    """Return the numbers of the records in the order of their `id`, or in the order of the files without `id`."""
    count = builder.info.splits[split].num_examples
    if "id" not in builder.info.features:
        return np.arange(count)
    try:
        records_of = _undecoded(builder, split)
        ids = [
            record["id"]
            for first in range(0, count, CHECKED)
            for record in records_of.__getitems__(list(range(first, min(first + CHECKED, count))))
        ]
    except Exception as error:  # a damaged file raises errors of many classes
        raise DataError(
            f"tfds:{builder.info.full_name}, {split}: cannot be read ({_first_line(error)}); prepare the set again"
        ) from error
    if None in ids:
        raise DataError(
            f"tfds:{builder.info.full_name}, {split}: records are missing from its files; prepare the set again"
        )
    return np.argsort(np.array(ids), kind="stable")


def find(name: str, root: Path) -> Path:
    """Return the folder in which `name` is prepared under `root`: the newest version unless `name` contains one.

    Raises:
        DataError: there is no such folder, or there are several configurations.
    """
    path, _, version = name.partition(":")
    base = root / path
    found = [file.parent for pattern in ("*/features.json", "*/*/features.json") for file in base.glob(pattern)]
    folders = [f for f in found if _version(f.name) and version in ("", f.name)]
    configs = sorted({str(f.parent.relative_to(root)) for f in folders})
    if not folders:
        raise DataError(
            f"tfds:{name} is not prepared in {root}; nothing is downloaded by itself. Install "
            f"`pip install 'scoresde[tfds]'` and prepare it once with `python -c \"import tensorflow_datasets as tfds; "
            f"tfds.builder('{name}', data_dir='{root}', file_format='array_record').download_and_prepare()\"`, "
            "or set data_dir to where it is, or give the images as arrays with npz:PATH"
        )
    if len(configs) > 1:
        raise DataError(f"tfds:{name} is prepared in several configurations; name one of: {', '.join(configs)}")
    return max(folders, key=lambda f: _version(f.name))


def _version(name: str) -> tuple[int, ...] | None:
    """Return (1, 2, 3) for "1.2.3", or None if `name` is not a version."""
    parts = name.split(".")
    return tuple(map(int, parts)) if len(parts) == 3 and all(part.isdecimal() for part in parts) else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
