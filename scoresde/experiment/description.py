"""Metadata that are stored with a checkpoint, and values that several processes compare before the first step."""

import hashlib
import pathlib

import jax

from scoresde.errors import CheckpointError
from scoresde.experiment.config import differences, from_json, to_json
from scoresde.experiment.experiment import Experiment
from scoresde.experiment.sections import flatten
from scoresde.experiment.stored_data import StoredData
from scoresde.runtime.files import read_bytes
from scoresde.runtime.versions import versions

# Settings of JAX, from its environment variables, that change results.
_JAX_SETTINGS = (
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_default_matmul_precision",
)


def description(experiment: Experiment, data: StoredData) -> dict:
    """Return the metadata of every checkpoint."""
    return {
        "config": experiment.config,
        "versions": versions(),
        # The stream is a pure function of (seed, step): with the step, this is the whole position in the data.
        "data": data.to_json() | {"seed": experiment.seed, "batch_size": experiment.training.batch_size},
        "devices": f"{jax.process_count()} x {jax.local_device_count()} {jax.devices()[0].device_kind}",
    }


def settings(experiment: Experiment) -> dict[str, str]:
    """Return by name all settings that determine the results of a process of a run, except for its data."""
    fields = {name: repr(value) for name, value in flatten(experiment.config).items()}
    return (
        fields
        | {f"version of {name}": version for name, version in versions().items()}
        | {name: str(getattr(jax.config, name)) for name in _JAX_SETTINGS}
        | {"code of scoresde": _code()}
    )


def _code() -> str:
    """Return a digest of the source files of this package."""
    root, digest = pathlib.Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + read_bytes(path) + b"\0")
    return digest.hexdigest()[:16]


def check_description(meta: dict) -> None:
    """Check that stored metadata have the form of `description`; otherwise the checkpoint counts as damaged.

    Raises:
      ValueError: the form is different.
    """
    for part, kind in (("config", dict), ("versions", dict), ("data", dict), ("devices", str)):
        if not isinstance(meta.get(part), kind):
            raise ValueError(f"its meta has no {part}")
    StoredData.from_json(meta["data"])


def check_experiment(meta: dict, written: dict, path: pathlib.Path) -> None:
    """Check that the checkpoint belongs to config.json, because with another SDE samples would be wrong without an
    error."""
    check_description(meta)
    if meta["config"] == written:
        return  # the usual case; another validation takes a tenth of a second
    if lines := differences(to_json(from_json(meta["config"])), written):
        raise CheckpointError(f"{path} is not of its checkpoints: {'; '.join(lines)}; undo the change")
