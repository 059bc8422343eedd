"""The blocks of the U-Nets (Song et al. 2021, appendix H; Dhariwal and Nichol 2021, section 3), channels last.

A feature map has one or more spatial axes. The formulas are those of images: conv3x3 stands for a kernel of three
points along each axis, and a pixel for a point of the grid.

Residual block, after BigGAN (Brock et al. 2019), with resampling R of both paths (the identity, or one of
`resampling`):

    h   = conv3x3(R(act(GN(x))))
    h   = GN(h + b),              b = Dense(act(temb))       modulation "shift"
    h   = GN(h) * (1 + s) + b,    s, b = Dense(act(temb))    modulation "scale_shift": adaptive group normalization
    h   = conv3x3_0(dropout(act(h)))
    out = (skip(R(x)) + h) * rescale

skip is a conv1x1 if the channels change, or if R is not the identity and resample_skip is "conv"; otherwise it is the
identity.

Attention block over all pixels, per head of d channels:

    q, k, v = linear_.1(GN(x)),    out = (x + linear_0(softmax(q k^T / sqrt(d)) v)) * rescale

`act` is swish. A subscript is the scale of the initializer, 1 by default; scale 0 means 1e-10, so that a block starts
as its skip path. `rescale` is 1/sqrt(2), or 1 without skip rescaling.

Convolutions and matrix products are computed in `dtype`; parameters are stored in `param_dtype`. GroupNorm statistics
and the softmax are float32, and their results are cast back to `dtype`.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ConfigError
from .attention import attend, split_heads
from .cross_attention import CrossAttention, Rows
from .remat import rematerialise

FeatureMap = Float[Array, "b ... _"]  # batch, spatial axes, channels

GROUP_NORM_EPSILON = 1e-6  # as in DDPM and in Song et al. 2021; ADM and EDM's ADM use 1e-5
MAX_GROUPS = 32
MIN_GROUP_WIDTH = 4  # channels per group, where the channels allow it


@functools.cache
def default_init(scale: float = 1.0) -> nnx.Initializer:
    """Return a uniform initializer with variance scale / ((fan_in + fan_out) / 2); scale 0 means 1e-10 (Song et al.
    2021).

    The result is cached, because a module stores its initializer and two modules are equal only if they store the same
    object.
    """
    return nnx.initializers.variance_scaling(scale or 1e-10, "fan_avg", "uniform")


def num_groups(channels: int) -> int:
    """Return the largest number of groups up to min(channels // 4, 32) that divides the channels (Song et al. 2021)."""
    wanted = max(min(channels // MIN_GROUP_WIDTH, MAX_GROUPS), 1)
    return next(groups for groups in range(wanted, 0, -1) if channels % groups == 0)


class GroupNorm(nnx.GroupNorm):
    """Group normalization, computed as one scale and one shift per channel from sums per channel.

        y = x a + b,    a = scale / sqrt(v + epsilon),    b = bias - m a

    m and v = E[x^2] - E[x]^2 are mean and variance of the channel's group, in float32 at least, as in nnx.GroupNorm.
    The sums run along axes that are adjacent in memory, and no array of the size of x has one axis for groups and one
    for the channels in them. On a CPU the U-Net's forward pass takes 0.88 of the time, and its gradient 0.93
    (`docs/performance.md`).
    """

    def __call__(self, x: FeatureMap) -> FeatureMap:
        b, *space, channels = x.shape
        axes = tuple(range(1, x.ndim - 1))
        fine = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        moments = jnp.stack([jnp.sum(fine, axis=axes), jnp.sum(fine**2, axis=axes)])
        size = math.prod(space) * channels // self.num_groups
        mean, square = jnp.sum(moments.reshape(2, b, self.num_groups, -1), axis=-1) / size
        variance = jnp.maximum(square - mean**2, 0)
        mean, inverse = (
            jnp.repeat(v, channels // self.num_groups, axis=1) for v in (mean, jax.lax.rsqrt(variance + self.epsilon))
        )
        a = inverse * self.scale[...]
        shift = self.bias[...] - mean * a
        return (fine * jnp.expand_dims(a, axes) + jnp.expand_dims(shift, axes)).astype(self.dtype)


def group_norm(channels: int, *, epsilon: float = GROUP_NORM_EPSILON, dtype, param_dtype, rngs: nnx.Rngs) -> GroupNorm:
    """Return a GroupNorm with float32 statistics whose result has the type `dtype`."""
    return GroupNorm(
        channels,
        num_groups=num_groups(channels),
        epsilon=epsilon,
        dtype=dtype,
        param_dtype=param_dtype,
        rngs=rngs,
    )


def conv(in_features: int, out_features: int, width: int, *, axes: int, scale: float = 1.0, **options) -> nnx.Conv:
    """Return a convolution with a kernel of `width` points along each of `axes` spatial axes that keeps the size."""
    return nnx.Conv(in_features, out_features, (width,) * axes, kernel_init=default_init(scale), **options)


def linear(in_features: int, out_features: int, *, scale: float = 1.0, **options) -> nnx.Linear:
    return nnx.Linear(in_features, out_features, kernel_init=default_init(scale), **options)


class ResidualBlock(nnx.Module):
    """BigGAN residual block; the formula is at the top of the file.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        axes: number of spatial axes.
        temb_features: length of the conditioning vector.
        resample: function of a feature map that halves or doubles its size along each axis; None keeps it.
        resample_skip: skip path of a block that resamples: "conv" or "identity".
        modulation: effect of the conditioning vector: "shift" or "scale_shift".
        dropout: probability of dropping an activation before the second convolution.
        rescale: factor on the sum of skip path and block.
        epsilon: epsilon of the group normalization.
        dtype: data type of the computation.
        param_dtype: data type of the parameters.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        axes: int,
        temb_features: int,
        resample: Callable[[FeatureMap], FeatureMap] | None = None,
        resample_skip: str = "conv",
        modulation: str = "shift",
        dropout: float,
        rescale: float,
        epsilon: float = GROUP_NORM_EPSILON,
        dtype,
        param_dtype,
        rngs: nnx.Rngs,
    ):
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.resample = resample
        self.rescale = rescale
        self.modulation = modulation
        self.norm_1 = group_norm(in_features, epsilon=epsilon, **options)
        self.conv_1 = conv(in_features, out_features, 3, axes=axes, **options)
        self.dense = linear(temb_features, (2 if modulation == "scale_shift" else 1) * out_features, **options)
        self.norm_2 = group_norm(out_features, epsilon=epsilon, **options)
        self.dropout = nnx.Dropout(dropout)  # no rngs: the key comes with the call
        self.conv_2 = conv(out_features, out_features, 3, axes=axes, scale=0.0, **options)
        changes = in_features != out_features or (resample is not None and resample_skip == "conv")
        self.skip = conv(in_features, out_features, 1, axes=axes, **options) if changes else None

    @rematerialise
    def __call__(
        self, x: FeatureMap, temb: Float[Array, "b features"], *, key: PRNGKeyArray | None = None
    ) -> FeatureMap:
        """Return the feature map after the block. temb already includes `act`; key=None switches dropout off."""
        h = nnx.swish(self.norm_1(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv_1(h)
        moved = jnp.expand_dims(self.dense(temb), tuple(range(1, x.ndim - 1)))
        if self.modulation == "scale_shift":
            scale, shift = jnp.split(moved, 2, axis=-1)
            h = self.norm_2(h) * (1 + scale) + shift
        else:
            h = self.norm_2(h + moved)
        h = self.conv_2(self.dropout(nnx.swish(h), deterministic=key is None, rngs=key))
        if self.skip is not None:
            x = self.skip(x)
        return (x + h) * self.rescale


class AttentionBlock(nnx.Module):
    """Self-attention over all pixels; the formula is at the top of the file.

    Args:
        features: channels of input and output.
        head_channels: channels of one head; 0: one head.
        rescale: factor on the sum of skip path and attention.
        epsilon: epsilon of the group normalization.
        row_features: features of the rows of a sequence, to which there is cross-attention first; 0: none.
        dtype: data type of the computation.
        param_dtype: data type of the parameters.

    Raises:
        ConfigError: heads that do not divide the channels.
    """

    def __init__(
        self,
        features: int,
        *,
        head_channels: int = 0,
        rescale: float,
        epsilon: float = GROUP_NORM_EPSILON,
        row_features: int = 0,
        dtype,
        param_dtype,
        rngs: nnx.Rngs,
    ):
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.heads = num_heads(features, head_channels)
        self.rescale = rescale
        self.norm = group_norm(features, epsilon=epsilon, **options)
        self.query = linear(features, features, scale=0.1, **options)
        self.key = linear(features, features, scale=0.1, **options)
        self.value = linear(features, features, scale=0.1, **options)
        self.out = linear(features, features, scale=0.0, **options)
        across = dict(heads=self.heads, **options)
        self.norm_cross = group_norm(features, epsilon=epsilon, **options) if row_features else None
        self.cross = CrossAttention(features, row_features, **across) if row_features else None

    @rematerialise
    def __call__(self, x: FeatureMap, rows: Rows | None = None) -> FeatureMap:
        b, *space, c = x.shape
        if self.cross is not None:
            x = x + self.cross(self.norm_cross(x).reshape(b, math.prod(space), c), rows).reshape(x.shape)
        h = self.norm(x).reshape(b, math.prod(space), c)
        q, k, v = (split_heads(layer(h), self.heads) for layer in (self.query, self.key, self.value))
        h = self.out(attend(q, k, v).reshape(b, math.prod(space), c))
        return (x + h.reshape(x.shape)) * self.rescale


def num_heads(features: int, head_channels: int) -> int:
    """Return features / head_channels, or 1 for head_channels = 0.

    Raises:
        ConfigError: the quotient is not a whole number.
    """
    if head_channels and features % head_channels:
        raise ConfigError(f"attention: expected head_channels that divide the {features} channels, got {head_channels}")
    return features // head_channels if head_channels else 1
