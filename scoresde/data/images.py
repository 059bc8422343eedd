"""One image file to one array: the rule by which every picture becomes uint8 [H, W, C].

1. First frame of a PNG, JPEG, WebP, TIFF, BMP, GIF or PNM. A JPEG more than twice as large as needed is decoded at
   1/2, 1/4 or 1/8 of its size, by its cosine coefficients: never below twice the target.
2. The EXIF orientation is applied.
3. 16 bits become 8 by rounding v/257 (grey; of colour Pillow keeps the upper byte); for more than 256 `levels` the
   values of 16-bit grey images stay what they are. Palettes, CMYK and the rest become RGB.
4. C = 1: luma (299 R + 587 G + 114 B)/1000 (ITU-R BT.601), C = 3: RGB, both over white where there is transparency; C =
   4: RGBA, alpha 255 where there is none. Colour profiles are ignored.
5. The largest centred part of the target's aspect ratio is scaled to H x W by Pillow's Lanczos filter, whose support
   grows with the reduction, so that nothing aliases. For squares it is the `center-crop` of EDM's dataset_tool (Karras
   et al. 2022). Smaller images are enlarged by the same filter.

An image of H x W pixels in its mode passes unchanged. What holds more than `max_pixels` is refused from its header
alone.
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

EXTENSIONS = (
    ".png", ".jpg", ".jpeg", ".webp", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm", ".pbm", ".pnm",
)  # fmt: skip
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # no other decoder of Pillow is offered the bytes
MAX_PIXELS = 80_000_000
LEVELS, DEEPEST = 256, 65536
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_TO_8_BITS = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # v/257 rounded
BYTES = 8  # of a pixel at most: 16 bits of 4 channels, not compressed
_FINE = 2  # a JPEG is never decoded below so many times the target
# Larger ones are decoded one at a time: a dozen threads with 80 megapixels each would need 8 GB.
_LARGE, _one_at_a_time = 16_000_000, threading.Lock()


class BadImage(Exception):
    """A file that is no image, or a damaged one."""


class Header(NamedTuple):
    """What a file was before it was converted: the size is that after its orientation, `brightest` the greatest value
    of a 16-bit grey image that was decoded, else 0."""

    format: str
    mode: str
    width: int
    height: int
    brightest: int = 0


@dataclass(frozen=True)
class Rule:
    """What every image becomes.

    Args:
        height, width: pixels. channels: 1, 3 or 4.
        max_pixels: images with more are refused.
        levels: grey levels; more than 256 are the values of 16-bit grey images, as they are.

    Raises:
        ConfigError: no such images.
    """

    height: int
    width: int
    channels: int
    max_pixels: int = MAX_PIXELS
    levels: int = LEVELS

    def __post_init__(self):
        if self.levels != LEVELS and not (LEVELS < self.levels <= DEEPEST and self.channels == 1):
            raise ConfigError(
                f"images of {self.channels} channels and {self.levels} levels: expected data.levels = {LEVELS}, or "
                f"with data.channels = 1 up to {DEEPEST} for 16-bit grey images"
            )
        if self.channels not in _MODES or min(self.height, self.width) < 1:
            raise ConfigError(
                f"images of shape {self.shape}: expected (height, width, channels) with 1 (grey), 3 (RGB) or 4 (RGBA) "
                "channels; set "
                "data.image_size and data.channels"
            )
        if Image.MAX_IMAGE_PIXELS and self.max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = self.max_pixels  # the user raised the limit: Pillow's own would still refuse

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, self.channels)

    def __str__(self) -> str:
        """The rule's part of a fingerprint; the number is that of the rule above."""
        deep = f":{self.levels}" if self.levels != LEVELS else ""
        return f"centre-lanczos-1:{self.height}x{self.width}:{_MODES[self.channels]}{deep}"

    @property
    def dtype(self) -> type:
        return np.uint8 if self.levels == LEVELS else np.uint16


def levels_for(brightest: int) -> int:
    """The grey levels that keep 16-bit grey values up to `brightest`: a power of 2 above 256."""
    return max(2 * LEVELS, 1 << brightest.bit_length())


def decode(data: bytes, rule: Rule, name: str) -> tuple[np.ndarray, Header]:
    """The image as uint8 [H, W, C], or uint16 for more than 256 levels, and what it was.

    Raises:
        BadImage: it cannot be decoded. DataError: it has too many pixels, or not the levels of the rule.
    """
    with _opened(data, name) as image:
        check_pixels(image.size, rule.max_pixels, name)
        about = _header(image)
        with _one_at_a_time if image.width * image.height > _LARGE else contextlib.nullcontext():
            upright = _upright(image, rule, about)
            grey = _sixteen_bits(upright)
            if grey is not None:
                about = about._replace(brightest=int(grey.max()))
            if rule.levels != LEVELS:
                return _deep(grey, about, rule, name).reshape(rule.shape), about
            eight_bits = upright if grey is None else Image.fromarray(_TO_8_BITS[grey])
            return np.asarray(_scaled(_in_mode(eight_bits, rule.channels), rule)).reshape(rule.shape), about


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
    except (
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:  # the warning where warnings are errors
        raise DataError(f"{name}: {' '.join(str(error).split())}; {_REMEDY}") from None
    except Image.UnidentifiedImageError:
        raise BadImage(f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file") from None
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
    # Of 16-bit colour Pillow gives 8 bits; only what it is about to decode tells, and asking a PNG for EXIF decodes it.
    deep = ";16" if image.mode in ("LA", "RGB", "RGBA") and ";16" in str(image.tile) else ""
    # A TIFF may be turned already, by the version of Pillow; its tags are those of the file.
    width, height = (image.tag_v2[tag] for tag in (256, 257)) if image.format == "TIFF" else image.size
    if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # the orientation; these lie on their side
        width, height = height, width
    frames = " (first frame)" if getattr(image, "is_animated", False) else ""
    return Header(f"{image.format or ''}{frames}", image.mode + deep, width, height)


_DEEP = "`python -m scoresde.data inspect` finds out the levels of all images"
_REMEDY = "remove it, or raise data.max_pixels if there is memory for it"


def check_pixels(size: tuple[int, int], max_pixels: int, name: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise DataError(f"{name}: {width} x {height} pixels, expected at most {max_pixels:,}; {_REMEDY}")


def _upright(image: Image.Image, rule: Rule, header: Header) -> Image.Image:
    """The decoded image after its orientation; a large JPEG at a part of its size."""
    scale = max(rule.height / header.height, rule.width / header.width)
    if scale < 1:
        image.draft(None, tuple(max(1, int(np.ceil(_FINE * scale * n))) for n in image.size))
    image.load()
    return ImageOps.exif_transpose(image)


def _scaled(image: Image.Image, rule: Rule) -> Image.Image:
    return ImageOps.fit(image, (rule.width, rule.height), method=Image.Resampling.LANCZOS)


def _sixteen_bits(image: Image.Image) -> np.ndarray | None:
    """The values of a 16-bit grey image, None of any other.

    Raises:
        BadImage: grey values of more bits, or floats.
    """
    if image.mode == "F":  # Pillow would cut them off at 0 and 255, whatever their unit
        raise BadImage("grey values are floats, expected integers of 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return None
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise BadImage(f"grey values {values.min()}..{values.max()}, expected at most 16 bits")
    return values


def _deep(grey: np.ndarray | None, about: Header, rule: Rule, name: str) -> np.ndarray:
    """The values of a 16-bit grey image as uint16 [H, W], scaled in floats.

    Raises:
        DataError: fewer bits, or values beyond the levels.
    """
    if grey is None:
        raise DataError(f"{name}: expected 16-bit grey for data.levels = {rule.levels}, got {about.mode}; {_DEEP}")
    if about.brightest >= rule.levels:
        raise DataError(f"{name}: expected values below data.levels = {rule.levels}, got {about.brightest}; {_DEEP}")
    if grey.shape == (rule.height, rule.width):
        return grey.astype(np.uint16)
    fitted = np.asarray(_scaled(Image.fromarray(grey.astype(np.float32)), rule))  # mode F: Lanczos in floats
    return np.clip(np.round(fitted), 0, rule.levels - 1).astype(np.uint16)


def _in_mode(image: Image.Image, channels: int) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels == 4:
            return image
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != "L":
        image = image.convert("RGB")
    return image.convert(_MODES[channels])
