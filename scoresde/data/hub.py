"""Encoded images of a set from the Hugging Face Hub, or of a set stored with `save_to_disk`: `hf:NAME`.

NAME is `OWNER/SET` or `OWNER/SET:CONFIG`, each optionally followed by `@REVISION`, or a folder. The images are the only
feature of type Image, and the labels the only ClassLabel, if there is one; a label below 0 is a missing one. The images
are read encoded and decoded by the same rule as files. This is the only source that downloads, and it downloads only
data: from version 4 on, the library `datasets` runs no code of a set.
"""

import re
from pathlib import Path

from scoresde.data.images import BadImage
from scoresde.data.labels import MISSING
from scoresde.data.tree import Given
from scoresde.errors import DataError
from scoresde.runtime.files import UnreadableError, read_bytes

INSTALL = "pip install 'scoresde[hf]'"


class Hub:
    """Images of all splits of a set, named SPLIT/NUMBER.

    Args:
        name: OWNER/SET[:CONFIG][@REVISION], or a folder.

    Raises:
        DataError: `datasets` is not installed, the set cannot be loaded, or it does not have exactly one feature of
            images.
    """

    others: dict[str, int] = {}

    def __init__(self, name: str):
        try:
            import datasets
        except ImportError:
            raise DataError(
                f"hf:{name} needs the library datasets of Hugging Face; install it with `{INSTALL}`, or use folder:PATH"
            ) from None
        self.what = f"hf:{name}"
        splits = _loaded(datasets, name, self.what)
        features = next(iter(splits.values())).features
        images = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
        if len(images) != 1:
            raise DataError(
                f"{self.what}: expected one feature of images, got {images or 'none'} among {', '.join(features)}; use "
                "folder:PATH"
            )
        labels = [key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
        self._image = images[0]
        self._splits = {
            key: part.select_columns(images + labels[:1]).cast_column(images[0], datasets.Image(decode=False))
            for key, part in sorted(splits.items())
        }
        self._places = [(key, number) for key, part in self._splits.items() for number in range(len(part))]
        self.names = [f"{key}/{number}" for key, number in self._places]
        if not self.names:
            raise DataError(f"{self.what}: expected images, got an empty set")
        self.identity = " ".join(f"{key}:{part._fingerprint}" for key, part in splits.items())
        self.given = _labels(self._splits, features, labels)

    def read(self, index: int) -> bytes:
        split, number = self._places[index]
        image = self._splits[split][number][self._image]
        if image is None:
            raise BadImage("no image in this row")
        if image["bytes"] is not None:
            return image["bytes"]
        try:
            return read_bytes(image["path"])
        except UnreadableError as error:
            raise BadImage(f"cannot be read: {error}") from error

    def table(self, name: str) -> None:
        return None

    def size(self, index: int) -> int:
        return 0


def _labels(splits: dict, features: dict, labels: list[str]) -> Given:
    """Return the only ClassLabel of all records; no labels, with a note, if there are several or none.

    Sets write None or a number below 0 for a label that is not published, which counts as missing.
    """
    if len(labels) != 1:
        found = (
            f"the features {', '.join(labels)} are labels, and one is expected"
            if labels
            else "no feature is a ClassLabel"
        )
        return Given([MISSING] * sum(map(len, splits.values())), (), "none", (f"{found}; no labels are taken",))
    (label,) = labels
    numbers = [MISSING if n is None or n < 0 else n for part in splits.values() for n in part[label]]
    return Given(numbers, tuple(features[label].names), f"the feature {label}")


def _loaded(datasets, name: str, what: str) -> dict:
    """Return the splits by name.

    Raises:
        DataError: the set cannot be loaded.
    """
    folder = Path(name).expanduser()
    try:
        if folder.is_dir():
            found = datasets.load_from_disk(str(folder))
            return dict(found) if isinstance(found, dict) else {"train": found}
        owner, config, revision = re.fullmatch(r"([^:@]+)(?::([^@]+))?(?:@(.+))?", name).groups()
        return dict(datasets.load_dataset(owner, config, revision=revision))
    except Exception as error:  # errors of the hub, the network, Arrow, or for an invalid name
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{what} cannot be had ({reason}); check the name and the network, or download it where there is one and "
            "give the folder of its "
            "save_to_disk, or use folder:PATH"
        ) from error
