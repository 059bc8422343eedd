"""Pictures of many records: a grid of images, or points in the plane; `scoresde.data.plot` has those of functions."""

import math
import pathlib

import numpy as np
from PIL import Image, ImageDraw

from scoresde.data.plot import curves, paths
from scoresde.runtime.files import replacing

_CELL = 40  # images are enlarged, without smoothing, to at least this many pixels
_GAP = 4
_PLANE, _EXTENT = 480, 3.0  # pixels of a plot of points, and the coordinates +- at its edges


def picture(codec, x, columns: int | None = None) -> Image.Image | None:
    """Return the picture of model values x, [N, *shape], or None if the shape has no picture.

    [H, W, 1 or 3] are images; fields with other numbers of channels have one image per channel, side by side. [2] are
    points in the plane, [points, 2] are paths in the plane, and [points, channels] are curves, with a frame per
    channel. Values that are not finite are black, and curves that contain them are left out.
    """
    if len(codec.shape) == 2:
        return paths(x, columns) if codec.shape[-1] == 2 else curves(x)
    x = np.nan_to_num(np.asarray(x), nan=-np.inf, neginf=-1e9, posinf=1e9)
    if len(codec.shape) == 3 and codec.shape[-1] in (1, 3):
        return image_grid(np.asarray(codec.images(x)), columns)
    if len(codec.shape) == 3:
        channels = np.moveaxis(np.asarray(codec.images(x)), -1, 1).reshape(-1, *codec.shape[:2], 1)
        return image_grid(channels, codec.shape[-1] * (columns or math.ceil(math.sqrt(len(x) / codec.shape[-1]))))
    if codec.shape == (2,):
        return _points(x)
    return None


def image_grid(images: np.ndarray, columns: int | None = None) -> Image.Image:
    """Return uint8 images [N, H, W, 1 or 3] as a grid with gaps, in `columns` columns or about as many rows as
    columns."""
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = max(1, math.ceil(_CELL / max(height, width)))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    step_y, step_x = images.shape[1] + _GAP, images.shape[2] + _GAP
    sheet = np.full((rows * step_y + _GAP, columns * step_x + _GAP, channels), 96, np.uint8)
    for k, image in enumerate(images):
        y, x = _GAP + k // columns * step_y, _GAP + k % columns * step_x
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return Image.fromarray(sheet[..., 0] if channels == 1 else sheet)


def _points(x: np.ndarray) -> Image.Image:
    sheet = Image.new("RGB", (_PLANE, _PLANE), "white")
    draw = ImageDraw.Draw(sheet)
    middle = _PLANE / 2
    draw.line((middle, 0, middle, _PLANE), fill="lightgray")
    draw.line((0, middle, _PLANE, middle), fill="lightgray")
    places = middle + x * np.array([1, -1]) * middle / _EXTENT
    for px, py in np.clip(places, 0, _PLANE - 1):
        draw.ellipse((px - 1.5, py - 1.5, px + 1.5, py + 1.5), fill="navy")
    return sheet


def save_picture(codec, x, path: pathlib.Path, columns: int | None = None) -> bool:
    """Write the PNG of model values x, and return False if their shape has no picture."""
    image = picture(codec, x, columns)
    if image is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch:
            image.save(scratch)
    return image is not None
