"""Facts of its data that a run stores with each checkpoint, so that it can be sampled on a machine without the data."""

from typing import Any, NamedTuple

import numpy as np

from scoresde.data import Dataset
from scoresde.data.absent import ABSENT
from scoresde.data.codec import Codec
from scoresde.experiment.settings import Data


class StoredData(NamedTuple):
    """Stored facts of a data set."""

    fingerprint: str
    codec: Codec | None = None  # None for runs of earlier versions, whose data must be read to build the codec
    classes: tuple[str, ...] = ()  # labels in the order of the network's classes; () if none are stored
    scales: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # mean and deviation of conditions by name
    nulls: frozenset[str] = frozenset()  # conditions that some training records lack

    @classmethod
    def of(cls, dataset: Dataset, *, labelled: bool) -> "StoredData":
        """Return the facts of a data set; `labelled` states whether the network receives the labels."""
        names = dataset.label_names[: dataset.classes] if labelled else ()
        return cls(dataset.fingerprint, dataset.codec, names, dict(dataset.scales), dataset.nulls)

    def to_json(self) -> dict[str, Any]:
        codec = {} if self.codec is None else {"codec": self.codec.to_json()}
        scales = {name: [np.asarray(part, float).tolist() for part in pair] for name, pair in self.scales.items()}
        conditions = {"scales": scales, "nulls": sorted(self.nulls)} if scales or self.nulls else {}
        return {"fingerprint": self.fingerprint, "classes": list(self.classes)} | codec | conditions

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "StoredData":
        """Return the facts in a JSON object. Earlier versions stored no codec, and at first no classes.

        Raises:
            ValueError: the object has another form.
        """
        if not isinstance(stored.get("fingerprint"), str):
            raise ValueError("its meta has no data.fingerprint")
        classes = stored.get("classes", [])
        if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
            raise ValueError("its meta has data.classes that are no list of names")
        codec = Codec.from_json(stored["codec"]) if "codec" in stored else None
        try:
            scales = {
                str(name): tuple(np.asarray(part, np.float32) for part in pair)
                for name, pair in stored.get("scales", {}).items()
            }
            valid = all(len(pair) == 2 and np.isfinite(pair).all() for pair in scales.values())
            nulls = frozenset(map(str, stored.get("nulls", ())))
        except (AttributeError, TypeError, ValueError):
            valid = False
        if not valid:
            raise ValueError("its meta has data.scales or data.nulls of another form")
        return cls(stored["fingerprint"], codec, tuple(classes), scales, nulls)


def declared_codec(c: Data) -> Codec | None:
    """Return the codec of integers or of no data at all, which the configuration alone determines.

    Returns None for continuous data, because their scale depends on the source.
    """
    return Codec(c.shape, c.levels, c.centered) if c.levels or c.source == ABSENT else None
