"""Conditions of samples and of records for the commands.

An entry of the condition is fixed for all samples (`TrainedModel.given`, --label, a file of one row), has a row for
each sample (a file of several rows), or is open. An open entry is sampled for each seed by `sampling.labels`, or has
the value of its record in likelihoods, or is absent, which needs a null that was trained.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from scoresde.data import npz
from scoresde.data.conditions import LABEL, conditions_of
from scoresde.data.dataset import Source
from scoresde.data.labels import check_classes, shares
from scoresde.errors import ConfigError, DataError
from scoresde.experiment.load import TrainedModel
from scoresde.runtime.streams import branch, fixed_stream
from scoresde.types import Keys

_SHOWN = 10  # names of classes in a message
_PREFIX = "condition_"  # first part of the names of arrays in a file of samples


def open_entries(trained: TrainedModel) -> list[str]:
    """Return the names of the entries that are neither fixed nor given for each sample."""
    kinds = trained.score.conditions
    return [name for name, kind in kinds.items() if kind.droppable and name not in trained.fixed | trained.rows]


def check_null(trained: TrainedModel, what: str) -> None:
    """Check that the null of every open entry was trained.

    Args:
      trained: run with its score.
      what: field or task that needs the null, for messages.

    Raises:
      ConfigError: an open entry has a null that training never saw.
    """
    for name in open_entries(trained):
        if not trained.experiment.trains_null(name, trained.nulls):
            named = ", ".join(trained.classes[:_SHOWN]) + (", ..." if trained.classes[_SHOWN:] else "")
            give = f"--label, one of {named}" if name == LABEL else "--condition FILE.npz"
            raise ConfigError(
                f"{what}: nothing trained the null of '{name}' (training.condition_dropout = 0); give {give}"
            )


def read_conditions(trained: TrainedModel, path: str) -> TrainedModel:
    """Return the run under the conditions of an NPZ file, which has an array for each entry that it sets.

    An array has one row for all samples, or one row per sample.

    Raises:
      ConfigError: the run takes no conditions, or the file has another array, or another shape or value.
      DataError: the file is missing or damaged.
    """
    file = pathlib.Path(path).expanduser()
    kinds = {name: kind for name, kind in trained.score.conditions.items() if kind.droppable}
    if not kinds:
        raise ConfigError(f"--condition {path}: the run takes no conditions; leave it out")
    with npz.opened(file) as archive:
        names = sorted(archive)
        if unknown := [name for name in names if name not in kinds]:
            raise ConfigError(
                f"--condition {path}: expected arrays named {', '.join(kinds)}, got {unknown[0]}; rename or remove it"
            )
        arrays = {name: kinds[name].check(npz.member(archive, name, file), f"{path}: {name}") for name in names}
    counts = {name: len(rows) for name, rows in arrays.items()}
    if not counts or 0 in counts.values() or len({count for count in counts.values() if count > 1}) > 1:
        raise ConfigError(f"--condition {path}: expected one row, or one per sample in all arrays, got {counts}")
    for name, rows in arrays.items():
        if _is_null(kinds[name], rows).any() and not trained.experiment.trains_null(name, trained.nulls):
            raise ConfigError(
                f"--condition {path}: {name} has a row without a value (NaN, or -1), and the null of '{name}' is not "
                "trained; expected values in all rows"
            )
    trained = trained.given({name: rows[0] for name, rows in arrays.items() if len(rows) == 1})
    return trained._replace(rows={name: rows for name, rows in arrays.items() if len(rows) > 1})


def _is_null(kind, rows: np.ndarray) -> np.ndarray:
    return np.asarray(jax.vmap(kind.is_null)(rows))


def row_count(trained: TrainedModel) -> int | None:
    """Return the number of rows of conditions that are given for each sample, or None."""
    return next((len(rows) for rows in trained.rows.values()), None)


def rows_for(trained: TrainedModel, num: int) -> dict[str, np.ndarray]:
    """Return the conditions that are given for each of `num` samples, {} if there are none.

    Raises:
      ConfigError: another number of rows was given.
    """
    if (count := row_count(trained)) not in (None, num):
        raise ConfigError(f"--condition: expected one row, or one for each of {num}, got {count} rows")
    return dict(trained.rows)


def sampled_conditions(trained: TrainedModel, seeds: np.ndarray) -> dict[str, np.ndarray]:
    """Return the condition of each seed: the open entries, sampled by `sampling.labels`.

    With `uniform`, which is for runs whose only open entry is a class, classes are equally likely. With `data`, classes
    follow the frequencies of the training records, and several entries are those of a random training record.

    Raises:
      ConfigError: the law is for classes only, or an entry is null, and its null is not trained.
      DataError: the law is `data`, and the training records have no labels.
    """
    names, law = open_entries(trained), trained.experiment.sampling.labels
    if not names:
        return {}
    if law == "null":
        check_null(trained, "sampling.labels = 'null'")
        return {}
    own = jax.vmap(lambda key: branch(key, "class"))(keys_of(seeds))
    if names == [LABEL]:
        return {LABEL: np.asarray(_classes(trained, law, own), np.int32)}
    if law == "uniform":
        raise ConfigError(
            f"sampling.labels = 'uniform': this law is for classes, and the run takes {', '.join(names)}; give "
            "--condition FILE.npz, or --config.sampling.labels=data for the conditions of random training records"
        )
    source = trained.dataset.train
    index = np.asarray(jax.vmap(lambda key: jax.random.randint(key, (), 0, len(source)))(own))
    return {name: rows for name, rows in conditions_of(source, index).items() if name in names}


def _classes(trained: TrainedModel, law: str, keys: Keys):
    if law == "uniform":
        return jax.vmap(lambda key: jax.random.randint(key, (), 0, trained.experiment.num_classes))(keys)
    ends = jnp.asarray(np.cumsum(shares(trained.dataset))[:-1], jnp.float32)
    return jax.vmap(lambda key: jnp.searchsorted(ends, jax.random.uniform(key), side="right"))(keys)


def by_data(trained: TrainedModel) -> TrainedModel:
    """Return the run with conditions sampled as in the training data, for samples that are compared with data."""
    return trained._replace(experiment=trained.experiment.changed("sampling.labels=data"))


def keys_of(seeds) -> Keys:
    """Return one key per seed: samples depend on their seeds alone, not on the seed of training."""
    root = fixed_stream("sample")
    return jax.vmap(lambda seed: jax.random.fold_in(root, seed))(seeds)


def of_records(trained: TrainedModel, source: Source, indices: np.ndarray, what: str) -> dict[str, np.ndarray]:
    """Return the open entries of the conditions of records.

    Args:
      trained: run with its score.
      source: records.
      indices: numbers of the records.
      what: name of the records in messages.

    Raises:
      DataError: a record lacks an entry whose null is not trained, or has a class that was not trained.
    """
    kinds, conditions, found = trained.score.conditions, conditions_of(source, indices), {}
    for name in open_entries(trained):
        rows = conditions.get(name)
        if rows is None:
            rows = np.broadcast_to(kinds[name].null(), (len(indices), *kinds[name].shape))
        null = _is_null(kinds[name], rows)
        trains_null = trained.experiment.trains_null(name, trained.nulls)
        if name == LABEL:
            check_classes(trained.dataset, rows[~null] if trains_null else rows, what)
        elif null.any() and not trains_null:
            raise DataError(
                f"{trained.dataset.name}: expected a value of '{name}' for each of the {what}, got none for "
                f"{int(null.sum())} of {len(null)}, and its null is not trained; add them"
            )
        found[name] = rows
    return found


def condition_arrays(trained: TrainedModel, num: int, conditions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of a file of samples that state their conditions; {} if the run takes none.

    They are labels [num] and label_names for a class, and condition_NAME [num, ...] for any other entry.
    """
    found = {}
    for name, kind in trained.score.conditions.items():
        if not kind.droppable:
            continue
        one = trained.fixed.get(name, kind.null())
        rows = conditions.get(name, np.broadcast_to(one, (num, *np.shape(one))))
        if name == LABEL:
            found |= {"labels": np.asarray(rows, np.int32), "label_names": np.array(trained.classes)}
        else:
            found[_PREFIX + name] = np.asarray(rows)
    return found
