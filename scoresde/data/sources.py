"""Sources of data by name, and `load`, which reads a source and checks its declared shape and levels.

    digits            8 x 8 images of handwritten digits, 17 grey levels; included in the package
    folder:PATH, zip:PATH, array_record:PATH, hf:NAME
                      image files of any size and kind, see `scoresde.data.collection`
    npz:PATH          arrays of the user, see `scoresde.data.npz`
    tfds:NAME         a set prepared by TensorFlow Datasets, see `scoresde.data.prepared`
    gaussian_mixture, two_moons, checkerboard
                      points in the plane, see `scoresde.data.toys`
    gaussian_process, gp_mixture, quadratic
                      functions sampled on the declared grid, see `scoresde.data.functions`
    functions:PATH    one array of measured functions of the user, see `scoresde.data.measured`
    none              no records, see `scoresde.data.absent`

To add a source, write a function of a `Request` and add it to `SOURCES`.

The digits are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository, 1998, doi:10.24432/C50P49; licence CC BY 4.0): 1797 x 8 x 8 integers 0..16, real handwriting by 13
people. The package includes them, 45 kB, so that the first run and the tests need neither a network nor scikit-learn.
The first 1500 are for training, the last 297 for testing.
"""

import difflib
import functools
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from scoresde.data import functions, measured, npz, prepared, toys
from scoresde.data.absent import ABSENT, Absent
from scoresde.data.collection import Found, ImageOptions, open_collection
from scoresde.data.dataset import ArraySource, Dataset, Source, fingerprint
from scoresde.data.files import Files, Folder, Zip
from scoresde.data.hub import Hub
from scoresde.data.images import LEVELS
from scoresde.data.shards import Shards
from scoresde.errors import ConfigError, DataError
from scoresde.runtime import places
from scoresde.runtime.arrays import read_npz

DIGITS_SHAPE, DIGITS_LEVELS, DIGITS_TRAIN = (8, 8, 1), 17, 1500
SPAN = 3.0  # in pictures of functions, values of +-3 standard deviations are white and black


@dataclass(frozen=True)
class Request:
    """Arguments of `load`.

    Attributes:
        argument: text after the colon in the name of the source.
        shape: declared shape of one record.
        levels: declared grey levels; 0: continuous values.
        keys: names of arrays in an NPZ file.
        data_dir: folder of prepared sets.
        images: options for collections of image files.
    """

    argument: str
    shape: tuple[int, ...]
    levels: int
    keys: tuple[str, ...]
    data_dir: str | None
    images: ImageOptions = ImageOptions()


class Content(NamedTuple):
    """Content of a source: its records, grey levels (0: continuous) and identity."""

    train: Source
    test: Source
    levels: int
    fingerprint: str
    offset: Any = 0.0  # as in Dataset
    scale: Any = 1.0
    span: float = 0.0
    found: Found | None = None
    names: tuple[str, ...] = ()
    fields: Any = None


def load(
    source: str,
    *,
    shape: tuple[int, ...],
    levels: int,
    centered: bool,
    keys: tuple[str, ...] = (),
    data_dir: str | None = None,
    images: ImageOptions = ImageOptions(),
) -> Dataset:
    """Load the data set named `source` and check its declared shape and levels.

    Args:
        source: name in `SOURCES`; the names in `TAKES_ARGUMENT` are followed by a colon and an argument.
        shape: shape of one record: [H, W, C] of an image or field, [points, channels] of a curve, [2] of a point.
        levels: grey levels L of integer records; 0: continuous values.
        centered: the model's range is [-1, 1) if True, [0, 1) if False.
        keys: for npz, names of the arrays of train, labels, test and labels, () for x_train, y_train, x_test, y_test;
            for functions, the name of one array.
        data_dir: for tfds, folder of prepared sets; None: $TFDS_DATA_DIR, or ~/tensorflow_datasets.
        images: for image files, options for labels, and for damaged and large images.

    Raises:
        ConfigError: an unknown source, or an argument that the source does not take.
        DataError: the data are missing or damaged, or have another shape or other levels.
    """
    name, argument = named(source)
    if keys and name not in ("npz", "functions"):
        raise ConfigError(f"keys={tuple(keys)} name arrays of an NPZ file, not of '{source}'; leave them out")
    shape = tuple(int(n) for n in shape)
    content = SOURCES[name](Request(argument, shape, levels, tuple(keys), data_dir or None, images))
    found = (tuple(content.train.shape), content.levels)
    if found != (shape, levels):
        raise DataError(
            f"{source}: declared shape {shape} and levels {levels}, but the data have shape {found[0]} and levels "
            f"{found[1]}; declare those"
        )
    train, test, _, identity, *rest = content
    return Dataset(source, train, test, content.levels, centered, identity, *rest)


def named(source: str) -> tuple[str, str]:
    """Split a source into its name and the argument after the colon.

    Raises:
        ConfigError: an unknown source, an argument that the source does not take, or an address in place of a path.
    """
    name, _, argument = source.partition(":")
    if name not in SOURCES:
        nearest = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0)
        raise ConfigError(f"no data source '{name}'; did you mean '{nearest[0]}'? There are: {', '.join(SOURCES)}")
    if bool(argument) != (name in TAKES_ARGUMENT):
        expected = f"{name}:{TAKES_ARGUMENT[name]}" if name in TAKES_ARGUMENT else name
        raise ConfigError(f"data source '{source}': expected '{expected}'")
    return name, places.local(argument)


def in_full(source: str) -> str:
    """Return the name of the source with an absolute path, which is valid in any working directory."""
    name, argument = named(source)
    a_path = TAKES_ARGUMENT.get(name) == "PATH" or name == "hf" and os.path.isdir(argument)
    return f"{name}:{places.in_full(argument)}" if a_path else source


def digits(*, centered: bool = True) -> Dataset:
    """Return the handwritten digits of the package: 1500 + 297 images [8, 8, 1] of 17 grey levels, labels 0 to 9."""
    return load("digits", shape=DIGITS_SHAPE, levels=DIGITS_LEVELS, centered=centered)


def _digits(_: Request) -> Content:
    with resources.as_file(resources.files("scoresde.data").joinpath("digits.npz")) as file:
        arrays = read_npz(file)
    x, y = arrays["x"], arrays["y"]
    train, test = ArraySource(x[:DIGITS_TRAIN], y[:DIGITS_TRAIN]), ArraySource(x[DIGITS_TRAIN:], y[DIGITS_TRAIN:])
    return Content(train, test, DIGITS_LEVELS, fingerprint("digits", train, test))


def _npz(request: Request) -> Content:
    train, test, names = npz.read(request.argument, request.keys, request.shape, request.levels)
    # The fingerprint does not contain the path: the same arrays in another place are the same data.
    fields = functools.partial(npz.condition, request.argument)
    return Content(train, test, request.levels, fingerprint("npz", train, test, names), names=names, fields=fields)


def _tfds(request: Request) -> Content:
    train, test, identity, names = prepared.read(
        request.argument, request.data_dir, request.shape, request.levels, request.images.memory
    )
    return Content(train, test, request.levels, identity, names=names)


def _collection(opened: Callable[[str], Files], request: Request) -> Content:
    # Image files have at least 256 levels; `load` raises an error if fewer are declared.
    levels = max(LEVELS, request.levels)
    train, test, identity, found = open_collection(opened(request.argument), request.shape, request.images, levels)
    return Content(train, test, levels, identity, found=found, names=found.classes)


def _toy(draw: Callable, _: Request) -> Content:
    # The key contains the name: with the seed alone, the first epoch of a run with the same seed would have the order
    # in which the points were sampled.
    random = np.random.Generator(
        np.random.Philox(key=np.array([toys.SEED, zlib.crc32(draw.__name__.encode())], np.uint64))
    )
    train, test = toys.split(*draw(random, toys.TRAIN + toys.TEST))
    # The fingerprint is made of the name and not of the bytes: the last bits of sin and cos differ between machines.
    return Content(train, test, 0, f"{draw.__name__}:{len(train)}+{len(test)}:seed{toys.SEED}")


def _functions(request: Request) -> Content:
    train, test, mean, std = measured.read(request.argument, request.keys, request.shape)
    return Content(train, test, 0, fingerprint("functions", train, test), mean, std, SPAN)


def _generated(name: str, request: Request) -> Content:
    train, test, identity = functions.dataset(name, request.shape)
    return Content(train, test, 0, identity, span=SPAN)


def _absent(request: Request) -> Content:
    nothing = Absent(request.shape)
    return Content(nothing, nothing, request.levels, ABSENT)


COLLECTIONS: dict[str, Callable[[str], Files]] = {"folder": Folder, "zip": Zip, "array_record": Shards, "hf": Hub}
SOURCES: dict[str, Callable[[Request], Content]] = {
    "digits": _digits,
    **{name: functools.partial(_collection, opened) for name, opened in COLLECTIONS.items()},
    "npz": _npz,
    "tfds": _tfds,
    "gaussian_mixture": functools.partial(_toy, toys.gaussian_mixture),
    "two_moons": functools.partial(_toy, toys.two_moons),
    "checkerboard": functools.partial(_toy, toys.checkerboard),
    "functions": _functions,
    **{name: functools.partial(_generated, name) for name in functions.FAMILIES},
    ABSENT: _absent,
}
TAKES_ARGUMENT = {
    "folder": "PATH",
    "zip": "PATH",
    "array_record": "PATH",
    "hf": "NAME",
    "npz": "PATH",
    "tfds": "NAME",
    "functions": "PATH",
}
