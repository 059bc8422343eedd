r"""The Inception network whose features define FID: the graph of 5 December 2015, up to its layer pool_3 [2048].

The architecture is Szegedy et al. 2016, figure 10 (Inception-v3). The graph of 2015 differs from later ports in four
points:

- average pools within blocks exclude padding from their mean (later ports count it as zeros);
- the last block pools by the maximum (later ports: by the mean);
- batch normalisation has eps = 1e-3 and no scale; here it is folded into kernel and bias;
- images v in 0..255 are mapped to (v - 128)/128 after a bilinear resize to 299 x 299 by the rule of TensorFlow 1:
  output i is sampled at i * size/299, without half-pixel centres and antialiasing (`resize_matrix`).

pytorch-fid and torch-fidelity state the same four points about their ports. Layers are numbered depth first, branches
from left to right, which is the order of the published graph; `from_convolutions` takes the weights in that order.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

SIZE = 299  # of an image, in pixels
FEATURES = 2048
CONVOLUTIONS = 94
BATCH_NORM_EPSILON = 1e-3
# All products are float32: by default GPUs round factors to 10 bits and TPUs to 8, which changes the third digit of a
# feature.
_HIGHEST = jax.lax.Precision.HIGHEST


class Convolution(nnx.Module):
    """Convolution with activation, relu(kernel * x + bias)."""

    def __init__(self, size: tuple[int, int], inputs: int, outputs: int, stride: int = 1, padding: str = "SAME"):
        self.kernel = nnx.Param(jnp.zeros((*size, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.stride, self.padding = stride, padding

    def __call__(self, x):
        strides, form = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, self.kernel[...], strides, self.padding, dimension_numbers=form, precision=_HIGHEST
        )
        return nnx.relu(y + self.bias[...])


class AveragePool(nnx.Module):
    """Mean over the 3 x 3 neighbours that lie inside the image."""

    def __call__(self, x):
        return nnx.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


class MaxPool(nnx.Module):
    """Maximum over the 3 x 3 neighbours."""

    def __init__(self, stride: int, padding: str):
        self.stride, self.padding = stride, padding

    def __call__(self, x):
        return nnx.max_pool(x, (3, 3), (self.stride, self.stride), self.padding)


class Chain(nnx.Module):
    """Composition of layers."""

    def __init__(self, *layers: nnx.Module):
        self.layers = nnx.List(layers)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Branches(nnx.Module):
    """Parallel layers whose channels are concatenated."""

    def __init__(self, *layers: nnx.Module):
        self.layers = nnx.List(layers)

    def __call__(self, x):
        return jnp.concatenate([layer(x) for layer in self.layers], axis=-1)


class Inception(nnx.Module):
    """Inception: images [B, H, W, 3] with values 0..255 -> pool_3 [B, 2048], and logits [B, classes] without bias if
    `classes` > 0."""

    def __init__(self, classes: int = 0):
        self.body = Chain(
            _conv(3, 3, 32, 2, "VALID"), _conv(3, 32, 32, 1, "VALID"), _conv(3, 32, 64), MaxPool(2, "VALID"),
            _conv(1, 64, 80, 1, "VALID"), _conv(3, 80, 192, 1, "VALID"), MaxPool(2, "VALID"),
            _block_35(192, 32), _block_35(256, 64), _block_35(288, 64), _to_17(288),
            _block_17(128), _block_17(160), _block_17(160), _block_17(192), _to_8(768),
            _block_8(1280, AveragePool()), _block_8(2048, MaxPool(1, "SAME")),
        )  # fmt: skip
        self.readout = nnx.Param(jnp.zeros((FEATURES, classes))) if classes else None

    def __call__(self, images: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b 2048"], Any]:
        x = (resized(images) - 128) / 128
        features = self.body(x).mean(axis=(1, 2))
        return features, None if self.readout is None else jnp.matmul(features, self.readout[...], precision=_HIGHEST)


def _conv(size: int, inputs: int, outputs: int, stride: int = 1, padding: str = "SAME") -> Convolution:
    return Convolution((size, size), inputs, outputs, stride, padding)


def _row(inputs: int, outputs: int, width: int = 7) -> Convolution:
    return Convolution((1, width), inputs, outputs)


def _column(inputs: int, outputs: int, height: int = 7) -> Convolution:
    return Convolution((height, 1), inputs, outputs)


def _block_35(n: int, pooled: int) -> Branches:
    """Return a block on 35 x 35 points (figure 5)."""
    return Branches(
        _conv(1, n, 64),
        Chain(_conv(1, n, 48), _conv(5, 48, 64)),
        Chain(_conv(1, n, 64), _conv(3, 64, 96), _conv(3, 96, 96)),
        Chain(AveragePool(), _conv(1, n, pooled)),
    )


def _to_17(n: int) -> Branches:
    return Branches(
        _conv(3, n, 384, 2, "VALID"),
        Chain(_conv(1, n, 64), _conv(3, 64, 96), _conv(3, 96, 96, 2, "VALID")),
        MaxPool(2, "VALID"),
    )


def _block_17(m: int) -> Branches:
    """Return a block on 17 x 17 points with m hidden channels (figure 6)."""
    return Branches(
        _conv(1, 768, 192),
        Chain(_conv(1, 768, m), _row(m, m), _column(m, 192)),
        Chain(_conv(1, 768, m), _column(m, m), _row(m, m), _column(m, m), _row(m, 192)),
        Chain(AveragePool(), _conv(1, 768, 192)),
    )


def _to_8(n: int) -> Branches:
    return Branches(
        Chain(_conv(1, n, 192), _conv(3, 192, 320, 2, "VALID")),
        Chain(_conv(1, n, 192), _row(192, 192), _column(192, 192), _conv(3, 192, 192, 2, "VALID")),
        MaxPool(2, "VALID"),
    )


def _block_8(n: int, pool: nnx.Module) -> Branches:
    """Return a block on 8 x 8 points (figure 7)."""
    return Branches(
        _conv(1, n, 320),
        Chain(_conv(1, n, 384), Branches(_row(384, 384, 3), _column(384, 384, 3))),
        Chain(_conv(1, n, 448), _conv(3, 448, 384), Branches(_row(384, 384, 3), _column(384, 384, 3))),
        Chain(pool, _conv(1, n, 192)),
    )


def resize_matrix(size: int, to: int = SIZE) -> np.ndarray:
    """Return the matrix [to, size] whose row i interpolates between floor(i size/to) and the next point; the next point
    of the last point is itself."""
    place = np.arange(to) * (size / to)
    low = np.floor(place).astype(int)
    matrix = np.zeros((to, size))
    np.add.at(matrix, (np.arange(to), low), 1 - (place - low))
    np.add.at(matrix, (np.arange(to), np.minimum(low + 1, size - 1)), place - low)
    return matrix


def resized(images: Float[Array, "b h w c"]) -> Float[Array, "b 299 299 c"]:
    """Resize like TensorFlow 1's `resize_bilinear` with align_corners=False, by two matrix products."""
    rows, columns = (jnp.asarray(resize_matrix(size), jnp.float32) for size in images.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, images.astype(jnp.float32), columns, precision=_HIGHEST, optimize=True)


def folded(
    kernel: np.ndarray, scale: np.ndarray, beta: np.ndarray, mean: np.ndarray, var: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel [H, W, I, O] and bias [O] of batch normalisation after a convolution with kernel [O, I, H, W]."""
    factor = scale.astype(np.float64) / np.sqrt(var.astype(np.float64) + BATCH_NORM_EPSILON)
    bias = beta - mean * factor
    return (kernel.transpose(2, 3, 1, 0) * factor).astype(np.float32), bias.astype(np.float32)


def shapes() -> list[tuple[int, ...]]:
    """Return the shapes of the kernels [H, W, I, O], in order."""
    _, state = _described(0)
    return [leaf.shape for leaf in jax.tree.leaves(state) if len(leaf.shape) == 4]


def _described(classes: int):
    """Return the static description of the module and the shapes of its parameters, without allocating them."""
    made = {}

    def build():
        graphdef, state = nnx.split(Inception(classes))
        made["graphdef"] = graphdef
        return nnx.to_pure_dict(state)

    state = jax.eval_shape(build)
    return made["graphdef"], state


def from_convolutions(convolutions: Sequence[tuple[np.ndarray, np.ndarray]], readout: np.ndarray | None = None):
    """Return (function of (params, images), params) for the network with these kernels and biases, in order.

    Args:
        convolutions: `CONVOLUTIONS` pairs of a kernel [H, W, I, O] and a bias [O], of the shapes that `shapes()` lists.
        readout: matrix [2048, classes] of the logits, which have no bias, as in the Inception Score.
    """
    graphdef, described = _described(0 if readout is None else readout.shape[1])
    leaves, structure = jax.tree.flatten(described)
    arrays = [array for kernel, bias in convolutions for array in (bias, kernel)]  # order of the sorted keys
    arrays += [] if readout is None else [readout]
    assert [leaf.shape for leaf in leaves] == [array.shape for array in arrays], "expected the shapes of shapes()"
    params = jax.tree.unflatten(structure, [jnp.asarray(array, jnp.float32) for array in arrays])
    return lambda params, images: nnx.merge(graphdef, params)(images), params


def to_rgb(images: UInt8[np.ndarray, "b h w c"]) -> UInt8[np.ndarray, "b h w 3"]:
    """Return images with three channels: one channel is repeated, three are unchanged."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
