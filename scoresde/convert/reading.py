"""Files of weights to arrays, without executing any of them.

A pickle is a program: it may call whatever it likes when it is loaded. So safetensors and msgpack are read, PyTorch's
files by `torch.load(weights_only=True)` (see `scoresde.runtime.reading`), whose unpickler builds tensors and containers
and nothing else, and other pickles are refused before a byte of them is interpreted.
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
    """The object in a JSON file.

    Raises:
        CheckpointError: there is none.
    """
    try:
        return read_object(path)
    except UnreadableError as error:
        raise CheckpointError(f"{path} cannot be read: {error}; download it again") from None


def refuse_pickles(path: pathlib.Path) -> None:
    """Raises a CheckpointError for a file that is a pickle by its name or by its first bytes."""
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
    """The arrays of a safetensors file, and its metadata.

    Raises:
        CheckpointError: the file is a pickle, or damaged.
    """
    refuse_pickles(path)
    try:
        return read_safetensors(path)
    except UnreadableError as error:
        raise CheckpointError(f"{path}: {error}; download it again") from None


def of_torch(path: pathlib.Path):
    """What a PyTorch file holds, with tensors still of torch.

    Raises:
        ConfigError: no torch. CheckpointError: the file is damaged or holds more than tensors.
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
    """{name: array} of a state dict of torch; numbers in half precision become float32."""
    if not isinstance(tensors, dict) or not all(hasattr(value, "numpy") for value in tensors.values()):
        raise CheckpointError("expected a state dict, {name: tensor}; got something else")
    return {name: np.asarray(value.detach().float().numpy()) for name, value in tensors.items()}


def weights(path: pathlib.Path) -> Arrays:
    """A safetensors file, or a state dict of torch."""
    return as_arrays(of_torch(path)) if path.suffix in TORCH else safetensors(path)[0]


def of_flax(path: pathlib.Path):
    """What a msgpack file of Flax holds: numbers, arrays and mappings of them.

    Raises:
        CheckpointError: the file is a pickle, damaged, or something else.
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
