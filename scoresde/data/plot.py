"""Pictures of curves: overlaid in one frame per channel, or as paths in the plane in a grid of cells."""

import math

import numpy as np
from PIL import Image, ImageColor, ImageDraw

MOST = 64  # curves in a picture; more hide each other
_WIDTH, _HEIGHT, _LEFT, _MARGIN, _BELOW = 640, 280, 52, 14, 22  # pixels of a frame and around it
_CELL, _GAP = 96, 6  # pixels of a path's cell
_FINE = 2  # factor by which pictures are enlarged before the final reduction, because ImageDraw's lines are jagged
_ALPHA = 110  # opacity of 255: crossings of curves are darker
_COLOURS = ("navy", "firebrick", "darkgreen", "darkorange", "purple", "teal")


def curves(x) -> Image.Image:
    """Return a picture of at most 64 of the finite curves of [N, points, channels], with a frame for each channel.

    Each frame has its own scale; the labels are the least and the greatest value shown. The points are the cell centres
    of [0, 1].
    """
    x = _finite(x)[:MOST]
    _, points, channels = x.shape
    sheet = Image.new("RGB", (_LEFT + _WIDTH + _MARGIN, channels * (_HEIGHT + _MARGIN + _BELOW)), "white")
    write = ImageDraw.Draw(sheet)
    for channel in range(channels):
        top = channel * (_HEIGHT + _MARGIN + _BELOW) + _MARGIN
        values = x[..., channel]
        low, high = _range(values)
        across = np.broadcast_to((np.arange(points) + 0.5) / points, values.shape)
        lines = np.stack([across * _WIDTH, (high - values) / (high - low) * _HEIGHT], axis=-1)
        sheet.paste(_drawn(lines, (_WIDTH, _HEIGHT), _COLOURS[channel % len(_COLOURS)]), (_LEFT, top))
        write.rectangle((_LEFT - 1, top - 1, _LEFT + _WIDTH, top + _HEIGHT), outline="gray")
        for value, place in ((high, top), (low, top + _HEIGHT - 10)):
            write.text((_LEFT - 6, place), f"{value:.3g}", fill="black", anchor="ra")
        for label, place, anchor in (("0", _LEFT, "la"), ("1", _LEFT + _WIDTH, "ra")):
            write.text((place, top + _HEIGHT + 4), label, fill="black", anchor=anchor)
    return sheet


def paths(x, columns: int | None = None) -> Image.Image:
    """Return a picture of paths [N, points, 2] in the plane, one per cell, all on one scale.

    A dot marks the start of a path. The cell of a path with values that are not finite is empty.
    """
    x = np.asarray(x, np.float64)
    finite = _finite(x)
    columns = columns or math.ceil(math.sqrt(max(len(x), 1)))
    rows = max(math.ceil(len(x) / columns), 1)
    step = _CELL + _GAP
    sheet = Image.new("RGB", (columns * step + _GAP, rows * step + _GAP), (225, 225, 225))
    middle = np.array([sum(_range(finite[..., axis])) / 2 for axis in (0, 1)])
    reach = max(np.ptp(_range(finite[..., axis])) for axis in (0, 1)) / 2 * 1.08
    places = ((x - middle) / reach * np.array([1, -1]) + 1) / 2 * _CELL
    for k, line in enumerate(places):
        cell = _drawn(
            line[None] if np.isfinite(line).all() else line[None, :0],
            (_CELL, _CELL),
            _COLOURS[0],
            alpha=255,
            start=True,
        )
        sheet.paste(cell, (_GAP + k % columns * step, _GAP + k // columns * step))
    return sheet


def _finite(x) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x[np.isfinite(x).all(axis=(1, 2))]


def _range(values: np.ndarray) -> tuple[float, float]:
    """Return the least and the greatest value, widened by 1 on both sides if they are equal."""
    low, high = (float(values.min()), float(values.max())) if values.size else (-1.0, 1.0)
    return (low, high) if high > low else (low - 1, high + 1)


def _drawn(
    lines: np.ndarray, size: tuple[int, int], colour: str, alpha: int = _ALPHA, start: bool = False
) -> Image.Image:
    """Return an image of this size with the polylines [N, points, 2], in pixels, drawn over each other."""
    large = tuple(_FINE * n for n in size)
    image = Image.new("RGB", large, "white")
    draw = ImageDraw.Draw(image, "RGBA")  # this mode blends the ink with the image
    for line in lines * _FINE:
        draw.line([tuple(place) for place in line], fill=(*ImageColor.getrgb(colour), alpha), width=_FINE)
        if start and len(line):
            px, py = line[0]
            draw.ellipse((px - 5, py - 5, px + 5, py + 5), fill="firebrick")
    return image.resize(size, Image.Resampling.LANCZOS)
