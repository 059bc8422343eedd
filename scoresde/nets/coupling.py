"""Conditional flow of affine couplings (Dinh et al. 2017): an invertible map z -> z' for a context of the same shape.

    z'_b = z_b exp(s) + t,    z'_a = z_a,     (s, t) = net(z_a, context)

a and b are the two colours of a chessboard over all axes, which are exchanged from one coupling to the next.
log |det dz'/dz| is the sum of s. The last layer of each net starts near zero, so the flow starts as the identity. s
lies in (-2, 2).
"""

import functools

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from ..errors import ConfigError
from .blocks import conv, linear
from .network import Network

_LARGEST_LOG_SCALE = 2.0


class CouplingFlow(nnx.Module):
    """Flow of `depth` couplings on states of shape [H, W, C] (3 x 3 convolutions) or [D] (dense layers).

    Args:
        shape: shape of one example.
        width: features of the hidden layers of each net, at least 1.
        depth: number of couplings, at least 1; 2 change every coordinate.

    Raises:
        ConfigError: width or depth below 1, or a shape that is neither [H, W, C] nor [D].
    """

    def __init__(self, shape: tuple[int, ...], *, width: int = 32, depth: int = 4, rngs: nnx.Rngs):
        if width < 1 or depth < 1 or len(shape) not in (1, 3):
            raise ConfigError(
                "coupling flow: expected width and depth of 1 or more and a shape [D] or [H, W, C], got width "
                f"{width}, "
                f"depth {depth}, shape {list(shape)}"
            )
        layer = linear if len(shape) == 1 else functools.partial(conv, width=3, axes=len(shape) - 1)
        options = dict(dtype=jnp.float32, param_dtype=jnp.float32, rngs=rngs)
        size = shape[-1]
        self.shape = tuple(shape)
        self.first = nnx.List([layer(2 * size, width, **options) for _ in range(depth)])
        self.second = nnx.List([layer(width, width, **options) for _ in range(depth)])
        self.last = nnx.List([layer(width, 2 * size, scale=0.0, **options) for _ in range(depth)])

    def __call__(
        self, z: Float[Array, "b *x"], context: Float[Array, "b *x"]
    ) -> tuple[Float[Array, "b *x"], Float[Array, "b"]]:
        """Return (z', log |det dz'/dz|)."""
        colour = np.indices(self.shape).sum(axis=0) % 2
        log_det = jnp.zeros(len(z))
        for k, (first, second, last) in enumerate(zip(self.first, self.second, self.last, strict=True)):
            moves = jnp.asarray(colour == k % 2, z.dtype)
            # tanh(z / 2) is the position within the bin, on (-1, 1).
            h = jnp.concatenate([(1 - moves) * jnp.tanh(z / 2), context], axis=-1)
            log_scale, shift = jnp.split(last(nnx.swish(second(nnx.swish(first(h))))), 2, axis=-1)
            log_scale = moves * _LARGEST_LOG_SCALE * jnp.tanh(log_scale / _LARGEST_LOG_SCALE)
            z = z * jnp.exp(log_scale) + moves * shift
            log_det = log_det + jnp.sum(log_scale, axis=tuple(range(1, z.ndim)))
        return z, log_det


def push(
    network: Network, z: Float[Array, "*x"], context: Float[Array, "*x"]
) -> tuple[Float[Array, "*x"], Float[Array, ""]]:
    """Apply the `CouplingFlow` of a `Network` to one example."""
    moved, log_det = nnx.merge(network.graphdef, network.params)(z[None], context[None])
    return moved[0], log_det[0]
