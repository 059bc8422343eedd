"""The kinds of entries of a condition; the table in `conditions` lists them."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ..errors import ConfigError
from .condition_embeddings import (
    AugmentationEmbedding,
    ChannelEmbedding,
    EncoderEmbedding,
    MeanEmbedding,
    TokenEmbedding,
    VectorEmbedding,
)
from .conditions import AbstractCondition

RESIZES = ("none", "nearest", "linear", "cubic")  # methods of jax.image.resize


def _check_sizes(kind: str, **sizes: int) -> None:
    """Raise a ConfigError unless every size is a whole number from 1 on."""
    if problems := [
        f"{kind}: expected {name} of 1 or more, got {size}" for name, size in sizes.items() if not size >= 1
    ]:
        raise ConfigError(*problems)


@dataclasses.dataclass(frozen=True)
class ClassCondition(AbstractCondition):
    """Class from 0 to num_classes - 1; -1 is the null class.

    Args:
        num_classes: number of classes, at least 1.
        fields: names of the fields of the data source; () for its labels.
    """

    num_classes: int
    fields: tuple[str, ...] = ()

    def __post_init__(self):
        _check_sizes("class", num_classes=self.num_classes)

    @property
    def shape(self):
        return ()

    def null(self):
        return np.int32(-1)

    def is_null(self, value):
        return value < 0

    def embedding(self, place, **options):
        return place.classes(self.num_classes, place.features, **options)

    def check(self, values, what):
        values = np.asarray(values)
        if values.dtype.kind not in "iu" or values.ndim != 1:
            raise ConfigError(f"{what}: expected classes [N] as integers, got {values.dtype} {list(values.shape)}")
        if len(wrong := values[(values < -1) | (values >= self.num_classes)]):
            raise ConfigError(
                f"{what}: expected classes 0 to {self.num_classes - 1}, or -1 for none, got {wrong[0]} in row "
                f"{int(np.argmax((values < -1) | (values >= self.num_classes)))}"
            )
        return values.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class VectorCondition(AbstractCondition):
    """Vector of numbers, such as parameters or measurements, standardised by the training records.

    Args:
        size: number of components, at least 1.
        fields: names of the fields of the data source; () for the name of the entry.
    """

    size: int
    fields: tuple[str, ...] = ()

    standardised = True

    def __post_init__(self):
        _check_sizes("vector", size=self.size)

    @property
    def shape(self):
        return (self.size,)

    def embedding(self, place, **options):
        return VectorEmbedding(self.size, place.features, **options)


@dataclasses.dataclass(frozen=True)
class ImageCondition(AbstractCondition):
    """Image, curve or volume whose values are appended to the channels of the input of the network.

    Its channels are standardised by the training records.

    Args:
        size: points along each axis; () for the grid of x.
        channels: number of channels, at least 1.
        resize: method of the resize to the grid of x: nearest, linear or cubic; none: the grid must be that of x.
        grid: grid of x.
        fields: names of the fields of the data source; () for the name of the entry.
    """

    size: tuple[int, ...] = ()
    channels: int = 1
    resize: str = "none"
    grid: tuple[int, ...] = ()
    fields: tuple[str, ...] = ()

    standardised = True

    def __post_init__(self):
        if not self.grid:
            raise ConfigError("image: x has no grid on which an image can be appended; take encoded_image")
        if not self.size:
            object.__setattr__(self, "size", tuple(self.grid))
        _check_sizes("image", channels=self.channels, **{f"size[{k}]": n for k, n in enumerate(self.size)})
        if len(self.size) != len(self.grid):
            raise ConfigError(f"image: expected as many axes as x has, {len(self.grid)}, got size = {self.size}")
        if self.resize not in RESIZES:
            raise ConfigError(f"image: expected resize to be one of {', '.join(RESIZES)}, got {self.resize!r}")
        if self.resize == "none" and tuple(self.size) != tuple(self.grid):
            raise ConfigError(
                f"image: its grid {self.size} is not that of x, {tuple(self.grid)}; set resize to nearest, linear or "
                "cubic, or take encoded_image"
            )

    @property
    def shape(self):
        return (*self.size, self.channels)

    def flip(self, value):
        return jnp.flip(value, axis=1)

    def embedding(self, place, **options):
        return ChannelEmbedding(self.channels, self.resize, **options)


@dataclasses.dataclass(frozen=True)
class EncodedImageCondition(AbstractCondition):
    """Image, curve or volume of any size, which a small convolutional encoder maps to a vector.

    Its channels are standardised by the training records.

    Args:
        size: points along each axis, one to three of them.
        channels: number of channels, at least 1.
        width: channels of the encoder.
        fields: names of the fields of the data source; () for the name of the entry.
    """

    size: tuple[int, ...]
    channels: int = 1
    width: int = 32
    fields: tuple[str, ...] = ()

    standardised = True

    def __post_init__(self):
        if not 1 <= len(self.size) <= 3:
            raise ConfigError(f"encoded_image: expected one to three sizes, got {self.size}")
        sizes = {f"size[{k}]": n for k, n in enumerate(self.size)}
        _check_sizes("encoded_image", channels=self.channels, width=self.width, **sizes)

    @property
    def shape(self):
        return (*self.size, self.channels)

    def flip(self, value):
        return jnp.flip(value, axis=1) if len(self.size) > 1 else value

    def embedding(self, place, **options):
        return EncoderEmbedding(self.size, self.channels, self.width, place.features, **options)


@dataclasses.dataclass(frozen=True)
class SequenceCondition(AbstractCondition):
    """Sequence or set of up to `length` vectors; rows of NaN are absent.

    Its components are standardised by the training records.

    Args:
        length: largest number of rows, at least 1.
        size: components of a row, at least 1.
        ordered: whether the position of a row has a meaning, as in a series; False: a set.
        fields: names of the fields of the data source; () for the name of the entry.
    """

    length: int
    size: int
    ordered: bool = True
    fields: tuple[str, ...] = ()

    standardised = True

    def __post_init__(self):
        _check_sizes("sequence", length=self.length, size=self.size)

    @property
    def shape(self):
        return (self.length, self.size)

    def embedding(self, place, **options):
        made = TokenEmbedding if place.attends else MeanEmbedding
        return made(self.length, self.size, place.features, ordered=self.ordered, **options)

    def _is_partial(self, values):
        rows = ~(np.isfinite(values).all(axis=-1) | np.isnan(values).all(axis=-1))
        return rows.any(axis=1)


@dataclasses.dataclass(frozen=True)
class AugmentationCondition(AbstractCondition):
    """Label of an augmentation (Karras et al. 2022, appendix F.2); 0 denotes an example that is not changed.

    Training sets it, and it is never dropped.

    Args:
        entries: length of the label, at least 1.
    """

    entries: int

    droppable = False

    def __post_init__(self):
        _check_sizes("augmentation", entries=self.entries)

    @property
    def shape(self):
        return (self.entries,)

    def null(self):
        return np.zeros(self.shape, np.float32)

    def is_null(self, value):
        return jnp.all(value == 0)

    def embedding(self, place, **options):
        return AugmentationEmbedding(self.entries, place.noise_features, **options)
