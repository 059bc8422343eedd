"""A Flax module as a pure function of its parameters.

`nnx.split` splits a module into a static description (`graphdef`) and its arrays; `nnx.merge` combines them again. A
Network keeps the description as static data and the arrays as a plain nested dict, so it is an ordinary pytree:
`jax.grad`, `optax`, sharding rules and checkpoints handle a dict of arrays and need no Flax. Merging happens while a
function is traced and costs nothing when it runs.

Every module that `build` returns has the signature

    module(x [B, *x], c_noise [B], condition = None, *, key = None) -> [B, *x]

and has no random state: dropout uses the key of the call. `condition` holds arrays [B, ...] by name; a module that
takes conditions has an attribute `conditions`, the kind of each entry by name (see `conditions`).
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..errors import ConfigError
from .attention import training
from .conditions import EMPTY, AbstractCondition, Condition, Conditions
from .remat import rematerialising

# XLA's CPU backend takes long to optimize hundreds of random samplers that run once: 16 s for a small U-Net (2 cores),
# against 3 s at level 1. The numbers are the same.
CPU_INIT_OPTIONS = {"xla_backend_optimization_level": 1}


class Network(eqx.Module):
    """Network `network(x, c_noise, condition, key=key)`: the module of `graphdef` with the parameters `params`.

    To change the parameters (to an average or a checkpoint), use `dataclasses.replace(network, params=...)`.

    Attributes:
        params: nested dict of arrays, or of their shapes before initialization; the keys are attribute names, and
            positions in lists of modules.
        graphdef: static description of the module, without its arrays.
        kinds: kind of each entry of the condition, in pairs (name, kind).
        remat: recomputation in the backward pass, a name in `REMAT`; it does not change the outputs.
    """

    params: PyTree[Array | jax.ShapeDtypeStruct]
    graphdef: nnx.GraphDef = eqx.field(static=True)
    kinds: tuple[tuple[str, AbstractCondition], ...] = eqx.field(static=True, default=())
    remat: str = eqx.field(static=True, default="none")

    @classmethod
    def init(
        cls, build: Callable[[nnx.Rngs], nnx.Module], *, conditions: Conditions = EMPTY, key: PRNGKeyArray
    ) -> "Network":
        """Initialize the parameters of `build(rngs)`, all in one compiled function.

        It may be called inside `jax.jit` (to sample directly into shards), and under `jax.eval_shape`, which allocates
        nothing and so counts the parameters of a large network at no cost.

        Args:
            build: function that builds the module, such as `lambda rngs: UNet((32, 32, 3), rngs=rngs)`.
            conditions: kinds of the entries of the condition, for a module that has no attribute `conditions`.
            key: key of all initial parameters.

        Raises:
            ConfigError: the module holds random state; build `nnx.Dropout` without rngs and pass a key at the call.
        """

        def draw(key):
            rngs = nnx.Rngs(key)
            rngs.default.count = _ParameterCount(rngs.default.count[...], tag=rngs.default.count.tag)
            module = build(rngs)
            kinds = tuple(dict(getattr(module, "conditions", conditions)).items())
            graphdef, state = nnx.split(module)
            random = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.filter_state(state, nnx.RngState))]
            if random:
                raise ConfigError(
                    f"network: expected a module without random state, got {', '.join(random)}; "
                    "build nnx.Dropout without rngs and pass it the key of the call"
                )
            return cls(nnx.to_pure_dict(state), graphdef, kinds)

        if not isinstance(key, jax.core.Tracer):  # options are for the outermost jit only
            draw = jax.jit(draw, compiler_options=CPU_INIT_OPTIONS if jax.default_backend() == "cpu" else None)
        return draw(key)

    def __call__(
        self,
        x: Float[Array, "b *x"],
        c_noise: Float[Array, "b"],
        condition: Condition | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b *x"]:
        """Return the output of the module in float32; for one example call `network(x[None], c_noise[None])[0]`.

        Args:
            x: batch, [B, *x].
            c_noise: noise label of each example, [B].
            condition: values [B, ...] of entries by name; entries that are not there are absent.
            key: key of the dropout for the whole batch. None: no dropout, and a deterministic output.

        Raises:
            ConfigError: shapes for which the module was not built, or an entry that the network does not take.
        """
        module = nnx.merge(self.graphdef, self.params)
        with rematerialising(self.remat), training(key is not None):
            return module(x, c_noise, condition, key=key).astype(jnp.float32)

    @property
    def conditions(self) -> dict[str, AbstractCondition]:
        """Return the kind of each entry of the condition, by name."""
        return dict(self.kinds)

    def entering(self) -> "Network":
        """Return the same function with kernels and biases cast to the data type that convolutions and matrix products
        use. In mixed precision it is narrower than that of the parameters, so less is sent to other devices."""
        layers = nnx.iter_modules(nnx.merge(self.graphdef, self.params))
        dtypes = {path: layer.dtype for path, layer in layers if isinstance(layer, nnx.Conv | nnx.Linear)}

        def enter(path, p):
            dtype = dtypes.get(tuple(entry.key for entry in path[:-1])) or p.dtype
            return p.astype(dtype) if jnp.promote_types(dtype, p.dtype) == p.dtype else p

        return dataclasses.replace(self, params=jax.tree_util.tree_map_with_path(enter, self.params))

    @property
    def num_params(self) -> int:
        """Return the number of parameters, including fixed ones (Fourier frequencies)."""
        return sum(p.size for p in jax.tree.leaves(self.params))


class _ParameterCount(nnx.RngCount):
    """Count of the keys used, with a fast assignment.

    Setting a `Variable` in place queries the sharding of its value. For a traced value this formats an error message
    from everything traced so far, so that the time to initialize a network grew with the square of its layers.
    """

    def __setitem__(self, key, value):
        self.set_value(value)


# Records with spatial axes by the number of these: the kind of record, and the names of the axes.
SPACES = {1: ("curve", ("points",)), 2: ("image", ("height", "width")), 3: ("volume", ("depth", "height", "width"))}


def axis_names(axes: int) -> list[str]:
    """Return the names of the spatial axes of a record that has so many, such as "image height" and "image width"."""
    kind, names = SPACES[axes]
    return [f"{kind} {name}" for name in names]


def check_space_shape(name: str, shape: tuple[int, ...]) -> None:
    """Raise a ConfigError unless `shape` is that of a curve, an image or a volume, without an empty axis."""
    axes = len(shape) - 1
    if axes not in SPACES:
        kind, other = ("vectors", "mlp") if axes < 1 else (f"records of {axes} spatial axes", "fno")
        raise ConfigError(
            f"{name}: expected curves (points, C), images (H, W, C) or volumes (D, H, W, C), got {kind} of shape "
            f"{tuple(shape)}; use {other}"
        )
    if min(shape) < 1:
        expected = ", ".join([*SPACES[axes][1], "channels"])
        raise ConfigError(f"{name}: expected a shape ({expected}) of sizes above 0, got {tuple(shape)}")


def check_image_shape(name: str, shape: tuple[int, ...]) -> None:
    """Raise a ConfigError unless `shape` is that of an image, (H, W, C), without an empty axis."""
    if len(shape) != 3:
        kind, other = {1: ("vectors", "mlp"), 2: ("curves", "unet")}.get(len(shape), ("volumes", "unet"))
        raise ConfigError(f"{name}: expected images of shape (H, W, C), got {kind} of shape {shape}; use {other}")
    check_space_shape(name, shape)


def check_input(shape: tuple[int, ...], x: Array, c_noise: Array) -> None:
    """Raise a ConfigError unless x is [B, *shape] and c_noise is [B].

    Without this check normalization would treat the first axis of a single example as a batch and return wrong numbers.
    """
    if x.shape[1:] != shape or c_noise.shape != x.shape[:1]:
        raise ConfigError(
            f"network: expected x of shape [B, {', '.join(map(str, shape))}] and c_noise of shape [B], got "
            f"{list(x.shape)} and {list(c_noise.shape)}; for one example call network(x[None], c_noise[None])[0]"
        )
