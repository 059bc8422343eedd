"""Run folders from a configuration and parameters, for `sample`, `likelihood` and `evaluate`.

The checkpoint has step 0. Its parameters and their averages are the converted ones, and the optimizer is in its initial
state.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from scoresde.convert.copying import Arrays
from scoresde.data.absent import ABSENT
from scoresde.errors import CheckpointError, ConfigError
from scoresde.experiment.config import from_fields, with_full_paths
from scoresde.experiment.experiment import Experiment
from scoresde.experiment.saving import write_state
from scoresde.experiment.stored_data import StoredData, declared_codec
from scoresde.nets import Network
from scoresde.runtime.streams import stream
from scoresde.train.step import init_state

_SHOWN = 5


def configuration(fields: dict[str, dict], overrides: list[str]) -> Experiment:
    """Return the default experiment with changed fields and without data.

    Args:
        fields: {section: {field: value}}.
        overrides: texts `SECTION.FIELD=value`, which take precedence.

    Raises:
        ConfigError: a field or a value is wrong; the message lists all problems, one line each.
    """
    fields = fields | {"data": fields.get("data", {}) | {"source": ABSENT}}
    config = from_fields(fields, overrides, where="SOURCE")
    with_full_paths(config)
    return Experiment.from_config(config)


def load_into(network: Network, arrays: Arrays, source: str, unused: set[str]) -> Network:
    """Return the network with other parameters.

    Args:
        network: network, whose parameters may be only shapes.
        arrays: new parameters, {path: array}.
        source: name of the source in messages.
        unused: names in the source that were not read.

    Raises:
        CheckpointError: parameters are missing, left over, not finite or of another shape; the message names the first
            few.
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


def write_run(out: pathlib.Path, experiment: Experiment, network: Network) -> None:
    """Write OUT/config.json and OUT/checkpoints/0.

    Raises:
        ResourceError: the files cannot be written, for lack of space or permission.
    """
    state = init_state(network.params, experiment.optimizer, experiment.averages, stream(experiment.seed, "train"))
    # Continuous data that are named later bring their own scale and span.
    codec = declared_codec(experiment.data) if experiment.data.levels else None
    write_state(out, experiment, state, StoredData(ABSENT, codec))


def check_free(out: pathlib.Path) -> None:
    """Raise a ConfigError for a folder that contains a run."""
    if (out / "config.json").exists() or (out / "checkpoints").exists():
        raise ConfigError(f"--out: {out} holds a run already; choose another folder")
