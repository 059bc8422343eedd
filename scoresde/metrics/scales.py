"""Check that two sets of images have the same unit: a distance between values in [-1, 1] and [0, 255] is meaningless.

uint8 images are compared as v/255. Floats that are compared with them must lie in [0, 1]. If both sides are floats,
both or neither must be centred like [-1, 1], and they must have similar extents. Points and curves are not checked.
"""

from scoresde.errors import DataError

Span = tuple[float, float]
_IMAGE_AXES = 3
_BELOW = 0.25  # share of the extent below 0 from which values count as centred
_UNIT = 2.0  # generated values in [0, 1] may exceed 1, but not this value
_APART = 10  # ratio of extents that bad samples do not explain


def check_scales(fake: Span | None, real: Span | None, shape: tuple[int, ...]) -> None:
    """Check that samples and reference have the same unit.

    Args:
        fake: least and greatest value of float samples; None: uint8 images.
        real: least and greatest value of a float reference; None: uint8 images.
        shape: shape of one record.

    Raises:
        DataError: the units differ; the message states the line that converts the values.
    """
    for side, own, other in (("--samples", fake, real), ("--reference", real, fake)):
        if own is not None and other is None and not 0 <= own[0] <= own[1] <= 1:
            raise DataError(
                f"{side}: expected uint8 images, as the other side has them, or floats in [0, 1], got floats from "
                f"{own[0]:.4g} to {own[1]:.4g}; save them as uint8: {_conversion(own)}"
            )
    if fake is None or real is None or len(shape) != _IMAGE_AXES:
        return
    one, two = (max(-low, high) for low, high in (fake, real))
    if _signed(fake) != _signed(real) or max(one, two) > _APART * min(one, two):
        raise DataError(
            f"expected samples and reference in one unit, got floats from {fake[0]:.4g} to {fake[1]:.4g} and from "
            f"{real[0]:.4g} to {real[1]:.4g}; bring both to one range, or save both as uint8"
        )


def _signed(span: Span) -> bool:
    """Return whether values are centred like those in [-1, 1]; generated values in [0, 1] may be slightly negative."""
    low, high = span
    return low < -_BELOW * max(-low, high)


def _conversion(span: Span) -> str:
    if _signed(span):
        return "np.round(127.5 * (np.clip(x, -1, 1) + 1)).astype(np.uint8)"
    if span[1] > _UNIT:
        return "np.round(np.clip(x, 0, 255)).astype(np.uint8)"
    return "np.round(255 * np.clip(x, 0, 1)).astype(np.uint8)"
