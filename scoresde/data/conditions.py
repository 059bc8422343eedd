"""Conditions of records: where a source keeps them, and the statistics by which they are standardised.

The entry "class" is the label of a record, see `scoresde.data.labels`. Every other entry is read from a field of the
source, whose names are in the kind of the entry (`fields`), by default those of the entry:

    npz:PATH       arrays NAME_train and NAME_test, or the two in `fields`, [N, *shape]
    own data       the entry NAME of an item, or of the dict that stands in the place of the labels

An absent value is NaN, or -1 for classes. Values are standardised by mean and deviation of the training records, per
component along the last axis; the statistics are stored with the run.
"""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from scoresde.data.dataset import Dataset, Source, class_condition
from scoresde.errors import ConfigError, DataError

LABEL = "class"  # name of the entry that is the label of a record
_STATISTICS = 10_000  # training records from which the statistics are computed


class WithConditions:
    """A source whose records have more conditions.

    Args:
        source: the records.
        tables: rows of each condition, [N, ...] by name.
    """

    def __init__(self, source: Source, tables: Mapping[str, Any]):
        self.source, self.tables = source, tables

    def __getattr__(self, name: str):
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        values, conditions = self.source.rows(indices)
        return values, conditions | {name: table[indices] for name, table in self.tables.items()}


def conditions_of(source: Source, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Return the conditions of records as `rows` does, without reading the records."""
    tables = getattr(source, "tables", {})
    return class_condition(source, indices) | {name: table[indices] for name, table in tables.items()}


def with_conditions(dataset: Dataset, kinds: Mapping[str, Any]) -> Dataset:
    """Return the data set with the conditions that a network takes.

    Args:
        dataset: records with their source.
        kinds: kind of each entry, such as `scoresde.nets.VectorCondition`.

    Raises:
        DataError: the source has no such field, or its values are not those of the kind.
    """
    tables: dict[str, tuple[Any, Any]] = {}
    for name, kind in kinds.items():
        if not kind.droppable or name == LABEL:
            continue
        tables[name] = _tables(dataset, name, kind)
    parts = (dataset.train, dataset.test)
    train, test = (WithConditions(part, {n: t[k] for n, t in tables.items()}) for k, part in enumerate(parts))
    scales = {name: _statistics(tables[name][0]) for name in tables if kinds[name].standardised}
    nulls = {name for name in tables if _has_null(kinds[name], tables[name][0])}
    if LABEL in kinds and not dataset.train.labelled:
        nulls.add(LABEL)
    if not tables:
        return dataclasses.replace(dataset, nulls=frozenset(nulls))
    crc = 0
    for name in sorted(tables):
        for table in tables[name]:
            crc = zlib.crc32(np.ascontiguousarray(_first(table)).reshape(-1).view(np.uint8), crc)
    return dataclasses.replace(
        dataset, train=train, test=test, scales=scales, nulls=frozenset(nulls),
        fingerprint=f"{dataset.fingerprint};{','.join(sorted(tables))}:{crc:08x}",
    )  # fmt: skip


def _tables(dataset: Dataset, name: str, kind) -> tuple[Any, Any]:
    if dataset.fields is None:
        raise DataError(
            f"conditions.{name}: {dataset.name} has no fields beside its records; conditions come from npz:PATH with "
            "arrays for them, or from own data"
        )
    found = dataset.fields(name, kind)
    for part, table, source in zip(("train", "test"), found, (dataset.train, dataset.test), strict=True):
        if len(table) != len(source):
            raise DataError(f"conditions.{name}: expected {len(source)} rows for {part}, got {len(table)}")
    return found


def checked(kind, values: Any, what: str) -> np.ndarray:
    """Return the values of a condition in the type of its kind.

    Raises:
        DataError: they are not those of the kind.
    """
    try:
        return kind.check(np.asarray(values), what)
    except ConfigError as error:
        raise DataError(*error.problems) from None


def _first(table) -> np.ndarray:
    return table[np.arange(min(len(table), _STATISTICS))]


def _statistics(table) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each component of the present values, float32; a constant has the deviation 1."""
    values = np.asarray(_first(table), np.float64)
    values = values.reshape(-1, values.shape[-1])
    values = values[np.isfinite(values).all(axis=-1)]
    if not len(values):
        raise DataError("conditions: expected a value in at least one training record, got none")
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    constant = deviation <= np.finfo(np.float32).eps * np.abs(mean)
    return mean.astype(np.float32), np.where(constant, 1, deviation).astype(np.float32)


def _has_null(kind, table) -> bool:
    """Return whether some of the training records lack the condition."""
    null, values = kind.null(), _first(table)
    flat = values.reshape(len(values), -1)
    absent = np.isnan(flat).all(axis=1) if np.isnan(null).any() else (flat == null).all(axis=1)
    return bool(absent.any())
