"""Export of a run as one safetensors file, with the paths of parameters in `scoresde.nets`, such as
encoder/0/blocks/0/conv_1/kernel.

Convolutions are [h, w, in, out], dense layers [in, out]. The metadata contain the configuration as JSON, the step and
the name of the average, so that the file can be converted back to a run.
"""

import json
import os
import pathlib
import re

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from scoresde.convert.copying import Arrays
from scoresde.convert.reading import safetensors
from scoresde.errors import CheckpointError, ResourceError
from scoresde.experiment.load import TrainedModel
from scoresde.runtime.files import UnreadableError, replacing
from scoresde.runtime.reading import one_line, parse_json


def export(trained: TrainedModel, file: pathlib.Path) -> int:
    """Write the averaged parameters, and return their number.

    Raises:
        ResourceError: the file cannot be written, for lack of space or permission.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(trained.score.network.params)
    arrays = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.ascontiguousarray(leaf) for path, leaf in leaves
    }
    about = {
        "format": "scoresde",
        "config": json.dumps(trained.experiment.config),
        "step": str(trained.step),
        "ema": trained.ema,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(file) as scratch:
            save_file(arrays, scratch, metadata=about)
    except (SafetensorError, OSError) as error:  # the arrays are in memory, so only writing can fail
        code = re.search(r"os error (\d+)", str(error))  # Rust's form of the error number of the system
        reason = os.strerror(int(code[1])) if code else getattr(error, "strerror", None) or one_line(error)
        raise ResourceError(
            f"cannot write {file}: {reason}; free space or permissions, or choose another file"
        ) from error
    return sum(array.size for array in arrays.values())


def exported_arrays(file: pathlib.Path) -> tuple[dict[str, dict], Arrays]:
    """Return ({section: {field: value}}, {path: array}) of a file that `export` wrote, without the source of the data.

    Raises:
        CheckpointError: the file is damaged, or was not written by `export`.
    """
    arrays, about = safetensors(file)
    try:
        config = parse_json(about["config"])
        fields = {
            name: {field: _value(v) for field, v in values.items()}
            for name, values in config.items()
            if isinstance(values, dict)
        }
        for field in ("source", "arrays", "labels", "data_dir"):
            fields["data"].pop(field, None)
    except (UnreadableError, KeyError, AttributeError):
        raise CheckpointError(
            f"{file}: expected a file of --export; of diffusers give the folder, with its config.json"
        ) from None
    return fields, arrays


def _value(value):
    return tuple(value) if isinstance(value, list) else value
