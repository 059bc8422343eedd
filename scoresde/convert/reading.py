"""Files of weights to arrays, without executing any of them.

A pickle is a program: it may call whatever it likes when it is loaded. So safetensors and msgpack are read, PyTorch's files
by `torch.load(weights_only=True)`, whose unpickler builds tensors and containers and nothing else, and other pickles are
refused before a byte of them is interpreted.
"""

import json
import pathlib
import pickle

import numpy as np
from flax import serialization
from safetensors import SafetensorError
from safetensors.numpy import load_file

from scoresde.convert.copying import Arrays
from scoresde.errors import CheckpointError, ConfigError

TORCH = (".pt", ".pth", ".bin")
_REFUSED = (
    "{path}: refused: a pickle, which executes code when it is loaded (those of EDM carry their own source); take weights that are "
    "published as safetensors, as msgpack of Flax or as a plain state dict"
)


def json_of(path: pathlib.Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("expected an object")
        return found
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None


def refuse_pickles(path: pathlib.Path) -> None:
    """Raises a CheckpointError for a file that is a pickle by its name or by its first bytes."""
    refuse_by_name(path)
    with path.open("rb") as file:
        head = file.read(2)
    if head[:1] == b"\x80" and b"\x02" <= head[1:] <= b"\x05":
        raise CheckpointError(_REFUSED.format(path=path))


def refuse_by_name(path: pathlib.Path) -> None:
    if path.suffix in (".pkl", ".pickle"):
        raise CheckpointError(_REFUSED.format(path=path))


def safetensors(path: pathlib.Path) -> Arrays:
    refuse_pickles(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a good safetensors file ({error})") from None


def of_torch(path: pathlib.Path):
    """What a PyTorch file holds, with tensors still of torch.

    Raises:
        ConfigError: no torch. CheckpointError: the file is damaged or holds more than tensors.
    """
    try:
        import torch
    except ImportError:
        raise ConfigError(f"{path}: needs torch to be read; pip install 'scoresde[torch]'") from None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(_REFUSED.format(path=path)) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a good PyTorch file ({' '.join(str(error).split())[:200]})") from None


def as_arrays(tensors: dict) -> Arrays:
    """{name: array} of a state dict of torch; numbers in half precision become float32."""
    if not isinstance(tensors, dict) or not all(hasattr(value, "numpy") for value in tensors.values()):
        raise CheckpointError("expected a state dict, {name: tensor}; got something else")
    return {name: np.asarray(value.detach().float().numpy()) for name, value in tensors.items()}


def weights(path: pathlib.Path) -> Arrays:
    """A safetensors file, or a state dict of torch."""
    return as_arrays(of_torch(path)) if path.suffix in TORCH else safetensors(path)


def of_flax(path: pathlib.Path):
    """What a msgpack file of Flax holds: numbers, arrays and mappings of them.

    Raises:
        CheckpointError: the file is a pickle, damaged, or something else.
    """
    refuse_pickles(path)
    try:
        return serialization.msgpack_restore(path.read_bytes())
    except (ValueError, TypeError, KeyError, IndexError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a msgpack file of Flax ({' '.join(str(error).split())[:200]})") from None
