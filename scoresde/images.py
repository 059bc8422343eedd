"""Sets of images to be compared, read in parts: a split of a data set, an array of a file, samples that a run draws.

Integer records of L grey levels become uint8 by 255 v/(L - 1), which for L = 256 changes nothing; no dequantization, no
resize, no image left out. Continuous values stay what they are.
"""

import hashlib
import json
import pathlib
from typing import NamedTuple

import numpy as np

from scoresde.data import Dataset, npz
from scoresde.draws import draw_to, identity
from scoresde.errors import DataError
from scoresde.evaluate.features import Images
from scoresde.runtime.files import read_bytes
from scoresde.trained import Trained

_ARRAYS = ("samples", "arr_0")  # of a file whose array is not named: ours, and that of Dhariwal and Nichol's evaluator
_PART = 2**26  # bytes hashed at once


class Drawn(NamedTuple):
    """Samples of a run: those whose solver succeeded, how many did not, calls of the score per sample (None: unknown)."""

    images: Images
    failed: int
    nfe: float | None


def of_split(dataset: Dataset, split: str) -> Images:
    """All records of a split, in their order."""
    source = {"train": dataset.train, "test": dataset.test}[split]

    def read(first: int, last: int) -> np.ndarray:
        return shown(source.rows(np.arange(first, last))[0], dataset.levels)

    return Images(f"{dataset.fingerprint} {split}, {dataset.levels} levels", len(source), dataset.shape, read)


def of_file(text: str, dataset: Dataset | None = None, num: int | None = None) -> Images:
    """The first `num` images of `FILE.npz` (its array `samples` or `arr_0`), or of `FILE.npz:ARRAY`.

    Args:
        dataset: whose records they are like; None: uint8 images [N, H, W, C], or floats.

    Raises:
        DataError: no such file or array, or other records.
    """
    path, name = (text, None) if text.endswith(".npz") else text.rpartition(":")[::2]
    file = pathlib.Path(path or text).expanduser()
    with npz.opened(file) as archive:
        found = [n for n in _ARRAYS if n in archive]
        name = name or (found[0] if found else _ARRAYS[0])
        values = npz.mapped(archive, name, file, "name one of them as FILE.npz:ARRAY")
    if values.dtype.kind not in "uf" or values.dtype.kind == "u" and values.dtype != np.uint8 and dataset is None:
        raise DataError(f"{file}: {name}: expected uint8 images or floats, got {values.dtype}; save 0..255 as uint8")
    if num is not None and num > len(values):
        raise DataError(f"--num {num}: {file}: {name} has {len(values)} images; give no more")
    return _of_array(values[:num], f"{file}: {name}", dataset)


def _of_array(values: np.ndarray, what: str, dataset: Dataset | None) -> Images:
    levels = dataset.levels if dataset else 256 if values.dtype == np.uint8 else 0
    shape = dataset.shape if dataset else values.shape[1:] if values.ndim != 3 else (*values.shape[1:], 1)
    values = npz.records(values, what, shape, levels)
    digest = hashlib.sha256(f"{values.dtype} {values.shape} {levels}".encode())
    rows = max(1, _PART // max(1, values[0].nbytes))
    for first in range(0, len(values), rows):
        digest.update(np.ascontiguousarray(values[first : first + rows]))
    return Images(f"sha256 {digest.hexdigest()}", len(values), shape, lambda first, last: shown(np.array(values[first:last]), levels))


def drawn(trained: Trained, seeds: np.ndarray, folder: pathlib.Path) -> Drawn:
    """The samples of the seeds, kept in FOLDER/KEY/samples.npz; drawn as far as they are not there yet.

    KEY tells seeds, sampler and parameters apart, so a folder holds the samples of one identity.
    """
    about = json.dumps(identity(trained, seeds), sort_keys=True)
    place = folder / hashlib.sha256(about.encode()).hexdigest()[:16]
    file = place / "samples.npz"
    if not file.is_file():
        draw_to(trained, seeds, place)
    with npz.opened(file) as archive:
        ok, nfe = (npz.member(archive, name, file) for name in ("ok", "nfe"))
        values = npz.mapped(archive, "samples", file)
    if not ok.any():
        raise DataError(f"{file}: the solver failed for every sample; raise --steps, or loosen sampling.tolerance")
    kept = values if ok.all() else values[ok]
    mean = float(nfe[ok].mean()) if nfe[ok].min() >= 0 else None
    return Drawn(_of_array(kept, str(file), trained.dataset), int((~ok).sum()), mean)


def shown(values: np.ndarray, levels: int) -> np.ndarray:
    """uint8 of integer records; other values as float32."""
    if not levels:
        return values.astype(np.float32)
    return values if levels == 256 else np.round(255.0 * values / (levels - 1)).astype(np.uint8)


def statistics(text: str) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Published statistics of features, `mu` [D] and `sigma` [D, D] of FILE.npz, and the SHA-256 of the file; None: it holds images.

    Raises:
        DataError: they do not fit each other.
    """
    file = pathlib.Path(text).expanduser()
    if not text.endswith(".npz"):
        return None
    with npz.opened(file) as archive:
        if "mu" not in archive or "sigma" not in archive:
            return None
        mu, sigma = (npz.member(archive, name, file).astype(np.float64) for name in ("mu", "sigma"))
    finite = np.isfinite(mu).all() and np.isfinite(sigma).all()
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not finite or np.abs(sigma - sigma.T).max() > 1e-6 * np.abs(sigma).max():
        raise DataError(f"{file}: expected finite mu [D] and a symmetric sigma [D, D], got {mu.shape} and {sigma.shape}; copy the file again")
    spectrum = np.linalg.eigvalsh(sigma)
    least, most = spectrum[0], spectrum[-1]
    if least < -1e-3 * abs(most):  # rounding gives small ones below zero
        raise DataError(f"{file}: sigma has the eigenvalue {least:.3g} (largest {most:.3g}), so that it is no covariance; copy the file again")
    return mu, sigma, hashlib.sha256(read_bytes(file)).hexdigest()
