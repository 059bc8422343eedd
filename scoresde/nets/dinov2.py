r"""DINOv2 (Oquab et al. 2023): the vision transformer whose class token is the feature of FD-DINOv2 (Stein et al.
2023).

    h = [class token, Conv_14x14(images) as 16 x 16 tokens] + positions
    depth times:
        h = h + lambda_1 * Dense(attention(LN(h)))
        h = h + lambda_2 * Dense(gelu(Dense(LN(h))))
    feature = LN(h)[class token]

lambda is a vector (LayerScale), gelu is the exact function, LN has eps = 1e-6, and heads have 64 channels. Sizes S, B
and L have this form; the giant has another perceptron (SwiGLU).

Positions are learned on 37 x 37 patches (images of 518 pixels) and resampled to 16 x 16 by bicubic interpolation with
a = -0.75 and a repeated border (Keys 1981). The published code samples them at (i + 1/2) 37/(16 + 0.1) - 1/2: 0.1 was
added against rounding, and shrinks the step. This code has the same offset, because the features agree with those of
the published code only with it; the port of Hugging Face has no offset.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scoresde.runtime.streams import stream

from .attention import attend, split_heads

SIZE = 224  # of an image, in pixels
PATCH = 14
GRID = SIZE // PATCH
HEAD_CHANNELS = 64
MLP_RATIO = 4
LAYER_NORM_EPSILON = 1e-6
OFFSET = 0.1
_KEYS_A = -0.75  # the value in PyTorch's bicubic interpolation


class Block(nnx.Module):
    """Block of attention and a perceptron, each scaled by a vector; the formula is at the top of the file."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.heads = width // HEAD_CHANNELS
        self.norm_1 = nnx.LayerNorm(width, epsilon=LAYER_NORM_EPSILON, rngs=rngs)
        self.query, self.key, self.value, self.out = (nnx.Linear(width, width, rngs=rngs) for _ in range(4))
        self.scale_1 = nnx.Param(jnp.ones(width))
        self.norm_2 = nnx.LayerNorm(width, epsilon=LAYER_NORM_EPSILON, rngs=rngs)
        self.dense_1 = nnx.Linear(width, MLP_RATIO * width, rngs=rngs)
        self.dense_2 = nnx.Linear(MLP_RATIO * width, width, rngs=rngs)
        self.scale_2 = nnx.Param(jnp.ones(width))

    def __call__(self, h: Float[Array, "b n width"]) -> Float[Array, "b n width"]:
        y = self.norm_1(h)
        q, k, v = (split_heads(layer(y), self.heads) for layer in (self.query, self.key, self.value))
        h = h + self.scale_1[...] * self.out(attend(q, k, v).reshape(h.shape))
        y = nnx.gelu(self.dense_1(self.norm_2(h)), approximate=False)
        return h + self.scale_2[...] * self.dense_2(y)


class DINOv2(nnx.Module):
    """DINOv2: normalized images [B, 224, 224, 3] -> features [B, width]; `width` is a multiple of 64."""

    def __init__(self, width: int, depth: int, rngs: nnx.Rngs):
        self.patches = nnx.Conv(3, width, (PATCH, PATCH), strides=PATCH, padding="VALID", rngs=rngs)
        self.token = nnx.Param(jnp.zeros(width))
        self.positions = nnx.Param(jnp.zeros((1 + GRID * GRID, width)))
        self.blocks = nnx.List([Block(width, rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, epsilon=LAYER_NORM_EPSILON, rngs=rngs)

    def __call__(self, images: Float[Array, "b 224 224 3"]) -> Float[Array, "b width"]:
        # All products are float32: by default GPUs round factors to 10 bits and TPUs to 8.
        with jax.default_matmul_precision("highest"):
            h = self.patches(images).reshape(len(images), GRID * GRID, -1)
            token = jnp.broadcast_to(self.token[...], (len(h), 1, h.shape[-1]))
            h = jnp.concatenate([token, h], axis=1) + self.positions[...]
            for block in self.blocks:
                h = block(h)
            return self.norm(h[:, 0])


@functools.cache
def described(width: int, depth: int) -> tuple[Any, dict]:
    """Return the static description of the module and its parameters as a tree of shapes, without allocating them."""
    made = {}

    def build():
        made["graphdef"], state = nnx.split(DINOv2(width, depth, nnx.Rngs(stream(0, "init"))), nnx.Param)
        return nnx.to_pure_dict(state)

    state = jax.eval_shape(build)
    return made["graphdef"], state


def features(width: int, depth: int, params: dict, images: Float[Array, "b 224 224 3"]) -> Float[Array, "b width"]:
    """Return the features of normalized images; `params` is a tree of the form that `described` returns."""
    return nnx.merge(described(width, depth)[0], params)(images)


def position_matrix(size: int, to: int = GRID, *, offset: float = OFFSET) -> np.ndarray:
    """Return the matrix [to, size] of bicubic interpolation, in float64: row i has the four weights of the kernel at
    (i + 1/2) size/(to + offset) - 1/2."""
    place = (np.arange(to) + 0.5) * size / (to + offset) - 0.5
    low = np.floor(place).astype(int)
    matrix = np.zeros((to, size))
    for tap in range(-1, 3):
        weight = _keys(np.abs(place - low - tap))
        np.add.at(matrix, (np.arange(to), np.clip(low + tap, 0, size - 1)), weight)
    return matrix


def _keys(t: np.ndarray) -> np.ndarray:
    """Return the kernel of Keys 1981 at distances t in [0, 2]."""
    a = _KEYS_A
    return np.where(t <= 1, (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4))


def positions(table: Float[np.ndarray, "n width"], *, offset: float = OFFSET) -> Float[np.ndarray, "m width"]:
    """Resample the learned positions of the class token and of a square of patches to 16 x 16 patches, in float32.

    Positions that already have 16 x 16 patches are returned unchanged.
    """
    side = round(len(table[1:]) ** 0.5)
    if side == GRID:
        return table.astype(np.float32)
    matrix, grid = position_matrix(side, offset=offset), table[1:].reshape(side, side, -1).astype(np.float64)
    moved = np.einsum("ih,hwc,jw->ijc", matrix, grid, matrix, optimize=True).reshape(GRID * GRID, -1)
    return np.concatenate([table[:1], moved]).astype(np.float32)
