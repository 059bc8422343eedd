"""From names to parts and labels: which image is for training, which for testing, and what class it is of.

Names are taken relative to the innermost folder that holds every image.

Parts. Folders `train` and `test` (or `val`, `valid`, `validation`, the first there is) at the top are the parts; what
lies elsewhere is left out. Otherwise a tenth is for testing, chosen by a hash of the name: an image stays in its part
when others are added or taken away. The image of the least hash always is one of them.

Labels. A file of labels (`scoresde.data.tables`), or else the top folders (below the part), if there are several.
Images beside such folders have no label: they are left out if they are few, and else the folders are no classes. Nor
are shards classes: folders such as 00000, 00001, ... that only divide a numbered set. Class k is the k-th name in
order; names which are all whole numbers are ordered as numbers.
"""

import hashlib
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scoresde.data.tables import NONE, Table, find_table
from scoresde.errors import DataError

TRAIN, TESTS = "train", ("test", "val", "valid", "validation")
TEST_SHARE = 0.1
LOOSE_SHARE = 0.1  # of the images: more of them beside the folders, and the folders are no classes
_SHARD = re.compile(r"\d{5,}")  # StyleGAN, EDM and FFHQ number the folders of a thousand images each by five digits
_NAMED = 3  # images that a note names


class Tree(NamedTuple):
    """Indices of train and test images, and labels [N] of all (0 where there are none)."""

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    left_out: int
    parts: str  # how the parts were found
    labelled: str  # where labels come from
    notes: tuple[str, ...] = ()  # what the user may not expect


class Given(NamedTuple):
    """Labels [N] and class names that a set brings with it, where they come from, and what the user may not expect."""

    labels: list[int]
    classes: tuple[str, ...]
    origin: str
    notes: tuple[str, ...] = ()


def arrange(names: list[str], what: str, table: Table = Table("", None), given: Given | None = None) -> Tree:
    """The parts and labels of N images.

    Args:
        names: relative, with `/`.
        what: how messages call the collection.
        table: of `labels_of`.
        given: labels that the images came with.

    Raises:
        DataError: labels do not match the images, or a part is empty.
    """
    short = inner(names)
    part, rest, parts = _parts(short, what)
    left_out, notes = part.count(""), table.notes
    labels, classes, labelled = np.zeros(len(names), np.int32), (), "none"
    if given is not None:
        labels, classes, notes = np.asarray(given.labels, np.int32), given.classes, given.notes
        labelled = given.origin if classes else "none"
    elif table.labels is not None:
        labels, classes = _numbered([table.labels[name] for name in names])
        labelled = table.origin
    elif not table.origin:
        folders = [name.partition("/")[0] if "/" in name else None for name in rest]
        used = {folder for folder, p in zip(folders, part, strict=True) if folder is not None and p}
        loose = [k for k, (folder, p) in enumerate(zip(folders, part, strict=True)) if folder is None and p]
        reason = _no_classes(used, loose, [name for name, p in zip(rest, part, strict=True) if p])
        if not reason and len(used) > 1:
            labels, classes = _numbered([folder or "" for folder in folders], used)
            labelled = "folders"
            if loose:
                part, notes = _without(short, loose, what), (*notes, _loose_note(loose, names))
        notes += (reason,) if reason else ()
    part = np.asarray(part)
    train, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "test")
    return Tree(train, test, labels, classes, left_out, parts, labelled, notes)


def labels_of(lookup: Callable[[str], bytes | None], names: list[str], wanted: str, what: str) -> Table:
    """The file of labels in a collection, or the one that is wanted; see `find_table`. Of "none" it has no labels."""
    if wanted == NONE:
        return Table(NONE, None)
    common = names[0][: len(names[0]) - len(inner(names)[0])]
    tops = dict.fromkeys(name[len(common) :].partition("/")[0] for name in names)
    parts = [f"{common}{top}/" for top in tops if top.lower() in (TRAIN, *TESTS)]
    return find_table(lookup, names, [common, *parts], wanted, what)


def _no_classes(used: set[str], loose: list[int], names: list[str]) -> str:
    """Why the folders `used` are no classes; "" if they are, or if there are too few for the question to arise."""
    if len(used) < 2:
        return ""
    if len(loose) > LOOSE_SHARE * len(names):
        beside = f"{len(loose)} of {len(names)} images lie beside the {len(used)} folders"
        return f"{beside}, which are therefore not taken for classes"
    if _are_shards(used, names):
        folders = f"the folders {min(used)} to {max(used)}"
        return f"{folders} divide a numbered set and are not taken for classes; a labels.csv gives labels"
    return ""


def _are_shards(folders: set[str], names: list[str]) -> bool:
    """Whether folders of five and more digits hold consecutive parts of one numbering, as in 00000/img00000000.png."""
    if not all(_SHARD.fullmatch(folder) for folder in folders) or len({len(folder) for folder in folders}) > 1:
        return False
    spans: dict[str, tuple[int, int]] = {}
    for folder, slash, file in (name.partition("/") for name in names):
        if not slash:
            continue
        digits = re.findall(r"\d+", file.rpartition("/")[2].rpartition(".")[0])
        if not digits:
            return False
        number = int(digits[-1])
        low, high = spans.get(folder, (number, number))
        spans[folder] = (min(low, number), max(high, number))
    ordered = [spans[folder] for folder in sorted(spans)]
    return all(high < low for (_, high), (low, _) in zip(ordered, ordered[1:]))


def _without(short: list[str], loose: list[int], what: str) -> list[str]:
    """The parts where the images `loose` are in none; which of the others are for testing may depend on them."""
    drop = set(loose)
    again = iter(_parts([name for k, name in enumerate(short) if k not in drop], what)[0])
    return ["" if k in drop else next(again) for k in range(len(short))]


def _loose_note(loose: list[int], names: list[str]) -> str:
    named = ", ".join(names[k] for k in loose[:_NAMED]) + (", ..." if len(loose) > _NAMED else "")
    return f"left out {len(loose)} beside the folders of the classes, since they have no label: {named}"


def inner(names: list[str]) -> list[str]:
    """The names without the folders which all of them share."""
    while True:
        tops = {name.partition("/")[0] if "/" in name else None for name in names}
        if len(tops) > 1 or None in tops:
            return names
        names = [name.partition("/")[2] for name in names]


def held_out(names: list[str]) -> np.ndarray:
    """Which of the names are for testing: bool [N]."""
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest() for name in names)
    hashes = np.array([int.from_bytes(digest) for digest in digests], np.uint64)
    chosen = hashes < np.uint64(int(TEST_SHARE * 2**64))
    chosen[np.argmin(hashes)] = True
    return chosen


def _parts(names: list[str], what: str) -> tuple[list[str], list[str], str]:
    """Part ("train", "test" or "") and name below the part, of each name, and how they were found."""
    tops = [name.partition("/")[0].lower() if "/" in name else "" for name in names]
    test = next((name for name in TESTS if name in tops), None)
    if TRAIN in tops and test:
        kinds = {TRAIN: "train", test: "test"}
        part = [kinds.get(top, "") for top in tops]
        rest = [name.partition("/")[2] if p else name for name, p in zip(names, part, strict=True)]
        return part, rest, f"folders {TRAIN} and {test}"
    if len(names) < 2:
        raise DataError(f"{what}: expected at least 2 images, to train and to test on, got {len(names)}; add images")
    part = ["test" if chosen else "train" for chosen in held_out(names)]
    alone = f"; no folder {', '.join(TESTS)} beside {TRAIN}" if TRAIN in tops else ""
    return part, names, f"{TEST_SHARE:.0%} for testing, by a hash of the name{alone}"


def _numbered(labels: list[str], used: set[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers of the labels, 0 for those not used, and the names of the classes."""
    names = used or set(labels)
    numbers = all(name.isascii() and name.isdecimal() for name in names)
    classes = tuple(sorted(names, key=(lambda name: (int(name), name)) if numbers else None))
    number = {name: k for k, name in enumerate(classes)}
    return np.array([number.get(label, 0) for label in labels], np.int32), classes
