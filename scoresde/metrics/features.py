"""Features of images, one row per image, stored on disk while they are computed, so that a killed run can continue.

    FOLDER/KEY/features.npy     float32 [N, dimensions + classes], filled from the front
    FOLDER/KEY/progress.json    number of valid rows, and identity of the images and the network

KEY identifies images and network by their content, so features of the same images are always reused.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Num

from scoresde.errors import DataError
from scoresde.nets import inception
from scoresde.runtime.arrays import array_header
from scoresde.runtime.files import MissingError, UnreadableError, creating, open_regular, write_text
from scoresde.runtime.progress import Progress
from scoresde.runtime.reading import read_object
from scoresde.runtime.sharding import batch_for_devices, local_copy, pad, shard

_BATCH_CPU, _BATCH = 32, 256  # images per batch; on a CPU larger batches are not faster


class Images(NamedTuple):
    """Set of images that is read in parts.

    Attributes:
        identity: text that is equal for equal content.
        num: number of images.
        shape: shape of one image.
        read: function (first, last) -> uint8 images [n, H, W, C], or float32 values of any shape.
        span: least and greatest float32 value; None for uint8 images.
    """

    identity: str
    num: int
    shape: tuple[int, ...]
    read: Callable[[int, int], np.ndarray]
    span: tuple[float, float] | None = None


@runtime_checkable
class Features(Protocol):
    """Feature space. A call returns rows with `dimensions` features followed by `classes` logits.

    Attributes:
        name: name of the space in names of metrics.
        sha256: checksum of the file of the weights, or None.
        resize: description of the resize of images.
        channels: description of the treatment of channels.
        dimensions: number of features.
        classes: number of logits.
    """

    name: str
    sha256: str | None
    resize: str
    channels: str
    dimensions: int
    classes: int

    def __call__(self, images: np.ndarray) -> Float[np.ndarray, "n width"]: ...


class Pixels:
    """Feature space of the values themselves, divided by 255 for uint8 images; for toy images, points and curves."""

    name, sha256, resize, channels, classes = "pixels", None, "none; images v / 255", "as they are", 0

    def __init__(self, shape: tuple[int, ...]):
        self.dimensions = int(np.prod(shape))

    def __call__(self, images: Num[np.ndarray, "n *x"]) -> Float[np.ndarray, "n width"]:
        scale = np.float32(255 if images.dtype == np.uint8 else 1)
        return images.reshape(len(images), -1).astype(np.float32) / scale


class Given:
    """Feature space of features that were computed elsewhere, with the name of their file."""

    sha256, resize, channels = None, "unknown", "unknown"

    def __init__(self, name: str, dimensions: int, classes: int):
        self.name, self.dimensions, self.classes = name, dimensions, classes

    def __call__(self, images: Num[np.ndarray, "n *x"]) -> Float[np.ndarray, "n width"]:
        raise DataError("features of a file: there is no network to compute more of them; give all in the file")


class InceptionFeatures:
    """Feature space of pool_3 [2048] of the 2015 Inception, with logits if the file has a readout.

    Args:
        convolutions: kernels and biases, see `nets.inception.from_convolutions`.
        readout: matrix [2048, classes] of the logits, or None.
        sha256: checksum of the file of the weights.
        shape: shape of an image, [H, W, 1 or 3].

    Raises:
        DataError: another shape.
    """

    name, dimensions = "inception-2015", inception.FEATURES
    resize = (
        "bilinear to 299 x 299 by the rule of TensorFlow 1 (source i * size / 299, no antialiasing), then (v - "
        "128) / 128"
    )

    def __init__(self, convolutions: list, readout: np.ndarray | None, *, sha256: str, shape: tuple[int, ...]):
        if len(shape) != 3 or shape[-1] not in (1, 3):
            raise DataError(
                f"Inception features: expected images [H, W, 1 or 3], got records of shape {shape}; use --network "
                "pixels with fd"
            )
        self.sha256, self.channels = sha256, "one, three times" if shape[-1] == 1 else "three"
        self.classes = 0 if readout is None else readout.shape[1]
        self._network, params = inception.from_convolutions(convolutions, readout)
        self._params = local_copy(params)

    def __call__(self, images: Num[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n width"]:
        if images.dtype != np.uint8:
            raise DataError(f"Inception features: expected integers 0..255, got {images.dtype}; save images as uint8")
        return in_batches(images, inception.to_rgb, lambda part: self._rows(self._params, part))

    @functools.cached_property
    def _rows(self) -> Any:
        def rows(params, images):
            features, logits = self._network(params, images.astype(np.float32))
            return features if logits is None else jax.numpy.concatenate([features, logits], axis=1)

        return jax.jit(rows)


def in_batches(
    images: np.ndarray, prepared: Callable[[np.ndarray], np.ndarray], rows: Callable[[Any], Any]
) -> Float[np.ndarray, "n width"]:
    """Return rows(prepared(images)), computed in batches of one size over the devices of the process.

    Args:
        images: images [n, ...].
        prepared: function that prepares a batch on the host.
        rows: function of a prepared batch on the devices, with values [size, width]; it is compiled once, because the
            last batch is padded.
    """
    size, found = batch_for_devices(_batch(), _batch()), []
    for first in range(0, len(images), size):
        part = prepared(images[first : first + size])
        found.append(np.asarray(rows(shard(pad(part, size))))[: len(part)])
    return np.concatenate(found)


def _batch() -> int:
    return (_BATCH_CPU if jax.default_backend() == "cpu" else _BATCH) * jax.local_device_count()


def extract(features: Features, images: Images, folder: pathlib.Path) -> Float[np.ndarray, "N width"]:
    """Return the features of all images as a read-only memory map of the file in `folder`, after computing missing
    ones.

    Raises:
        DataError: a file in the folder is damaged.
    """
    identity = {
        "images": images.identity, "num": images.num, "shape": list(images.shape),
        "network": features.name, "sha256": features.sha256, "resize": features.resize, "channels": features.channels,
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    place = pathlib.Path(folder) / f"{features.name}-{key}"
    file, note = place / "features.npy", place / "progress.json"
    done, shape = _done(note, identity), (images.num, features.dimensions + features.classes)
    if not file.exists() and not done:
        _create(file, shape)
    try:  # because a map for writing would extend the file to the length in a damaged header
        with open_regular(file) as raw:
            found = array_header(raw, file.stat().st_size)
        if found.shape != shape or found.dtype != np.float32:
            raise UnreadableError("of other features")
        rows = np.lib.format.open_memmap(file, mode="r+")
    except (UnreadableError, OSError, ValueError):
        raise DataError(f"{file} is damaged; delete {place} to compute the features anew") from None
    _fill(features, images, rows, done, lambda count: _say(note, {"done": count, "identity": identity}))
    return np.lib.format.open_memmap(file, mode="r")


def _create(file: pathlib.Path, shape: tuple[int, ...]) -> None:
    """Create an array of zeros at `file` atomically.

    If another process has created the file for the same features, its file is kept, and both processes fill it with the
    same rows.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with creating(file) as scratch:
        np.lib.format.open_memmap(scratch, mode="w+", dtype=np.float32, shape=shape)


def _fill(features: Features, images: Images, rows: np.memmap, done: int, note: Callable[[int], None]) -> None:
    """Compute the rows from `done` on in batches; `note` records each batch, so that a killed run repeats at most one
    batch."""
    if done == images.num:
        return
    progress, size = Progress(done, images.num, items=1, unit="feature"), _batch()
    if done:
        progress.say(f"continuing after {done} features")
    while done < images.num:
        last = min(done + size, images.num)
        rows[done:last] = features(images.read(done, last))
        rows.flush()
        note(done := last)
        progress.show(done, features.name)
    progress.close()


def _done(note: pathlib.Path, identity: dict) -> int:
    """Return the number of valid rows, after checking the identity that the note contains.

    Raises:
        DataError: the note is damaged, or belongs to other features.
    """
    try:
        found = read_object(note)
        if found["identity"] != identity:
            raise ValueError
        return int(found["done"])
    except MissingError:
        return 0
    except (UnreadableError, ValueError, KeyError, TypeError):
        raise DataError(f"{note} is damaged; delete {note.parent} to compute the features anew") from None


def _say(note: pathlib.Path, content: dict) -> None:
    write_text(note, json.dumps(content))
