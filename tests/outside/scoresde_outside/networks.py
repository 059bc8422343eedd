import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx

from scoresde.config import constructor


def _features(x, c_noise):
    return jnp.concatenate([x, jnp.sin(c_noise), jnp.cos(c_noise), c_noise / 10], axis=-1)


class OneLayer(nnx.Module):
    """Network of one hidden layer.

    Args:
      shape: (D,).
      width: of the hidden layer.
    """

    def __init__(self, shape, *, width: int = 16, rngs: nnx.Rngs):
        self.first = nnx.Linear(shape[0] + 3, width, rngs=rngs)
        self.last = nnx.Linear(width, shape[0], rngs=rngs)

    def __call__(self, x, c_noise, condition=None, *, key=None):
        return self.last(nnx.tanh(self.first(_features(x, c_noise[:, None]))))


class Equinox(eqx.Module):
    """The same network in Equinox, for one example.

    Args:
      shape: (D,).
      width: of the hidden layer.
    """

    mlp: eqx.nn.MLP

    def __init__(self, shape, width: int = 16, *, key):
        self.mlp = eqx.nn.MLP(shape[0] + 3, shape[0], width, depth=1, activation=jnp.tanh, key=key)

    def __call__(self, x, c_noise, condition=None, *, key=None):
        return self.mlp(_features(x, c_noise[None]))


@constructor
def pair(shape, width: int = 16):
    """Return the same network as functions (init, apply).

    Args:
      width: of the hidden layer.
    """

    def init(key):
        first, last = jax.random.split(key)
        return {
            "first": jax.random.normal(first, (shape[0] + 3, width)) / (shape[0] + 3) ** 0.5,
            "last": jax.random.normal(last, (width, shape[0])) / width**0.5,
        }

    def apply(params, x, c_noise, condition=None, *, key=None):
        return jnp.tanh(_features(x, c_noise[:, None]) @ params["first"]) @ params["last"]

    return init, apply


class Halved(OneLayer):
    """A mistake: its output has half of the components of its input."""

    def __call__(self, x, c_noise, condition=None, *, key=None):
        return super().__call__(x, c_noise)[:, : x.shape[1] // 2]
