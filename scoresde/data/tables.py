"""Tables with the labels of a collection of images, read into {name of the image: label}.

    labels.csv                     lines `file,label`
    metadata.csv, metadata.jsonl   file_name and label among other columns: the layout `imagefolder` of Hugging Face
    dataset.json                   {"labels": [[file, label], ...]}, or null: the layout of the dataset_tool of
                                   StyleGAN and EDM (Karras et al. 2022), whose folders 00000, 00001, ... are shards

A table lies at the top, in the innermost folder that contains every image, or in the folders of the parts. Its file
names are relative to the folder of the table, to the top, or to the innermost folder. The first kind in the list above
that exists is used.
"""

import csv
import io
from collections.abc import Callable, Iterable
from typing import NamedTuple

from scoresde.errors import DataError
from scoresde.runtime.files import UnreadableError, read_bytes
from scoresde.runtime.reading import parse_json

LARGEST_TABLE = 2**28  # bytes: ten million lines
NONE = "none"  # value of data.labels for no labels
TABLES = ("labels.csv", "metadata.csv", "metadata.jsonl", "dataset.json")


class Table(NamedTuple):
    """Labels of a collection.

    Attributes:
        origin: names of the files; "" if there is no table.
        labels: label of each image; None if the files state that there are no labels.
        notes: notes for the user.
    """

    origin: str
    labels: dict[str, str] | None
    notes: tuple[str, ...] = ()


class _NoLabels(Exception):
    """Error for a file that is not a table of labels; the message states the reason."""


class _Unlabelled(Exception):
    """Error for a table that has no labels of classes; the message states the reason."""


def find_table(
    lookup: Callable[[str], bytes | None], names: list[str], folders: Iterable[str], wanted: str, what: str
) -> Table:
    """Find the labels of `names` in the table `wanted`, in the collection or on disk, or in the first kind that exists.

    Args:
        lookup: function that returns the bytes of a file of the collection, or None if it does not exist.
        names: names of the images, relative to the top.
        folders: folders that may contain tables, "" or names that end with `/`; the innermost folder of all images
            comes first.
        wanted: name of a table; "" for any of `TABLES`.
        what: name of the collection in messages.

    Returns:
        The table; its origin is "" if none was found.

    Raises:
        DataError: the wanted table does not exist, a table cannot be read, or it names other images.
    """
    notes = []
    for kind in [wanted] if wanted else TABLES:
        places = [
            (place, table) for place in dict.fromkeys(["", *folders]) if (table := lookup(place + kind)) is not None
        ]
        if wanted and not places:
            places = [("", _on_disk(wanted, what))]
        if not places:
            continue
        origin = " and ".join(place + kind for place, _ in places)
        try:
            given = [(place, _entries(table, kind, f"{what}: {place + kind}")) for place, table in places]
        except _Unlabelled as reason:  # folders are then not used as classes either
            return Table(origin, None, (*notes, f"{origin}: {reason}; no labels are taken"))
        except _NoLabels as reason:
            if wanted:
                raise DataError(f"{what}: {origin}: {reason}; check data.labels") from None
            notes.append(f"{origin}: {reason}; it is passed over")
            continue
        return Table(origin, _matched(given, names, folders, f"{what}: {origin}"), tuple(notes))
    return Table("", None, tuple(notes))


def _on_disk(path: str, what: str) -> bytes:
    try:
        return read_bytes(path, LARGEST_TABLE)
    except UnreadableError as error:
        raise DataError(f"{what}: expected the table of labels {path} ({error}); check data.labels") from None


def _entries(table: bytes, kind: str, what: str) -> list[tuple[str, str]]:
    """Return (file, label) of each line; an empty label is a missing one."""
    try:
        text = table.decode("utf-8-sig")
        if kind.endswith(".json"):
            return _of_json(parse_json(text), what)
        if kind.endswith(".jsonl"):
            return _of_columns([_row(parse_json(line), what) for line in text.splitlines() if line.strip()])
        rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, UnreadableError, csv.Error) as error:
        form = "JSON" if kind.endswith(("json", "jsonl")) else "CSV"
        raise DataError(
            f"{what}: expected a table of labels, {form} in UTF-8, and it cannot be read: {error}"
        ) from None
    header = [cell.strip() for cell in rows[0]] if rows else []
    if "file_name" in header:
        return _of_columns([dict(zip(header, row)) for row in rows[1:]])
    if [cell.lower() for cell in header] == ["file", "label"]:
        rows = rows[1:]
    if wrong := next((row for row in rows if len(row) != 2), None):
        raise DataError(f"{what}: the table of labels has the line {','.join(wrong)!r}; expected file,label")
    return [(file, label.strip()) for file, label in rows]


def _row(found: object, what: str) -> dict:
    if not isinstance(found, dict):
        raise DataError(f"{what}: expected an object with file_name and label in each line, got {str(found)[:40]!r}")
    return found


def _of_columns(rows: list[dict]) -> list[tuple[str, str]]:
    if not any("label" in row for row in rows):
        columns = ", ".join(map(str, rows[0])) if rows else "none"
        raise _NoLabels(f"expected a column label, got {columns}")
    return [(str(row.get("file_name") or ""), _label(row.get("label"))) for row in rows]


def _of_json(found: object, what: str) -> list[tuple[str, str]]:
    if not isinstance(found, dict) or "labels" not in found:
        raise _NoLabels("it has no field labels")
    pairs = found["labels"]
    if pairs is None:
        raise _Unlabelled("labels are null")
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise DataError(f'{what}: expected "labels": [[file, label], ...] or null, got {str(pairs)[:40]!r}')
    return [(str(file), _label(label)) for file, label in pairs]


def _label(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        raise _Unlabelled(f"labels such as {str(value)[:40]} are no classes")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _matched(
    given: list[tuple[str, list[tuple[str, str]]]], names: list[str], folders: Iterable[str], what: str
) -> dict[str, str]:
    """Return the label of each name.

    Raises:
        DataError: an image without a label, a line without an image, or two lines for one image.
    """
    known, found, strangers = set(names), {}, []
    for place, entries in given:
        for entry, label in entries:
            file = entry.strip().replace("\\", "/").removeprefix("./")
            name = next((prefix + file for prefix in (place, "", *folders) if prefix + file in known), None)
            if name is None:
                strangers.append(file)
            elif name in found:
                lines = sum(len(entries) for _, entries in given)
                raise DataError(f"{what}: {lines} lines, and more than one of them for '{name}'; write each file once")
            else:
                found[name] = label
    missing = [name for name in names if not found.get(name)]
    if missing or strangers:
        first = f"the first without is '{missing[0]}'" if missing else f"the first stranger is '{strangers[0]}'"
        lines = sum(len(entries) for _, entries in given)
        raise DataError(
            f"{what}: labels do not match: {len(missing)} of {len(names)} images are not in the table, and "
            f"{len(strangers)} of its {lines} lines name no image; {first}"
        )
    return found
