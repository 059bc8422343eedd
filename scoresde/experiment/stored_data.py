"""What a run keeps of its data beside each checkpoint, so that it can be sampled on a machine without them."""

from typing import Any, NamedTuple

from scoresde.data import Dataset
from scoresde.data.absent import ABSENT
from scoresde.data.codec import Codec
from scoresde.experiment.settings import Data


class StoredData(NamedTuple):
    """Facts of a data set that outlive it."""

    fingerprint: str
    codec: Codec | None = None  # None: a run of an earlier version, whose data must be read to build it
    classes: tuple[str, ...] = ()  # the labels, in the order of the network's classes; (): none, or not stored

    @classmethod
    def of(cls, dataset: Dataset, *, labelled: bool) -> "StoredData":
        """Those of a data set; `labelled`: whether the network takes its labels."""
        return cls(dataset.fingerprint, dataset.codec, dataset.label_names[: dataset.classes] if labelled else ())

    def to_json(self) -> dict[str, Any]:
        codec = {} if self.codec is None else {"codec": self.codec.to_json()}
        return {"fingerprint": self.fingerprint, "classes": list(self.classes)} | codec

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "StoredData":
        """The facts of such a JSON object. Earlier versions stored no codec, and at first no classes.

        Raises:
            ValueError: it is not one.
        """
        if not isinstance(stored.get("fingerprint"), str):
            raise ValueError("its meta has no data.fingerprint")
        classes = stored.get("classes", [])
        if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
            raise ValueError("its meta has data.classes that are no list of names")
        codec = Codec.from_json(stored["codec"]) if "codec" in stored else None
        return cls(stored["fingerprint"], codec, tuple(classes))


def declared_codec(c: Data) -> Codec | None:
    """The codec of integers, or of no data at all, which the configuration alone determines; None for continuous data,
    whose source says how they were scaled."""
    return Codec(c.shape, c.levels, c.centered) if c.levels or c.source == ABSENT else None
