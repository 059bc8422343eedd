"""Containers of encoded images: a folder, or a zip of one. Both are a sorted list of relative names with their bytes.

Names are written with `/`. Hidden files and `__MACOSX` are ignored; files whose extensions are not those of images are
counted, and not read. A zip is never unpacked to disk; nevertheless a zip with names that point outside (`../`,
absolute, links) is refused as a whole, because it may be malicious.
"""

import hashlib
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from scoresde.data.images import EXTENSIONS, BadImage
from scoresde.data.tables import LARGEST_TABLE, TABLES
from scoresde.data.tree import Given
from scoresde.errors import DataError
from scoresde.runtime.files import MissingError, UnreadableError, read_bytes

_KINDS = 8  # extensions named in a message
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)  # errors of reading a member


@runtime_checkable
class Files(Protocol):
    """Encoded images in a fixed order.

    Attributes:
        what: name of the collection in messages.
        names: relative names of the images, sorted.
        identity: text that differs if a file may have changed.
        given: labels that belong to the files; None if there are none.
        others: number of files that are not read, by extension.
    """

    what: str
    names: list[str]
    identity: str
    given: Given | None
    others: dict[str, int]

    def read(self, index: int) -> bytes:
        """Return the bytes of one image.

        Raises:
            BadImage: the bytes cannot be read.
        """
        ...

    def table(self, name: str) -> bytes | None:
        """Return the bytes of another file of the collection, such as labels.csv, or None if it does not exist."""
        ...

    def size(self, index: int) -> int:
        """Return the number of bytes of one image, or 0 if it is not known without reading the image."""
        ...


def read_table(path: Path) -> bytes | None:
    """Return the bytes of a table beside images, or None if it does not exist.

    Raises:
        DataError: the table cannot be read, or is too large.
    """
    try:
        return read_bytes(path, LARGEST_TABLE)
    except MissingError:
        return None
    except UnreadableError as error:
        raise DataError(f"{path} cannot be read: {error}; mend it, or move it away") from error


def is_image(name: str) -> bool:
    return not is_hidden(name) and PurePosixPath(name).suffix.lower() in EXTENSIONS


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def counted(names: Iterable[str]) -> dict[str, int]:
    """Count the names by extension, the most frequent first, without hidden files and tables of labels."""
    paths = [PurePosixPath(name) for name in names if not is_hidden(name)]
    kinds = (path.suffix.lower() or "no extension" for path in paths if path.name not in TABLES)
    return dict(Counter(kinds).most_common())


def listed(others: dict[str, int]) -> str:
    """Format the counts of `counted` as text."""
    kinds = [f"{kind} {number}" for kind, number in others.items()]
    return f"{sum(others.values())} other files ({', '.join(kinds[:_KINDS])}{', ...' if len(kinds) > _KINDS else ''})"


def no_images(what: str, others: dict[str, int]) -> DataError:
    found = listed(others) if others else "no files"
    return DataError(f"{what}: expected images ({', '.join(EXTENSIONS)}), found {found}; check the path")


class Folder:
    """Images below a folder. Linked folders are followed, each real folder once.

    Args:
        path: the folder.

    Raises:
        DataError: the folder does not exist, or contains no image.
    """

    given = None

    def __init__(self, path: str):
        self.root = Path(path).expanduser()
        self.what = str(self.root)
        if not self.root.is_dir():
            kind = "a file" if self.root.exists() else "nothing"
            hint = "use zip:PATH" if self.root.suffix.lower() == ".zip" else "check the path"
            raise DataError(f"{self.what}: expected a folder of images, found {kind} there; {hint}")
        try:
            found, others = _walk(self.root)
            self.others = counted(others)
        except OSError as error:  # otherwise its images would be missing without an error
            raise DataError(
                f"{error.filename or self.root} cannot be read: {error.strerror or error}; change its permissions, or "
                "leave it out"
            ) from error
        if not found:
            raise no_images(self.what, self.others)
        self.names, self._sizes, times = (list(column) for column in zip(*sorted(found), strict=True))
        self.identity = digest(zip(self.names, self._sizes, times, strict=True))

    def read(self, index: int) -> bytes:
        try:
            return read_bytes(self.root / self.names[index])
        except UnreadableError as error:
            raise BadImage(f"cannot be read: {error}") from error

    def table(self, name: str) -> bytes | None:
        return read_table(self.root / name)

    def size(self, index: int) -> int:
        return self._sizes[index]


def _walk(root: Path) -> tuple[list[tuple[str, int, int]], list[str]]:
    """Return (name, bytes, time of change) of the images below `root`, and the names of the other files."""
    found, others, seen = [], [], set()
    for place, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        real = os.path.realpath(place)
        if real in seen:  # a link to a parent folder would recurse without end
            folders.clear()
            continue
        seen.add(real)
        for file in files:
            path = os.path.join(place, file)
            name = Path(path).relative_to(root).as_posix()
            if is_image(name):
                try:
                    about = os.stat(path)
                    found.append((name, about.st_size, about.st_mtime_ns))
                except OSError:  # a broken link, which raises an error when it is read
                    found.append((name, 0, 0))
            else:
                others.append(name)
    return found, others


def _raise(error: OSError) -> None:
    raise error


class Zip:
    """Images in a zip file, which is not unpacked.

    Args:
        path: the zip file.

    Raises:
        DataError: the file does not exist, is damaged, encrypted or malicious, or contains no image.
    """

    given = None

    def __init__(self, path: str):
        file = Path(path).expanduser()
        self.what = str(file)
        if not file.is_file():
            kind = "a folder" if file.is_dir() else "no regular file" if file.exists() else "nothing"
            hint = "use folder:PATH" if file.is_dir() else "check the path"
            raise DataError(f"{self.what}: expected a zip file of images, found {kind} there; {hint}")
        try:
            self._zip = zipfile.ZipFile(file)
        except OSError as error:
            raise DataError(f"{self.what} cannot be read: {error.strerror or error}") from error
        except (
            Exception
        ) as error:  # BadZipFile, and the errors of struct, codecs and arithmetic for a damaged directory
            raise DataError(
                f"{self.what} is not a zip file, or was cut short; copy it again, or make it anew"
            ) from error
        members = [info for info in self._zip.infolist() if not info.is_dir()]
        for info in self._zip.infolist():
            _check_member(info, self.what)
        self._others = {info.filename: info for info in members if not is_image(info.filename)}
        self.others = counted(self._others)
        found = sorted((info for info in members if is_image(info.filename)), key=lambda info: info.filename)
        if not found:
            raise no_images(self.what, self.others)
        self._members, self.names = found, [info.filename for info in found]
        if len(set(self.names)) < len(self.names):
            twice = next(a for a, b in zip(self.names, self.names[1:]) if a == b)
            raise DataError(f"{self.what}: expected different names, found '{twice}' twice; make the zip anew")
        self.identity = digest((info.filename, info.file_size, info.CRC) for info in found)

    def read(self, index: int) -> bytes:
        try:
            return self._zip.read(self._members[index])
        except _DAMAGED as error:
            raise BadImage(f"cannot be unpacked: {error}") from error

    def table(self, name: str) -> bytes | None:
        if name not in self._others:
            return None
        if (size := self._others[name].file_size) > LARGEST_TABLE:
            raise DataError(
                f"{self.what}: {name} would have {size:,} bytes, expected at most {LARGEST_TABLE:,}; make the zip anew"
            )
        try:
            return self._zip.read(self._others[name])
        except _DAMAGED as error:
            raise DataError(f"{self.what}: {name} cannot be unpacked ({error}); copy the zip again") from error

    def size(self, index: int) -> int:
        return self._members[index].file_size


def _check_member(info: zipfile.ZipInfo, what: str) -> None:
    # orig_filename is used because ZipInfo truncates names at a zero byte and converts the separators of Windows.
    name = info.orig_filename
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or name[1:2] == ":" or "\0" in name:
        raise DataError(
            f"{what}: the member {name!r} points outside the zip; refused, make the zip anew from a folder you trust"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DataError(f"{what}: the member {name!r} is a link; refused, put the files themselves into the zip")
    if info.flag_bits & 1:
        raise DataError(f"{what}: encrypted; unpack it and use folder:PATH")


def digest(lines) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(repr(line).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
