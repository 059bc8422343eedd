"""Layers through which the entries of a condition enter a network; `conditions` lists the kinds of entries.

An embedding maps a batch of values [b, *shape], in which some are absent, to any of four contributions:

    to_noise     [b, e]            added to the embedding of the noise level, before the dense layers
    to_vector    [b, features]     added to the vector that every block uses
    to_channels  [b, *grid, c]     appended to the channels of the input of the network
    to_tokens    [b, n, features]  rows to which attention blocks attend, with a mask [b, n]

The embeddings are float32 for every compute dtype, like that of the noise level. A subscript 0 in a comment denotes
initialization near zero.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .blocks import default_init

MAX_PERIOD = 1e4  # of the encoding of positions in a sequence (Vaswani et al. 2017)
_SMALLEST = 4  # points of an axis below which the encoder of an image does not halve it


class Contributions:
    """The contributions of an embedding that has none; a class that adds one overrides its method.

    Attributes:
        num_channels: number of channels that `to_channels` appends.
        has_tokens: whether `to_tokens` returns rows.
    """

    num_channels = 0
    has_tokens = False

    def to_noise(self, value: Array) -> Array | None:
        return None

    def to_vector(self, value: Array) -> Array | None:
        return None

    def to_channels(self, value: Array, grid: tuple[int, ...]) -> Array | None:
        return None

    def to_tokens(self, value: Array) -> tuple[Array, Array] | None:
        return None


def _dense(n: int, features: int, *, scale: float = 1.0, param_dtype, rngs: nnx.Rngs) -> nnx.Linear:
    options = dict(dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)
    return nnx.Linear(n, features, kernel_init=default_init(scale), **options)


def _null(features: int, param_dtype) -> nnx.Param:
    return nnx.Param(jnp.zeros((features,), param_dtype))


class ClassEmbedding(Contributions, nnx.Embed):
    """One learned vector per class, and one for the null class, which is the last row."""

    def __init__(self, num_classes: int, features: int, *, param_dtype, rngs: nnx.Rngs):
        super().__init__(num_classes + 1, features, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)

    def to_vector(self, value: Int[Array, "b"]) -> Float[Array, "b features"]:
        """Return the rows; a class of num_classes or more gives NaN, because a compiled function cannot raise an
        error."""
        return self(jnp.where(value < 0, self.num_embeddings - 1, value))


class AugmentationEmbedding(Contributions, nnx.Linear):
    """A linear map without a bias of the label of an augmentation (Karras et al. 2022)."""

    def __init__(self, entries: int, noise_features: int, *, param_dtype, rngs: nnx.Rngs):
        options = dict(kernel_init=default_init(), dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)
        super().__init__(entries, noise_features, use_bias=False, **options)

    def to_noise(self, value: Float[Array, "b entries"]) -> Float[Array, "b e"]:
        return self(value)


class VectorEmbedding(Contributions, nnx.Module):
    """Dense_0(act(Dense(v))), or a learned vector where v is absent."""

    def __init__(self, size: int, features: int, *, param_dtype, rngs: nnx.Rngs):
        options = dict(param_dtype=param_dtype, rngs=rngs)
        self.dense_1 = _dense(size, features, **options)
        self.dense_2 = _dense(features, features, scale=0.0, **options)
        self.null = _null(features, param_dtype)

    def to_vector(self, value: Float[Array, "b size"]) -> Float[Array, "b features"]:
        present = jnp.all(jnp.isfinite(value), axis=-1, keepdims=True)
        h = self.dense_2(nnx.swish(self.dense_1(jnp.where(present, value, 0))))
        return jnp.where(present, h, self.null[...])


class ChannelEmbedding(Contributions, nnx.Module):
    """The channels of an image, resized to the grid of x, or learned numbers where it is absent, and a presence
    channel, which is 1 or 0."""

    def __init__(self, channels: int, resize: str, *, param_dtype, rngs: nnx.Rngs):
        self.resize, self.num_channels = resize, channels + 1
        self.null = _null(channels, param_dtype)

    def to_channels(self, value: Float[Array, "b *space c"], grid: tuple[int, ...]) -> Float[Array, "b *grid d"]:
        present = jnp.all(jnp.isfinite(value), axis=tuple(range(1, value.ndim)), keepdims=True)
        image = jnp.where(present, value, self.null[...])
        if image.shape[1:-1] != grid:
            image = jax.image.resize(image, (len(image), *grid, image.shape[-1]), self.resize)
        return jnp.concatenate([image, jnp.broadcast_to(present, (*image.shape[:-1], 1)).astype(image.dtype)], axis=-1)


class EncoderEmbedding(Contributions, nnx.Module):
    """Dense_0 of the mean over points of convolutions that halve the image, or a learned vector where it is absent."""

    def __init__(self, size, channels: int, width: int, features: int, *, param_dtype, rngs: nnx.Rngs):
        options = dict(kernel_init=default_init(), dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)
        kernel, sizes = (3,) * len(size), list(size)
        self.layers = nnx.List([nnx.Conv(channels, width, kernel, **options)])
        while max(sizes) >= _SMALLEST:
            strides = tuple(2 if n >= _SMALLEST else 1 for n in sizes)
            self.layers.append(nnx.Conv(width, width, kernel, strides=strides, **options))
            sizes = [-(-n // stride) for n, stride in zip(sizes, strides, strict=True)]
        self.dense = _dense(width, features, scale=0.0, param_dtype=param_dtype, rngs=rngs)
        self.null = _null(features, param_dtype)

    def to_vector(self, value: Float[Array, "b *space c"]) -> Float[Array, "b features"]:
        space = tuple(range(1, value.ndim - 1))
        present = jnp.all(jnp.isfinite(value), axis=(*space, -1), keepdims=True)
        h = jnp.where(present, value, 0)
        for layer in self.layers:
            h = nnx.swish(layer(h))
        return jnp.where(present.reshape(-1, 1), self.dense(jnp.mean(h, axis=space)), self.null[...])


class _Rows(Contributions, nnx.Module):
    """Dense(row) + encoding of its position, for the rows of a sequence."""

    def __init__(self, length: int, size: int, features: int, *, ordered: bool, param_dtype, rngs: nnx.Rngs):
        self.ordered = ordered
        self.dense_1 = _dense(size, features, param_dtype=param_dtype, rngs=rngs)

    def _rows(self, value: Float[Array, "b n size"]) -> tuple[Float[Array, "b n features"], Bool[Array, "b n"]]:
        present = jnp.all(jnp.isfinite(value), axis=-1)
        h = self.dense_1(jnp.where(present[..., None], value, 0))
        return (h + positions(*h.shape[1:]) if self.ordered else h), present


class TokenEmbedding(_Rows):
    """The rows of a sequence as tokens, Dense(act(Dense(row) + position)), for networks with attention."""

    has_tokens = True

    def __init__(self, length: int, size: int, features: int, *, ordered: bool, param_dtype, rngs: nnx.Rngs):
        super().__init__(length, size, features, ordered=ordered, param_dtype=param_dtype, rngs=rngs)
        self.dense_2 = _dense(features, features, param_dtype=param_dtype, rngs=rngs)

    def to_tokens(self, value):
        rows, present = self._rows(value)
        return self.dense_2(nnx.swish(rows)), present


class MeanEmbedding(_Rows):
    """Dense_0(act(Dense(m))) of the mean m of act(Dense(act(Dense(row) + position))) over the rows that are present.

    The share of rows that are present is appended to m. Without any row it is a learned vector.
    """

    def __init__(self, length: int, size: int, features: int, *, ordered: bool, param_dtype, rngs: nnx.Rngs):
        super().__init__(length, size, features, ordered=ordered, param_dtype=param_dtype, rngs=rngs)
        options = dict(param_dtype=param_dtype, rngs=rngs)
        self.dense_2 = _dense(features, features, **options)
        self.dense_3 = _dense(features + 1, features, **options)
        self.dense_4 = _dense(features, features, scale=0.0, **options)
        self.null = _null(features, param_dtype)

    def to_vector(self, value):
        rows, present = self._rows(value)
        rows = nnx.swish(self.dense_2(nnx.swish(rows)))
        share = jnp.mean(present, axis=1, keepdims=True, dtype=rows.dtype)
        total = jnp.sum(jnp.where(present[..., None], rows, 0), axis=1)
        mean = total / jnp.maximum(share * rows.shape[1], 1)
        h = self.dense_4(nnx.swish(self.dense_3(jnp.concatenate([mean, share], axis=-1))))
        return jnp.where(share > 0, h, self.null[...])


def positions(length: int, features: int) -> np.ndarray:
    """Return [sin(w p), cos(w p)] of the positions p = 0, 1, ..., float32 [length, features], with w_i = 1e4^(-i/half);
    an odd number of features is padded with one zero."""
    half = max(features // 2, 1)
    angle = np.arange(length)[:, None] * MAX_PERIOD ** (-np.arange(half) / half)
    encoded = np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)[:, :features]
    return np.pad(encoded, ((0, 0), (0, features - encoded.shape[1]))).astype(np.float32)
