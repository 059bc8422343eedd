"""The blocks of DDPM++ (Song et al. 2021, appendix H), channels last.

Residual block, after BigGAN (Brock et al. 2019), with resampling R (identity, nearest x2, or average /2) of both paths:

    h   = conv3x3(R(act(GN(x)))) + Dense(act(temb))
    h   = conv3x3_0(dropout(act(GN(h))))
    out = (skip(R(x)) + h) * rescale,    skip = conv1x1 if the channels change or R is not the identity

Attention block, one head over all pixels:

    q, k, v = linear_.1(GN(x)),    out = (x + linear_0(softmax(q k^T / sqrt(C)) v)) * rescale

`act` is swish. A subscript is the scale of the initializer, 1 where there is none; scale 0 means 1e-10, so that a block
starts as its skip path. `rescale` is 1/sqrt(2), or 1 without skip rescaling.

Convolutions and products run in `dtype`, parameters are kept in `param_dtype`. GroupNorm statistics and the softmax are
float32 and their results are cast back to `dtype`.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

FeatureMap = Float[Array, "b _ _ _"]  # batch, height, width, channels

GROUP_NORM_EPSILON = 1e-6  # as in DDPM and in Song et al. 2021
MAX_GROUPS = 32
MIN_GROUP_WIDTH = 4  # channels per group, where the channels allow it


@functools.cache
def default_init(scale: float = 1.0) -> nnx.Initializer:
    """Uniform with variance scale / ((fan_in + fan_out) / 2); scale 0 means 1e-10 (Song et al. 2021).

    Cached, because a module stores its initializer and two modules are alike only if they store the same one.
    """
    return nnx.initializers.variance_scaling(scale or 1e-10, "fan_avg", "uniform")


def num_groups(channels: int) -> int:
    """min(channels // 4, 32) (Song et al. 2021), or the largest number of groups below it that divides the channels."""
    wanted = max(min(channels // MIN_GROUP_WIDTH, MAX_GROUPS), 1)
    return next(groups for groups in range(wanted, 0, -1) if channels % groups == 0)


def group_norm(channels: int, *, dtype, param_dtype, rngs: nnx.Rngs) -> nnx.GroupNorm:
    """GroupNorm with float32 statistics and its result in `dtype` (without `dtype` it would promote bfloat16)."""
    return nnx.GroupNorm(
        channels,
        num_groups=num_groups(channels),
        epsilon=GROUP_NORM_EPSILON,
        dtype=dtype,
        param_dtype=param_dtype,
        rngs=rngs,
    )


def conv(in_features: int, out_features: int, width: int, *, scale: float = 1.0, **options) -> nnx.Conv:
    """A convolution with a `width` x `width` kernel that keeps height and width."""
    return nnx.Conv(in_features, out_features, (width, width), kernel_init=default_init(scale), **options)


def linear(in_features: int, out_features: int, *, scale: float = 1.0, **options) -> nnx.Linear:
    return nnx.Linear(in_features, out_features, kernel_init=default_init(scale), **options)


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Nearest neighbour, twice the height and width."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Average over 2 x 2 pixels, half the height and width."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


class ResidualBlock(nnx.Module):
    """BigGAN residual block; the formula is at the top of the file.

    Args:
        in_features, out_features: channels of input and output.
        temb_features: length of the conditioning vector.
        resample: `upsample`, `downsample`, or None for the same height and width. Any function of one feature map.
        dropout: probability of dropping an activation before the second convolution.
        rescale: factor on the sum of skip path and block.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        temb_features: int,
        resample: Callable[[FeatureMap], FeatureMap] | None = None,
        dropout: float,
        rescale: float,
        dtype,
        param_dtype,
        rngs: nnx.Rngs,
    ):
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.resample = resample
        self.rescale = rescale
        self.norm_1 = group_norm(in_features, **options)
        self.conv_1 = conv(in_features, out_features, 3, **options)
        self.dense = linear(temb_features, out_features, **options)
        self.norm_2 = group_norm(out_features, **options)
        self.dropout = nnx.Dropout(dropout)  # no rngs: the key comes with the call
        self.conv_2 = conv(out_features, out_features, 3, scale=0.0, **options)
        changes = in_features != out_features or resample is not None
        self.skip = conv(in_features, out_features, 1, **options) if changes else None

    def __call__(
        self, x: FeatureMap, temb: Float[Array, "b features"], *, key: PRNGKeyArray | None = None
    ) -> FeatureMap:
        """temb already went through `act`, once for all blocks. key=None: no dropout."""
        h = nnx.swish(self.norm_1(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv_1(h) + self.dense(temb)[:, None, None, :]
        h = nnx.swish(self.norm_2(h))
        h = self.conv_2(self.dropout(h, deterministic=key is None, rngs=key))
        if self.skip is not None:
            x = self.skip(x)
        return (x + h) * self.rescale


class AttentionBlock(nnx.Module):
    """Single-head self-attention over all pixels; the formula is at the top of the file.

    Args:
        features: channels of input and output.
        rescale: factor on the sum of skip path and attention.
    """

    def __init__(self, features: int, *, rescale: float, dtype, param_dtype, rngs: nnx.Rngs):
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.rescale = rescale
        self.norm = group_norm(features, **options)
        self.query = linear(features, features, scale=0.1, **options)
        self.key = linear(features, features, scale=0.1, **options)
        self.value = linear(features, features, scale=0.1, **options)
        self.out = linear(features, features, scale=0.0, **options)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, height, width, c = x.shape
        h = self.norm(x).reshape(b, height * width, c)
        q, k, v = self.query(h), self.key(h), self.value(h)
        logits = jnp.einsum("bic,bjc->bij", q, k, preferred_element_type=jnp.float32) / math.sqrt(c)
        weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
        h = self.out(jnp.einsum("bij,bjc->bic", weights, v))
        return (x + h.reshape(x.shape)) * self.rescale
