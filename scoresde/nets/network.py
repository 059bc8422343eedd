"""A Flax module as a pure function of its parameters.

`nnx.split` takes a module apart into a static description (`graphdef`) and its arrays; `nnx.merge` puts them
together again. A Network keeps the description as static data and the arrays as a plain nested dict, so it is an
ordinary pytree: `jax.grad`, `optax`, sharding rules and checkpoints see a dict of arrays and nothing of Flax. Merging
happens while a function is traced and costs nothing when it runs.

Every module `build` returns has one signature:

    module(x [B, *x], c_noise [B], label [B] or None = None, *, key = None) -> [B, *x]

and draws nothing by itself: dropout takes the key of the call.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..errors import ConfigError
from .attention import training
from .remat import rematerialising

# XLA's CPU backend spends long on optimizing hundreds of random draws that run once: 16 s for a small U-Net (2 cores),
# against 3 s at level 1. The numbers are the same.
CPU_INIT_OPTIONS = {"xla_backend_optimization_level": 1}


class Network(eqx.Module):
    """`network(x, c_noise, label, key=key)`: the module that `graphdef` describes, with the parameters `params`.

    To change the parameters (an average, a checkpoint), use `dataclasses.replace(network, params=...)`.

    Attributes:
        params: nested dict of arrays, or of their shapes before they are drawn; the keys are attribute names, and
          positions in lists of modules.
        graphdef: what is left of the module without its arrays.
        remat: a name of `REMAT`, what gradients compute again; the outputs are the same.
    """

    params: PyTree[Array | jax.ShapeDtypeStruct]
    graphdef: nnx.GraphDef = eqx.field(static=True)
    remat: str = eqx.field(static=True, default="none")

    @classmethod
    def init(cls, build: Callable[[nnx.Rngs], nnx.Module], *, key: PRNGKeyArray) -> "Network":
        """Draws the parameters of `build(rngs)`, all of them in one compiled function.

        May be called inside `jax.jit` (to draw straight into shards), and under `jax.eval_shape`, where nothing is
        allocated: that counts the parameters of a large network at no cost.

        Args:
            build: makes the module from its random streams, such as `lambda rngs: UNet((32, 32, 3), rngs=rngs)`.
            key: one key.
        Raises:
            ConfigError: the module holds random state; build `nnx.Dropout` without rngs and pass a key at the call.
        """

        def draw(key):
            rngs = nnx.Rngs(key)
            rngs.default.count = _ParameterCount(rngs.default.count[...], tag=rngs.default.count.tag)
            graphdef, state = nnx.split(build(rngs))
            random = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.filter_state(state, nnx.RngState))]
            if random:
                raise ConfigError(
                    f"network: expected a module without random state, got {', '.join(random)}; "
                    "build nnx.Dropout without rngs and pass it the key of the call"
                )
            return cls(nnx.to_pure_dict(state), graphdef)

        if not isinstance(key, jax.core.Tracer):  # options are for the outermost jit only
            draw = jax.jit(draw, compiler_options=CPU_INIT_OPTIONS if jax.default_backend() == "cpu" else None)
        return draw(key)

    def __call__(
        self,
        x: Float[Array, "b *x"],
        c_noise: Float[Array, "b"],
        label: Int[Array, "b"] | None = None,
        *,
        augmentation: Float[Array, "b entries"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b *x"]:
        """The module's output in float32. For one example: `network(x[None], c_noise[None])[0]`.

        Args:
            x: a batch, [B, *x].
            c_noise: the noise label of each example, [B].
            label: classes, [B]; -1 is the null class. None: the null class for all.
            augmentation: labels of augmentations, for a module that takes them. None: nothing was done.
            key: for dropout, one for the whole batch. None: no dropout, the output is deterministic.
        Raises:
            ConfigError: shapes that the module was not built for, or labels without classes.
        """
        module = nnx.merge(self.graphdef, self.params)
        told = {} if augmentation is None else {"augmentation": augmentation}
        with rematerialising(self.remat), training(key is not None):
            return module(x, c_noise, label, **told, key=key).astype(jnp.float32)

    def entering(self) -> "Network":
        """The same function, with kernels and biases in the dtype in which convolutions and products read them. It is
        narrower than
        that of the parameters in mixed precision: whoever sends parameters to other devices sends these."""
        layers = nnx.iter_modules(nnx.merge(self.graphdef, self.params))
        dtypes = {path: layer.dtype for path, layer in layers if isinstance(layer, nnx.Conv | nnx.Linear)}

        def enter(path, p):
            dtype = dtypes.get(tuple(entry.key for entry in path[:-1])) or p.dtype
            return p.astype(dtype) if jnp.promote_types(dtype, p.dtype) == p.dtype else p

        return dataclasses.replace(self, params=jax.tree_util.tree_map_with_path(enter, self.params))

    @property
    def num_params(self) -> int:
        """The number of parameters, including fixed ones (Fourier frequencies)."""
        return sum(p.size for p in jax.tree.leaves(self.params))


class _ParameterCount(nnx.RngCount):
    """Of keys drawn. A `Variable` that is set in place asks for the sharding of its values; of traced ones this writes
    the message of an error from all that was traced so far, and drawing a network took time with the square of its
    layers."""

    def __setitem__(self, key, value):
        self.set_value(value)


def check_input(shape: tuple[int, ...], x: Array, c_noise: Array) -> None:
    """Raises a ConfigError unless x is [B, *shape] and c_noise is [B].

    Checked because normalization would take the first axis of a single example for a batch and return wrong numbers.
    """
    if x.shape[1:] != shape or c_noise.shape != x.shape[:1]:
        raise ConfigError(
            f"network: expected x of shape [B, {', '.join(map(str, shape))}] and c_noise of shape [B], got "
            f"{list(x.shape)} and {list(c_noise.shape)}; for one example call network(x[None], c_noise[None])[0]"
        )
