"""Attention softmax(q k^T / sqrt(d)) v of each head, for all networks; the implementation depends on the device.

| device      | implementation                                                                                               |
|-------------|--------------------------------------------------------------------------------------------------------------|
| CPU         | heads along the batch, the layout of XLA's matrix products: half to four fifths of the time of the last row, |
|             | forward and backward (32 x 256 tokens, 256 channels in one head or four)                                     |
| NVIDIA GPU  | in training, cuDNN's fused kernel if it supports the heads (Dao et al. 2022): no matrix [n, n] in memory     |
| other       | `jax.nn.dot_product_attention`                                                                               |

The softmax is float32. cuDNN's kernel has no derivative in forward mode, which likelihoods need, so it is used in
training only, that is, if the network is called with a key. The device is that for which the program is compiled, which
need not be the one on which JAX runs.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Heads = Float[Array, "b n heads d"]

_PLAIN = jax.nn.dot_product_attention
_FUSED = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
_LEAST_CAPABILITY = 8.0  # compute capability of the GPU: cuDNN has this kernel from Ampere on

_in_training = contextvars.ContextVar("in_training", default=False)


@contextlib.contextmanager
def training(is_training: bool) -> Iterator[None]:
    """Return a context in which traced attention may use kernels without a derivative in forward mode, if
    `is_training`."""
    token = _in_training.set(is_training)
    try:
        yield
    finally:
        _in_training.reset(token)


def attend(q: Heads, k: Heads, v: Heads) -> Heads:
    """Return softmax(q k^T / sqrt(d)) v for each head; the table of implementations is at the top of the file."""
    on_gpu = _FUSED if _in_training.get() and takes_fused(q.shape, q.dtype) else _PLAIN
    return jax.lax.platform_dependent(q, k, v, cpu=_along_batch, cuda=on_gpu, default=_PLAIN)


@functools.cache
def takes_fused(shape: tuple[int, ...], dtype) -> bool:
    """Return whether cuDNN is available and supports heads of this shape and type: 16 bits, d a multiple of 8 and at
    most 128, or 256 from Hopper on."""
    heads = jax.ShapeDtypeStruct(shape, dtype)
    try:
        jax.eval_shape(_FUSED, heads, heads, heads)  # JAX checks for cuDNN and its limits
        return all(float(d.compute_capability) >= _LEAST_CAPABILITY for d in jax.devices() if d.platform == "gpu")
    except (RuntimeError, NotImplementedError, ValueError):
        return False


def split_heads(x: Float[Array, "b n c"], heads: int) -> Heads:
    return x.reshape(*x.shape[:2], heads, -1)


def _along_batch(q: Heads, k: Heads, v: Heads) -> Heads:
    b, n, heads, d = q.shape
    q, k, v = (x.transpose(0, 2, 1, 3).reshape(b * heads, n, d) for x in (q, k, v))
    logits = jnp.einsum("bid,bjd->bij", q, k, preferred_element_type=jnp.float32) / math.sqrt(d)
    y = jnp.einsum("bij,bjd->bid", jax.nn.softmax(logits, axis=-1).astype(v.dtype), v)
    return y.reshape(b, heads, n, d).transpose(0, 2, 1, 3)
