"""Reading of the data set that a section `data` names."""

from scoresde.data import Dataset, ImageOptions, load
from scoresde.data.codec import Codec
from scoresde.data.outside import dataset_of
from scoresde.experiment import kinds
from scoresde.experiment.component import arguments, build, resolve
from scoresde.experiment.settings import Data
from scoresde.runtime.places import local


def read_dataset(c: Data, codec: Codec | None = None) -> Dataset:
    """Read the data set of a section `data`.

    Args:
      c: plain fields of the section.
      codec: codec of plain records from outside; None: that of the declared fields.

    Raises:
      DataError: the data set is missing or not as declared.
    """
    if isinstance(c.source, dict):
        return _dataset_from_outside(c, codec)
    return load(
        c.source,
        shape=c.shape,
        levels=c.levels,
        centered=c.centered,
        keys=c.arrays,
        data_dir=c.data_dir or None,
        images=ImageOptions(c.labels and local(c.labels), c.max_bad, c.max_pixels, c.memory),
    )


def _dataset_from_outside(c: Data, codec: Codec | None) -> Dataset:
    name = c.source["name"]
    made = resolve(kinds.SOURCE, name, "data.source.name")
    split = "split" in arguments(kinds.SOURCE, made)

    def make(_):
        if not split:
            return build(kinds.SOURCE, c.source, "data.source", {"shape": c.shape})
        return {
            part: build(kinds.SOURCE, c.source | {"split": part}, "data.source", {"shape": c.shape})
            for part in ("train", "test")
        }

    return dataset_of(make, name, shape=c.shape, levels=c.levels, centered=c.centered, codec=codec)
