"""Run folders written from Python, which `sample`, `likelihood`, `evaluate` and `report` read."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax

from scoresde.data import Dataset
from scoresde.errors import ConfigError
from scoresde.experiment.description import description
from scoresde.experiment.experiment import Experiment
from scoresde.experiment.sections import flatten
from scoresde.experiment.stored_data import StoredData
from scoresde.runs.checkpoint import Checkpoints
from scoresde.runtime.files import write_text
from scoresde.train.step import TrainState


def save_run(folder: str | pathlib.Path, experiment: Experiment, state: TrainState, dataset: Dataset) -> None:
    """Write FOLDER/config.json and FOLDER/checkpoints/STEP for a state that `scoresde.train.fit` returned.

    Args:
      folder: folder that contains no run.
      experiment: experiment that was trained.
      state: state of its network, with the averages of `experiment.averages`.
      dataset: data set of the training; the folder stores its codec and the names of its classes, not its records.

    Raises:
      ConfigError: another process cannot import a part, the network or the averages differ from those of the
        experiment, or the folder already contains a run.
      ResourceError: there is no space or no permission.
    """
    folder = pathlib.Path(folder)
    if (folder / "config.json").exists() or (folder / "checkpoints").exists():
        raise ConfigError(f"save_run: {folder} holds a run already; choose another folder")
    check_importable(experiment)
    _check_state(experiment, state)
    write_state(folder, experiment, state, StoredData.of(dataset, labelled=bool(experiment.num_classes)))


def check_importable(experiment: Experiment) -> None:
    """Raise a ConfigError for parts that only this process can import, such as classes of a script or a notebook."""
    problems = [
        f"{path} = {name!r}: it is defined in the script that runs, which other processes cannot import; put it into a "
        "module"
        for path, name in _names(experiment.config)
        if str(name).startswith("__main__:")
    ]
    if problems:
        raise ConfigError(*problems)


def _names(config: dict) -> Iterator[tuple[str, Any]]:
    """Yield the names of all components, and the entries of tuples, with their fields."""
    for path, value in flatten(config).items():
        if path.endswith(".name"):
            yield path, value
        elif isinstance(value, list):
            yield from ((path, entry["name"] if isinstance(entry, dict) else entry) for entry in value)


def _check_state(experiment: Experiment, state: TrainState) -> None:
    expected = jax.tree.map(lambda p: p.shape, experiment.network.params)
    if jax.tree.map(lambda p: p.shape, state.params) != expected:
        raise ConfigError("save_run: the parameters of the state are not those of the network of the experiment")
    if set(state.ema) != set(experiment.averages):
        raise ConfigError(
            f"save_run: the state has the averages {', '.join(sorted(state.ema)) or 'none'}, and training.ema and "
            f"power_ema name {', '.join(experiment.averages)}; pass ema=experiment.averages to fit"
        )


def write_state(out: pathlib.Path, experiment: Experiment, state: TrainState, data: StoredData) -> None:
    """Write OUT/config.json and OUT/checkpoints/STEP of a state.

    Args:
      out: run folder.
      experiment: experiment that was trained.
      state: state of training.
      data: stored facts of the training data.

    Raises:
      ResourceError: there is no space or no permission.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(out / "checkpoints")
    try:
        checkpoints.save(int(state.step), state, description(experiment, data))
        checkpoints.wait()
    finally:
        checkpoints.close()
    write_text(out / "config.json", json.dumps(experiment.config, indent=1) + "\n")
