"""Readers of files of weights, which execute no code.

A pickle is a program, which may call any function when it is loaded. Therefore only safetensors, msgpack and PyTorch's
files are read, the latter by `torch.load(weights_only=True)` (see `scoresde.runtime.reading`), whose unpickler builds
only tensors and containers. Other pickles are refused before any of their bytes is interpreted.
"""

import pathlib

import numpy as np
from flax import serialization

from scoresde.convert.copying import Arrays
from scoresde.errors import CheckpointError, ConfigError
from scoresde.runtime.files import UnreadableError, open_regular, read_bytes
from scoresde.runtime.reading import ExecutableError, one_line, read_object, read_safetensors, read_torch

TORCH = (".pt", ".pth", ".bin")
_REFUSED = (
    "{path}: refused: a pickle, which executes code when it is loaded (those of EDM carry their own source); take "
    "weights that are "
    "published as safetensors, as msgpack of Flax or as a plain state dict"
)


def json_of(path: pathlib.Path) -> dict:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        return read_object(path)
    except UnreadableError as error:
        raise CheckpointError(f"{path} cannot be read: {error}; download it again") from None


def refuse_pickles(path: pathlib.Path) -> None:
    """Raise a CheckpointError for a file that is a pickle by its name or by its first bytes."""
    refuse_by_name(path)
    try:
        with open_regular(path) as file:
            head = file.read(2)
    except UnreadableError as error:
        raise CheckpointError(f"{path} cannot be read: {error}; download it again") from None
    if head[:1] == b"\x80" and b"\x02" <= head[1:] <= b"\x05":
        raise CheckpointError(_REFUSED.format(path=path))


def refuse_by_name(path: pathlib.Path) -> None:
    if path.suffix in (".pkl", ".pickle"):
        raise CheckpointError(_REFUSED.format(path=path))


def safetensors(path: pathlib.Path) -> tuple[Arrays, dict[str, str]]:
    """Return the arrays of a safetensors file, and its metadata.

    Raises:
        CheckpointError: the file is a pickle, or damaged.
    """
    refuse_pickles(path)
    try:
        return read_safetensors(path)
    except UnreadableError as error:
        raise CheckpointError(f"{path}: {error}; download it again") from None


def of_torch(path: pathlib.Path):
    """Return the content of a PyTorch file, with tensors of torch.

    Raises:
        ConfigError: torch is not installed.
        CheckpointError: the file is damaged or contains more than tensors.
    """
    try:
        return read_torch(path)
    except ImportError:
        raise ConfigError(f"{path}: needs torch to be read; pip install 'scoresde[torch]'") from None
    except ExecutableError:
        raise CheckpointError(_REFUSED.format(path=path)) from None
    except UnreadableError as error:
        raise CheckpointError(f"{path}: {error}; download it again") from None


def as_arrays(tensors: dict) -> Arrays:
    """Return {name: array} of a state dict of torch, in float32.

    Raises:
        CheckpointError: the argument is not a state dict.
    """
    if not isinstance(tensors, dict) or not all(hasattr(value, "numpy") for value in tensors.values()):
        raise CheckpointError("expected a state dict, {name: tensor}; got something else")
    return {name: np.asarray(value.detach().float().numpy()) for name, value in tensors.items()}


def weights(path: pathlib.Path) -> Arrays:
    """Return the arrays of a safetensors file, or of a state dict of torch."""
    return as_arrays(of_torch(path)) if path.suffix in TORCH else safetensors(path)[0]


def of_flax(path: pathlib.Path):
    """Return the content of a msgpack file of Flax: numbers, arrays and mappings of them.

    Raises:
        CheckpointError: the file is a pickle, is damaged, or has another format.
    """
    refuse_pickles(path)
    try:
        return serialization.msgpack_restore(read_bytes(path))
    except (
        UnreadableError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise CheckpointError(f"{path}: not a msgpack file of Flax ({one_line(error)}); download it again") from None
