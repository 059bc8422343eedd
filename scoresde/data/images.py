"""Decoding of image files: the rule by which every image becomes an array uint8 [H, W, C].

1. The first frame of a PNG, JPEG, WebP, TIFF, BMP, GIF or PNM is decoded. A JPEG more than twice as large as needed is
   decoded at 1/2, 1/4 or 1/8 of its size from its cosine coefficients, but never below twice the target.
2. The EXIF orientation is applied.
3. 16 bits are reduced to 8 by rounding v/257 (for grey images; Pillow keeps the upper byte of colours). With more than
   256 `levels` the values of 16-bit grey images are unchanged. Palettes, CMYK and other modes are converted to RGB.
4. C = 1 is luma (299 R + 587 G + 114 B)/1000 (ITU-R BT.601) and C = 3 is RGB, both on a white background if there is
   transparency; C = 4 is RGBA, with alpha 255 if there is no transparency. Colour profiles are ignored.
5. The largest centred part with the target's aspect ratio is scaled to H x W by Pillow's Lanczos filter, whose support
   grows with the reduction, which prevents aliasing. For squares this is the `center-crop` of EDM's dataset_tool
   (Karras et al. 2022). Smaller images are enlarged by the same filter.

An image of H x W pixels in the target mode is unchanged. Images of more than `max_pixels` are refused by their header.
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
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # Pillow's other decoders are not used
MAX_PIXELS = 80_000_000
LEVELS, DEEPEST = 256, 65536
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_TO_8_BITS = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # v/257 rounded
BYTES = 8  # largest size of a pixel: 16 bits of 4 channels, not compressed
_FINE = 2  # a JPEG is never decoded below this multiple of the target
# Larger images are decoded one at a time: a dozen threads with 80 megapixels each would need 8 GB.
_LARGE, _one_at_a_time = 16_000_000, threading.Lock()


class BadImage(Exception):
    """Error for a file that is not an image, or is a damaged image."""


class Header(NamedTuple):
    """Properties of an image file before the conversion.

    Attributes:
        format: file format.
        mode: Pillow's mode, with ";16" for 16-bit colour.
        width: pixels, after the EXIF orientation.
        height: pixels, after the EXIF orientation.
        brightest: greatest value of a decoded 16-bit grey image, otherwise 0.
    """

    format: str
    mode: str
    width: int
    height: int
    brightest: int = 0


@dataclass(frozen=True)
class Rule:
    """Shape and levels to which every image is converted.

    Args:
        height: pixels, at least 1.
        width: pixels, at least 1.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        max_pixels: an image with more pixels is refused.
        levels: grey levels; with more than 256, the values of 16-bit grey images are unchanged.

    Raises:
        ConfigError: images of this shape and these levels are not supported.
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
            Image.MAX_IMAGE_PIXELS = self.max_pixels  # otherwise Pillow's limit would apply

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, self.channels)

    def __str__(self) -> str:
        """Return the rule's part of a fingerprint; its number 1 is the version of the rule at the top of the file."""
        deep = f":{self.levels}" if self.levels != LEVELS else ""
        return f"centre-lanczos-1:{self.height}x{self.width}:{_MODES[self.channels]}{deep}"

    @property
    def dtype(self) -> type:
        return np.uint8 if self.levels == LEVELS else np.uint16


def levels_for(brightest: int) -> int:
    """Return the grey levels that preserve 16-bit grey values up to `brightest`: a power of 2 above 256."""
    return max(2 * LEVELS, 1 << brightest.bit_length())


def decode(data: bytes, rule: Rule, name: str) -> tuple[np.ndarray, Header]:
    """Return the image as uint8 [H, W, C], or uint16 for more than 256 levels, and its header.

    Raises:
        BadImage: the image cannot be decoded.
        DataError: the image has too many pixels, or not the levels of the rule.
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
    """Return the header of an image without decoding it.

    Raises:
        BadImage: the bytes are not an image.
        DataError: the image has more pixels than Pillow allows.
    """
    with _opened(data, name) as image:
        return _header(image)


@contextlib.contextmanager
def _opened(data: bytes, name: str):
    """Open an image, and turn the errors that decoders raise for damaged bytes into BadImage."""
    if not data:
        raise BadImage("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except (
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:  # a warning that is treated as an error
        raise DataError(f"{name}: {' '.join(str(error).split())}; {_REMEDY}") from None
    except Image.UnidentifiedImageError:
        raise BadImage(f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file") from None
    except (DataError, BadImage, MemoryError):
        raise
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, ...
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from error


@contextlib.contextmanager
def opened_file(path: Path, max_pixels: int = MAX_PIXELS):
    """Open the image of a file without decoding it; errors of decoding in the block are converted as well.

    Raises:
        BadImage: the file cannot be read or decoded.
        DataError: the image has more than `max_pixels` pixels.
    """
    try:
        data = read_bytes(path, BYTES * max_pixels)
    except UnreadableError as error:
        raise BadImage(f"cannot be read: {error}") from error
    with _opened(data, str(path)) as image:
        check_pixels(image.size, max_pixels, str(path))
        yield image


def _header(image: Image.Image) -> Header:
    # Pillow reduces 16-bit colour to 8 bits. Only the tiles before decoding show the 16 bits, and reading the EXIF data
    # of a PNG decodes it.
    deep = ";16" if image.mode in ("LA", "RGB", "RGBA") and ";16" in str(image.tile) else ""
    # Some versions of Pillow already rotate a TIFF; its tags are those of the file.
    width, height = (image.tag_v2[tag] for tag in (256, 257)) if image.format == "TIFF" else image.size
    if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # orientations with exchanged axes
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
    """Return the decoded image after its orientation; a large JPEG is decoded at a fraction of its size."""
    scale = max(rule.height / header.height, rule.width / header.width)
    if scale < 1:
        image.draft(None, tuple(max(1, int(np.ceil(_FINE * scale * n))) for n in image.size))
    image.load()
    return ImageOps.exif_transpose(image)


def _scaled(image: Image.Image, rule: Rule) -> Image.Image:
    return ImageOps.fit(image, (rule.width, rule.height), method=Image.Resampling.LANCZOS)


def _sixteen_bits(image: Image.Image) -> np.ndarray | None:
    """Return the values of a 16-bit grey image, or None for any other image.

    Raises:
        BadImage: the grey values have more bits, or are floats.
    """
    if image.mode == "F":  # Pillow would clip them to 0 and 255, whatever their unit
        raise BadImage("grey values are floats, expected integers of 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return None
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise BadImage(f"grey values {values.min()}..{values.max()}, expected at most 16 bits")
    return values


def _deep(grey: np.ndarray | None, about: Header, rule: Rule, name: str) -> np.ndarray:
    """Return the values of a 16-bit grey image as uint16 [H, W], resized in floating point.

    Raises:
        DataError: the image has fewer bits, or values beyond the levels.
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
