"""A residual multilayer perceptron for vectors: points in the plane, function values, coefficients.

    h   = Dense(x)
    h   = h + Dense_0(dropout(act(Dense(act(h)) + Dense(act(temb)))))      depth times
    out = Dense_0(act(h))

`temb` is the embedding of the noise level (and of the class) as in `embedding`, `act` is swish, and a subscript 0 is
initialization near zero, so that the network starts as the zero function, like the U-Net. There is no normalization,
because with preconditioning the input has unit variance, and normalization would remove the length of x.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ConfigError
from .blocks import linear
from .conditions import EMPTY, Condition, Conditions
from .embedding import Conditioned, Conditioning
from .network import check_input
from .remat import rematerialise


class MLPBlock(nnx.Module):
    """Residual block h + Dense_0(dropout(act(Dense(act(h)) + Dense(temb)))), where temb already includes `act`."""

    def __init__(self, width: int, *, dropout: float, dtype, param_dtype, rngs: nnx.Rngs):
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.dense_1 = linear(width, width, **options)
        self.dense_temb = linear(width, width, **options)
        self.dropout = nnx.Dropout(dropout)  # no rngs: the key comes with the call
        self.dense_2 = linear(width, width, scale=0.0, **options)

    @rematerialise
    def __call__(
        self, h: Float[Array, "b width"], temb: Float[Array, "b width"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "b width"]:
        y = nnx.swish(self.dense_1(nnx.swish(h)) + self.dense_temb(temb))
        return h + self.dense_2(self.dropout(y, deterministic=key is None, rngs=key))


class MLP(Conditioned, nnx.Module):
    """Residual multilayer perceptron for data of any shape, which is flattened and restored.

    Args:
        shape: shape of one example.
        width: features of every hidden layer, at least 2.
        depth: number of residual blocks, at least 1.
        embedding: embedding of the noise label: "positional", "sinusoidal" (ADM, DiT) or "fourier".
        fourier_scale: standard deviation of the Fourier frequencies, in cycles per unit of the noise label; above 0.
        conditions: kind of each entry of the condition, see `conditions`; {}: the network takes no condition.
        dropout: probability of dropping an activation inside a block; at least 0 and below 1.
        dtype: data type of the computation, float32 or bfloat16. Embeddings and output are float32 in any case.
        param_dtype: data type of the parameters.

    Raises:
        ConfigError: an argument out of range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: int = 128,
        depth: int = 3,
        embedding: str = "positional",
        fourier_scale: float = 16.0,
        conditions: Conditions = EMPTY,
        dropout: float = 0.0,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        problems = []
        if width < 2 or depth < 1:
            problems.append(f"mlp: expected width >= 2 and depth >= 1, got width {width} and depth {depth}")
        if not 0 <= dropout < 1:
            problems.append(f"mlp: expected 0 <= dropout < 1, got {dropout}")
        if problems:
            raise ConfigError(*problems)
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        size = math.prod(shape)
        self.shape = tuple(shape)
        self.dtype = dtype
        self.conditioning = Conditioning(
            width,
            width,
            embedding=embedding,
            fourier_scale=fourier_scale,
            conditions=conditions,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.dense_in = linear(size, width, **options)
        extra = self.conditioning.num_channels * math.prod(self.shape[:-1])
        self.dense_condition = linear(extra, width, scale=0.0, **options) if extra else None
        self.blocks = nnx.List([MLPBlock(width, dropout=dropout, **options) for _ in range(depth)])
        self.dense_out = linear(width, size, scale=0.0, **options)

    def __call__(
        self,
        x: Float[Array, "b *x"],
        c_noise: Float[Array, "b"],
        condition: Condition | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b *x"]:
        """Return the output of the network, see `network`."""
        check_input(self.shape, x, c_noise)
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))
        condition = self.conditioning.complete(condition, len(x))
        temb = nnx.swish(self.conditioning(c_noise, condition)).astype(self.dtype)
        h = self.dense_in(x.reshape(x.shape[0], -1).astype(self.dtype))
        if self.dense_condition is not None:
            channels = self.conditioning.channels(condition, self.shape[:-1])
            h = h + self.dense_condition(channels.reshape(x.shape[0], -1).astype(self.dtype))
        for block, key in zip(self.blocks, keys, strict=True):
            h = block(h, temb, key=key)
        return self.dense_out(nnx.swish(h)).reshape(x.shape).astype(jnp.float32)
