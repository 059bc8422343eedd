"""The U-Net of DDPM, DDPM++, NCSN++ and ADM, channels last: one network whose arguments select the variant.

The published networks are those of images (H, W, C). The same code takes curves (points, C) and volumes (D, H, W, C):
conv3x3 stands for a kernel of three points along each spatial axis, and normalization and attention go over all axes.

    h = conv3x3(x, or its Fourier features)                                 push h
    encoder, for each level:   blocks times [block, attention if due]       push each
                               then, except at the last level, half the size, input pyramid    push
    middle:                    block, attention, block
    decoder, levels reversed:  (blocks + 1) times block(concat(h, pop))
                               attention if due, once, or after each block
                               output pyramid
                               then, except at the first level, twice the size
    out = conv3x3_0(act(GN(h)))  (+ output pyramid)

Level i has `channels * multipliers[i]` channels and 1 / 2^i of the size along each axis. Attention is applied at the
levels whose size along the first axis (points, height, depth) is in `attention`; the other axes do not matter. Sizes
that no level has are without effect, and the middle always has attention. The output starts near zero (subscript 0:
initialization at scale 1e-10).

`published` lists the arguments of published networks (Ho et al. 2020; Song et al. 2021, appendix H; Dhariwal and Nichol
2021; Karras et al. 2022, table 7); the defaults are DDPM++ for CIFAR-10. `blocks` has the blocks, `resampling` the
changes of resolution, and `pyramids` the pyramids.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ConfigError
from .blocks import GROUP_NORM_EPSILON, conv, group_norm
from .conditions import EMPTY, Condition, Conditions
from .embedding import Conditioned, Conditioning, check_fourier, fourier_features
from .network import axis_names, check_input, check_space_shape
from .pyramids import COMBINES, PROGRESSIVE_INPUTS, PROGRESSIVE_OUTPUTS
from .resampling import FILTERS
from .stages import DECODER_ATTENTIONS, RESAMPLINGS, DecoderLevel, EncoderLevel, Style

TEMB_RATIO = 4  # length of the conditioning vector over `channels`, as in DDPM

# Allowed words of the arguments that are words.
UNET_CHOICES = {
    "resampling": RESAMPLINGS,
    "resample_filter": tuple(FILTERS),
    "resample_skip": ("conv", "identity"),
    "modulation": ("shift", "scale_shift"),
    "decoder_attention": DECODER_ATTENTIONS,
    "progressive_input": PROGRESSIVE_INPUTS,
    "progressive": PROGRESSIVE_OUTPUTS,
    "combine": COMBINES,
}


def check_halvings(size: tuple[int, ...], levels: int) -> list[str]:
    """Return the problems of records of `size`, one number per spatial axis, for a U-Net with `levels` levels, one line
    each.

    Every level except the last halves every axis, so each must be divisible by 2^(levels - 1).
    """
    factor = 2 ** (levels - 1)
    problems = []
    for name, n in zip(axis_names(len(size)), size, strict=True):
        if n % factor or n < 1:
            below = max(n, 0) // factor * factor
            nearest = [str(m) for m in (below, below + factor) if m > 0]
            problems.append(
                f"{name}: expected a multiple of {factor} for {levels} levels, got {n}; "
                f"resize or pad to {' or '.join(nearest)}, or use fewer levels"
            )
    return problems


def check_heads(
    first: int, channels: int, multipliers: tuple[int, ...], attention: tuple[int, ...], head_channels: int
) -> list[str]:
    """Return the problems of `head_channels` for the levels of a U-Net that have attention, one line each; `first` is
    the size of the first axis."""
    last = len(multipliers) - 1
    widths = [channels * m for i, m in enumerate(multipliers) if i == last or first // 2**i in attention]
    return [
        f"head_channels: expected a divisor of {width}, the channels of a level with attention, got {head_channels}; 0 "
        "is one head"
        for width in sorted(set(widths))
        if head_channels and width % head_channels
    ]


def check_levels(name: str, shape, channels, multipliers, blocks, attention, head_channels, dropout) -> list[str]:
    """Return the problems of the levels of a U-Net called `name`, one line each."""
    if not multipliers or min(multipliers) < 1:
        return [f"{name}: expected multipliers with one positive integer per level, got {tuple(multipliers)}"]
    problems = check_halvings(tuple(shape[:-1]), len(multipliers))
    if channels < 2 or blocks < 1:
        problems.append(f"{name}: expected channels >= 2 and blocks >= 1, got channels {channels} and blocks {blocks}")
    else:
        problems += check_heads(shape[0], channels, multipliers, attention, head_channels)
    if not 0 <= dropout < 1:
        problems.append(f"{name}: expected 0 <= dropout < 1, got {dropout}")
    return problems


def _check_words(levels: int, words: dict[str, str]) -> list[str]:
    """Return the problems of the arguments that are words, one line each."""
    problems = [
        f"unet: expected {name} to be one of {', '.join(UNET_CHOICES[name])}, got {value!r}"
        for name, value in words.items()
        if value not in UNET_CHOICES[name]
    ]
    if levels == 1 and (words["progressive"], words["progressive_input"]) != ("none", "none"):
        problems.append("unet: progressive and progressive_input join levels, and there is one; expected none")
    return problems


class UNet(Conditioned, nnx.Module):
    """U-Net of DDPM, DDPM++, NCSN++ and ADM for curves, images and volumes; the architecture is at the top of the file.

    Args:
        shape: (points, C), (H, W, C) or (D, H, W, C) of one record; all but C are divisible by 2^(levels - 1).
        channels: channels of the first level (`nf` in the code of Song et al.), at least 2.
        multipliers: channels of each level, in units of `channels`, each at least 1; one per level.
        blocks: residual blocks per level of the encoder, at least 1; the decoder has one more.
        attention: sizes of the first axis, which is the height of an image, at the levels with attention.
        head_channels: channels of an attention head, a divisor of the channels of the level; 0: one head.
        decoder_attention: attention in the decoder: once per level ("level", DDPM++) or after each block ("block",
            DDPM and ADM).
        modulation: effect of the noise level on a block: "shift", or "scale_shift" (adaptive group normalization, ADM).
        resampling: layers that halve and double the resolution: residual blocks ("block") or convolutions ("conv",
            DDPM).
        resample_filter: filter of these layers: "box", "box_padded" (diffusers' strided convolutions) or "fir"
            ([1, 3, 3, 1], NCSN++).
        resample_skip: skip path of blocks that resample: "conv" (DDPM++) or "identity" (ADM).
        progressive_input: pyramid of the encoder: "none", "input_skip" or "residual".
        progressive: pyramid of the decoder: "none", "output_skip" or "residual".
        combine: combination of an input_skip with the feature map: "sum" or "cat".
        center_input: use 2 x - 1 as the input of the network, for data in [0, 1].
        input_fourier: exponents (first, stop): the input also includes sin and cos of 2 pi 2^n x for n from `first` to
            below `stop`; (6, 8): VDM, (0, 0): none.
        norm_epsilon: epsilon of the group normalization, above 0.
        dropout: probability of dropping an activation inside a residual block; at least 0 and below 1.
        embedding: embedding of the noise label: "positional", "sinusoidal" (ADM, DiT) or "fourier".
        fourier_scale: standard deviation of the Fourier frequencies, in cycles per unit of the noise label; above 0.
        skip_rescale: divide every sum of skip path and block by sqrt(2).
        conditions: kind of each entry of the condition, see `conditions`; {}: the network takes no condition.
        dtype: data type of the computation, float32 or bfloat16. Embeddings, normalization statistics, softmax and
            output are float32 in any case.
        param_dtype: data type of the parameters.

    Raises:
        ConfigError: a size that the levels do not divide (the message states the nearest valid sizes), an argument out
            of range, or heads that do not divide the channels.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        channels: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 4,
        attention: tuple[int, ...] = (16,),
        head_channels: int = 0,
        decoder_attention: str = "level",
        modulation: str = "shift",
        resampling: str = "block",
        resample_filter: str = "box",
        resample_skip: str = "conv",
        progressive_input: str = "none",
        progressive: str = "none",
        combine: str = "sum",
        center_input: bool = False,
        input_fourier: tuple[int, int] = (0, 0),
        norm_epsilon: float = GROUP_NORM_EPSILON,
        dropout: float = 0.1,
        embedding: str = "positional",
        fourier_scale: float = 16.0,
        skip_rescale: bool = True,
        conditions: Conditions = EMPTY,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_space_shape("unet", shape)
        shared = dict(resampling=resampling, resample_filter=resample_filter, resample_skip=resample_skip)
        shared |= dict(combine=combine, decoder_attention=decoder_attention)
        kinds = dict(modulation=modulation, progressive_input=progressive_input, progressive=progressive)
        problems = check_levels("unet", shape, channels, multipliers, blocks, attention, head_channels, dropout)
        if problems := problems + _check_words(len(multipliers), shared | kinds) + check_fourier(input_fourier):
            raise ConfigError(*problems)
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        common = dict(rescale=1 / math.sqrt(2) if skip_rescale else 1.0, epsilon=norm_epsilon)
        residual = dict(temb_features=TEMB_RATIO * channels, dropout=dropout, modulation=modulation, **common)
        noise = dict(embedding=embedding, fourier_scale=fourier_scale, conditions=conditions, attends=True)
        widths = [channels * m for m in multipliers]
        attend = [shape[0] // 2**i in attention for i in range(len(widths))]
        self.shape, self.dtype, self.center_input = tuple(shape), dtype, center_input
        self.input_fourier = tuple(input_fourier)
        self.conditioning = Conditioning(channels, TEMB_RATIO * channels, **noise, param_dtype=param_dtype, rngs=rngs)
        attended = dict(head_channels=head_channels, **common)
        attended["row_features"] = TEMB_RATIO * channels if self.conditioning.has_tokens else 0
        style = Style(axes=len(shape) - 1, residual=residual, attention=attended, options=options, **shared)
        self.conv_in = conv(shape[-1] * (1 + 2 * len(range(*input_fourier))), channels, 3, axes=style.axes, **options)
        self.conv_condition = style.join_channels(self.conditioning.num_channels, channels)
        self.encoder, skips = _encoder(shape[-1], channels, widths, attend, blocks, progressive_input, style)
        self.middle_1 = style.block(widths[-1], widths[-1])
        self.middle_attention = style.attend(widths[-1])
        self.middle_2 = style.block(widths[-1], widths[-1])
        self.decoder = _decoder(shape[-1], widths, attend, blocks, skips, progressive, style)
        self.norm_out = group_norm(widths[0], epsilon=norm_epsilon, **options)
        self.conv_out = conv(widths[0], shape[-1], 3, axes=style.axes, scale=0.0, **options)
        self.pyramid_up = FILTERS[resample_filter].up if progressive == "output_skip" else None
        # One key per residual block: those of the levels, two between neighbouring levels, and two in the middle.
        self.num_keys = len(widths) * (2 * blocks + 1) + 2 * (len(widths) - 1) + 2

    def __call__(
        self,
        x: Float[Array, "b *space c"],
        c_noise: Float[Array, "b"],
        condition: Condition | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b *space c"]:
        """Return the output of the network, see `network`."""
        check_input(self.shape, x, c_noise)
        keys = iter([None] * self.num_keys if key is None else jax.random.split(key, self.num_keys))
        condition = self.conditioning.complete(condition, len(x))
        temb = nnx.swish(self.conditioning(c_noise, condition)).astype(self.dtype)
        rows = self.conditioning.tokens(condition)
        x = 2 * x - 1 if self.center_input else x
        pyramid = x.astype(self.dtype)
        hs = [self.conv_in(fourier_features(x, self.input_fourier).astype(self.dtype))]
        if self.conv_condition is not None:
            channels = self.conditioning.channels(condition, self.shape[:-1])
            hs = [hs[0] + self.conv_condition(channels.astype(self.dtype))]
        for level in self.encoder:
            more, pyramid = level(hs[-1], pyramid, temb, rows, keys)
            hs += more
        h = self.middle_1(hs[-1], temb, key=next(keys))
        h = self.middle_2(self.middle_attention(h, rows), temb, key=next(keys))
        pyramid = None
        for level in self.decoder:
            h, pyramid = level(h, hs, pyramid, temb, rows, keys)
        h = self.conv_out(nnx.swish(self.norm_out(h))).astype(jnp.float32)
        return h + self.pyramid_up(pyramid).astype(jnp.float32) if self.pyramid_up is not None else h


def _encoder(image_features, channels, widths, attend, blocks, progressive_input, style: Style):
    """Return the levels of the encoder, and the channels of all feature maps that it pushes, in order."""
    levels, n, skips, pyramid = nnx.List([]), channels, [channels], image_features
    for i, width in enumerate(widths):
        last = i == len(widths) - 1
        options = dict(
            blocks=blocks, attend=attend[i], last=last, progressive=progressive_input, pyramid_features=pyramid
        )
        level = EncoderLevel(n, width, **options, style=style)
        levels.append(level)
        skips += [width] * blocks + ([] if last else [level.features])
        n, pyramid = level.features, level.pyramid_features
    return levels, skips


def _decoder(image_features, widths, attend, blocks, skips, progressive, style: Style):
    """Return the levels of the decoder, lowest resolution first; this empties `skips`."""
    levels, n, below = nnx.List([]), widths[-1], None
    for i, width in reversed(list(enumerate(widths))):
        taken = [skips.pop() for _ in range(blocks + 1)]
        # With output_skip the output layers of the first level are the last layers of the network.
        kind = "none" if progressive == "output_skip" and i == 0 else progressive
        pyramid = dict(progressive=kind, below=below, image_features=image_features)
        levels.append(DecoderLevel(n, width, skips=taken, attend=attend[i], first=i == 0, pyramid=pyramid, style=style))
        n = below = width
    return levels
