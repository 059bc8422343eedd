"""Constructor of the codec of records from numbers."""

import math

from scoresde.data.codec import Codec
from scoresde.errors import ConfigError
from scoresde.experiment.component import constructor


@constructor
def standard_codec(
    shape: tuple[int, ...],
    levels: int,
    centered: bool,
    offset: float | tuple[float, ...] = 0.0,
    scale: float | tuple[float, ...] = 1.0,
    span: float = 0.0,
) -> Codec:
    """Return the codec of the declared fields: integers become values of the model's range, floats are unchanged.

    Args:
      shape: shape of a record, which the builder supplies.
      levels: grey levels, which the builder supplies.
      centered: range of the model, which the builder supplies.
      offset: continuous data: number, or one per channel; the original values are offset + scale x.
      scale: continuous data: number above 0, or one per channel; see offset.
      span: continuous data: the values +-span appear white and black in pictures; 0: the ends of the model's range do.
    """
    problems = []
    if levels and (offset, scale, span) != (0.0, 1.0, 0.0):
        problems.append(f"expected no offset, scale and span for integers, got data.levels = {levels}")
    for name, value in (("offset", offset), ("scale", scale)):
        if isinstance(value, tuple) and len(value) != shape[-1]:
            problems.append(f"{name} = {value}: expected one number, or one for each of {shape[-1]} channels")
    numbers = scale if isinstance(scale, tuple) else (scale,)
    if not all(number > 0 and math.isfinite(number) for number in numbers):
        problems.append(f"scale = {scale}: expected numbers above 0")
    if not span >= 0:
        problems.append(f"span = {span}: expected at least 0")
    if problems:
        raise ConfigError(*problems)
    return Codec(shape, levels, centered, offset, scale, span)
