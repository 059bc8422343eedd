"""DiT (Peebles and Xie 2023): a transformer over the patches of a curve, an image or a volume, channels last.

    h = Dense(patches of x) (+ position)
    depth times, with (b_1, s_1, g_1, b_2, s_2, g_2) = Dense_0(act(temb)) for each block ("adaLN-Zero"):
        h = h + g_1 * attention(LN(h) * (1 + s_1) + b_1)
        h = h + g_2 * Dense(dropout(gelu(Dense(LN(h) * (1 + s_2) + b_2))))
    out = record of the patches Dense_0(LN(h) * (1 + s) + b),    (b, s) = Dense_0(act(temb))

LN has no learned scale and shift. Layers with subscript 0 are initialized at zero, so that every block starts as the
identity and the network as the zero function. The other dense layers start with Glorot's uniform distribution. `act` is
swish, and gelu is computed by its tanh approximation.

A patch has `patch` points along each of the a spatial axes. Its position has one coordinate p per axis, counted in
patches, (i, j) for an image. It is encoded in one of two ways, with equal shares of the features for each axis, the
last axis first (j, then i):

    sincos: added once; the share of an axis is [sin(w p), cos(w p)], w_k = 1e4^(-2 a k / width)
    rotary: queries and keys are rotated by angles p w_k in pairs of features (Su et al. 2021), so that attention
            depends only on differences of positions; w_k = 1e4^(-2 a k / head_channels)

The published network is that of images, a = 2.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ConfigError
from .attention import attend, split_heads
from .blocks import linear, num_heads
from .conditions import EMPTY, Condition, Conditions
from .cross_attention import CrossAttention, Rows
from .embedding import Conditioned, Conditioning
from .network import SPACES, axis_names, check_input, check_space_shape
from .remat import rematerialise

POSITIONS = ("sincos", "rotary")
MLP_RATIO = 4  # hidden features of a block over its width
NOISE_FEATURES = 256  # length of the noise embedding
LAYER_NORM_EPSILON = 1e-6
MAX_PERIOD = 1e4

Tokens = Float[Array, "b tokens width"]


def check_patches(size: tuple[int, ...], patch: int) -> list[str]:
    """Return the problems of records of `size`, one number per spatial axis, for patches of `patch` points along each,
    one line each."""
    kind, _ = SPACES[len(size)]
    return [
        f"{name}: expected a multiple of the patch, {patch}, got {n}; crop or pad the {kind}s, or take another patch"
        for name, n in zip(axis_names(len(size)), size, strict=True)
        if n % patch or n < 1
    ]


def check_transformer(axes: int, width: int, head_channels: int, positions: str) -> list[str]:
    """Return the problems of the width and the heads of a DiT over `axes` spatial axes, one line each."""
    if head_channels and width % head_channels:
        return [f"head_channels: expected a divisor of the width {width}, got {head_channels}; 0 is one head"]
    turned = {"sincos": ("width", width), "rotary": ("head_channels", head_channels or width)}
    name, features = turned.get(positions, ("width", 0))
    unit, (kind, _) = 2 * axes, SPACES[axes]
    if features % unit == 0:
        return []
    return [f"{name}: expected a multiple of {unit} for {positions} positions of {kind}s, got {features}"]


def angles(grid: tuple[int, ...], features: int) -> np.ndarray:
    """Return p w_k of every patch of the grid, [patches, axes, features / (2 axes)], with the coordinates of the patch,
    the last one first, along axis 1."""
    unit = 2 * len(grid)
    w = MAX_PERIOD ** (-unit * np.arange(features // unit) / features)
    coordinates = np.unravel_index(np.arange(math.prod(grid)), grid)
    return np.stack(coordinates[::-1], axis=1)[:, :, None] * w


def sincos(grid: tuple[int, ...], features: int) -> np.ndarray:
    """Return [sin, cos] of each coordinate, the last one first, of every patch of the grid, [patches, features]."""
    angle = angles(grid, features)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).reshape(len(angle), features).astype(np.float32)


def rotate(x: Float[Array, "b n heads d"], angle: np.ndarray) -> Float[Array, "b n heads d"]:
    """Rotate features k and k + d/2 of token i by angle[i, k], with the angles in float32 (Su et al. 2021)."""
    sine, cosine = (jnp.asarray(f(angle), jnp.float32)[:, None, :] for f in (np.sin, np.cos))
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cosine - b * sine, a * sine + b * cosine], axis=-1).astype(x.dtype)


def modulate(h: Tokens, shift: Float[Array, "b width"], scale: Float[Array, "b width"]) -> Tokens:
    return h * (1 + scale[:, None]) + shift[:, None]


def _zero(in_features: int, out_features: int, **options) -> nnx.Linear:
    return nnx.Linear(in_features, out_features, kernel_init=nnx.initializers.zeros, **options)


def _norm(width: int, **options) -> nnx.LayerNorm:
    """Return a layer norm without parameters, whose statistics are float32 for every dtype."""
    return nnx.LayerNorm(width, epsilon=LAYER_NORM_EPSILON, use_bias=False, use_scale=False, **options)


class DiTBlock(nnx.Module):
    """Block of attention and a perceptron, both modulated and gated by temb; the formula is at the top of the file.

    Args:
        width: features of a token.
        head_channels: features of one head; 0: one head.
        dropout: probability of dropping a hidden activation of the perceptron.
        row_features: features of the rows of a sequence, to which there is cross-attention; 0: none.
        options: dtype, param_dtype, rngs.
    """

    def __init__(self, width: int, *, head_channels: int, dropout: float, row_features: int = 0, **options):
        self.heads = num_heads(width, head_channels)
        self.modulation = _zero(width, 6 * width, **options)
        self.norm_1 = _norm(width, **options)
        self.query = linear(width, width, **options)
        self.key = linear(width, width, **options)
        self.value = linear(width, width, **options)
        self.out = linear(width, width, **options)
        self.norm_cross = _norm(width, **options) if row_features else None
        self.cross = CrossAttention(width, row_features, heads=self.heads, **options) if row_features else None
        self.norm_2 = _norm(width, **options)
        self.dense_1 = linear(width, MLP_RATIO * width, **options)
        self.dropout = nnx.Dropout(dropout)  # no rngs: the key comes with the call
        self.dense_2 = linear(MLP_RATIO * width, width, **options)

    @rematerialise
    def __call__(
        self,
        h: Tokens,
        temb: Float[Array, "b width"],
        angle: np.ndarray | None,
        rows: Rows | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Tokens:
        """Return the tokens after the block.

        Args:
            h: tokens.
            temb: conditioning vector, to which `act` was already applied.
            angle: angles of rotary positions, [n, d / 2]; None for sincos.
            rows: rows of a sequence, for a block with cross-attention.
            key: key of the dropout; None: no dropout.
        """
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(self.modulation(temb), 6, axis=-1)
        y = modulate(self.norm_1(h), shift_1, scale_1)
        q, k, v = (split_heads(layer(y), self.heads) for layer in (self.query, self.key, self.value))
        if angle is not None:
            q, k = rotate(q, angle), rotate(k, angle)
        y = self.out(attend(q, k, v).reshape(h.shape))
        h = h + gate_1[:, None] * y
        if self.cross is not None:
            h = h + self.cross(self.norm_cross(h), rows)
        y = self.dense_1(modulate(self.norm_2(h), shift_2, scale_2))
        y = self.dense_2(self.dropout(nnx.gelu(y, approximate=True), deterministic=key is None, rngs=key))
        return h + gate_2[:, None] * y


class DiT(Conditioned, nnx.Module):
    """DiT, a transformer over patches of a curve, an image or a volume (Peebles and Xie 2023), see the top of the file.

    Args:
        shape: (points, C), (H, W, C) or (D, H, W, C) of one record; all but C are divisible by the patch.
        patch: points of a patch along each axis, at least 1.
        width: features of a token, at least 1; with sincos positions a multiple of 4 for images, 2 for curves, 6 for
            volumes.
        depth: number of blocks, at least 1.
        head_channels: features of one head, a divisor of the width, and with rotary positions a multiple of 4 for
            images, 2 for curves, 6 for volumes; 0: one head.
        positions: encoding of the positions of patches: "sincos" (published) or "rotary".
        dropout: probability of dropping a hidden activation of a perceptron; at least 0 and below 1.
        embedding: embedding of the noise label: "positional", "sinusoidal" (ADM, DiT) or "fourier".
        fourier_scale: standard deviation of the Fourier frequencies, in cycles per unit of the noise label; above 0.
        conditions: kind of each entry of the condition, see `conditions`; {}: the network takes no condition.
        dtype: data type of the computation, float32 or bfloat16. Embeddings, normalization statistics, softmax and
            output are float32 in any case.
        param_dtype: data type of the parameters.

    Raises:
        ConfigError: a patch that does not divide the record, heads that do not divide the width, or an argument out of
            range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        head_channels: int = 64,
        positions: str = "sincos",
        dropout: float = 0.0,
        embedding: str = "sinusoidal",
        fourier_scale: float = 16.0,
        conditions: Conditions = EMPTY,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_space_shape("dit", shape)
        _check(shape, patch, width, depth, head_channels, positions, dropout)
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        noise = dict(embedding=embedding, fourier_scale=fourier_scale, conditions=conditions, attends=True)
        self.grid = tuple(n // patch for n in shape[:-1])
        features = patch ** len(self.grid) * shape[-1]
        self.shape, self.patch, self.width, self.dtype = tuple(shape), patch, width, dtype
        self.positions = positions
        self.head_channels = head_channels or width
        self.conditioning = Conditioning(NOISE_FEATURES, width, **noise, param_dtype=param_dtype, rngs=rngs)
        self.dense_in = linear(features, width, **options)
        extra = self.conditioning.num_channels * patch ** len(self.grid)
        self.dense_condition = _zero(extra, width, **options) if extra else None
        block = dict(head_channels=head_channels, dropout=dropout, **options)
        block["row_features"] = width if self.conditioning.has_tokens else 0
        self.blocks = nnx.List([DiTBlock(width, **block) for _ in range(depth)])
        self.modulation = _zero(width, 2 * width, **options)
        self.norm_out = _norm(width, **options)
        self.dense_out = _zero(width, features, **options)

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
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))
        condition = self.conditioning.complete(condition, len(x))
        temb = nnx.swish(self.conditioning(c_noise, condition)).astype(self.dtype)
        rows = self.conditioning.tokens(condition)
        h, angle = self.dense_in(self._patches(x.astype(self.dtype))), None
        if self.dense_condition is not None:
            channels = self.conditioning.channels(condition, self.shape[:-1])
            h = h + self.dense_condition(self._patches(channels.astype(self.dtype)))
        if self.positions == "sincos":
            h = h + jnp.asarray(sincos(self.grid, self.width), self.dtype)
        else:
            angle = angles(self.grid, self.head_channels).reshape(math.prod(self.grid), -1)
        for block, key in zip(self.blocks, keys, strict=True):
            h = block(h, temb, angle, rows, key=key)
        shift, scale = jnp.split(self.modulation(temb), 2, axis=-1)
        return self._record(self.dense_out(modulate(self.norm_out(h), shift, scale))).astype(jnp.float32)

    def _patches(self, x: Float[Array, "b *space c"]) -> Float[Array, "b tokens features"]:
        """Return the values of every patch as one row."""
        axes = len(self.grid)
        patch, within = range(1, 2 * axes, 2), range(2, 2 * axes + 1, 2)
        features = x.shape[-1]
        x = x.reshape(-1, *(m for n in self.grid for m in (n, self.patch)), features)
        x = x.transpose(0, *patch, *within, 2 * axes + 1)
        return x.reshape(-1, math.prod(self.grid), self.patch**axes * features)

    def _record(self, patches: Float[Array, "b tokens features"]) -> Float[Array, "b *space c"]:
        """Return the record of which these are the patches."""
        axes = len(self.grid)
        pairs = [axis for i in range(1, axes + 1) for axis in (i, i + axes)]  # a patch and its points, axis by axis
        x = patches.reshape(-1, *self.grid, *[self.patch] * axes, self.shape[-1])
        return x.transpose(0, *pairs, 2 * axes + 1).reshape(-1, *self.shape)


def _check(shape, patch, width, depth, head_channels, positions, dropout) -> None:
    """Raise a ConfigError that lists every problem of the arguments of a DiT."""
    problems, axes = [], len(shape) - 1
    if min(patch, width, depth) < 1:
        problems.append(f"dit: expected patch, width and depth of 1 or more, got {patch}, {width} and {depth}")
    else:
        problems += check_patches(tuple(shape[:-1]), patch) + check_transformer(axes, width, head_channels, positions)
    if positions not in POSITIONS:
        problems.append(f"dit: expected positions to be one of {', '.join(POSITIONS)}, got {positions!r}")
    if not 0 <= dropout < 1:
        problems.append(f"dit: expected 0 <= dropout < 1, got {dropout}")
    if problems:
        raise ConfigError(*problems)
