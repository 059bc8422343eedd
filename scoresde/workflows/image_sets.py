"""Sets of images for comparison, read in parts: a split of a data set, image files, an array, samples of a run.

Integer records of L grey levels become uint8 by 255 v/(L - 1), which for L = 256 changes nothing; no dequantization, no
resize, and no image is left out. Continuous values are not changed.
"""

import hashlib
import json
import pathlib
import sys
from typing import NamedTuple

import numpy as np

from scoresde.data import Dataset, npz
from scoresde.data.codec import Codec
from scoresde.data.files import Files, listed
from scoresde.data.sources import COLLECTIONS
from scoresde.data.unresized import unresized
from scoresde.errors import DataError
from scoresde.experiment.load import TrainedModel
from scoresde.metrics.features import Images
from scoresde.runtime.files import read_bytes
from scoresde.workflows.generate import draw_to, identity

_ARRAYS = ("samples", "arr_0")  # names in other files: ours, and that of Dhariwal and Nichol's evaluator
_SAMPLES = "samples.npz"  # file that `draw_to` writes
_PART = 2**26  # bytes hashed at once


class Published(NamedTuple):
    """Published statistics: mean [D] and covariance [D, D] of features, the SHA-256 of their file, and whether it also
    contains images."""

    mean: np.ndarray
    covariance: np.ndarray
    sha256: str
    images: bool


class DrawnImages(NamedTuple):
    """Samples of a run whose solver succeeded, the number of failures, and the calls of the score per sample (None if
    unknown)."""

    images: Images
    failed: int
    nfe: float | None


def of_split(dataset: Dataset, split: str) -> Images:
    """Return all records of a split, in their order."""
    source = {"train": dataset.train, "test": dataset.test}[split]

    def read(first: int, last: int) -> np.ndarray:
        return to_uint8(source.rows(np.arange(first, last))[0], dataset.levels)

    identity = f"{dataset.fingerprint} {split}, {dataset.levels} levels"
    return Images(identity, len(source), dataset.shape, read, span_of(dataset, split))


def span_of(dataset: Dataset, split: str) -> tuple[float, float] | None:
    """Return the least and greatest value of a split of continuous data; None for grey levels, which become uint8."""
    if dataset.levels:
        return None
    source = {"train": dataset.train, "test": dataset.test}[split]
    rows = max(1, _PART // (4 * int(np.prod(dataset.shape))))
    parts = [source.rows(np.arange(first, min(first + rows, len(source))))[0] for first in range(0, len(source), rows)]
    return float(min(part.min() for part in parts)), float(max(part.max() for part in parts))


def of_path(text: str, codec: Codec | None = None, num: int | None = None) -> Images:
    """Return the first `num` images of a folder or zip, of `KIND:PATH` as in `data.source`, or of an NPZ file.

    Args:
        text: path or `KIND:PATH`.
        codec: codec of the records with which the images must agree.
        num: largest number of images; None for all.

    Raises:
        DataError: there are no images, or images are damaged or differ in size; see `of_file` for NPZ.
    """
    files = _collection(text)
    if files is None:
        return of_file(text, codec, num)
    if codec is not None and not codec.levels:
        raise DataError(f"{files.what}: the run is of continuous data (data.levels = 0); give an NPZ of floats")
    if files.others:
        print(f"note: {files.what}: not read: {listed(files.others)}", file=sys.stderr)
    found = unresized(files, codec.shape[-1] if codec else None)
    _enough(num, len(files.names), files.what)
    return Images(f"files {found.checksum} {found.rule}", num or len(files.names), found.rule.shape, found.read)


def _collection(text: str) -> Files | None:
    """Return the image files that `text` names, or None for an NPZ file."""
    kind, colon, argument = text.partition(":")
    if colon and kind in COLLECTIONS:
        return COLLECTIONS[kind](argument)
    path = pathlib.Path(text).expanduser()
    if path.is_dir():
        if (path / _SAMPLES).is_file():
            raise DataError(f"{path} holds {_SAMPLES}; give {path / _SAMPLES}, or folder:{path} for its image files")
        return COLLECTIONS["folder"](text)
    return COLLECTIONS["zip"](text) if path.suffix.lower() == ".zip" else None


def _enough(num: int | None, count: int, what: str) -> None:
    if num is not None and num > count:
        raise DataError(f"--num {num}: {what} has {count} images; give no more")


def of_file(text: str, codec: Codec | None = None, num: int | None = None) -> Images:
    """Return the first `num` images of `FILE.npz` (its array `samples` or `arr_0`), or of `FILE.npz:ARRAY`.

    Args:
        text: path, optionally followed by a colon and the name of an array.
        codec: codec of the records with which the images must agree; None allows uint8 images [N, H, W, C], or floats.
        num: largest number of images; None for all.

    Raises:
        DataError: the file or array does not exist, or its records have another shape or type.
    """
    path, name = (text, None) if text.endswith(".npz") else text.rpartition(":")[::2]
    file = pathlib.Path(path or text).expanduser()
    with npz.opened(file) as archive:
        found = [n for n in _ARRAYS if n in archive]
        name = name or (found[0] if found else _ARRAYS[0])
        values = npz.mapped(archive, name, file, "name one of them as FILE.npz:ARRAY")
    if values.dtype.kind not in "uf" or values.dtype.kind == "u" and values.dtype != np.uint8 and codec is None:
        raise DataError(f"{file}: {name}: expected uint8 images or floats, got {values.dtype}; save 0..255 as uint8")
    _enough(num, len(values), f"{file}: {name}")
    return _of_array(values[:num], f"{file}: {name}", codec)


def _of_array(values: np.ndarray, what: str, codec: Codec | None) -> Images:
    levels = codec.levels if codec else 256 if values.dtype == np.uint8 else 0
    shape = codec.shape if codec else values.shape[1:] if values.ndim != 3 else (*values.shape[1:], 1)
    values = npz.records(values, what, shape, levels)
    span = None if levels else (float(values.min()), float(values.max()))
    digest = hashlib.sha256(f"{values.dtype} {values.shape} {levels}".encode())
    rows = max(1, _PART // max(1, values[0].nbytes))
    for first in range(0, len(values), rows):
        digest.update(np.ascontiguousarray(values[first : first + rows]))

    def read(first: int, last: int) -> np.ndarray:
        return to_uint8(np.array(values[first:last]), levels)

    return Images(f"sha256 {digest.hexdigest()}", len(values), shape, read, span)


def draw_images(trained: TrainedModel, seeds: np.ndarray, folder: pathlib.Path) -> DrawnImages:
    """Return the samples of the seeds, stored in FOLDER/KEY/samples.npz; missing samples are generated.

    KEY is a hash of seeds, sampler and parameters, so a folder contains the samples of a single identity.
    """
    about = json.dumps(identity(trained, seeds), sort_keys=True)
    place = folder / hashlib.sha256(about.encode()).hexdigest()[:16]
    file = place / _SAMPLES
    if not file.is_file():
        draw_to(trained, seeds, place)
    with npz.opened(file) as archive:
        ok, nfe = (npz.member(archive, name, file) for name in ("ok", "nfe"))
        values = npz.mapped(archive, "samples", file)
    if not ok.any():
        raise DataError(f"{file}: the solver failed for every sample; raise --steps, or loosen sampling.tolerance")
    kept = values if ok.all() else values[ok]
    mean = float(nfe[ok].mean()) if nfe[ok].min() >= 0 else None
    return DrawnImages(_of_array(kept, str(file), trained.codec), int((~ok).sum()), mean)


def to_uint8(values: np.ndarray, levels: int) -> np.ndarray:
    """Convert integer records to uint8 and other values to float32."""
    if not levels:
        return values.astype(np.float32)
    return values if levels == 256 else np.round(255.0 * values / (levels - 1)).astype(np.uint8)


def statistics(text: str) -> Published | None:
    """Read published statistics of features, `mu` [D] and `sigma` [D, D] of FILE.npz; return None if the file has no
    statistics.

    Raises:
        DataError: the shapes of `mu` and `sigma` do not match.
    """
    file = pathlib.Path(text).expanduser()
    if not text.endswith(".npz"):
        return None
    with npz.opened(file) as archive:
        if "mu" not in archive or "sigma" not in archive:
            return None
        mu, sigma = (npz.member(archive, name, file).astype(np.float64) for name in ("mu", "sigma"))
        images = any(name in archive for name in _ARRAYS)
    finite = np.isfinite(mu).all() and np.isfinite(sigma).all()
    if (
        mu.ndim != 1
        or sigma.shape != (len(mu), len(mu))
        or not finite
        or np.abs(sigma - sigma.T).max() > 1e-6 * np.abs(sigma).max()
    ):
        raise DataError(
            f"{file}: expected finite mu [D] and a symmetric sigma [D, D], got {mu.shape} and {sigma.shape}; copy the "
            "file again"
        )
    spectrum = np.linalg.eigvalsh(sigma)
    least, most = spectrum[0], spectrum[-1]
    if least < -1e-3 * abs(most):  # rounding errors make small eigenvalues negative
        raise DataError(
            f"{file}: sigma has the eigenvalue {least:.3g} (largest {most:.3g}), so that it is no covariance; copy the "
            "file again"
        )
    return Published(mu, sigma, hashlib.sha256(read_bytes(file)).hexdigest(), images)
