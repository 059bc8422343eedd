"""DDPM++: the U-Net of Song et al. 2021 (appendix H; DDPM of Ho et al. 2020 with BigGAN blocks), channels last.

    h = conv3x3(x)                                                          push h
    encoder, for each level:   blocks times [block, attention if due]       push each
                               then, except at the last level, block with downsample    push
    middle:                    block, attention, block
    decoder, levels reversed:  (blocks + 1) times block(concat(h, pop))
                               attention if due, once
                               then, except at the first level, block with upsample
    out = conv3x3_0(act(GN(h)))

Level i has `channels * multipliers[i]` channels and height H / 2^i. Attention is due at the levels whose height is in
`attention`; for H != W the height decides. Heights that no level has are without effect, and the middle always has
attention. The output starts near zero (subscript 0: initialization at scale 1e-10).

With channels 128, multipliers (1, 2, 2, 2), 4 blocks and attention at 16 this is the CIFAR-10 network of the paper.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..errors import ConfigError
from .blocks import AttentionBlock, FeatureMap, ResidualBlock, conv, downsample, group_norm, upsample
from .embedding import Conditioning
from .network import check_input

TEMB_RATIO = 4  # length of the conditioning vector over `channels`, as in DDPM


def check_image_size(size: tuple[int, int], levels: int) -> list[str]:
    """What is wrong with images of `size` = (H, W) for a U-Net with `levels` levels: one line each, none if valid.

    Every level but the last halves height and width, so both must be divisible by 2^(levels - 1).
    """
    factor = 2 ** (levels - 1)
    problems = []
    for name, n in zip(("height", "width"), size, strict=True):
        if n % factor or n < 1:
            below = max(n, 0) // factor * factor
            nearest = [str(m) for m in (below, below + factor) if m > 0]
            problems.append(
                f"image {name}: expected a multiple of {factor} for {levels} levels, got {n}; "
                f"resize or pad to {' or '.join(nearest)}, or use fewer levels"
            )
    return problems


def _check(shape, channels, multipliers, blocks, dropout) -> None:
    """Raises a ConfigError that lists every problem with the arguments of a UNet."""
    if len(shape) != 3 or min(shape) < 1:
        raise ConfigError(f"unet: expected a shape (height, width, channels), got {tuple(shape)}")
    if not multipliers or min(multipliers) < 1:
        raise ConfigError(f"unet: expected multipliers with one positive integer per level, got {tuple(multipliers)}")
    problems = check_image_size(tuple(shape[:2]), len(multipliers))
    if channels < 2 or blocks < 1:
        problems.append(f"unet: expected channels >= 2 and blocks >= 1, got channels {channels} and blocks {blocks}")
    if not 0 <= dropout < 1:
        problems.append(f"unet: expected 0 <= dropout < 1, got {dropout}")
    if problems:
        raise ConfigError(*problems)


class EncoderLevel(nnx.Module):
    """Blocks, each followed by attention if due, then downsampling unless this is the last level.

    Args:
        in_features, features: channels that come in, and channels of this level.
        blocks: number of blocks.
        attend: attention blocks after each block.
        last: no downsampling.
        common: arguments of attention blocks; `residual`: those that residual blocks have besides.
    """

    def __init__(
        self, in_features: int, features: int, *, blocks: int, attend: bool, last: bool, residual: dict, common: dict
    ):
        ins = [in_features] + [features] * (blocks - 1)
        self.blocks = nnx.List([ResidualBlock(n, features, **residual, **common) for n in ins])
        self.attention = nnx.List([AttentionBlock(features, **common) for _ in range(blocks * attend)])
        options = dict(resample=downsample, **residual, **common)
        self.down = None if last else ResidualBlock(features, features, **options)

    def __call__(self, h: FeatureMap, temb: Float[Array, "b features"], keys) -> list[FeatureMap]:
        """All feature maps of this level in order; the last one is the input of the next level."""
        hs = []
        for i, block in enumerate(self.blocks):
            h = block(h, temb, key=next(keys))
            if self.attention:
                h = self.attention[i](h)
            hs.append(h)
        if self.down is not None:
            hs.append(self.down(h, temb, key=next(keys)))
        return hs


class DecoderLevel(nnx.Module):
    """Blocks that each take one feature map of the encoder, attention if due, then upsampling unless this is the first.

    Args:
        in_features, features: channels that come in, and channels of this level.
        skips: channels of the feature maps of the encoder, in the order in which they are taken.
        attend, first, residual, common: as for EncoderLevel.
    """

    def __init__(
        self, in_features: int, features: int, *, skips: list, attend: bool, first: bool, residual: dict, common: dict
    ):
        ins = [n + skip for n, skip in zip([in_features] + [features] * (len(skips) - 1), skips, strict=True)]
        self.blocks = nnx.List([ResidualBlock(n, features, **residual, **common) for n in ins])
        self.attention = AttentionBlock(features, **common) if attend else None
        options = dict(resample=upsample, **residual, **common)
        self.up = None if first else ResidualBlock(features, features, **options)

    def __call__(self, h: FeatureMap, hs: list[FeatureMap], temb: Float[Array, "b features"], keys) -> FeatureMap:
        """Takes its feature maps from the end of `hs`, which shrinks."""
        for block in self.blocks:
            h = block(jnp.concatenate([h, hs.pop()], axis=-1), temb, key=next(keys))
        if self.attention is not None:
            h = self.attention(h)
        if self.up is not None:
            h = self.up(h, temb, key=next(keys))
        return h


class UNet(nnx.Module):
    """DDPM++ (Song et al. 2021); the architecture is at the top of the file.

    Args:
        shape: (H, W, C) of one image; H and W divisible by 2^(levels - 1), any C.
        channels: channels of the first level (`nf` in the paper's code).
        multipliers: channels of each level, in units of `channels`. Their number is the number of levels.
        blocks: residual blocks per level of the encoder; the decoder has one more.
        attention: heights, in pixels, of the levels with attention.
        dropout: probability of dropping an activation inside a residual block.
        embedding: "positional" or "fourier", of the noise label.
        fourier_scale: standard deviation of the Fourier frequencies.
        skip_rescale: divide every sum of skip path and block by sqrt(2).
        num_classes: 0 for a network without classes.
        dtype: of the computation. Embeddings, normalization statistics, softmax and output are float32 in any case.
        param_dtype: of the parameters.
    Raises:
        ConfigError: a size that the levels do not divide (it names the nearest valid ones), an argument out of range.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        channels: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 4,
        attention: tuple[int, ...] = (16,),
        dropout: float = 0.1,
        embedding: str = "positional",
        fourier_scale: float = 16.0,
        skip_rescale: bool = True,
        num_classes: int = 0,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        _check(shape, channels, multipliers, blocks, dropout)
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        common = dict(rescale=1 / math.sqrt(2) if skip_rescale else 1.0, **options)
        residual = dict(temb_features=TEMB_RATIO * channels, dropout=dropout)
        widths = [channels * m for m in multipliers]
        attend = [shape[0] // 2**i in attention for i in range(len(widths))]

        self.shape = tuple(shape)
        self.dtype = dtype
        self.conditioning = Conditioning(
            channels,
            TEMB_RATIO * channels,
            embedding=embedding,
            fourier_scale=fourier_scale,
            num_classes=num_classes,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.conv_in = conv(shape[2], channels, 3, **options)
        self.encoder, self.decoder = nnx.List([]), nnx.List([])
        n, skips, last = channels, [channels], len(widths) - 1
        for i, width in enumerate(widths):
            level = dict(attend=attend[i], last=i == last, residual=residual, common=common)
            self.encoder.append(EncoderLevel(n, width, blocks=blocks, **level))
            skips += [width] * (blocks + (i < last))
            n = width
        self.middle_1 = ResidualBlock(n, n, **residual, **common)
        self.middle_attention = AttentionBlock(n, **common)
        self.middle_2 = ResidualBlock(n, n, **residual, **common)
        for i, width in reversed(list(enumerate(widths))):
            level = dict(attend=attend[i], first=i == 0, residual=residual, common=common)
            self.decoder.append(DecoderLevel(n, width, skips=[skips.pop() for _ in range(blocks + 1)], **level))
            n = width
        self.norm_out = group_norm(n, **options)
        self.conv_out = conv(n, shape[2], 3, scale=0.0, **options)
        # One key per residual block: those of the levels, one down and one up between levels, two in the middle.
        self.num_keys = len(widths) * (2 * blocks + 1) + 2 * last + 2

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        c_noise: Float[Array, "b"],
        label: Int[Array, "b"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b h w c"]:
        """As every module of this room; see `network`."""
        check_input(self.shape, x, c_noise)
        keys = iter([None] * self.num_keys if key is None else jax.random.split(key, self.num_keys))
        temb = nnx.swish(self.conditioning(c_noise, label)).astype(self.dtype)
        hs = [self.conv_in(x.astype(self.dtype))]
        for level in self.encoder:
            hs += level(hs[-1], temb, keys)
        h = self.middle_1(hs[-1], temb, key=next(keys))
        h = self.middle_2(self.middle_attention(h), temb, key=next(keys))
        for level in self.decoder:
            h = level(h, hs, temb, keys)
        return self.conv_out(nnx.swish(self.norm_out(h))).astype(jnp.float32)
