"""One level of the encoder and of the decoder of a U-Net; the architecture is at the top of `unet`."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .blocks import AttentionBlock, FeatureMap, ResidualBlock, conv
from .cross_attention import Rows
from .pyramids import InputResidual, InputSkip, OutputResidual, OutputSkip, OutputStart
from .resampling import FILTERS, DownConv, UpConv

RESAMPLINGS = ("block", "conv")
DECODER_ATTENTIONS = ("level", "block")


@dataclasses.dataclass(frozen=True)
class Style:
    """Arguments that all levels of a network have in common.

    Attributes:
        resampling: layers that halve and double the resolution: "block" or "conv".
        resample_filter: a name in `resampling.FILTERS`.
        resample_skip: skip path of a residual block that resamples: "conv" or "identity".
        combine: combination of the input pyramid with the feature map: "sum" or "cat".
        decoder_attention: "level" or "block".
        axes: number of spatial axes.
        residual: arguments of all residual blocks.
        attention: arguments of all attention blocks.
        options: dtype, param_dtype, rngs.
    """

    resampling: str
    resample_filter: str
    resample_skip: str
    combine: str
    decoder_attention: str
    axes: int
    residual: dict
    attention: dict
    options: dict

    def block(self, in_features: int, out_features: int) -> ResidualBlock:
        return ResidualBlock(in_features, out_features, axes=self.axes, **self.residual, **self.options)

    def attend(self, features: int) -> AttentionBlock:
        return AttentionBlock(features, **self.attention, **self.options)

    def join_channels(self, extra: int, features: int) -> nnx.Module | None:
        """Build the layer of the channels of a condition, apart from that of x, so that it can start at zero."""
        return conv(extra, features, 3, scale=0.0, axes=self.axes, **self.options) if extra else None

    def halve(self, features: int) -> nnx.Module:
        return self._resample(features, FILTERS[self.resample_filter].down, DownConv)

    def double(self, features: int) -> nnx.Module:
        return self._resample(features, FILTERS[self.resample_filter].up, UpConv)

    def _resample(self, features: int, resample, convolution) -> nnx.Module:
        if self.resampling == "conv":
            return convolution(features, features, self.resample_filter, axes=self.axes, **self.options)
        options = dict(resample=resample, resample_skip=self.resample_skip, **self.residual, **self.options)
        return ResidualBlock(features, features, axes=self.axes, **options)

    def join_input(self, kind: str, pyramid_features: int, features: int) -> nnx.Module | None:
        """Build the layer that joins the input pyramid at a level; `kind` is "none", "input_skip" or "residual"."""
        build = {
            "none": lambda n, m, **options: None,
            "input_skip": lambda n, m, **options: InputSkip(n, m, combine=self.combine, **options),
            "residual": lambda n, m, **options: InputResidual(n, m, rescale=self.residual["rescale"], **options),
        }
        options = dict(filter=self.resample_filter, axes=self.axes, **self.options)
        return build[kind](pyramid_features, features, **options)

    def join_output(
        self, features: int, *, progressive: str, below: int | None, image_features: int
    ) -> nnx.Module | None:
        """Build the layer that extends the output pyramid at a level.

        Args:
            features: channels of the level.
            progressive: "none", "output_skip" or "residual".
            below: channels of the level below; None at the lowest level.
            image_features: channels of the image.
        """
        if progressive == "none":
            return None
        options, filter = dict(axes=self.axes, **self.options), self.resample_filter
        epsilon = self.residual["epsilon"]
        if progressive == "output_skip":
            return OutputSkip(features, image_features, filter=filter, epsilon=epsilon, **options)
        if below is None:
            return OutputStart(features, epsilon=epsilon, **options)
        return OutputResidual(below, features, filter=filter, rescale=self.residual["rescale"], **options)


class EncoderLevel(nnx.Module):
    """Level of the encoder: blocks with optional attention, then a layer that halves the size except at the last level.

    Args:
        in_features: channels of the input.
        features: channels of this level.
        blocks: number of blocks.
        attend: apply attention after each block.
        last: keep the size.
        progressive: kind of the input pyramid.
        pyramid_features: channels of the input pyramid above this level.
        style: arguments that all levels have in common.
    """

    def __init__(
        self, in_features: int, features: int, *, blocks: int, attend: bool, last: bool, progressive: str,
        pyramid_features: int,
        style: Style,
    ):  # fmt: skip
        ins = [in_features] + [features] * (blocks - 1)
        self.blocks = nnx.List([style.block(n, features) for n in ins])
        self.attention = nnx.List([style.attend(features) for _ in range(blocks * attend)])
        self.down = None if last else style.halve(features)
        self.pyramid = None if last else style.join_input(progressive, pyramid_features, features)
        self.features = features if self.pyramid is None else self.pyramid.features
        self.pyramid_features = pyramid_features if self.pyramid is None else self.pyramid.pyramid_features

    def __call__(
        self, h: FeatureMap, pyramid: FeatureMap, temb: Float[Array, "b features"], rows: Rows | None, keys
    ) -> tuple[list[FeatureMap], FeatureMap]:
        """Return all feature maps of this level in order, of which the last is the input of the next level, and the
        pyramid."""
        hs = []
        for i, block in enumerate(self.blocks):
            h = block(h, temb, key=next(keys))
            if self.attention:
                h = self.attention[i](h, rows)
            hs.append(h)
        if self.down is not None:
            h = self.down(h, temb, key=next(keys))
            if self.pyramid is not None:
                h, pyramid = self.pyramid(h, pyramid)
            hs.append(h)
        return hs, pyramid


class DecoderLevel(nnx.Module):
    """Level of the decoder: blocks with optional attention, then, except at the first level, a layer that doubles the
    size.

    Each block also gets one feature map of the encoder.

    Args:
        in_features: channels of the input.
        features: channels of this level.
        skips: channels of the feature maps of the encoder, in the order in which they are used.
        attend: apply attention, once after the blocks or after each of them, see `Style.decoder_attention`.
        first: keep the size.
        pyramid: arguments of `Style.join_output`.
        style: arguments that all levels have in common.
    """

    def __init__(
        self, in_features: int, features: int, *, skips: list, attend: bool, first: bool, pyramid: dict, style: Style
    ):
        ins = [n + skip for n, skip in zip([in_features] + [features] * (len(skips) - 1), skips, strict=True)]
        each = attend and style.decoder_attention == "block"
        self.blocks = nnx.List([style.block(n, features) for n in ins])
        self.attention = style.attend(features) if attend and not each else None
        self.block_attention = nnx.List([style.attend(features) for _ in ins] if each else [])
        self.pyramid = style.join_output(features, **pyramid)
        self.up = None if first else style.double(features)

    def __call__(
        self,
        h: FeatureMap,
        hs: list[FeatureMap],
        pyramid: FeatureMap | None,
        temb: Float[Array, "b features"],
        rows: Rows | None,
        keys,
    ) -> tuple[FeatureMap, FeatureMap | None]:
        """Return the feature map and the pyramid; the maps of the encoder are removed from the end of `hs`."""
        for i, block in enumerate(self.blocks):
            h = block(jnp.concatenate([h, hs.pop()], axis=-1), temb, key=next(keys))
            if self.block_attention:
                h = self.block_attention[i](h, rows)
        if self.attention is not None:
            h = self.attention(h, rows)
        if self.pyramid is not None:
            h, pyramid = self.pyramid(h, pyramid)
        if self.up is not None:
            h = self.up(h, temb, key=next(keys))
        return h, pyramid
