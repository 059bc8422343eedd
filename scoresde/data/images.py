"""One image file to one array: the rule by which every picture becomes uint8 [H, W, C].

1. First frame of a PNG, JPEG or WebP. A JPEG more than twice as large as needed is decoded at 1/2, 1/4 or 1/8 of its size, by
   its cosine coefficients: never below twice the target.
2. The EXIF orientation is applied.
3. 16 bits become 8 by rounding v/257 (grey; of colour Pillow keeps the upper byte). Palettes, CMYK and the rest become RGB.
4. C = 1: luma (299 R + 587 G + 114 B)/1000 (ITU-R BT.601), C = 3: RGB, both over white where there is transparency; C = 4:
   RGBA, alpha 255 where there is none. Colour profiles are not looked at.
5. The largest centred part of the target's aspect ratio is scaled to H x W by Pillow's Lanczos filter, whose support grows with
   the reduction, so that nothing aliases. For squares it is the `center-crop` of EDM's dataset_tool (Karras et al. 2022).
   Smaller images are enlarged by the same filter.

An image of H x W pixels in its mode passes unchanged. What holds more than `max_pixels` is refused from its header alone.
"""

import contextlib
import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from scoresde.errors import ConfigError, DataError
from scoresde.runtime.files import UnreadableError, read_bytes

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")  # no other decoder of Pillow is offered the bytes
MAX_PIXELS = 80_000_000
LEVELS = 256
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_TO_8_BITS = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # v/257 rounded
BYTES = 8  # of a pixel at most: 16 bits of 4 channels, not compressed
_FINE = 2  # a JPEG is never decoded below so many times the target
# Larger ones are decoded one at a time: a dozen threads with 80 megapixels each would need 8 GB.
_LARGE, _one_at_a_time = 16_000_000, threading.Lock()


class BadImage(Exception):
    """A file that is no image, or a damaged one."""


class Header(NamedTuple):
    """What a file was before it was converted; the size after its orientation."""

    format: str
    mode: str
    width: int
    height: int


@dataclass(frozen=True)
class Rule:
    """What every image becomes.

    Args:
        height, width: pixels. channels: 1, 3 or 4.
        max_pixels: images with more are refused.

    Raises:
        ConfigError: no such images.
    """

    height: int
    width: int
    channels: int
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        if self.channels not in _MODES or min(self.height, self.width) < 1:
            raise ConfigError(
                f"images of shape {self.shape}: expected (height, width, channels) with 1 (grey), 3 (RGB) or 4 (RGBA) channels; set "
                "data.image_size and data.channels"
            )
        if Image.MAX_IMAGE_PIXELS and self.max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = self.max_pixels  # the user raised the limit: Pillow's own would still refuse

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, self.channels)

    def __str__(self) -> str:
        """The rule's part of a fingerprint; the number is that of the rule above."""
        return f"centre-lanczos-1:{self.height}x{self.width}:{_MODES[self.channels]}"


def decode(data: bytes, rule: Rule, name: str) -> tuple[np.ndarray, Header]:
    """The image as uint8 [H, W, C], and what it was.

    Raises:
        BadImage: it cannot be decoded. DataError: it has too many pixels.
    """
    with _opened(data, name) as image:
        check_pixels(image.size, rule.max_pixels, name)
        about = _header(image)
        with _one_at_a_time if image.width * image.height > _LARGE else contextlib.nullcontext():
            return np.asarray(_fitted(image, rule, about)).reshape(rule.shape), about


def header(data: bytes, name: str) -> Header:
    """What an image is, without decoding it.

    Raises:
        BadImage: it is none. DataError: it has far too many pixels.
    """
    with _opened(data, name) as image:
        return _header(image)


@contextlib.contextmanager
def _opened(data: bytes, name: str):
    """The image, with what decoders raise over damaged bytes made one kind of error."""
    if not data:
        raise BadImage("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # the warning where warnings are errors
        raise DataError(f"{name}: {' '.join(str(error).split())}; {_REMEDY}") from None
    except Image.UnidentifiedImageError:
        raise BadImage("no PNG, JPEG or WebP file") from None
    except (DataError, BadImage, MemoryError):
        raise
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, ...
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from error


@contextlib.contextmanager
def opened_file(path: Path, max_pixels: int = MAX_PIXELS):
    """The image of a file, not yet decoded; the same errors also for what decoding it in the block raises.

    Raises:
        BadImage: it cannot be read or decoded. DataError: it has more than `max_pixels`.
    """
    try:
        data = read_bytes(path, BYTES * max_pixels)
    except UnreadableError as error:
        raise BadImage(f"cannot be read: {error}") from error
    with _opened(data, str(path)) as image:
        check_pixels(image.size, max_pixels, str(path))
        yield image


def _header(image: Image.Image) -> Header:
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # the orientation; these lie on their side
    width, height = (image.height, image.width) if turned else image.size
    return Header(image.format or "", image.mode, width, height)


_REMEDY = "remove it, or raise data.max_pixels if there is memory for it"


def check_pixels(size: tuple[int, int], max_pixels: int, name: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise DataError(f"{name}: {width} x {height} pixels, expected at most {max_pixels:,}; {_REMEDY}")


def _fitted(image: Image.Image, rule: Rule, header: Header) -> Image.Image:
    scale = max(rule.height / header.height, rule.width / header.width)
    if scale < 1:
        image.draft(None, tuple(max(1, int(np.ceil(_FINE * scale * n))) for n in image.size))
    image.load()
    image = _in_mode(ImageOps.exif_transpose(image), rule.channels)
    return ImageOps.fit(image, (rule.width, rule.height), method=Image.Resampling.LANCZOS)


def _in_mode(image: Image.Image, channels: int) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise BadImage(f"grey values {values.min()}..{values.max()}, expected at most 16 bits")
        image = Image.fromarray(_TO_8_BITS[values])
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels == 4:
            return image
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != "L":
        image = image.convert("RGB")
    return image.convert(_MODES[channels])
