"""Guesses of the shape of one record from the shape of an array [N, ...], and remedies for wrong shapes.

Channels are the last axis. Images, fields and curves have few channels, so an axis of at most 4 beside longer axes is
taken for that of the channels: [N, 187, 1] is a curve, [N, 28, 28] are images without an axis of channels, and in
[N, 3, 32, 32] the channels come first, as in PyTorch.
"""

import math

from scoresde.errors import DataError

MOST_CHANNELS = 4
_DECLARE = "--config.data.image_size, --config.data.channels and --config.data.levels"


def guessed(found: tuple[int, ...], what: str) -> tuple[int, ...]:
    """Return the probable shape [*grid, channels] of a record of an array [N, *found].

    Raises:
        DataError: the channels come first.
    """
    if len(found) < 2:
        return found
    first, *rest = found
    if first <= MOST_CHANNELS < min(rest):
        raise DataError(
            f"{what}: [N, {', '.join(map(str, found))}] has its channels first, expected them last; save "
            f"{_transposed(len(found))} (a reshape would mix pixels), or if axis 1 is no axis of channels declare the "
            f"shape with {_DECLARE}"
        )
    return (*found, 1) if len(found) == 2 and not found[1] <= MOST_CHANNELS < first else found


def remedy(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Return advice for turning an array [N, *found] into records of the declared shape."""
    if len(found) > 1 and (*found[1:], found[0]) == shape:
        return f"its channels come first: save {_transposed(len(found))} (a reshape would mix pixels)"
    if (*found, 1) == shape:
        return "give the one channel an axis of its own: save x[..., None]"
    if len(found) == 1 and len(shape) > 1 and found[0] == math.prod(shape):
        first = ", ".join(map(str, (shape[-1], *shape[:-1])))
        return (
            "its records are flat: undo it in the order of axes in which it was done; where the channels came "
            f"first, as in the files of CIFAR-10, save np.moveaxis(x.reshape(-1, {first}), 1, -1)"
        )
    return "declare the shape of one record"


def _transposed(axes: int) -> str:
    return f"x.transpose({', '.join(map(str, (0, *range(2, axes + 1), 1)))})"
