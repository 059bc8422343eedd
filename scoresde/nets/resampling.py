"""Layers that halve and double the size of feature maps along every spatial axis, channels last, with or without a
convolution.

The filter box (Ho et al. 2020) is the mean of two neighbours along each axis (of 2 x 2 pixels of an image), and nearest
neighbour.

The filter fir (Karras et al. 2020, StyleGAN2; Song et al. 2021, appendix H) is the kernel k = [1, 3, 3, 1]/8 along each
axis, with zeros outside. `upfirdn2d` of these papers inserts zeros, pads, convolves and drops pixels; for this kernel
and factor 2 it is, along each axis,

    down: y_i      = (x_{2i-1} + 3 x_{2i} + 3 x_{2i+1} + x_{2i+2}) / 8
    up:   y_{2i}   = (x_{i-1} + 3 x_i) / 4,    y_{2i+1} = (3 x_i + x_{i+1}) / 4

It is computed as sums of shifted slices, which XLA fuses: on two CPU cores a depthwise convolution takes 13 times as
long down and 90 times up (16 x 32 x 32 x 128 values). The kernel is symmetric.

With a convolution of three points along each axis, `fir` shares one padding between the two (StyleGAN2,
`conv_downsample_2d`, `upsample_conv_2d`). Along each axis:

    down: pad (2, 2), k, then the convolution with stride 2 and no padding
    up:   zeros between pixels, pad (2, 2), the convolution without padding, then pad (1, 1) and 2k

`box` with a convolution is that of DDPM: stride 2 after padding (0, 1) for down, nearest neighbour before the
convolution for up. `box_padded` pads (1, 1) instead, as diffusers does by default (`downsample_padding` = 1); without a
convolution the two filters are the same.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PRNGKeyArray

from .blocks import FeatureMap, default_init


def upsample(x: FeatureMap) -> FeatureMap:
    """Double the size along each axis by nearest neighbour."""
    b, *space, c = x.shape
    apart = x.reshape(b, *(m for n in space for m in (n, 1)), c)
    twice = jnp.broadcast_to(apart, (b, *(m for n in space for m in (n, 2)), c))
    return twice.reshape(b, *(2 * n for n in space), c)


def downsample(x: FeatureMap) -> FeatureMap:
    """Halve the size along each axis by averaging two neighbours."""
    b, *space, c = x.shape
    pairs = x.reshape(b, *(m for n in space for m in (n // 2, 2)), c)
    return pairs.mean(axis=tuple(range(2, pairs.ndim - 1, 2)))


def fir_downsample(x: FeatureMap) -> FeatureMap:
    """Halve the size: the filter [1, 3, 3, 1]/8 along each axis, then every second pixel."""
    for axis in range(1, x.ndim - 1):
        p = _padded(x, axis, 1, 1)
        x = (
            _part(p, axis, 0, -3, 2)
            + 3 * _part(p, axis, 1, -2, 2)
            + 3 * _part(p, axis, 2, -1, 2)
            + _part(p, axis, 3, None, 2)
        ) / 8
    return x


def fir_upsample(x: FeatureMap) -> FeatureMap:
    """Double the size: zeros between pixels, then the filter [1, 3, 3, 1]/4 along each axis."""
    for axis in range(1, x.ndim - 1):
        p = _padded(x, axis, 1, 1)
        even = (_part(p, axis, 0, -2) + 3 * x) / 4
        odd = (3 * x + _part(p, axis, 2, None)) / 4
        shape = list(x.shape)
        shape[axis] *= 2
        x = jnp.stack([even, odd], axis=axis + 1).reshape(shape)
    return x


def _padded(x: FeatureMap, axis: int, before: int, after: int) -> FeatureMap:
    return jnp.pad(x, [(before, after) if a == axis else (0, 0) for a in range(x.ndim)])


def _part(x: FeatureMap, axis: int, first: int, end: int | None, stride: int = 1) -> FeatureMap:
    return x[(slice(None),) * axis + (slice(first, end, stride),)]


def _blur(x: FeatureMap, pad: int) -> FeatureMap:
    """Apply k along each axis after padding; the result has 2 pad - 3 pixels more per axis."""
    for axis in range(1, x.ndim - 1):
        p = _padded(x, axis, pad, pad)
        x = (
            _part(p, axis, 0, -3) + 3 * _part(p, axis, 1, -2) + 3 * _part(p, axis, 2, -1) + _part(p, axis, 3, None)
        ) / 8
    return x


class Filter(NamedTuple):
    """Functions by which a filter halves and doubles the resolution, alone and with a convolution.

    The options of a convolution are those of every axis; `padding` is the number of zeros (before, after).
    """

    down: Callable[[FeatureMap], FeatureMap]
    up: Callable[[FeatureMap], FeatureMap]
    before_down_conv: Callable[[FeatureMap], FeatureMap]
    down_conv: dict
    before_up_conv: Callable[[FeatureMap], FeatureMap]
    up_conv: dict
    after_up_conv: Callable[[FeatureMap], FeatureMap]


def _same(x: FeatureMap) -> FeatureMap:
    return x


_BOX = Filter(
    downsample, upsample,
    _same, dict(strides=2, padding=(0, 1)),
    upsample, dict(padding=(1, 1)), _same,
)  # fmt: skip
FILTERS = {
    "box": _BOX,
    "box_padded": _BOX._replace(down_conv=dict(strides=2, padding=(1, 1))),
    "fir": Filter(
        fir_downsample, fir_upsample,
        lambda x: _blur(x, 2), dict(strides=2, padding=(0, 0)),
        _same, dict(input_dilation=2, padding=(2, 2)), lambda x: 2 ** (x.ndim - 2) * _blur(x, 1),
    ),
}  # fmt: skip


def _conv(in_features: int, out_features: int, axes: int, *, padding: tuple[int, int], **options) -> nnx.Conv:
    """Return a convolution with a kernel of three points along each axis."""
    options |= dict(kernel_init=default_init(), padding=(padding,) * axes)
    return nnx.Conv(in_features, out_features, (3,) * axes, **options)


class DownConv(nnx.Module):
    """Layer that halves the size by a convolution with a filter; the formulas are at the top of the file.

    A call accepts the arguments of a residual block, which it may replace, and ignores them.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        filter: a name in `FILTERS`.
        axes: number of spatial axes.
        options: dtype, param_dtype, rngs.
    """

    def __init__(self, in_features: int, out_features: int, filter: str, *, axes: int, **options):
        self.filter = filter
        self.conv = _conv(in_features, out_features, axes, **FILTERS[filter].down_conv, **options)

    def __call__(self, x: FeatureMap, temb: Array | None = None, *, key: PRNGKeyArray | None = None) -> FeatureMap:
        return self.conv(FILTERS[self.filter].before_down_conv(x))


class UpConv(nnx.Module):
    """Layer that doubles the size by a convolution with a filter; the arguments are those of DownConv."""

    def __init__(self, in_features: int, out_features: int, filter: str, *, axes: int, **options):
        self.filter = filter
        self.conv = _conv(in_features, out_features, axes, use_bias=False, **FILTERS[filter].up_conv, **options)
        self.bias = nnx.Param(jnp.zeros(out_features, options["param_dtype"]))  # added after the filter

    def __call__(self, x: FeatureMap, temb: Array | None = None, *, key: PRNGKeyArray | None = None) -> FeatureMap:
        filter = FILTERS[self.filter]
        h = filter.after_up_conv(self.conv(filter.before_up_conv(x)))
        return h + self.bias[...].astype(h.dtype)
