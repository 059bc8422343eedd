"""`none`: a source with a shape and grey levels but no records, for converted networks, which can generate samples on
machines without their data.

Code that needs a record raises an error; the command line can replace the source by another one of the same shape.
"""

import numpy as np

from scoresde.errors import DataError

ABSENT = "none"


class Absent:
    """Source without records, which raises a DataError when they are counted or read."""

    classes = 0
    labelled = False
    labels = np.zeros(0, np.int32)
    threads = 0

    def __init__(self, shape: tuple[int, ...]):
        self.shape = tuple(shape)

    def __len__(self) -> int:
        raise _nothing()

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        raise _nothing()


def _nothing() -> DataError:
    return DataError(
        f"data.source = '{ABSENT}' has no records; name some with --config.data.source, such as folder:PATH"
    )
