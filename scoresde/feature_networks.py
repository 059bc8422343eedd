"""Names of feature spaces -> objects: `--network pixels`, or the file of the 2015 Inception.

| file | where it is from |
|---|---|
| NPZ | arrays under the names of the TensorFlow graph, or of the PyTorch port |
| .pt, .pth | the port's state dict as pytorch-fid and torch-fidelity publish it; needs torch, reads tensors only and runs no code |
"""

import hashlib
import pathlib
import pickle
import zipfile

import numpy as np

from scoresde.data import npz
from scoresde.errors import ConfigError, DataError
from scoresde.evaluate import port
from scoresde.evaluate.features import Features, Inception, Pixels


def feature_network(text: str, shape: tuple[int, ...]) -> Features:
    """The feature space `text` names, for records of `shape`.

    Raises:
        ConfigError: a state dict without torch. DataError: no such file, or not of that network, or not for such records.
    """
    if text == "pixels":
        return Pixels(shape)
    file = pathlib.Path(text).expanduser()
    arrays = _state_dict(file) if file.suffix in (".pt", ".pth") else _npz(file)
    convolutions, readout = port.weights(arrays, str(file))
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Inception(convolutions, readout, sha256=digest, shape=shape)


def _npz(file: pathlib.Path) -> dict[str, np.ndarray]:
    with npz.opened(file) as archive:
        return {name: npz.member(archive, name, file) for name in archive}


def _state_dict(file: pathlib.Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise DataError(f"{file}: expected a file of weights, found nothing there; check the path")
    try:
        import torch
    except ImportError:
        raise ConfigError(f"--network {file}: a PyTorch file needs torch, which is not installed; install torch, or give an NPZ file") from None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in state.items() if hasattr(tensor, "numpy")}
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: expected a state dict of tensors, which this is not ({type(error).__name__}); nothing was unpickled") from None
