"""Construction of feature spaces from `--network`: `pixels`, or the file of the 2015 Inception or of DINOv2.

| file | origin |
|---|---|
| NPZ | Inception: arrays under the names of the TensorFlow graph, or of the PyTorch port |
| .pt, .pth | Inception: the port's state dict as pytorch-fid and torch-fidelity publish it; DINOv2: the state dict of its authors. Needs torch, reads tensors only and runs no code |
| .safetensors | DINOv2 as on Hugging Face |
"""

import hashlib
import pathlib

import numpy as np

from scoresde.data import npz
from scoresde.errors import ConfigError, DataError
from scoresde.metrics import dinov2, port
from scoresde.metrics.features import Features, InceptionFeatures, Pixels
from scoresde.runtime.files import UnreadableError
from scoresde.runtime.reading import one_line, read_safetensors, read_torch


def feature_network(text: str, shape: tuple[int, ...]) -> Features:
    """Return the feature space with the name or file `text`, for records of `shape`.

    Raises:
        ConfigError: the file is a state dict, and torch is not installed.
        DataError: the file does not exist, does not belong to such a network, or the network does not accept records of
          this shape.
    """
    if text == "pixels":
        return Pixels(shape)
    file = pathlib.Path(text).expanduser()
    arrays = _READERS.get(file.suffix, _npz)(file)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if file.suffix == ".safetensors" or dinov2.is_published(arrays):
        return dinov2.DINOv2Features(arrays, str(file), sha256=digest, shape=shape)
    convolutions, readout = port.weights(arrays, str(file))
    return InceptionFeatures(convolutions, readout, sha256=digest, shape=shape)


def _npz(file: pathlib.Path) -> dict[str, np.ndarray]:
    with npz.opened(file) as archive:
        return {name: npz.member(archive, name, file) for name in archive}


def _state_dict(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        state = read_torch(file)
        return {name: tensor.numpy() for name, tensor in state.items() if hasattr(tensor, "numpy")}
    except ImportError:
        raise ConfigError(
            f"--network {file}: a PyTorch file needs torch, which is not installed; install torch, or give an NPZ file"
        ) from None
    except (
        UnreadableError,
        RuntimeError,
        TypeError,
        AttributeError,
    ) as error:  # tensors of a type that NumPy lacks; not a dict
        raise DataError(
            f"{file}: expected a state dict of tensors: {one_line(error)}; check the path, or copy it again"
        ) from None


def _safetensors(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return read_safetensors(file)[0]
    except UnreadableError as error:
        raise DataError(
            f"{file}: expected a safetensors file of float32: {error}; check the path, or copy it again"
        ) from None


_READERS = {".safetensors": _safetensors, ".pt": _state_dict, ".pth": _state_dict}
