"""Coefficients of one function on two grids."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.sde.basis import AbstractBasis
from scoresde.types import State


def resample(c: State, source: AbstractBasis, target: AbstractBasis) -> Float[Array, "*y"]:
    """Return the coefficients of the same function on another grid: missing modes are dropped, new ones are 0 (but see
    `Fourier`).

    Raises:
      ConfigError: two bases of different kinds, or c does not belong to the source.
    """
    separable = source.nested and type(source) is type(target)
    if not separable or len(source.shape) != len(target.shape):
        raise ConfigError(
            f"resample: expected two grids of one basis, got {type(source).__name__}{source.shape} and "
            f"{type(target).__name__}{target.shape}; take source.at(grid)"
        )
    source.check(jnp.shape(c))
    kept = c[tuple(slice(min(a, b)) for a, b in zip(source.shape, target.shape))]
    return jnp.pad(kept, [(0, b - n) for n, b in zip(kept.shape, target.shape)] + [(0, 0)])
