"""Loading of a trained score from its run folder: `config.json` and the newest valid checkpoint. No Python file is
executed."""

import dataclasses
import hashlib
import importlib.metadata
import pathlib
import platform
import sys
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from scoresde.data import Dataset
from scoresde.data.absent import ABSENT
from scoresde.data.labels import with_classes
from scoresde.errors import CheckpointError, ConfigError
from scoresde.experiment.build import (
    abstract_network,
    build_averages,
    build_dataset,
    build_optimizer,
    build_score,
    flatten,
    with_prior_data,
)
from scoresde.experiment.config import differences, from_json, override, to_json
from scoresde.experiment.processes import PROCESSES, on_grid
from scoresde.runs.best import FOLDER as BEST
from scoresde.runs.best import lowest
from scoresde.runs.checkpoint import Checkpoints
from scoresde.runtime.files import MissingError, UnreadableError, read_bytes
from scoresde.runtime.places import local
from scoresde.runtime.reading import is_whole_number, read_object
from scoresde.score import NetworkScore
from scoresde.train import average_name, averaged_score
from scoresde.train.step import init_state
from scoresde.types import root_key

LATEST = "latest"
_PACKAGES = ("scoresde", "jax", "jaxlib", "flax", "optax", "diffrax", "orbax-checkpoint")
# Settings of JAX, from its environment variables, that change what is computed.
_JAX_SETTINGS = (
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_default_matmul_precision",
)
# Networks that are the same function on every grid.
RESOLUTION_FREE = ("fno", "ufno")
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
    config: ConfigDict
    dataset: Dataset
    score: NetworkScore  # with averaged parameters
    step: int
    ema: str
    shape: tuple[int, ...]  # of what is drawn, a record of the data set but for `at`
    classes: tuple[str, ...] = ()  # the labels of the training data, in the order of the network's classes; () if none

    def at(self, grid: tuple[int, ...]) -> "TrainedModel":
        """Return the run for sampling on another grid.

        Raises:
          ConfigError: the process or the network has one grid.
        """
        if self.config.model.name not in RESOLUTION_FREE:
            raise ConfigError(
                f"--grid: model.name = '{self.config.model.name}' has the grid it was trained on; only "
                f"{' and '.join(RESOLUTION_FREE)} take another"
            )
        if len(grid) != len(self.shape) - 1 or min(grid) < 1:
            raise ConfigError(
                f"--grid: expected {len(self.shape) - 1} sizes above 0, such as {self.shape[:-1]}, got {grid}"
            )
        model, process = self.config.model, PROCESSES[self.config.sde.name]
        if (
            process.spectral
            and model.preconditioning == "edm"
            and not model.data_index
            and self.config.sde.basis != "kernel"
        ):
            raise ConfigError(
                "--grid: model.data_index = 0 shares the variance of data among the points of the grid of training, "
                "and means another law on "
                "another grid; train with model.data_index above half the dimensions"
            )
        if not process.spectral:
            return self._replace(shape=(*grid, self.shape[-1]))  # white noise, at the points of any grid
        score = dataclasses.replace(self.score, sde=on_grid(self.score.sde, self.config, grid))
        return self._replace(score=score, shape=(*grid, self.shape[-1]))


def load_trained(
    workdir: str | pathlib.Path,
    *,
    ema: float | str | None = None,
    sampler: str | None = None,
    overrides: list[str] = (),
    checkpoint: str = LATEST,
) -> TrainedModel:
    """Load a run, with the averaged parameters of `ema`, a decay, half-life or name (the first one if None).

    Args:
      checkpoint: "latest", the newest valid one; "best", that of `training.keep_best`; or a step that was kept.
      sampler: the name of a sampler other than the run's, which uses its default steps, grid and order.
      overrides: `SECTION.FIELD=value` texts for sampling, likelihood, evaluate, and for where and how the data are
        read.

    Raises:
      ConfigError: no run there, or bad overrides. CheckpointError: no good checkpoint. DataError: see `load`.
    """
    folder = pathlib.Path(local(str(workdir)))
    config, written = stored_config(folder)
    if fixed := [text for text in overrides if not text.startswith(_OVERRIDABLE)]:
        raise ConfigError(*(f"--config.{text}: a trained run keeps this as it was trained" for text in fixed))
    if sampler not in (None, config.sampling.sampler):
        overrides = [
            f"sampling.sampler={sampler}",
            "sampling.steps=0",
            "sampling.grid=",
            "sampling.order=0",
            *overrides,
        ]
    if overrides:  # else it has just been validated
        override(config, list(overrides))

    dataset, score = build_dataset(config), build_score(config, abstract_network(config))
    optimizer, averages = build_optimizer(config), build_averages(config)
    chosen = averages[0] if ema is None else average_name(ema)
    target = jax.eval_shape(lambda p: init_state(p, optimizer, averages, root_key(0)), score.network.params)
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=local_sharding()), target)
    checkpoints, step = _checkpoint(folder, checkpoint)
    restored = checkpoints.restore(
        target, accept=lambda meta: check_experiment(meta, written, folder / "config.json"), set_aside=False, step=step
    )
    if restored is None:
        raise CheckpointError(f"no checkpoint in {checkpoints.folder}; train first")
    state, meta = restored
    if meta["data"]["fingerprint"] not in (dataset.fingerprint, ABSENT):
        print(
            f"note: data are {dataset.fingerprint}, the run was trained on {meta['data']['fingerprint']}",
            file=sys.stderr,
        )
    averaged = with_prior_data(averaged_score(score, state, chosen), config, dataset)
    classes = _classes(config.model.num_classes, dataset, tuple(meta["data"].get("classes", ())))
    dataset = with_classes(dataset, classes) if classes else dataset
    return TrainedModel(config, dataset, averaged, meta["step"], chosen, dataset.shape, classes)


def _classes(count: int, dataset: Dataset, stored: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the classes of a run. Runs of earlier versions and converted runs do not store them."""
    own = dataset.label_names[: dataset.classes]
    return stored or (own if len(own) == count else tuple(map(str, range(count))))


def stored_config(folder: pathlib.Path) -> tuple[ConfigDict, dict]:
    """Read the configuration of a run folder, and its JSON form in this version.

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
    config = from_json(stored, where=str(path))
    return config, to_json(config)


def description(config: ConfigDict, fingerprint: str, classes: tuple[str, ...] = ()) -> dict:
    """Return the metadata of every checkpoint. `fingerprint` and `classes` are those of the data set."""
    return {
        "config": to_json(config),
        "versions": _versions(),
        # The stream is a pure function of (seed, step): with the step, this is the whole position in the data.
        "data": {
            "fingerprint": fingerprint,
            "seed": config.seed,
            "batch_size": config.training.batch_size,
            "classes": list(classes),  # the labels, in the order of the network's classes
        },  # fmt: skip
        "devices": f"{jax.process_count()} x {jax.local_device_count()} {jax.devices()[0].device_kind}",
    }


def settings(config: ConfigDict) -> dict[str, str]:
    """Return by name all settings that determine what a process of a run does, except for its data."""
    fields = {name: repr(value) for name, value in flatten(to_json(config)).items()}
    versions = {f"version of {name}": version for name, version in _versions().items()}
    return (
        fields
        | versions
        | {name: str(getattr(jax.config, name)) for name in _JAX_SETTINGS}
        | {"code of scoresde": _code()}
    )


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def _code() -> str:
    """Return a digest of the source files of this package."""
    root, digest = pathlib.Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + read_bytes(path) + b"\0")
    return digest.hexdigest()[:16]


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


def check_description(meta: dict) -> None:
    """Check that stored metadata have the form of `description`. Otherwise the checkpoint counts as damaged.

    Raises:
      ValueError: the form is different.
    """
    for part, kind in (("config", dict), ("versions", dict), ("data", dict), ("devices", str)):
        if not isinstance(meta.get(part), kind):
            raise ValueError(f"its meta has no {part}")
    if not isinstance(meta["data"].get("fingerprint"), str):
        raise ValueError("its meta has no data.fingerprint")


def check_experiment(meta: dict, written: dict, path: pathlib.Path) -> None:
    """Check that the checkpoint belongs to config.json: with another SDE samples would be wrong without an error."""
    check_description(meta)
    if meta["config"] == written:
        return  # as nearly always: to validate it once more takes a tenth of a second
    if lines := differences(to_json(from_json(meta["config"])), written):
        raise CheckpointError(f"{path} is not of its checkpoints: {'; '.join(lines)}; undo the change")


def local_sharding():
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
