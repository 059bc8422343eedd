"""Encoded images in array_record files: each record is the bytes of one image file.

PATH is one file, or a folder of files. A file counts as a folder of numbered images, so parts and labels are determined
by names as for other collections: `train.array_record` and `test.array_record` are parts, `cats.array_record` and
`dogs.array_record` are classes, and a labels.csv beside them has lines such as `train/17,3`. The shards
`NAME-00000-of-00010.array_record` form one folder. Files named by a number of five or more digits are not folders:
their records are numbered consecutively.

The files are written with array_record, which is installed with grain:

    from array_record.python.array_record_module import ArrayRecordWriter
    writer = ArrayRecordWriter("train.array_record", "group_size:1")   # a larger group is read whole for one record
    for path in paths:
        writer.write(path.read_bytes())
    writer.close()
"""

import re
from itertools import groupby
from pathlib import Path

from scoresde.data.files import digest, no_images, read_table
from scoresde.data.images import BadImage
from scoresde.errors import DataError
from scoresde.runtime.files import UnreadableError, open_regular

ENDING = ".array_record"
_SHARD = re.compile(r"-\d+-of-\d+$|^\d{5,}$")


class Shards:
    """Records of one or several array_record files.

    Args:
        path: a file, or a folder of files.

    Raises:
        DataError: there is no file, or a file is damaged.
    """

    given = None
    others: dict[str, int] = {}

    def __init__(self, path: str):
        root = Path(path).expanduser()
        self.what = str(root)
        paths = [root] if root.is_file() else sorted(root.glob(f"*{ENDING}*"))
        if not paths:
            kind = "no such file in the folder" if root.is_dir() else "nothing"
            raise DataError(
                f"{self.what}: expected a file NAME{ENDING}, or a folder of such, found {kind}; check the path"
            )
        self._folder = root if root.is_dir() else root.parent
        self._readers, self._places, self.names = [], [], []
        for name, shards in groupby(paths, key=_name):
            first = 0
            for shard in shards:
                reader = _opened(shard)
                self._places += [(len(self._readers), number) for number in range(len(reader))]
                self.names += [f"{name}/{first + number}".removeprefix("/") for number in range(len(reader))]
                self._readers.append(reader)
                first += len(reader)
        if not self.names:
            raise no_images(self.what, {})
        about = [path.stat() for path in paths]
        self.identity = digest((path.name, s.st_size, s.st_mtime_ns) for path, s in zip(paths, about, strict=True))

    def read(self, index: int) -> bytes:
        reader, number = self._places[index]
        try:
            data = self._readers[reader][number]
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise BadImage(f"cannot be read: {(str(error).splitlines() or ['damaged'])[0]}") from error
        if data is None:  # result of a truncated file
            raise BadImage("the record is missing from its file")
        return data

    def table(self, name: str) -> bytes | None:
        return read_table(self._folder / name)

    def size(self, index: int) -> int:
        return 0


def _name(path: Path) -> str:
    return _SHARD.sub("", path.name.partition(ENDING)[0])


def _opened(path: Path):
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        open_regular(path).close()
        return ArrayRecordDataSource([str(path)])
    except (UnreadableError, RuntimeError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise DataError(
            f"{path}: no array_record file, or a damaged one ({reason}); copy it again, or write it anew"
        ) from error
