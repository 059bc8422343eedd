"""Loading of a trained score from its run folder: `config.json` and the newest valid checkpoint. No Python file is
executed.

The data set is read when a record is first needed, so that a run can be sampled on a machine without its data.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from scoresde.data import Dataset
from scoresde.data.absent import ABSENT
from scoresde.data.codec import Codec
from scoresde.data.labels import with_classes
from scoresde.errors import CheckpointError, ConfigError
from scoresde.experiment.config import FIELDS_OF_USE, from_json
from scoresde.experiment.description import check_experiment
from scoresde.experiment.experiment import Experiment
from scoresde.experiment.stored_data import StoredData, declared_codec
from scoresde.runs.best import FOLDER as BEST
from scoresde.runs.best import lowest
from scoresde.runs.checkpoint import Checkpoints
from scoresde.runtime.files import MissingError, UnreadableError
from scoresde.runtime.places import local
from scoresde.runtime.reading import is_whole_number, read_object
from scoresde.score import NetworkScore
from scoresde.train import average_name, averaged_score
from scoresde.train.step import average_alone

LATEST = "latest"


class TrainedModel(NamedTuple):
    experiment: Experiment
    codec: Codec  # codec of the training records
    score: NetworkScore  # score with averaged parameters
    step: int
    ema: str
    shape: tuple[int, ...]  # shape of samples, which is that of a record except after `at`
    read: Callable[[], Dataset]  # function that reads `dataset`
    classes: tuple[str, ...] = ()  # the labels of the training data, in the order of the network's classes; () if none
    fingerprint: str = ""  # fingerprint of the training data
    nulls: frozenset[str] = frozenset()  # conditions that some training records lack
    fixed: dict[str, Any] = {}  # condition of all samples, in the units of the data
    rows: dict[str, np.ndarray] = {}  # conditions of which each sample has a row

    def given(self, condition: dict[str, Any]) -> "TrainedModel":
        """Return the run under a condition that is the same for all samples.

        Raises:
          ConfigError: the network does not take an entry, or a value is out of range.
        """
        return self._replace(score=self.score.given(condition), fixed=self.fixed | condition)

    @property
    def dataset(self) -> Dataset:
        """Return the records, which are read on first use.

        Raises:
          DataError: the records are missing or not as declared; see `scoresde.data.load`.
        """
        return self.read()

    def at(self, resolution: tuple[int, ...]) -> "TrainedModel":
        """Return the run for sampling at another resolution, given as the numbers of points along the axes.

        Raises:
          ConfigError: the process or the network is restricted to one resolution.
        """
        if not self.experiment.takes_other_grids:
            raise ConfigError(
                f"--resolution: model.name = '{self.experiment.model.name}' has the resolution it was trained at; "
                "expected a network that is the same function on every grid, such as fno or ufno"
            )
        if len(resolution) != len(self.shape) - 1 or min(resolution) < 1:
            raise ConfigError(
                f"--resolution: expected {len(self.shape) - 1} sizes above 0, such as {self.shape[:-1]}, got "
                f"{resolution}"
            )
        process, spectrum = self.score.sde, self.score.preconditioning.data_spectrum()
        if not process.per_mode:
            return self._replace(shape=(*resolution, self.shape[-1]))  # white noise, at the points of any grid
        if spectrum is not None and spectrum.covariance is None:
            raise ConfigError(
                "--resolution: preconditioning.data_index = 0 shares the variance of data among the points of the grid "
                "of training, and means another law on another grid; train with preconditioning.data_index above half "
                "the dimensions"
            )
        score = dataclasses.replace(self.score, sde=process.at(resolution))
        return self._replace(score=score, shape=(*resolution, self.shape[-1]))


def load_run(
    workdir: str | pathlib.Path,
    *,
    ema: float | str | None = None,
    sampler: str | None = None,
    overrides: list[str] = (),
    checkpoint: str = LATEST,
) -> TrainedModel:
    """Load a run, with the averaged parameters of `ema`, a decay, half-life or name (the first average if None).

    Only that average of the checkpoint is read and checked by its CRC-32; damage elsewhere in the checkpoint is not
    noticed.

    Records are read only for a process whose prior is degraded data, and for runs of earlier versions, which have not
    stored their codec or the names of their classes.

    Args:
      workdir: run folder.
      ema: decay, half-life or name of an average; None for the first one.
      sampler: name of a sampler other than the run's, which then has its default steps, grid and order.
      overrides: `SECTION.FIELD=value` texts for sampling, likelihood and evaluate, and for where and how the data are
        read.
      checkpoint: "latest", the newest valid one; "best", that of `training.keep_best`; or a step that was kept.

    Raises:
      ConfigError: the folder contains no run, or an override is wrong.
      CheckpointError: there is no valid checkpoint.
      DataError: records are needed and missing.
    """
    folder = pathlib.Path(local(str(workdir)))
    experiment = stored_experiment(folder)
    written = experiment.config
    if fixed := [text for text in overrides if not text.startswith(FIELDS_OF_USE)]:
        raise ConfigError(*(f"--config.{text}: a trained run keeps this as it was trained" for text in fixed))
    if sampler is not None:
        overrides = [f"sampling.name={sampler}", *overrides]
    if overrides:
        experiment = experiment.changed(*overrides)

    score = experiment.score(experiment.network)
    chosen = _average_of(experiment, ema)
    # The other averages and the state of the optimizer, which are several times as large, are not read.
    wanted = average_alone(score.network.params, chosen)
    wanted = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=local_sharding()), wanted)
    checkpoints, step = _checkpoint(folder, checkpoint)
    restored = checkpoints.restore_part(
        wanted, accept=lambda meta: check_experiment(meta, written, folder / "config.json"), step=step
    )
    if restored is None:
        raise CheckpointError(f"no checkpoint in {checkpoints.folder}; train first")
    state, meta = restored
    stored = StoredData.from_json(meta["data"])
    read = functools.cache(lambda: _read(experiment, stored.fingerprint))
    codec = experiment.codec or stored.codec or declared_codec(experiment.data) or read().codec
    classes = _classes(experiment.num_classes, stored.classes, read)
    score = experiment.score(experiment.network, stored.scales)
    averaged = experiment.with_prior_data(averaged_score(score, state, chosen), read)
    relabelled = functools.cache(lambda: with_classes(read(), classes) if classes else read())
    facts = dict(classes=classes, fingerprint=stored.fingerprint, nulls=stored.nulls)
    return TrainedModel(experiment, codec, averaged, meta["step"], chosen, codec.shape, relabelled, **facts)


def _average_of(experiment: Experiment, ema: float | str | None) -> str:
    """Return the name of the average of a run that `ema` denotes; None denotes the first one.

    Raises:
      ConfigError: the average was not tracked.
    """
    averages = experiment.averages
    name = averages[0] if ema is None else average_name(ema)
    if name not in averages:
        raise ConfigError(f"ema: no average {name}; there are {', '.join(averages)}")
    return name


def _read(experiment: Experiment, fingerprint: str) -> Dataset:
    """Read the data set, and print a note if its fingerprint is not that of the training data."""
    dataset = experiment.dataset()
    if fingerprint not in (dataset.fingerprint, ABSENT):
        print(f"note: data are {dataset.fingerprint}, the run was trained on {fingerprint}", file=sys.stderr)
    return dataset


def _classes(count: int, stored: tuple[str, ...], read: Callable[[], Dataset]) -> tuple[str, ...]:
    """Return the names of the classes of a run. Runs of earlier versions and converted runs do not store them."""
    if stored or not count:
        return stored
    dataset = read()
    own = dataset.label_names[: dataset.classes]
    return own if len(own) == count else tuple(map(str, range(count)))


def stored_experiment(folder: pathlib.Path) -> Experiment:
    """Build the experiment of a run folder.

    Raises:
      ConfigError: the folder contains no run, or its config.json is damaged.
    """
    path = folder / "config.json"
    try:
        stored = read_object(path)
    except MissingError:
        raise ConfigError(
            f"--workdir: expected a run folder with config.json, got {folder}; train into it first"
        ) from None
    except UnreadableError as error:
        raise ConfigError(f"{path} is damaged ({error}); restore it, or run the training command again") from None
    return Experiment.from_config(from_json(stored, where=str(path)))


def _checkpoint(folder: pathlib.Path, name: str) -> tuple[Checkpoints, int | None]:
    """Return the folder of a checkpoint, and its step if only that step is acceptable.

    Raises:
      ConfigError: the name is not valid.
      CheckpointError: the checkpoint was not kept.
    """
    newest, best = Checkpoints(folder / "checkpoints"), Checkpoints(folder / BEST)
    if name == LATEST:
        return newest, None
    if name == "best":
        if not best.steps():
            raise CheckpointError(
                f"no best checkpoint in {best.folder}; train with training.keep_best, or take --checkpoint {LATEST}"
            )
        return best, lowest(best)
    if not is_whole_number(name):
        raise ConfigError(f"--checkpoint: expected {LATEST}, best or a step, got {name!r}")
    for checkpoints in (newest, best):
        if int(name) in checkpoints.steps():
            return checkpoints, int(name)
    raise CheckpointError(
        f"no checkpoint of step {name} in {folder}; there are {sorted({*newest.steps(), *best.steps()})}"
    )


def local_sharding():
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
