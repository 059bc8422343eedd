"""Layers that halve and double the height and width of feature maps, channels last, with or without a convolution.

The filter box (Ho et al. 2020) is the mean of 2 x 2 pixels, and nearest neighbour.

The filter fir (Karras et al. 2020, StyleGAN2; Song et al. 2021, appendix H) is the kernel k = [1, 3, 3, 1]/8 along each
axis, with zeros outside. `upfirdn2d` of these papers inserts zeros, pads, convolves and drops pixels; for this kernel
and factor 2 it is, along each axis,

    down: y_i      = (x_{2i-1} + 3 x_{2i} + 3 x_{2i+1} + x_{2i+2}) / 8
    up:   y_{2i}   = (x_{i-1} + 3 x_i) / 4,    y_{2i+1} = (3 x_i + x_{i+1}) / 4

It is computed as sums of shifted slices, which XLA fuses: on two CPU cores a depthwise convolution takes 13 times as
long down and 90 times up (16 x 32 x 32 x 128 values). The kernel is symmetric.

With a 3 x 3 convolution, `fir` shares one padding between the two (StyleGAN2, `conv_downsample_2d`,
`upsample_conv_2d`):

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
from jaxtyping import Array, Float, PRNGKeyArray

from .blocks import FeatureMap, default_init


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Double height and width by nearest neighbour."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Halve height and width by averaging 2 x 2 pixels."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def fir_downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Halve height and width: the filter [1, 3, 3, 1]/8 along each axis, then every second pixel."""
    for axis in (1, 2):
        p = _padded(x, axis, 1, 1)
        x = (
            _part(p, axis, 0, -3, 2)
            + 3 * _part(p, axis, 1, -2, 2)
            + 3 * _part(p, axis, 2, -1, 2)
            + _part(p, axis, 3, None, 2)
        ) / 8
    return x


def fir_upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Double height and width: zeros between pixels, then the filter [1, 3, 3, 1]/4 along each axis."""
    for axis in (1, 2):
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
    """Apply k along both axes after padding; the result has 2 pad - 3 pixels more per axis."""
    for axis in (1, 2):
        p = _padded(x, axis, pad, pad)
        x = (
            _part(p, axis, 0, -3) + 3 * _part(p, axis, 1, -2) + 3 * _part(p, axis, 2, -1) + _part(p, axis, 3, None)
        ) / 8
    return x


class Filter(NamedTuple):
    """Functions by which a filter halves and doubles the resolution, alone and with a 3 x 3 convolution."""

    down: Callable[[FeatureMap], FeatureMap]
    up: Callable[[FeatureMap], FeatureMap]
    before_down_conv: Callable[[FeatureMap], FeatureMap]
    down_conv: dict  # options of the convolution
    before_up_conv: Callable[[FeatureMap], FeatureMap]
    up_conv: dict
    after_up_conv: Callable[[FeatureMap], FeatureMap]


def _same(x: FeatureMap) -> FeatureMap:
    return x


_BOX = Filter(
    downsample, upsample,
    _same, dict(strides=2, padding=((0, 1), (0, 1))),
    upsample, dict(padding="SAME"), _same,
)  # fmt: skip
FILTERS = {
    "box": _BOX,
    "box_padded": _BOX._replace(down_conv=dict(strides=2, padding=((1, 1), (1, 1)))),
    "fir": Filter(
        fir_downsample, fir_upsample,
        lambda x: _blur(x, 2), dict(strides=2, padding="VALID"),
        _same, dict(input_dilation=2, padding=((2, 2), (2, 2))), lambda x: 4 * _blur(x, 1),
    ),
}  # fmt: skip


class DownConv(nnx.Module):
    """Layer that halves height and width by a 3 x 3 convolution with a filter; the formulas are at the top of the file.

    A call accepts the arguments of a residual block, which it may replace, and ignores them.
    """

    def __init__(self, in_features: int, out_features: int, filter: str, *, dtype, param_dtype, rngs: nnx.Rngs):
        options = dict(kernel_init=default_init(), dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.filter = filter
        self.conv = nnx.Conv(in_features, out_features, (3, 3), **FILTERS[filter].down_conv, **options)

    def __call__(self, x: FeatureMap, temb: Array | None = None, *, key: PRNGKeyArray | None = None) -> FeatureMap:
        return self.conv(FILTERS[self.filter].before_down_conv(x))


class UpConv(nnx.Module):
    """Layer that doubles height and width by a 3 x 3 convolution with a filter; the arguments are those of DownConv."""

    def __init__(self, in_features: int, out_features: int, filter: str, *, dtype, param_dtype, rngs: nnx.Rngs):
        options = dict(kernel_init=default_init(), dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.filter = filter
        self.conv = nnx.Conv(in_features, out_features, (3, 3), use_bias=False, **FILTERS[filter].up_conv, **options)
        self.bias = nnx.Param(jnp.zeros(out_features, param_dtype))  # added after the filter

    def __call__(self, x: FeatureMap, temb: Array | None = None, *, key: PRNGKeyArray | None = None) -> FeatureMap:
        filter = FILTERS[self.filter]
        h = filter.after_up_conv(self.conv(filter.before_up_conv(x)))
        return h + self.bias[...].astype(h.dtype)
