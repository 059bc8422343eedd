"""EDM2's magnitude-preserving U-Net (Karras et al. 2024, configuration G and appendix B), channels last.

No layer changes the expected magnitude of its activations, and no layer has a bias or a normalization with parameters:

    kernel      w = v / (rms(v) sqrt(fan_in)), rms over the inputs of each output            (their equations 47 and 66)
    mp_silu(x)  = silu(x) / 0.596                                                             (81)
    mp_sum      = ((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)                                   (88)
    mp_cat      = sqrt((Na + Nb) / ((1 - t)^2 + t^2)) [(1 - t) a / sqrt(Na), t b / sqrt(Nb)]  (103)
    pixel_norm  = x / rms(x), rms over the channels of a pixel                                (30)
    emb(c)      = sqrt(2) cos(2 pi (f c + phi)), f ~ N(0, 1), phi ~ U(0, 1), fixed            (75)

    temb = mp_silu(mp_sum(Dense(emb(c_noise)), row of the class * sqrt(classes), 1/2))
    residual branch  y = conv3x3(dropout(mp_silu(conv3x3(mp_silu(x)) * (1 + gain Dense(temb)))))
    encoder block    x = pixel_norm(conv1x1(R(x))),    x = mp_sum(x, branch(x), 0.3), attention
    decoder block    x = R(x),    x = mp_sum(conv1x1(x), branch(x), 0.3), attention
    attention        x = mp_sum(x, conv1x1(softmax(q k^T / sqrt(d)) v), 0.3), q, k, v = pixel_norm per head of
    conv1x1(x)

R halves the resolution (mean) or doubles it (nearest neighbour); blocks start with a conv1x1 where the channels change.
The output of a block is clipped to +-256. The encoder is a convolution of x with an additional channel of ones, then
`blocks` blocks per level, with one block that halves the resolution between levels. The decoder starts with a block
with attention and one without, concatenates the encoder's feature maps one by one by mp_cat with t = 1/2, and has
`blocks + 1` blocks per level and one block that doubles the resolution between levels. Gains start at 0, so the network
starts as the zero function.

Kernels are normalized in every call. Training also rescales v to rms 1 after every step (`unit_kernels`, "forced weight
normalization", section 2.3), which keeps the effective learning rate from falling as v grows.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..errors import ConfigError
from .attention import attend, split_heads
from .blocks import FeatureMap, num_heads
from .condition_embeddings import Contributions
from .conditions import EMPTY, Condition, Conditions, Place
from .embedding import PREFIX, Conditioned, Entries
from .network import check_image_shape, check_input
from .remat import rematerialise
from .resampling import downsample, upsample
from .unet import check_levels

EPSILON = 1e-4  # added to every rms
SILU_MAGNITUDE = 0.596  # rms of silu(z), z ~ N(0, 1)
RESIDUAL_BALANCE = 0.3  # t of the sums in a block
LARGEST = 256.0  # limit of activations; only float16 has a range for which it matters


def normalize(x: Array, axis: tuple[int, ...]) -> Array:
    """Return x / (rms(x) + 1e-4), with the rms over `axis`, in float32."""
    x = x.astype(jnp.float32)
    return x / (EPSILON + jnp.sqrt(jnp.mean(x**2, axis=axis, keepdims=True)))


def pixel_norm(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    return normalize(x, (-1,)).astype(x.dtype)


def mp_silu(x: Array) -> Array:
    return nnx.swish(x) / SILU_MAGNITUDE


def mp_sum(a: Array, b: Array, t: float) -> Array:
    return ((1 - t) * a + t * b) / math.hypot(1 - t, t)


def mp_cat(a: Float[Array, "*b n"], b: Float[Array, "*b m"], t: float = 0.5) -> Float[Array, "*b k"]:
    n, m = a.shape[-1], b.shape[-1]
    scale = math.sqrt(n + m) / math.hypot(1 - t, t)
    return jnp.concatenate([a * (scale * (1 - t) / math.sqrt(n)), b * (scale * t / math.sqrt(m))], axis=-1)


def unit_kernels(params: PyTree[Array]) -> PyTree[Array]:
    """Return the parameters of an EDM2 network with every kernel scaled to rms 1 per output; the function of the
    network does not change."""

    def unit(path, p):
        if path[-1].key != "kernel" or any(str(entry.key).startswith(PREFIX) for entry in path):
            return p  # the layers of conditions other than a class are plain ones
        return normalize(p, tuple(range(p.ndim - 1))).astype(p.dtype)

    return jax.tree_util.tree_map_with_path(unit, params)


class MPConv(nnx.Module):
    """Magnitude-preserving convolution with a `width` x `width` kernel and no bias; width 0: a dense layer."""

    def __init__(self, in_features: int, out_features: int, width: int, *, dtype, param_dtype, rngs: nnx.Rngs):
        shape = (width, width, in_features, out_features) if width else (in_features, out_features)
        self.dtype = dtype
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), shape, param_dtype))

    def __call__(self, x: Float[Array, "b *space i"]) -> Float[Array, "b *space o"]:
        v = self.kernel[...]
        w = (normalize(v, tuple(range(v.ndim - 1))) / math.sqrt(v[..., 0].size)).astype(self.dtype)
        x = x.astype(self.dtype)
        if w.ndim == 2:
            return x @ w
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


class MPClasses(Contributions, MPConv):
    """One row of magnitude 1 per class, and one for the null class, which is the last one."""

    def __init__(self, num_classes: int, features: int, *, param_dtype, rngs: nnx.Rngs):
        super().__init__(num_classes + 1, features, 0, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)

    def to_vector(self, value):
        n = self.kernel.shape[0]
        return self(jax.nn.one_hot(jnp.where(value < 0, n - 1, value), n) * math.sqrt(n))


class MPConditioning(Entries):
    """Conditioning vector temb of noise label and condition, always float32; the formula is at the top of the file.
    Several entries of a condition are added and divided by the square root of their number."""

    def __init__(self, length: int, features: int, *, conditions: Conditions, param_dtype, rngs: nnx.Rngs):
        self.frequencies = nnx.Param(jax.random.normal(rngs.params(), (length,), jnp.float32))
        self.phases = nnx.Param(jax.random.uniform(rngs.params(), (length,), jnp.float32))
        self.dense = MPConv(length, features, 0, dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)
        super().__init__(conditions, Place(features, length, classes=MPClasses), param_dtype=param_dtype, rngs=rngs)

    def __call__(self, c_noise: Float[Array, "b"], condition: dict[str, Array]) -> Float[Array, "b features"]:
        f, phi = (jax.lax.stop_gradient(p[...]) for p in (self.frequencies, self.phases))
        emb = math.sqrt(2) * jnp.cos(2 * math.pi * (f * c_noise.astype(jnp.float32)[:, None] + phi))
        temb, vectors = self.dense(self.add_noise(emb, condition)), self.vectors(condition)
        return mp_silu(mp_sum(temb, sum(vectors) / math.sqrt(len(vectors)), 0.5) if vectors else temb)


class MPAttention(nnx.Module):
    """Attention block mp_sum(x, attention of x), whose queries, keys and values have magnitude 1."""

    def __init__(self, features: int, *, head_channels: int, **options):
        self.heads = num_heads(features, head_channels)
        self.query = MPConv(features, features, 0, **options)
        self.key = MPConv(features, features, 0, **options)
        self.value = MPConv(features, features, 0, **options)
        self.out = MPConv(features, features, 0, **options)

    @rematerialise
    def __call__(self, x: FeatureMap) -> FeatureMap:
        b, height, width, c = x.shape
        h = x.reshape(b, height * width, c)
        q, k, v = (pixel_norm(split_heads(layer(h), self.heads)) for layer in (self.query, self.key, self.value))
        y = self.out(attend(q, k, v).reshape(h.shape))
        return mp_sum(x, y.reshape(x.shape), RESIDUAL_BALANCE)


class MPBlock(nnx.Module):
    """One block of the encoder or decoder; the formulas are at the top of the file.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        temb_features: length of the conditioning vector.
        start: `encoder_start` or `decoder_start`, a function (x, skip) -> (input of the branch, other term of the sum).
        resample: `upsample`, `downsample`, or None.
        attend: apply attention at the end.
        head_channels: channels of one head; 0: one head.
        dropout: probability of dropping an activation before the second convolution.
        options: dtype, param_dtype, rngs.
    """

    def __init__(
        self, in_features: int, out_features: int, *, temb_features: int, start: Callable,
        resample: Callable[[FeatureMap], FeatureMap] | None = None, attend: bool = False, head_channels: int,
        dropout: float, **options,
    ):  # fmt: skip
        self.start, self.resample = start, resample
        self.skip = MPConv(in_features, out_features, 1, **options) if in_features != out_features else None
        seen = out_features if start is encoder_start else in_features
        self.conv_1 = MPConv(seen, out_features, 3, **options)
        self.dense = MPConv(temb_features, out_features, 0, **options)
        self.gain = nnx.Param(jnp.zeros((), options["param_dtype"]))
        self.dropout = nnx.Dropout(dropout)  # no rngs: the key comes with the call
        self.conv_2 = MPConv(out_features, out_features, 3, **options)
        self.attention = MPAttention(out_features, head_channels=head_channels, **options) if attend else None

    @rematerialise
    def __call__(
        self, x: FeatureMap, temb: Float[Array, "b features"], *, key: PRNGKeyArray | None = None
    ) -> FeatureMap:
        x = x if self.resample is None else self.resample(x)
        h, x = self.start(x, self.skip)
        scale = 1 + self.gain[...].astype(x.dtype) * self.dense(temb)[:, None, None]
        h = mp_silu(self.conv_1(mp_silu(h)) * scale)
        h = self.conv_2(self.dropout(h, deterministic=key is None, rngs=key))
        x = mp_sum(x, h, RESIDUAL_BALANCE)
        x = x if self.attention is None else self.attention(x)
        return jnp.clip(x, -LARGEST, LARGEST)


def encoder_start(x: FeatureMap, skip: MPConv | None) -> tuple[FeatureMap, FeatureMap]:
    x = pixel_norm(x if skip is None else skip(x))
    return x, x


def decoder_start(x: FeatureMap, skip: MPConv | None) -> tuple[FeatureMap, FeatureMap]:
    return x, x if skip is None else skip(x)


class EDM2UNet(Conditioned, nnx.Module):
    """EDM2's magnitude-preserving U-Net for images (Karras et al. 2024); the architecture is at the top of the file.

    Args:
        shape: (H, W, C) of one image; H and W are divisible by 2^(levels - 1).
        channels: channels of the first level, at least 2.
        multipliers: channels of each level, in units of `channels`, each at least 1; one per level.
        blocks: blocks per level of the encoder, at least 1; the decoder has one more.
        attention: image heights, in pixels, of the levels with attention.
        head_channels: channels of an attention head, a divisor of the channels of the level; 0: one head.
        dropout: probability of dropping an activation inside a block; at least 0 and below 1.
        conditions: kind of each entry of the condition, see `conditions`; {}: the network takes no condition.
        dtype: data type of the computation, float32 or bfloat16. Magnitudes, embeddings, softmax and output are
            float32 in any case.
        param_dtype: data type of the parameters.

    Raises:
        ConfigError: a size that the levels do not divide, heads that do not divide the channels, or an argument out of
            range.
    """

    project_parameters = staticmethod(unit_kernels)  # what the optimizer does after each step

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        channels: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 3, 4),
        blocks: int = 3,
        attention: tuple[int, ...] = (16, 8),
        head_channels: int = 64,
        dropout: float = 0.0,
        conditions: Conditions = EMPTY,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_image_shape("edm2", shape)
        if problems := check_levels("edm2", shape, channels, multipliers, blocks, attention, head_channels, dropout):
            raise ConfigError(*problems)
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        widths = [channels * m for m in multipliers]
        attend = [shape[0] // 2**i in attention for i in range(len(widths))]
        block = dict(temb_features=max(widths), head_channels=head_channels, dropout=dropout, **options)
        enter, leave = dict(start=encoder_start, **block), dict(start=decoder_start, **block)
        self.shape, self.dtype = tuple(shape), dtype
        self.conditioning = MPConditioning(
            channels, max(widths), conditions=conditions, param_dtype=param_dtype, rngs=rngs
        )
        self.conv_in = MPConv(shape[2] + 1 + self.conditioning.num_channels, channels, 3, **options)
        self.encoder, self.decoder, self.taken = nnx.List([]), nnx.List([]), []
        n, skips = channels, [channels]
        for i, width in enumerate(widths):
            if i:
                self.encoder.append(MPBlock(n, n, resample=downsample, **enter))
                skips.append(n)
            for _ in range(blocks):
                self.encoder.append(MPBlock(n, width, attend=attend[i], **enter))
                n = width
                skips.append(n)
        for i, width in reversed(list(enumerate(widths))):
            first = [dict(attend=True), dict()] if i == len(widths) - 1 else [dict(resample=upsample)]
            self.decoder.extend([MPBlock(n, n, **kind, **leave) for kind in first])
            self.taken += [False] * len(first) + [True] * (blocks + 1)
            for _ in range(blocks + 1):
                self.decoder.append(MPBlock(n + skips.pop(), width, attend=attend[i], **leave))
                n = width
        self.conv_out = MPConv(n, shape[2], 3, **options)
        self.gain = nnx.Param(jnp.zeros((), param_dtype))

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        c_noise: Float[Array, "b"],
        condition: Condition | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b h w c"]:
        """Return the output of the network, see `network`."""
        check_input(self.shape, x, c_noise)
        count = len(self.encoder) + len(self.decoder)
        keys = iter([None] * count if key is None else jax.random.split(key, count))
        condition = self.conditioning.complete(condition, len(x))
        temb = self.conditioning(c_noise, condition).astype(self.dtype)
        given = [self.conditioning.channels(condition, self.shape[:-1])] if self.conditioning.num_channels else []
        hs = [self.conv_in(jnp.concatenate([x, jnp.ones_like(x[..., :1]), *given], axis=-1))]
        for block in self.encoder:
            hs.append(block(hs[-1], temb, key=next(keys)))
        h = hs[-1]
        for block, takes in zip(self.decoder, self.taken, strict=True):
            h = block(mp_cat(h, hs.pop()) if takes else h, temb, key=next(keys))
        return self.conv_out(h).astype(jnp.float32) * self.gain[...].astype(jnp.float32)
