"""A run as one safetensors file: parameters under the paths of `scoresde.nets`, such as encoder/0/blocks/0/conv_1/kernel.

Convolutions are [h, w, in, out], dense layers [in, out]. The metadata hold the configuration as JSON, the step and the decay of the
average, so that the file comes back as a run.
"""

import json
import pathlib

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from scoresde.config import to_json
from scoresde.convert.copying import Arrays
from scoresde.convert.reading import safetensors
from scoresde.errors import CheckpointError
from scoresde.trained import Trained


def export(trained: Trained, file: pathlib.Path) -> int:
    """Writes the averaged parameters; returns their number."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(trained.score.network.params)
    arrays = {jax.tree_util.keystr(path, simple=True, separator="/"): np.ascontiguousarray(leaf) for path, leaf in leaves}
    about = {"format": "scoresde", "config": json.dumps(to_json(trained.config)), "step": str(trained.step), "ema": trained.ema}
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(file.name + ".tmp")
    save_file(arrays, scratch, metadata=about)
    scratch.replace(file)  # a kill in the middle leaves an older file as it was
    return sum(array.size for array in arrays.values())


def exported(file: pathlib.Path) -> tuple[dict[str, dict], Arrays]:
    """({section: {field: value}}, {path: array}) of such a file; the source of its data stays behind.

    Raises:
        CheckpointError: the file is damaged, or not of `export`.
    """
    arrays = safetensors(file)
    try:
        with safe_open(file, framework="numpy") as opened:
            config = json.loads(opened.metadata()["config"])
        fields = {name: {field: _value(v) for field, v in values.items()} for name, values in config.items() if isinstance(values, dict)}
        for field in ("source", "arrays", "labels", "data_dir"):
            fields["data"].pop(field, None)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{file}: expected a file of --export; of diffusers give the folder, with its config.json") from None
    return fields, arrays


def _value(value):
    return tuple(value) if isinstance(value, list) else value
