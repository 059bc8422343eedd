"""Whether two sets of images are in one unit: a distance between [-1, 1] and [0, 255] is a number, and means nothing.

uint8 images are compared as v/255. Floats beside them must lie in [0, 1]. Where both sides are floats, both must be
centred like [-1, 1] or both not, and of about one extent. Points and curves have units of their own.
"""

from scoresde.errors import DataError

Span = tuple[float, float]
_IMAGE_AXES = 3
_BELOW = 0.25  # of the extent: generated values of [0, 1] may lie below 0, but not by as much
_UNIT = 2.0  # floats in [0, 1] may pass 1, but not by as much
_APART = 10  # extents this many times apart are no matter of quality


def check_scales(fake: Span | None, real: Span | None, shape: tuple[int, ...]) -> None:
    """Whether samples and reference are in one unit.

    Args:
        fake, real: least and greatest value of floats; None: uint8 images.
        shape: of one record.

    Raises:
        DataError: they are not, with the line that converts them.
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
    """Whether values are centred like those in [-1, 1]; generated ones in [0, 1] may lie a little below 0."""
    low, high = span
    return low < -_BELOW * max(-low, high)


def _conversion(span: Span) -> str:
    if _signed(span):
        return "np.round(127.5 * (np.clip(x, -1, 1) + 1)).astype(np.uint8)"
    if span[1] > _UNIT:
        return "np.round(np.clip(x, 0, 255)).astype(np.uint8)"
    return "np.round(255 * np.clip(x, 0, 1)).astype(np.uint8)"
