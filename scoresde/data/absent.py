"""`none`: no records, a shape and grey levels alone. Converted networks have it: they can be drawn from where their
data are not.

Code that needs a record raises an error; the command line can replace it by another source of the same shape.
"""

import numpy as np

from scoresde.errors import DataError

ABSENT = "none"


class Absent:
    """A source without records, which raises a DataError where they are counted or read."""

    classes = 0
    labelled = False
    labels = np.zeros(0, np.int32)
    threads = 0

    def __init__(self, shape: tuple[int, ...]):
        self.shape = tuple(shape)

    def __len__(self) -> int:
        raise _nothing()

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise _nothing()


def _nothing() -> DataError:
    return DataError(
        f"data.source = '{ABSENT}' has no records; name some with --config.data.source, such as folder:PATH"
    )
