"""From names to parts and labels: which image is for training, which for testing, and what class it is of.

Names are taken relative to the innermost folder that holds every image.

Parts. Folders `train` and `test` (or `val`, `valid`, `validation`, the first there is) at the top are the parts; what lies
elsewhere is left out. Otherwise a tenth is for testing, chosen by a hash of the name: an image stays in its part when others
are added or taken away. The image of the least hash always is one of them.

Labels. A CSV of `file,label`, or else the top folders (below the part), if every image lies in one and there are several.
Class k is the k-th name in order; names which are all whole numbers are ordered as numbers.
"""

import csv
import hashlib
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scoresde.errors import DataError
from scoresde.runtime.files import UnreadableError, read_bytes

TABLE = "labels.csv"
TRAIN, TESTS = "train", ("test", "val", "valid", "validation")
TEST_SHARE = 0.1


class Tree(NamedTuple):
    """Indices of train and test images, and labels [N] of all (0 where there are none)."""

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    left_out: int
    parts: str  # how the parts were found
    labelled: str  # where labels come from


def arrange(names: list[str], what: str, table: bytes | None = None, given: tuple | None = None) -> Tree:
    """The parts and labels of N images.

    Args:
        names: relative, with `/`.
        what: how messages call the collection.
        table: the CSV of labels, if there is one.
        given: labels [N] and class names that the images came with.

    Raises:
        DataError: labels do not match the images, or a part is empty.
    """
    short = inner(names)
    part, rest, parts = _parts(short, what)
    if given is not None:
        labels, classes, labelled = np.asarray(given[0], np.int32), tuple(given[1]), "the set itself"
    elif table is not None:
        labels, classes = _numbered(_from_table(table, names, short, what))
        labelled = "the table"
    else:
        folders = [name.partition("/")[0] if "/" in name else None for name in rest]
        used = [folder for folder, p in zip(folders, part, strict=True) if p]
        if None in used or len(set(used)) < 2:
            labels, classes, labelled = np.zeros(len(names), np.int32), (), "none"
        else:
            labels, classes = _numbered([folder or "" for folder in folders], used)
            labelled = "folders"
    part = np.asarray(part)
    train, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "test")
    return Tree(train, test, labels, classes, len(names) - len(train) - len(test), parts, labelled)


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


def _numbered(labels: list[str], used: list[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers of the labels, 0 for those not used, and the names of the classes."""
    names = set(used or labels)
    numbers = all(name.isascii() and name.isdecimal() for name in names)
    classes = tuple(sorted(names, key=(lambda name: (int(name), name)) if numbers else None))
    number = {name: k for k, name in enumerate(classes)}
    return np.array([number.get(label, 0) for label in labels], np.int32), classes


def _from_table(table: bytes, names: list[str], short: list[str], what: str) -> list[str]:
    """The label of each name by the CSV, whose files are written from the root or from the innermost common folder."""
    try:
        rows = [row for row in csv.reader(io.StringIO(table.decode("utf-8-sig"))) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{what}: the table of labels is no CSV in UTF-8 ({error}); write lines of file,label") from None
    if rows and [cell.strip().lower() for cell in rows[0]] == ["file", "label"]:
        rows = rows[1:]
    if wrong := next((row for row in rows if len(row) != 2), None):
        raise DataError(f"{what}: the table of labels has the line {','.join(wrong)!r}; expected file,label")
    found = {file.strip().removeprefix("./").replace("\\", "/"): label.strip() for file, label in rows}
    if len(found) < len(rows):
        raise DataError(f"{what}: the table of labels has {len(rows)} lines for {len(found)} files; write each file once")
    labels = [found.get(name, found.get(inside)) for name, inside in zip(names, short, strict=True)]
    known = {*names, *short}
    missing = [name for name, label in zip(names, labels, strict=True) if not label]
    strangers = [file for file in found if file not in known]
    if missing or strangers:
        first = f"the first without is '{missing[0]}'" if missing else f"the first stranger is '{strangers[0]}'"
        raise DataError(
            f"{what}: labels do not match: {len(missing)} of {len(names)} images are not in the table, and {len(strangers)} of its "
            f"{len(found)} lines name no image; {first}"
        )
    return labels


def find_table(lookup: Callable[[str], bytes | None], names: list[str], wanted: str, what: str) -> bytes | None:
    """The CSV of labels: `wanted` in the collection or on disk; without a wish labels.csv, if there is one.

    Raises:
        DataError: the one that was wanted is not there.
    """
    common = names[0][: len(names[0]) - len(inner(names)[0])]
    for name in dict.fromkeys([wanted or TABLE, common + (wanted or TABLE)]):
        if (table := lookup(name)) is not None:
            return table
    if not wanted:
        return None
    try:
        return read_bytes(wanted)
    except UnreadableError as error:
        raise DataError(f"{what}: expected the table of labels {wanted} ({error}); check data.labels") from None
