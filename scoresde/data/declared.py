"""Shape of a record and grey levels of a source, determined from its data.

Training requires both in the configuration, so that a mistake is found at once; `inspect` determines them. Image files
of one size keep it. For files of several sizes the suggestion is a square whose side is the largest power of 2 that at
least half of the shorter sides reach, up to 256.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scoresde.data import npz, prepared, toys
from scoresde.data.files import Files
from scoresde.data.images import LEVELS, BadImage, Header, Rule, decode, header, levels_for
from scoresde.data.shapes import guessed
from scoresde.data.sources import COLLECTIONS, DIGITS_LEVELS, DIGITS_SHAPE, Request, named
from scoresde.data.survey import in_threads
from scoresde.errors import ConfigError, DataError

LARGEST = 256
GREY = ("1", "L", "I")  # and LA, I;16
_DEEP_GREY = "I"  # and I;16


def declared(source: str, keys: tuple[str, ...], data_dir: str | None) -> tuple[tuple[int, ...], int]:
    """Return (shape, levels) of the records of `source`.

    Raises:
        ConfigError: an unknown source, or one that supports any grid, whose shape must be declared.
        DataError: the source cannot be read.
    """
    name, argument = named(source)
    request = Request(argument, (), 0, tuple(keys), data_dir)
    if name in COLLECTIONS:
        return _of_images(COLLECTIONS[name](argument))
    if name in _FINDERS:
        return _FINDERS[name](request)
    raise ConfigError(
        f"{source}: has no shape of its own; declare one with --config.data.image_size, --config.data.channels and "
        "--config.data.levels"
    )


def _of_images(files: Files) -> tuple[tuple[int, ...], int]:
    def look(index: int) -> Header | str:
        try:
            return header(files.read(index), files.names[index])
        except BadImage as error:  # decoding reports all damaged images later
            return str(error)

    looked = list(in_threads(len(files.names), look, f"look at {files.what}"))
    found = [about for about in looked if isinstance(about, Header)]
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(zip(files.names, looked))[:3])
        raise DataError(
            f"{files.what}: none of {len(looked)} images can be read ({reasons}{'; ...' if len(looked) > 3 else ''}); "
            "copy them again"
        )
    heights, widths = (np.array([getattr(about, side) for about in found]) for side in ("height", "width"))
    channels = 1 if all(about.mode.startswith(GREY) for about in found) else 3
    levels = _levels_of_deep(files) if all(about.mode.startswith(_DEEP_GREY) for about in found) else LEVELS
    if (heights == heights[0]).all() and (widths == widths[0]).all() and max(heights[0], widths[0]) <= LARGEST:
        return (int(heights[0]), int(widths[0]), channels), levels
    middle = int(np.median(np.minimum(heights, widths)))
    side = min(LARGEST, 1 << (middle.bit_length() - 1))
    return (side, side, channels), levels


def _levels_of_deep(files: Files) -> int:
    """Return the grey levels that preserve the values of 16-bit grey images, whose headers do not state how many bits
    are used."""

    def look(index: int) -> int:
        try:
            return decode(files.read(index), Rule(1, 1, 1), f"{files.what}: {files.names[index]}")[1].brightest
        except BadImage:
            return 0

    return levels_for(max(in_threads(len(files.names), look, f"look at {files.what}")))


def _of_npz(request: Request) -> tuple[tuple[int, ...], int]:
    file = Path(request.argument).expanduser()
    with npz.opened(file) as archive:
        name = (request.keys or npz.KEYS)[0]
        values = npz.member(archive, name, file, npz.REMEDY)
    shape = _guessed(values.shape, f"{file}: {name}")
    if values.dtype.kind not in "iub" or values.size == 0:
        return shape, 0
    return shape, LEVELS if values.max() < LEVELS else int(max(values.max() + 1, 65536))


def _of_prepared(request: Request) -> tuple[tuple[int, ...], int]:
    image = prepared.builder_of(request.argument, request.data_dir).info.features["image"]
    return tuple(image.shape), LEVELS


def _of_functions(request: Request) -> tuple[tuple[int, ...], int]:
    file = Path(request.argument).expanduser()
    if len(request.keys) != 1:
        raise ConfigError("functions: expected the name of one array; set data.arrays=('NAME',)")
    with npz.opened(file) as archive:
        found = npz.member(archive, request.keys[0], file).shape
    shape = _guessed(found, f"{file}: {request.keys[0]}")
    return (*shape, 1) if len(shape) == 1 else shape, 0


def _guessed(found: tuple[int, ...], what: str) -> tuple[int, ...]:
    """Return the shape of a record of an array of shape `found`, and print a note if the shape is ambiguous."""
    shape = guessed(found[1:], what)
    if shape != found[1:]:
        points, channels = found[1:]
        taken = f"[N, {points}, {channels}] is taken for images or fields without an axis of channels"
        curves = f"--config.data.image_size=({points},) and --config.data.channels={channels}"
        print(f"note: {what}: {taken}; for curves of {channels} channels declare {curves}", file=sys.stderr)
    return shape


_FINDERS: dict[str, Callable[[Request], tuple[tuple[int, ...], int]]] = {
    "digits": lambda _: (DIGITS_SHAPE, DIGITS_LEVELS),
    "npz": _of_npz,
    "tfds": _of_prepared,
    "functions": _of_functions,
    **{draw.__name__: lambda _: ((2,), 0) for draw in (toys.gaussian_mixture, toys.two_moons, toys.checkerboard)},
}
