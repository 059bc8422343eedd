"""Progressive growing inside a U-Net: a pyramid of images or features beside it (Song et al. 2021, appendix H).

In the encoder, where a level halves the feature map h, with p starting as the network's input:

    input_skip:   p = down(p),            h = conv1x1(p) + h, or their concatenation (combine "cat")
    residual:     p = (down_conv(p) + h) * rescale,    h = p

In the decoder, at each level after its blocks, with q starting at the lowest level:

    output_skip:  q = up(q) + conv3x3_0(act(GN(h)))       the network's output is q at the first level
    residual:     q = (up_conv(q) + h) * rescale,    h = q;    at the lowest level only q = conv3x3(act(GN(h)))

conv3x3 has a kernel of three points along each spatial axis, and conv1x1 of one. `resampling` defines `down`, `up`,
`down_conv` and `up_conv`. The pyramids follow Karras et al. 2018 (skips and residual paths of ProGAN) and 2020
(StyleGAN2). With output_skip, GN and convolution of the first level are the last layers of the network.
"""

import jax.numpy as jnp
from flax import nnx

from .blocks import FeatureMap, conv, group_norm
from .resampling import FILTERS, DownConv, UpConv

PROGRESSIVE_INPUTS = ("none", "input_skip", "residual")
PROGRESSIVE_OUTPUTS = ("none", "output_skip", "residual")
COMBINES = ("sum", "cat")


class InputSkip(nnx.Module):
    """Layer that joins the halved image to a feature map.

    Args:
        image_features: channels of the image.
        features: channels of the feature map.
        filter: a name in `resampling.FILTERS`.
        combine: "sum" or "cat"; "cat" doubles the number of channels.
        axes: number of spatial axes.
        options: dtype, param_dtype, rngs.
    """

    def __init__(self, image_features: int, features: int, *, filter: str, combine: str, axes: int, **options):
        self.down = FILTERS[filter].down
        self.combine = combine
        self.conv = conv(image_features, features, 1, axes=axes, **options)
        self.features = features * (2 if combine == "cat" else 1)
        self.pyramid_features = image_features

    def __call__(self, h: FeatureMap, pyramid: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
        """Return (h, pyramid) one level down."""
        pyramid = self.down(pyramid)
        skip = self.conv(pyramid)
        return (jnp.concatenate([skip, h], axis=-1) if self.combine == "cat" else skip + h), pyramid


class InputResidual(nnx.Module):
    """Layer that adds the pyramid, halved by a convolution, to a feature map; the sum becomes the pyramid.

    Args:
        pyramid_features: channels of the pyramid.
        features: channels of the feature map.
        filter: a name in `resampling.FILTERS`.
        rescale: factor on the sum.
        options: axes, dtype, param_dtype, rngs.
    """

    def __init__(self, pyramid_features: int, features: int, *, filter: str, rescale: float, **options):
        self.rescale = rescale
        self.down = DownConv(pyramid_features, features, filter, **options)
        self.features = self.pyramid_features = features

    def __call__(self, h: FeatureMap, pyramid: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
        """Return (h, pyramid) one level down."""
        h = (self.down(pyramid) + h) * self.rescale
        return h, h


class OutputSkip(nnx.Module):
    """Layer that adds the image of this level to the doubled image of the levels below.

    Args:
        features: channels of the feature map.
        image_features: channels of the image.
        filter: a name in `resampling.FILTERS`.
        epsilon: epsilon of the group normalization.
        axes: number of spatial axes.
        options: dtype, param_dtype, rngs.
    """

    def __init__(self, features: int, image_features: int, *, filter: str, epsilon: float, axes: int, **options):
        self.filter = filter
        self.norm = group_norm(features, epsilon=epsilon, **options)
        self.conv = conv(features, image_features, 3, axes=axes, scale=0.0, **options)

    def __call__(self, h: FeatureMap, pyramid: FeatureMap | None) -> tuple[FeatureMap, FeatureMap]:
        """Return (h unchanged, pyramid of this level); the argument `pyramid` is None at the lowest level."""
        picture = self.conv(nnx.swish(self.norm(h)))
        return h, picture if pyramid is None else FILTERS[self.filter].up(pyramid) + picture


class OutputStart(nnx.Module):
    """Layer that starts the residual pyramid at the lowest level: q = conv3x3(act(GN(h)))."""

    def __init__(self, features: int, *, epsilon: float, axes: int, **options):
        self.norm = group_norm(features, epsilon=epsilon, **options)
        self.conv = conv(features, features, 3, axes=axes, **options)

    def __call__(self, h: FeatureMap, pyramid: None) -> tuple[FeatureMap, FeatureMap]:
        return h, self.conv(nnx.swish(self.norm(h)))


class OutputResidual(nnx.Module):
    """Layer that adds the pyramid, doubled by a convolution, to a feature map; the sum becomes the pyramid.

    Args:
        pyramid_features: channels of the pyramid, those of the level below.
        features: channels of the feature map.
        filter: a name in `resampling.FILTERS`.
        rescale: factor on the sum.
        options: axes, dtype, param_dtype, rngs.
    """

    def __init__(self, pyramid_features: int, features: int, *, filter: str, rescale: float, **options):
        self.rescale = rescale
        self.up = UpConv(pyramid_features, features, filter, **options)

    def __call__(self, h: FeatureMap, pyramid: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
        h = (self.up(pyramid) + h) * self.rescale
        return h, h
