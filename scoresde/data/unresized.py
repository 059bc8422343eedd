"""Image files without scaling, for comparisons: all of one size, with no image left out."""

from typing import NamedTuple

import numpy as np

from scoresde.data.declared import GREY
from scoresde.data.files import Files
from scoresde.data.images import BadImage, Header, Rule, header
from scoresde.data.survey import in_threads, read, survey
from scoresde.errors import DataError


class Unresized(NamedTuple):
    """All images of `files`, in the order of their names; equal names and bytes have equal checksums."""

    files: Files
    rule: Rule
    checksum: str

    def read(self, first: int, last: int) -> np.ndarray:
        """Return the images `first` to `last` - 1 as uint8 [last - first, H, W, C]."""
        what = f"read {self.files.what}"
        return np.stack(list(in_threads(last - first, lambda k: read(self.files, first + k, self.rule)[0], what)))


def unresized(files: Files, channels: int | None = None) -> Unresized:
    """Return the images of `files` with `channels` channels; None: 1 if all images are grey, otherwise 3.

    Raises:
        DataError: an image is damaged, of another size than the first, or of 16 bits.
    """
    looked = list(in_threads(len(files.names), lambda index: _header(files, index), f"look at {files.what}"))
    first = looked[0]
    for name, about in zip(files.names, looked, strict=True):
        if (about.width, about.height) != (first.width, first.height):
            raise DataError(
                f"{files.what}: expected images of one size, got {first.width} x {first.height} in {files.names[0]} "
                f"and {about.width} x {about.height} in {name}; resize them beforehand, since how it is done "
                "changes the number"
            )
    grey = all(about.mode.startswith(GREY) for about in looked)
    rule = Rule(first.height, first.width, channels or (1 if grey else 3))
    return Unresized(files, rule, survey(files, rule, max_bad=0)[0].checksum)


def _header(files: Files, index: int) -> Header:
    what = f"{files.what}: {files.names[index]}"
    try:
        about = header(files.read(index), files.names[index])
    except BadImage as error:
        raise DataError(f"{what}: {error}; mend or remove it, since none is left out here") from error
    if "16" in about.mode or about.mode == "I":
        raise DataError(f"{what}: expected 8 bits, got the mode {about.mode}; give an image of 8 bits")
    return about
