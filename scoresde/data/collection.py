"""Collections of image files as records: `folder:PATH`, `zip:PATH`, `array_record:PATH` and `hf:NAME`.

All images are decoded by one rule (`scoresde.data.images`); parts and labels come from the names
(`scoresde.data.tree`); damaged files are left out beforehand (`scoresde.data.survey`). A set that fits into `memory`
GiB is decoded at once into memory; a larger set is decoded by grain's threads for each batch. The records are the same.
"""

import sys
import threading
import zlib
from typing import NamedTuple

import numpy as np

from scoresde.data.dataset import class_condition
from scoresde.data.files import Files, listed
from scoresde.data.images import LEVELS, MAX_PIXELS, BadImage, Rule
from scoresde.data.labels import MISSING, trained_first
from scoresde.data.survey import Survey, in_threads, read, survey, threads
from scoresde.data.tables import NONE, Table
from scoresde.data.tree import arrange, labels_of
from scoresde.errors import ConfigError, DataError

MEMORY = 2.0  # GiB


class ImageOptions(NamedTuple):
    """Options for reading a collection of images.

    Attributes:
        labels: file of labels; "": a table of `scoresde.data.tables` or the folders, "none": no labels.
        max_bad: number of damaged images that may be left out; -1: 0.1 % of the images, at least 10 and at most 100.
        max_pixels: an image with more pixels is refused.
        memory: GiB of decoded images kept in memory; a larger set is decoded as it is read.
    """

    labels: str = ""
    max_bad: int = -1
    max_pixels: int = MAX_PIXELS
    memory: float = MEMORY


class Found(NamedTuple):
    """Description of a collection besides its records; `others` counts the files that are not read, by extension."""

    survey: Survey
    classes: tuple[str, ...]
    parts: str
    labelled: str
    left_out: int
    rule: Rule
    others: dict[str, int]
    notes: tuple[str, ...]


class Pictures:
    """Images of a collection as arrays [H, W, C] by their number: uint8, or uint16 for more than 256 levels.

    Args:
        files: encoded images.
        rule: rule by which they are decoded.
        bad: names of damaged images.
        in_memory: decode all images when the first one is needed, and keep them.
        store: decoded images [N, H, W, C], if there are any.
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
    """Part of a collection, a `Source`.

    Args:
        pictures: all images of the collection.
        numbers: numbers of the images of this part.
        labels: labels of the images of this part.
        classes: number of label classes.
    """

    def __init__(self, pictures: Pictures, numbers: np.ndarray, labels: np.ndarray, classes: int):
        self.pictures, self.numbers, self.labels, self.classes = pictures, numbers, labels, classes
        self.labelled = bool((labels != MISSING).all())
        self.shape = pictures.rule.shape
        self.threads = 0 if pictures.in_memory else threads()

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return self.pictures.take(self.numbers[indices]), class_condition(self, indices)

    def name_of(self, index: int) -> str:
        """Return the name of the file of a record."""
        return self.pictures.files.names[self.numbers[index]]


def open_collection(
    files: Files, shape: tuple[int, ...], options: ImageOptions, levels: int = LEVELS
) -> tuple[ImageSource, ImageSource, str, Found]:
    """Return train and test records, their identity, and a description of the collection.

    Args:
        files: encoded images.
        shape: (H, W, C) to which every image is converted.
        options: labels, limits and memory.
        levels: grey levels; see `Rule`.

    Raises:
        ConfigError: the shape or the levels are not those of images.
        DataError: labels do not match, too many images are damaged, or a part has no image.
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
    # The CRC covers part and class of each readable image, but not its number, which changes when a damaged image is
    # removed.
    is_test = np.isin(np.arange(len(good)), tree.test)
    crc = zlib.crc32(np.stack([is_test, tree.labels])[:, good].astype("<i4").tobytes())
    identity = f"images:{len(train)}+{len(test)}:{found.checksum}:{crc:08x}:{rule}"
    about = Found(found, names, tree.parts, tree.labelled, tree.left_out, rule, files.others, notes)
    return train, test, identity, about
