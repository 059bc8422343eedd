"""Loading of a trained score from its run folder: `config.json` and the newest valid checkpoint. No Python file is
executed.

The data set is read when a record is first needed, so that a run can be sampled on a machine without its data.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax

from scoresde.data import Dataset
from scoresde.data.absent import ABSENT
from scoresde.data.codec import Codec
from scoresde.data.labels import with_classes
from scoresde.errors import CheckpointError, ConfigError
from scoresde.experiment.config import from_json
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
# What may be overridden: the rest belongs to what was trained.
_OVERRIDABLE = (
    "sampling.",
    "likelihood.",
    "evaluate.",
    "data.source",
    "data.data_dir",
    "data.labels",
    "data.max_bad",
    "data.max_pixels",
    "data.memory",
)


class TrainedModel(NamedTuple):
    experiment: Experiment
    codec: Codec  # of the records it was trained on
    score: NetworkScore  # with averaged parameters
    step: int
    ema: str
    shape: tuple[int, ...]  # of what is drawn, a record of the data set but for `at`
    read: Callable[[], Dataset]  # what `dataset` is read by
    classes: tuple[str, ...] = ()  # the labels of the training data, in the order of the network's classes; () if none
    fingerprint: str = ""  # of the data it was trained on

    @property
    def dataset(self) -> Dataset:
        """The records, which are read on first use.

        Raises:
          DataError: they are missing, or not as declared; see `scoresde.data.load`.
        """
        return self.read()

    def at(self, resolution: tuple[int, ...]) -> "TrainedModel":
        """Return the run for sampling at another resolution, the numbers of points along the axes.

        Raises:
          ConfigError: the process or the network has one resolution.
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
    """Load a run, with the averaged parameters of `ema`, a decay, half-life or name (the first one if None).

    Of the checkpoint that average alone is read and checked by its CRC-32; damage elsewhere in it is not noticed.

    No record is read but for a process whose prior is degraded data, and for runs of earlier versions, which have not
    stored their codec or the names of their classes.

    Args:
      checkpoint: "latest", the newest valid one; "best", that of `training.keep_best`; or a step that was kept.
      sampler: the name of a sampler other than the run's, which uses its default steps, grid and order.
      overrides: `SECTION.FIELD=value` texts for sampling, likelihood, evaluate, and for where and how the data are
        read.

    Raises:
      ConfigError: no run there, or bad overrides. CheckpointError: no good checkpoint. DataError: records are needed
        and missing.
    """
    folder = pathlib.Path(local(str(workdir)))
    experiment = stored_experiment(folder)
    written = experiment.config
    if fixed := [text for text in overrides if not text.startswith(_OVERRIDABLE)]:
        raise ConfigError(*(f"--config.{text}: a trained run keeps this as it was trained" for text in fixed))
    if sampler is not None:
        overrides = [f"sampling.name={sampler}", *overrides]
    if overrides:
        experiment = experiment.changed(*overrides)

    score = experiment.score(experiment.network)
    chosen = _average_of(experiment, ema)
    # Neither the other averages nor the state of the optimizer, several times as large, are read.
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
    codec = stored.codec or declared_codec(experiment.data) or read().codec
    classes = _classes(experiment.num_classes, stored.classes, read)
    averaged = experiment.with_prior_data(averaged_score(score, state, chosen), read)
    relabelled = functools.cache(lambda: with_classes(read(), classes) if classes else read())
    shape, fingerprint = codec.shape, stored.fingerprint
    return TrainedModel(experiment, codec, averaged, meta["step"], chosen, shape, relabelled, classes, fingerprint)


def _average_of(experiment: Experiment, ema: float | str | None) -> str:
    """Return the name of the average that a run has for `ema`; the first one for None.

    Raises:
      ConfigError: it was not tracked.
    """
    averages = experiment.averages
    name = averages[0] if ema is None else average_name(ema)
    if name not in averages:
        raise ConfigError(f"ema: no average {name}; there are {', '.join(averages)}")
    return name


def _read(experiment: Experiment, fingerprint: str) -> Dataset:
    """Read the data set. Prints a note if it is not the one with this fingerprint, on which the run was trained."""
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
      ConfigError: no run there, or its config.json is damaged.
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
      ConfigError: not a name. CheckpointError: it was not kept.
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
