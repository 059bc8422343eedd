"""One image file to one array: every step of the rule against arrays worked out by hand, and what is refused."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from scoresde.data.images import BadImage, Rule, decode
from scoresde.errors import ConfigError, DataError


def encoded(image, format="PNG", **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def values(data, height, width, channels):
    return decode(data, Rule(height, width, channels), "x.png")[0]


@pytest.mark.parametrize("format, options", [("PNG", {}), ("WEBP", {"lossless": True})])
def test_an_image_of_the_target_size_passes_unchanged(format, options):
    image = noise(5, 7, 3)
    np.testing.assert_array_equal(values(encoded(image, format, **options), 5, 7, 3), image)
    grey = noise(5, 7)
    np.testing.assert_array_equal(values(encoded(grey), 5, 7, 1)[..., 0], grey)


def test_the_centre_is_cropped_to_the_aspect_ratio():
    """Stripes of 8 pixels: of the wide image the outer ones go, of the tall image too. Constant stripes of whole blocks
    stay what they are at half a stripe from the edges, whatever the filter."""
    wide = np.repeat(np.array([10, 60, 110, 160, 210, 250], np.uint8), 8)[None, :, None].repeat(32, 0).repeat(3, 2)
    np.testing.assert_array_equal(values(encoded(wide), 32, 32, 3), wide[:, 8:40])
    np.testing.assert_array_equal(values(encoded(wide.swapaxes(0, 1)), 32, 32, 3), wide[:, 8:40].swapaxes(0, 1))
    np.testing.assert_array_equal(values(encoded(wide), 16, 48, 3), wide[8:24])  # another aspect ratio


def test_reduction_does_not_alias():
    """A checkerboard of single pixels has no detail at an eighth of the size: grey all over, and not black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    found = values(encoded(board), 8, 8, 1)
    assert np.abs(found.astype(int) - 128).max() <= 2
    ramp = (
        np.linspace(0, 255, 64).round().astype(np.uint8)[None].repeat(64, 0)
    )  # a symmetric filter keeps a line a line
    middle = values(encoded(ramp), 8, 8, 1)[4, 1:-1, 0]
    np.testing.assert_allclose(middle, ramp.reshape(64, 8, 8).mean(-1)[0, 1:-1], atol=1)


def test_a_large_jpeg_is_decoded_small_and_nearly_the_same(monkeypatch):
    y, x = np.mgrid[:600, :800] / 100
    smooth = (127 + 100 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1)).astype(np.uint8)
    jpeg = encoded(smooth, "JPEG", quality=95)
    with Image.open(io.BytesIO(jpeg)) as image:
        full = encoded(image.convert("RGB"))
    sizes, fit = [], ImageOps.fit
    monkeypatch.setattr(
        ImageOps, "fit", lambda image, *args, **options: sizes.append(image.size) or fit(image, *args, **options)
    )
    small = values(jpeg, 32, 32, 3)
    assert np.abs(small.astype(int) - values(full, 32, 32, 3)).max() <= 3
    values(jpeg, 40, 32, 3)
    assert sizes == [(100, 75), (800, 600), (200, 150)]  # an eighth has 75 rows, below twice 40: a quarter


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation):
    upright = noise(6, 4, 3)
    turns = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
             6: np.rot90(upright), 7: np.rot90(upright, 2).swapaxes(0, 1), 8: np.rot90(upright, -1)}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    found, header = decode(encoded(np.ascontiguousarray(turns[orientation]), exif=exif), Rule(6, 4, 3), "x")
    np.testing.assert_array_equal(found, upright)
    assert (header.height, header.width) == (6, 4)


def test_modes_become_the_declared_channels():
    rgb, alpha, grey = noise(4, 4, 3), noise(4, 4, 1, seed=1), noise(4, 4, seed=2)
    rgba = np.concatenate([rgb, alpha], -1)
    luma = (rgb @ np.array([299, 587, 114])) / 1000
    over_white = (rgb * (alpha / 255) + 255 * (1 - alpha / 255)).astype(float)
    near = dict(atol=1)  # rounding of Pillow's integer arithmetic

    np.testing.assert_allclose(values(encoded(rgb), 4, 4, 1)[..., 0], luma, **near)
    np.testing.assert_array_equal(values(encoded(grey), 4, 4, 3), grey[..., None].repeat(3, -1))
    np.testing.assert_array_equal(values(encoded(grey), 4, 4, 4)[..., 3], 255)
    np.testing.assert_array_equal(values(encoded(rgba), 4, 4, 4), rgba)
    np.testing.assert_allclose(values(encoded(rgba), 4, 4, 3), over_white, **near)
    la = encoded(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha[..., 0])]))
    share = alpha[..., 0] / 255
    np.testing.assert_allclose(values(la, 4, 4, 1)[..., 0], grey * share + 255 * (1 - share), **near)

    palette = Image.fromarray(rgb).quantize(16)
    np.testing.assert_array_equal(values(encoded(palette), 4, 4, 3), np.asarray(palette.convert("RGB")))
    hole = palette.copy()
    number = hole.getpixel((0, 0))
    found = values(encoded(hole, transparency=number), 4, 4, 3)
    np.testing.assert_array_equal(found[np.asarray(hole) == number], 255)  # what is transparent shows the white below

    bits = Image.fromarray(grey > 127)
    np.testing.assert_array_equal(values(encoded(bits), 4, 4, 1)[..., 0], np.where(grey > 127, 255, 0))
    deep = np.array([[0, 128], [129, 65535]], np.uint16)
    np.testing.assert_array_equal(values(encoded(deep), 2, 2, 1)[..., 0], [[0, 0], [1, 255]])  # 128/257 < 1/2 < 129/257


def test_cmyk_becomes_rgb():
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # all magenta and yellow: red
    found, header = decode(encoded(ink, "JPEG", quality=100), Rule(16, 16, 3), "x")
    assert header.mode == "CMYK"
    np.testing.assert_allclose(found, np.broadcast_to([255, 0, 0], (16, 16, 3)), atol=3)


@pytest.mark.parametrize("format", ["TIFF", "BMP", "GIF", "PPM"])
def test_other_formats_that_pillow_reads(format):
    """Each is lossless for its values: of a GIF those of its palette of 16 colours."""
    image = np.asarray(Image.fromarray(noise(5, 7, 3)).quantize(16).convert("RGB"))
    found, header = decode(encoded(image, format), Rule(5, 7, 3), "x")
    np.testing.assert_array_equal(found, image)
    assert header.format == format and (header.height, header.width) == (5, 7)


def test_the_first_of_several_frames_is_taken_and_said():
    pages = [Image.fromarray(noise(5, 7, seed=seed)) for seed in range(3)]
    found, header = decode(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]), Rule(5, 7, 1), "x")
    np.testing.assert_array_equal(found[..., 0], np.asarray(pages[0]))
    assert header.format == "TIFF (first frame)"


def test_a_tiff_is_turned_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = noise(6, 4, 3)
    found, header = decode(encoded(np.ascontiguousarray(np.rot90(upright)), "TIFF", exif=exif), Rule(6, 4, 3), "x")
    np.testing.assert_array_equal(found, upright)
    assert (header.height, header.width) == (6, 4)


def test_deep_grey_values_are_kept_for_deep_levels():
    """12 bits in 16, as medical images come. At the stored size the values pass. A ramp stays a ramp under the
    symmetric Lanczos filter: its values are the means of blocks of 4, within the rounding to integers."""
    deep = np.random.default_rng(0).integers(200, 1800, (6, 5)).astype(np.uint16)
    for format in ("PNG", "TIFF", "PPM"):
        found, header = decode(encoded(deep, format), Rule(6, 5, 1, levels=2048), "x")
        assert found.dtype == np.uint16 and header.brightest == deep.max()
        np.testing.assert_array_equal(found[..., 0], deep)
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint16) * 16, (64, 64))
    middle = decode(encoded(np.ascontiguousarray(ramp)), Rule(16, 16, 1, levels=1024), "x")[0][8, 2:-2, 0]
    np.testing.assert_allclose(middle, (np.arange(64) * 16).reshape(16, 4).mean(1)[2:-2], atol=1)
    for wrong, levels, words in (
        (deep, 1024, "x: expected values below data.levels = 1024, got 1"),
        (noise(6, 5), 512, "x: expected 16-bit grey for data.levels = 512, got L"),
    ):
        with pytest.raises(DataError, match=words):
            decode(encoded(wrong), Rule(6, 5, 1, levels=levels), "x")
    for channels, levels in ((3, 512), (1, 255), (1, 65537)):
        with pytest.raises(ConfigError, match="16-bit grey"):
            Rule(6, 5, channels, levels=levels)


def test_sixteen_bits_of_colour_are_seen():
    """Pillow gives the upper bytes: the mode says that there was more."""
    rows = np.random.default_rng(0).integers(0, 65536, (3, 4, 3)).astype(">u2")
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    ]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks
    )
    found, header = decode(png, Rule(3, 4, 3), "x")
    np.testing.assert_array_equal(found, rows >> 8)
    assert header.mode == "RGB;16"


def damaged():
    png, jpeg, webp, tiff, bmp = (encoded(noise(40, 40, 3), kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP"))
    return {
        "empty": b"", "text": b"GIF of words", "html": b"<html>404</html>", "cut png": png[: len(png) // 2],
        "cut jpeg": jpeg[: len(jpeg) // 2],
        "cut webp": webp[: len(webp) // 2], "head alone": png[:8], "zeros": bytes(5000),
        "flipped": png[:60] + bytes(200) + png[260:],
        "another format": encoded(noise(16, 16, 3), "ICO"), "cut tiff": tiff[: len(tiff) // 2],
        "cut bmp": bmp[: len(bmp) // 2], "floats": encoded(np.ones((4, 4), np.float32), "TIFF"),
        "32 bits": encoded(np.full((4, 4), 70_000, np.int32), "TIFF"),
    }  # fmt: skip


@pytest.mark.parametrize("name", damaged())
def test_damaged_files_are_bad_images(name):
    with pytest.raises(BadImage):
        values(damaged()[name], 8, 8, 3)


def bomb(width, height) -> bytes:
    """A PNG of so many grey pixels, all zero, in a few kB."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(10_000, 9_000), (60_000, 60_000), (2_000_000, 2_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_from_its_header(size):
    tracemalloc.start()
    with pytest.raises(DataError, match="deep/bomb.png.*data.max_pixels") as caught:
        decode(bomb(*size), Rule(8, 8, 3), "deep/bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_the_limit_of_pixels_is_a_choice():
    data = encoded(noise(20, 20))
    assert decode(data, Rule(8, 8, 1, max_pixels=400), "x")[0].shape == (8, 8, 1)
    with pytest.raises(DataError, match="20 x 20 pixels, expected at most 399"):
        decode(data, Rule(8, 8, 1, max_pixels=399), "x")


def test_channels_are_those_of_images():
    for shape in ((8, 8, 2), (8, 8, 5), (0, 8, 3)):
        with pytest.raises(ConfigError, match="1 .grey., 3 .RGB. or 4 .RGBA."):
            Rule(*shape)
