"""Storage of many samples, one per seed, in bounded memory: written batch by batch, and resumable.

OUT/samples.npz     samples [N, *shape], seeds [N], ok [N], nfe [N] (calls of the score; -1: unknown);
                    with classes, labels [N], the class of each, and label_names, the names of the classes
OUT/.partial/       samples.npy, ok.npy, nfe.npy and progress.json of a run that has not finished
"""

import contextlib
import json
import pathlib
import shutil
import zipfile

import numpy as np

from scoresde.errors import ConfigError
from scoresde.runtime.arrays import array_header
from scoresde.runtime.files import MissingError, UnreadableError, open_regular, replacing, write_text
from scoresde.runtime.locks import acquire_lock
from scoresde.runtime.reading import read_object

_MOST_SEEDS = 10**8  # limit for one range, so that a typing error does not fill the memory


class SampleStore:
    """Rows on disk, filled from the front. The store is a context manager that releases the folder at the end, also
    after an exception.

    Args:
      folder: OUT.
      identity: JSON that identifies these samples (seeds, sampler, checkpoint).
      num: number of rows of the whole array.
      shape: shape of one sample.
      dtype: type of the samples.

    Raises:
      ConfigError: the folder contains an unfinished run with another identity, or another process writes to it.
    """

    def __init__(self, folder: pathlib.Path, identity: dict, *, num: int, shape: tuple[int, ...], dtype):
        self.folder, self._partial = pathlib.Path(folder), pathlib.Path(folder) / ".partial"
        self._identity = json.loads(json.dumps(identity))
        self._partial.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as on_failure:
            # Two processes that fill one file would overwrite each other's rows.
            held = f"another process is drawing into {self.folder}; wait for it, or choose another --out"
            self._lock = on_failure.enter_context(acquire_lock(self._partial / "lock", held))
            self.done = self._found(num)
            mode = "r+" if self.done else "w+"
            self._samples = self._map("samples", mode, (num, *shape), dtype)
            self._ok = self._map("ok", mode, (num,), np.bool_)
            self._nfe = self._map("nfe", mode, (num,), np.int32)
            on_failure.pop_all()

    def __enter__(self) -> "SampleStore":
        return self

    def __exit__(self, *_) -> None:
        self._lock.close()

    def append(self, samples: np.ndarray, ok: np.ndarray, nfe: np.ndarray) -> None:
        """Write the next rows. They count once `progress.json` includes them; a killed run repeats at most one
        batch."""
        rows = slice(self.done, self.done + len(samples))
        self._samples[rows], self._ok[rows], self._nfe[rows] = samples, ok, nfe
        for part in (self._samples, self._ok, self._nfe):
            part.flush()
        self.done = rows.stop
        write_text(self._partial / "progress.json", json.dumps({"done": self.done, "identity": self._identity}))

    def first(self, num: int) -> np.ndarray:
        """Return the first rows, for a picture."""
        return np.array(self._samples[:num])

    def finish(self, **known: np.ndarray) -> tuple[pathlib.Path, np.ndarray]:
        """Write the parts and the arrays `known` into samples.npz, one file at a time, and return its path and `ok`."""
        path, ok = self.folder / "samples.npz", np.array(self._ok)
        for name, array in known.items():
            np.save(self._partial / f"{name}.npy", array)
        del self._samples, self._ok, self._nfe
        # The file is written in the folder that is removed at the end, so that a kill leaves no second copy of all
        # samples.
        with (
            replacing(path, scratch=self._partial / "samples.npz") as scratch,
            zipfile.ZipFile(scratch, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
        ):
            for name in ("samples", "ok", "nfe", *known):
                archive.write(self._partial / f"{name}.npy", f"{name}.npy")
        (self._partial / "progress.json").unlink()  # removed first, so that an interruption leaves nothing to continue
        shutil.rmtree(self._partial)
        return path, ok

    def _found(self, num: int) -> int:
        path = self._partial / "progress.json"
        try:
            progress = read_object(path)
            progress["identity"].get
            if not 0 <= progress["done"] <= num:
                raise ValueError
        except MissingError:
            return 0
        except (UnreadableError, KeyError, AttributeError, TypeError, ValueError):
            raise ConfigError(f"{path} is damaged; delete {self._partial} to draw anew") from None
        if progress["identity"] != self._identity:
            different = [k for k in self._identity if progress["identity"].get(k) != self._identity[k]]
            raise ConfigError(
                f"{self.folder} holds {progress['done']} samples of another run ({', '.join(different)} differ); "
                f"finish it with its own command, choose another --out, or delete {self._partial}"
            )
        return progress["done"]

    def _map(self, name: str, mode: str, shape: tuple[int, ...], dtype) -> np.memmap:
        file = self._partial / f"{name}.npy"
        if mode == "r+":  # this map would extend the file to the length in a damaged header
            try:
                with open_regular(file) as raw:
                    found = array_header(raw, file.stat().st_size)
            except UnreadableError as error:
                raise ConfigError(f"{file} is damaged ({error}); delete {self._partial} to draw anew") from None
            if (found.shape, found.dtype) != (shape, np.dtype(dtype)):
                raise ConfigError(f"{file} holds other samples; delete {self._partial} to draw anew")
        return np.lib.format.open_memmap(file, mode=mode, dtype=dtype, shape=shape)


def parse_seeds(text: str) -> np.ndarray:
    """Return the array of seeds for a text such as "0-63" or "0,5,8-11", in which each seed appears once.

    Raises:
      ConfigError: the text has another form.
    """
    try:
        seeds = np.concatenate([_seed_range(part) for part in text.split(",")])
        if len(np.unique(seeds)) < len(seeds):
            raise ValueError
    except ValueError:
        raise ConfigError(
            "--seeds: expected whole numbers below 2^32 such as 0-63 or 0,5,8-11, each once, at most "
            f"{_MOST_SEEDS:,} in a range, got {text!r}"
        ) from None
    return seeds


def _seed_range(text: str) -> np.ndarray:
    first, dash, last = text.partition("-")
    seeds = range(int(first), int(last if dash else first) + 1)
    if not seeds or seeds[-1] >= 2**32 or len(seeds) > _MOST_SEEDS:
        raise ValueError
    return np.arange(seeds.start, seeds.stop).astype(np.uint32)
