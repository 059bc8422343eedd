"""A run folder from a configuration and parameters: what `sample`, `likelihood` and `evaluate` read.

The checkpoint is of step 0. Its parameters and their averages are the converted ones; the optimizer has done nothing
yet.
"""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from scoresde.convert.copying import Arrays
from scoresde.data.absent import ABSENT
from scoresde.errors import CheckpointError, ConfigError
from scoresde.experiment.build import build_averages, build_optimizer
from scoresde.experiment.config import default, fill, override, to_json, with_full_paths
from scoresde.experiment.description import description
from scoresde.experiment.stored_data import StoredData, declared_codec
from scoresde.nets import Network
from scoresde.runs.checkpoint import Checkpoints
from scoresde.runtime.files import write_text
from scoresde.runtime.streams import stream
from scoresde.train.step import TrainState, init_state

_SHOWN = 5


def configuration(fields: dict[str, dict], overrides: list[str]) -> ConfigDict:
    """Return the defaults with {section: {field: value}}, without data, and with `SECTION.FIELD=value` texts.

    Raises:
        ConfigError: every problem there is, one line each.
    """
    config = default()
    config.data.source = ABSENT
    if problems := fill(config, fields, where="SOURCE"):
        raise ConfigError(*problems)
    override(config, overrides)
    with_full_paths(config)
    return config


def load_into(network: Network, arrays: Arrays, source: str, unused: set[str]) -> Network:
    """The network, of which the shapes are enough, with `arrays`, {path: array}, as its parameters.

    Args:
        unused: names in the source that were not read.

    Raises:
        CheckpointError: some are missing, left over, or of another shape; the first few are named.
    """
    left, problems = dict(arrays), []

    def value(path, p):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        array = left.pop(name, None)
        if array is None:
            problems.append(f"{name} is missing")
        elif array.shape != p.shape:
            problems.append(f"{name} is {list(array.shape)}, expected {list(p.shape)}")
        elif not np.isfinite(array).all():
            problems.append(f"{name} is not finite")
        else:
            return jnp.asarray(array, p.dtype)
        return p

    params = jax.tree_util.tree_map_with_path(value, network.params)
    problems += [f"{name} is left over" for name in sorted(left)] + [f"{name} was not used" for name in sorted(unused)]
    if problems:
        shown = "; ".join(problems[:_SHOWN]) + (f"; and {len(problems) - _SHOWN} more" if problems[_SHOWN:] else "")
        raise CheckpointError(f"{source} is not of this network: {shown}; see --network and --config.model.*")
    return dataclasses.replace(network, params=params)


def write_run(out: pathlib.Path, config: ConfigDict, network: Network) -> None:
    """OUT/config.json and OUT/checkpoints/0.

    Raises:
        ResourceError: no space, or no permission.
    """
    state = init_state(network.params, build_optimizer(config), build_averages(config), stream(config.seed, "train"))
    # Continuous data that are named later bring their own scale and span.
    write_state(out, config, state, StoredData(ABSENT, declared_codec(config) if config.data.levels else None))


def write_state(out: pathlib.Path, config: ConfigDict, state: TrainState, data: StoredData) -> None:
    """OUT/config.json and OUT/checkpoints/STEP of a state. `data`: what it was trained on.

    Raises:
        ResourceError: no space, or no permission.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(out / "checkpoints")
    try:
        checkpoints.save(int(state.step), state, description(config, data))
        checkpoints.wait()
    finally:
        checkpoints.close()
    write_text(out / "config.json", json.dumps(to_json(config), indent=1) + "\n")


def check_free(out: pathlib.Path) -> None:
    """Raises a ConfigError for a folder that holds a run."""
    if (out / "config.json").exists() or (out / "checkpoints").exists():
        raise ConfigError(f"--out: {out} holds a run already; choose another folder")
