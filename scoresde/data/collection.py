"""Collections of image files as records: `folder:PATH`, `zip:PATH`, `array_record:PATH` and `hf:NAME`.

Every image goes through one rule (`scoresde.data.images`); parts and labels come from the names (`scoresde.data.tree`);
damaged files are left out beforehand (`scoresde.data.survey`). Then a record is the same array wherever it is decoded:
all at once into memory where the set fits into `memory` GiB, else by grain's threads as the batches need it.
"""

import sys
import threading
import zlib
from typing import NamedTuple

import numpy as np

from scoresde.data.files import Files, listed
from scoresde.data.images import LEVELS, MAX_PIXELS, BadImage, Rule
from scoresde.data.labels import MISSING, trained_first
from scoresde.data.survey import Survey, in_threads, read, survey, threads
from scoresde.data.tables import NONE, Table
from scoresde.data.tree import arrange, labels_of
from scoresde.errors import ConfigError, DataError

MEMORY = 2.0  # GiB


class ImageOptions(NamedTuple):
    """How a collection of images is read.

    `labels` is a file of labels, "" for one of `scoresde.data.tables` or the folders, "none" for no labels; `max_bad`
    the damaged files that are left out, -1: a thousandth, but 10 to 100; `max_pixels` of one image; `memory` in GiB.
    """

    labels: str = ""
    max_bad: int = -1
    max_pixels: int = MAX_PIXELS
    memory: float = MEMORY


class Found(NamedTuple):
    """What a collection is, besides its records; `others` counts the files that are not read, by their extension."""

    survey: Survey
    classes: tuple[str, ...]
    parts: str
    labelled: str
    left_out: int
    rule: Rule
    others: dict[str, int]
    notes: tuple[str, ...]


class Pictures:
    """The images of a collection as arrays [H, W, C], uint8 or, for more than 256 levels, uint16, by their number.

    Args:
        in_memory: all are decoded the first time one is needed, unless `store` [N, H, W, C] has them already.
    """

    def __init__(self, files: Files, rule: Rule, bad: set[str], in_memory: bool, store: np.ndarray | None):
        self.files, self.rule, self.bad, self.in_memory, self.store = files, rule, bad, in_memory, store
        self._lock = threading.Lock()

    def take(self, numbers: np.ndarray) -> np.ndarray:
        if not self.in_memory:
            return np.stack([self._read(int(number)) for number in numbers])
        with self._lock:
            if self.store is None:
                self.store = self._all()
        return self.store[numbers]

    def _all(self) -> np.ndarray:
        store = np.empty((len(self.files.names), *self.rule.shape), self.rule.dtype)

        def put(number: int) -> None:
            if self.files.names[number] not in self.bad:
                store[number] = self._read(number)

        for _ in in_threads(len(store), put, f"read {self.files.what}"):
            pass
        return store

    def _read(self, number: int) -> np.ndarray:
        try:
            return read(self.files, number, self.rule)[0]
        except BadImage as error:
            raise DataError(
                f"{self.files.what}: {self.files.names[number]} could be read before and now cannot ({error}); do not "
                "change a "
                "set that is being trained on"
            ) from error


class ImageSource:
    """One part of a collection: a `Source`."""

    def __init__(self, pictures: Pictures, numbers: np.ndarray, labels: np.ndarray, classes: int):
        self.pictures, self.numbers, self.labels, self.classes = pictures, numbers, labels, classes
        self.labelled = bool((labels != MISSING).all())
        self.shape = pictures.rule.shape
        self.threads = 0 if pictures.in_memory else threads()

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.pictures.take(self.numbers[indices]), self.labels[indices]

    def name_of(self, index: int) -> str:
        """The file of a record."""
        return self.pictures.files.names[self.numbers[index]]


def open_collection(
    files: Files, shape: tuple[int, ...], options: ImageOptions, levels: int = LEVELS
) -> tuple[ImageSource, ImageSource, str, Found]:
    """Train and test records, what identifies them, and what was found.

    Args:
        shape: (H, W, C) to which every image is brought.
        levels: grey levels; see `Rule`.

    Raises:
        ConfigError: no shape or levels of images.
        DataError: labels do not match, too many damaged images, or a part without any.
    """
    if len(shape) != 3:
        raise ConfigError(
            f"{files.what}: expected images, of shape (height, width, channels), got {shape}; set data.image_size "
            "above 0"
        )
    given = files.given if options.labels != NONE else None
    if options.labels and given is not None:
        raise ConfigError(f"data.labels = '{options.labels}': {files.what} has its own labels; leave it out")
    rule = Rule(*shape, max_pixels=options.max_pixels, levels=levels)
    table = labels_of(files.table, files.names, options.labels, files.what) if given is None else Table("", None)
    tree = arrange(files.names, files.what, table, given)
    in_memory = len(files.names) * int(np.prod(shape)) * np.dtype(rule.dtype).itemsize <= options.memory * 2**30
    found, store = survey(files, rule, options.max_bad, keep=in_memory)
    bad = {name for name, _ in found.bad}
    good = np.array([name not in bad for name in files.names])
    parts = [numbers[good[numbers]] for numbers in (tree.train, tree.test)]
    for part, numbers in zip(("train", "test"), parts, strict=True):
        if not len(numbers):
            raise DataError(
                f"{files.what}: expected images for {part} ({tree.parts}), got none that can be read; add some"
            )
    labels, names, classes = trained_first(tree.labels, tree.classes, parts[0])
    origin = f"{classes} classes from {tree.labelled}" if names else "no labels"
    unread = f"; not read: {listed(files.others)}" if files.others else ""
    print(f"note: {files.what}: {found.summary()}; {origin}{unread}", file=sys.stderr)
    notes = (*tree.notes, *filter(None, [found.lost_levels(rule)]))
    for note in notes:
        print(f"note: {files.what}: {note}", file=sys.stderr)
    if " beside " in tree.parts:
        print(f"note: {files.what}: {tree.parts}", file=sys.stderr)
    if tree.left_out:
        print(
            f"note: {files.what}: {tree.left_out} images are in neither part ({tree.parts}); left out", file=sys.stderr
        )
    pictures = Pictures(files, rule, bad, in_memory, store)
    train, test = (ImageSource(pictures, numbers, labels[numbers], classes) for numbers in parts)
    # Which part and class each readable image is of; not its number, which changes when a damaged one is removed.
    is_test = np.isin(np.arange(len(good)), tree.test)
    crc = zlib.crc32(np.stack([is_test, tree.labels])[:, good].astype("<i4").tobytes())
    identity = f"images:{len(train)}+{len(test)}:{found.checksum}:{crc:08x}:{rule}"
    about = Found(found, names, tree.parts, tree.labelled, tree.left_out, rule, files.others, notes)
    return train, test, identity, about
