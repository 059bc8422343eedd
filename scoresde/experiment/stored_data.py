"""Facts of its data that a run stores with each checkpoint, so that it can be sampled on a machine without the data."""

from typing import Any, NamedTuple

from scoresde.data import Dataset
from scoresde.data.absent import ABSENT
from scoresde.data.codec import Codec
from scoresde.experiment.settings import Data


class StoredData(NamedTuple):
    """Stored facts of a data set."""

    fingerprint: str
    codec: Codec | None = None  # None for runs of earlier versions, whose data must be read to build the codec
    classes: tuple[str, ...] = ()  # labels in the order of the network's classes; () if none are stored

    @classmethod
    def of(cls, dataset: Dataset, *, labelled: bool) -> "StoredData":
        """Return the facts of a data set; `labelled` states whether the network receives the labels."""
        return cls(dataset.fingerprint, dataset.codec, dataset.label_names[: dataset.classes] if labelled else ())

    def to_json(self) -> dict[str, Any]:
        codec = {} if self.codec is None else {"codec": self.codec.to_json()}
        return {"fingerprint": self.fingerprint, "classes": list(self.classes)} | codec

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
        return cls(stored["fingerprint"], codec, tuple(classes))


def declared_codec(c: Data) -> Codec | None:
    """Return the codec of integers or of no data at all, which the configuration alone determines.

    Returns None for continuous data, because their scale depends on the source.
    """
    return Codec(c.shape, c.levels, c.centered) if c.levels or c.source == ABSENT else None
