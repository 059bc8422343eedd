"""Survey of a collection of images: which are damaged, their formats and sizes, and a checksum of the collection.

Only complete decoding shows that a file is truncated, and a run should not find this out after a week. Therefore all
images are decoded in threads before training (Pillow releases the interpreter lock). Damaged images are named and left
out; with too many of them the run stops. The result is stored in the user's cache folder under a hash of the names,
sizes and times of change of all files, so that the next start only lists the files.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL

from scoresde.data.files import Files
from scoresde.data.images import BYTES, LEVELS, BadImage, Header, Rule, decode, levels_for
from scoresde.errors import DataError
from scoresde.runtime.files import UnreadableError, write_text
from scoresde.runtime.progress import Progress
from scoresde.runtime.reading import read_object

VERSION = 2  # version of the stored survey
FEWEST_BAD, BAD_SHARE, MOST_BAD = 10, 0.001, 100
_SHOWN = 10  # damaged files that are named individually
_CHUNK = 64  # images per task
_PATIENCE = 2.0  # seconds before progress is printed


@dataclasses.dataclass
class Survey:
    """Result of the survey of a collection.

    Attributes:
        count: number of images, damaged ones included.
        bad: (name, reason) of each damaged image.
        checksum: checksum of names and bytes of the other images.
        kinds: number of images of each "FORMAT MODE".
        sizes: least and greatest width, least and greatest height, and median of the shorter side, in pixels.
        enlarged: number of images smaller than the target.
        unlike: number of images whose size is not that of the target.
        brightest: greatest value in 16-bit grey images; 0 if there are none.
    """

    count: int
    bad: list[tuple[str, str]]
    checksum: str
    kinds: dict[str, int]
    sizes: list[int]
    enlarged: int
    unlike: int
    brightest: int

    def summary(self) -> str:
        """Return one line with the number, kinds and sizes of the images."""
        w0, w1, h0, h1, _ = self.sizes
        size = f"{w0} x {h0}" if (w0, h0) == (w1, h1) else f"{w0} x {h0} to {w1} x {h1}"
        kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(self.kinds.items(), key=lambda item: -item[1]))
        resized = f"; {self.unlike} are resized, {self.enlarged} of them enlarged" if self.unlike else ""
        return f"{self.count - len(self.bad)} of {self.count} images, {size} pixels ({kinds}){resized}"

    def lost_levels(self, rule: Rule) -> str:
        """Return a note on lost grey levels of 16-bit images and how to keep them, or "" if none are lost."""
        if not self.brightest or rule.levels != LEVELS:
            return ""
        kept = round(self.brightest / 257) + 1
        return (
            f"16-bit grey values up to {self.brightest} become at most {kept} of {LEVELS} grey levels (v/257); "
            f"data.levels = {levels_for(self.brightest)} with data.channels = 1 keeps them"
        )


def threads() -> int:
    """Return the number of decoding threads: one per processor, at least 2 and at most 16."""
    return min(16, max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2))


def read(files: Files, index: int, rule: Rule) -> tuple[np.ndarray, Header, int]:
    """Return values and header of one image, and the CRC-32 of its bytes.

    Raises:
        BadImage: the image is damaged.
        DataError: the image is too large.
    """
    name, most = f"{files.what}: {files.names[index]}", BYTES * rule.max_pixels
    if (size := files.size(index)) > most:
        raise DataError(f"{name}: {size:,} bytes, expected at most {most:,}; remove it, or raise data.max_pixels")
    data = files.read(index)
    values, header = decode(data, rule, name)
    return values, header, zlib.crc32(data)


def most_bad(count: int, max_bad: int) -> int:
    """Return the number of damaged images that may be left out: `max_bad`, or for -1 0.1 % of the images, at least 10
    and at most 100."""
    return max_bad if max_bad >= 0 else min(MOST_BAD, max(FEWEST_BAD, int(BAD_SHARE * count)))


def survey(files: Files, rule: Rule, max_bad: int, keep: bool = False) -> tuple[Survey, np.ndarray | None]:
    """Return the survey of all images: the stored one of the same files, or a new one, which is then stored.

    Args:
        files: encoded images.
        rule: rule by which they are decoded.
        max_bad: see `most_bad`.
        keep: also return the decoded values, [N, H, W, C], if the images are decoded.

    Raises:
        DataError: too many images are damaged, or one is too large.
    """
    key = hashlib.sha256(f"{VERSION} {PIL.__version__} {rule} {rule.max_pixels} {files.identity}".encode()).hexdigest()
    found = _kept(key)
    store = None
    if found is None or found.count != len(files.names):
        store = np.empty((len(files.names), *rule.shape), rule.dtype) if keep else None
        found = _taken(files, rule, max_bad, store)
        _keep(key, found)
    _refuse_bad(files.what, found.bad, len(files.names), max_bad)
    for name, reason in found.bad[:_SHOWN]:
        print(f"note: {files.what}: left out {name}: {reason}", file=sys.stderr)
    if len(found.bad) > _SHOWN:
        print(f"note: {files.what}: left out {len(found.bad)} damaged images in all", file=sys.stderr)
    return found, store


def in_threads(count: int, work: Callable[[int], object], what: str, records: int | None = None) -> Iterator:
    """Yield work(0), ..., work(count - 1) in order, computed in threads, and show progress if they take long.

    Args:
        count: number of calls.
        work: function of the number of the call.
        what: description of the work in the line of progress.
        records: number of records that the progress counts; None: `count`.
    """
    began, shown = time.monotonic(), None
    records = count if records is None else records
    size = max(1, _CHUNK * count // max(records, 1))  # calls per task
    chunks = [range(first, min(first + size, count)) for first in range(0, count, size)]
    pool = ThreadPoolExecutor(threads())
    try:
        for chunk, results in zip(chunks, pool.map(lambda chunk: [work(i) for i in chunk], chunks), strict=True):
            yield from results
            waited = time.monotonic() - began
            if shown is None and waited > _PATIENCE:
                shown = Progress(records * chunk.stop // count, records, items=1, unit="record")
            elif shown is not None and waited > 2 * _PATIENCE:
                shown.show(records * chunk.stop // count, what)
    finally:
        pool.shutdown(cancel_futures=True)
        if shown is not None:
            shown.close()


def _taken(files: Files, rule: Rule, max_bad: int, store: np.ndarray | None) -> Survey:
    def look(index: int) -> tuple[Header, int] | str:
        try:
            values, header, crc = read(files, index, rule)
        except BadImage as error:
            return str(error)
        if store is not None:
            store[index] = values
        return header, crc

    bad, headers, checksum = [], [], hashlib.sha256()
    for name, found in zip(files.names, in_threads(len(files.names), look, f"look at {files.what}"), strict=True):
        if isinstance(found, str):
            bad.append((name, found))
            _refuse_bad(files.what, bad, len(files.names), max_bad)
        else:
            headers.append(found[0])
            checksum.update(f"{name}\n{found[1]:08x}\n".encode("utf-8", "surrogateescape"))
    return Survey(len(files.names), bad, checksum.hexdigest()[:16], *_described(headers, rule))


def _described(headers: Iterable[Header], rule: Rule) -> tuple[dict[str, int], list[int], int, int, int]:
    kinds = dict(Counter(f"{header.format} {header.mode}" for header in headers))
    w, h = (np.array([getattr(header, side) for header in headers] or [0]) for side in ("width", "height"))
    sizes = [int(n) for n in (w.min(), w.max(), h.min(), h.max(), np.median(np.minimum(w, h)))]
    enlarged = int(((w < rule.width) | (h < rule.height)).sum()) if headers else 0
    unlike = int(((w != rule.width) | (h != rule.height)).sum()) if headers else 0
    return kinds, sizes, enlarged, unlike, max((header.brightest for header in headers), default=0)


def _refuse_bad(what: str, bad: list, count: int, max_bad: int) -> None:
    if len(bad) > (most := most_bad(count, max_bad)):
        first = "; ".join(f"{name}: {reason}" for name, reason in bad[:3])
        raise DataError(
            f"{what}: more than {most} of {count} images cannot be read ({first}; ...); mend or remove them, "
            "`python -m scoresde.data inspect` lists all, or raise data.max_bad"
        )


def _place(key: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "scoresde" / "surveys" / f"{key}.json"


def _kept(key: str) -> Survey | None:
    try:
        fields = read_object(_place(key))
        return Survey(**fields | {"bad": [(name, reason) for name, reason in fields["bad"]]})
    except (
        UnreadableError,
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
    ):  # no stored survey, a damaged one, or no home folder: a new survey is made
        return None


def _keep(key: str, found: Survey) -> None:
    # Without a home folder that can be written to, the next start makes the survey again.
    with contextlib.suppress(OSError, UnicodeEncodeError, RuntimeError):
        place = _place(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, json.dumps(dataclasses.asdict(found)))
