"""Parts and labels from names: which images are for training and for testing, and the class of each image.

Names are relative to the innermost folder that contains every image.

Parts: folders `train` and `test` (or `val`, `valid`, `validation`, the first that exists) at the top are the parts, and
all other images are left out. Without these folders a tenth of the images is for testing, chosen by a hash of the name,
so that an image stays in its part when others are added or removed. The image with the least hash is always a test
image.

Labels: they come from a table (`scoresde.data.tables`), or without one from the top folders (below the part) if there
are several. Images beside these folders have no label: they are left out if they are few, and otherwise the folders are
not used as classes. Shards are not used as classes either: folders such as 00000, 00001, ... that only divide a
numbered set. Class k is the k-th name in order; if all names are whole numbers, they are ordered as numbers.
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
LOOSE_SHARE = 0.1  # largest share of images beside the folders for which the folders are classes
_SHARD = re.compile(r"\d{5,}")  # StyleGAN, EDM and FFHQ number folders of a thousand images by five digits
_NAMED = 3  # images named in a note


class Tree(NamedTuple):
    """Indices of train and test images, and labels [N] of all images (0 if there are none)."""

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    left_out: int
    parts: str  # rule by which the parts were found
    labelled: str  # origin of the labels
    notes: tuple[str, ...] = ()  # notes for the user


class Given(NamedTuple):
    """Labels [N] and class names that belong to a set, their origin, and notes for the user."""

    labels: list[int]
    classes: tuple[str, ...]
    origin: str
    notes: tuple[str, ...] = ()


def arrange(names: list[str], what: str, table: Table = Table("", None), given: Given | None = None) -> Tree:
    """Return the parts and labels of N images.

    Args:
        names: relative names with `/`.
        what: name of the collection in messages.
        table: result of `labels_of`.
        given: labels that belong to the images.

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
    """Return the table of labels of a collection, or the table `wanted`, see `find_table`; "none" has no labels."""
    if wanted == NONE:
        return Table(NONE, None)
    common = names[0][: len(names[0]) - len(inner(names)[0])]
    tops = dict.fromkeys(name[len(common) :].partition("/")[0] for name in names)
    parts = [f"{common}{top}/" for top in tops if top.lower() in (TRAIN, *TESTS)]
    return find_table(lookup, names, [common, *parts], wanted, what)


def _no_classes(used: set[str], loose: list[int], names: list[str]) -> str:
    """Return why the folders `used` are not classes; "" if they are classes or if there are fewer than two."""
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
    """Return whether folders of five or more digits contain consecutive parts of one numbering, as in
    00000/img00000000.png."""
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
    """Return the parts without the images `loose`; the choice of test images among the others may change."""
    drop = set(loose)
    again = iter(_parts([name for k, name in enumerate(short) if k not in drop], what)[0])
    return ["" if k in drop else next(again) for k in range(len(short))]


def _loose_note(loose: list[int], names: list[str]) -> str:
    named = ", ".join(names[k] for k in loose[:_NAMED]) + (", ..." if len(loose) > _NAMED else "")
    return f"left out {len(loose)} beside the folders of the classes, since they have no label: {named}"


def inner(names: list[str]) -> list[str]:
    """Return the names without the folders that all names share."""
    while True:
        tops = {name.partition("/")[0] if "/" in name else None for name in names}
        if len(tops) > 1 or None in tops:
            return names
        names = [name.partition("/")[2] for name in names]


def held_out(names: list[str]) -> np.ndarray:
    """Return which names are for testing, bool [N]."""
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest() for name in names)
    hashes = np.array([int.from_bytes(digest) for digest in digests], np.uint64)
    chosen = hashes < np.uint64(int(TEST_SHARE * 2**64))
    chosen[np.argmin(hashes)] = True
    return chosen


def _parts(names: list[str], what: str) -> tuple[list[str], list[str], str]:
    """Return the part ("train", "test" or "") of each name, the name below the part, and the rule that was applied."""
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
    """Return the class numbers of the labels, 0 for labels that are not used, and the names of the classes."""
    names = used or set(labels)
    numbers = all(name.isascii() and name.isdecimal() for name in names)
    classes = tuple(sorted(names, key=(lambda name: (int(name), name)) if numbers else None))
    number = {name: k for k, name in enumerate(classes)}
    return np.array([number.get(label, 0) for label in labels], np.int32), classes
