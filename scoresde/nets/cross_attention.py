"""Attention of the points of a feature map to the rows of a sequence.

    h + Dense_0(softmax(q k^T / sqrt(d)) v),    q = Dense(norm(h)),  k, v = Dense(rows)

for each head, where rows that are absent take no part. Dense_0 starts at zero, so that a network starts without the
effect of its sequences. The softmax is float32.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from .attention import split_heads

Rows = tuple[Float[Array, "b n features"], Bool[Array, "b n"]]


class CrossAttention(nnx.Module):
    """Multi-head attention from h [b, m, c] to rows [b, n, features].

    Args:
        features: channels of h.
        row_features: features of a row.
        heads: number of heads, a divisor of the channels.
    """

    def __init__(self, features: int, row_features: int, *, heads: int, dtype, param_dtype, rngs: nnx.Rngs):
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.heads, self.dtype = heads, dtype
        self.query = nnx.Linear(features, features, **options)
        self.key = nnx.Linear(row_features, features, **options)
        self.value = nnx.Linear(row_features, features, **options)
        self.out = nnx.Linear(features, features, kernel_init=nnx.initializers.zeros, **options)

    def __call__(self, h: Float[Array, "b m c"], rows: Rows) -> Float[Array, "b m c"]:
        values, present = rows
        values = values.astype(self.dtype)
        q = split_heads(self.query(h), self.heads)
        k, v = (split_heads(layer(values), self.heads) for layer in (self.key, self.value))
        y = jax.nn.dot_product_attention(q, k, v, mask=present[:, None, None, :])
        return self.out(jnp.reshape(y, h.shape))
