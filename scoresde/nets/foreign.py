"""Networks that are no Flax modules, as Flax modules: an Equinox module, or a pair of functions (init, apply).

Equinox  module(x [*x], c_noise [], condition or None, *, key) -> [*x], for one example; it is mapped over the batch
pair     init(key) -> params, a pytree of arrays;
         apply(params, x [B, *x], c_noise [B], condition or None, *, key) -> [B, *x]
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx

from scoresde.errors import ConfigError


class _Static:
    """A pytree without arrays, compared by its leaves, which Flax keeps as a constant of the module."""

    def __init__(self, tree: Any):
        self.tree = tree

    def _leaves(self) -> tuple:
        leaves, structure = jax.tree.flatten(self.tree)
        return structure, *leaves

    def __eq__(self, other):
        return isinstance(other, _Static) and self._leaves() == other._leaves()

    def __hash__(self):
        return hash(self._leaves()[0])


class _Weights(nnx.Module):
    """The arrays of a pytree as parameters, which are named by their paths."""

    def _take(self, tree: Any, what: str) -> None:
        wrong = [leaf.dtype for leaf in jax.tree.leaves(tree) if not jnp.issubdtype(leaf.dtype, jnp.floating)]
        if wrong:
            raise ConfigError(f"network: expected {what} whose arrays are floats, got one of {wrong[0]}")
        paths, self.structure = jax.tree_util.tree_flatten_with_path(tree)
        self.names = tuple(jax.tree_util.keystr(path, simple=True, separator="_") for path, _ in paths)
        for name, (_, leaf) in zip(self.names, paths, strict=True):
            setattr(self, f"w_{name}", nnx.Param(leaf))

    def _give(self) -> Any:
        return jax.tree.unflatten(self.structure, [getattr(self, f"w_{name}")[...] for name in self.names])


class FromEquinox(_Weights):
    """An Equinox module for one example as a network for a batch."""

    def __init__(self, module: eqx.Module):
        arrays, static = eqx.partition(module, eqx.is_array)
        self.static = _Static(static)
        self._take(arrays, "an Equinox module")

    def __call__(self, x, c_noise, condition=None, *, key=None):
        module = eqx.combine(self._give(), self.static.tree)
        keys = None if key is None else jax.random.split(key, len(x))
        axes = (0, 0, 0, None if key is None else 0)
        return jax.vmap(lambda *one: module(*one[:3], key=one[3]), in_axes=axes)(x, c_noise, condition, keys)


class FromFunctions(_Weights):
    """A pair (init, apply) as a network."""

    def __init__(self, init: Callable, apply: Callable, *, key):
        self.apply = apply
        self._take(init(key), "a pair (init, apply)")

    def __call__(self, x, c_noise, condition=None, *, key=None):
        return self.apply(self._give(), x, c_noise, condition, key=key)


def as_module(found: Any, rngs: nnx.Rngs) -> nnx.Module:
    """Return a network of any of the three kinds as a Flax module.

    Raises:
      ConfigError: it is none of them.
    """
    if isinstance(found, nnx.Module):
        return found
    if isinstance(found, eqx.Module):
        return FromEquinox(found)
    if isinstance(found, tuple) and len(found) == 2 and all(map(callable, found)):
        return FromFunctions(*found, key=rngs.params())
    raise ConfigError(
        f"network: expected a Flax NNX module, an Equinox module or a pair (init, apply), got a {type(found).__name__}"
    )
