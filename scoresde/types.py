"""Types of the arrays used everywhere, which describe one example without a batch axis, and of random keys."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real, UInt32
from jaxtyping import Key as TypedKey

Scalar = Float[Array, ""]
Time = Real[Array | np.ndarray | np.number, ""] | float  # a Python number is a time as well
State = Float[Array, "*x"]  # one example: a vector, an image [H, W, C]
Coef = Float[Array, "*#x"]  # broadcasts against a State: one number, or one number per mode
Key = PRNGKeyArray
Conditions = dict[str, Any]  # arrays [N, ...] by the name of the entry: the conditions of N examples
Keys = TypedKey[Array, " N"] | UInt32[Array, "N k"]  # one key per example

# The generator of every key that scoresde makes. JAX_DEFAULT_PRNG_IMPL must not change it, because a stored root key is
# read again on another machine, and because the samples of "rbg" depend on the batch under `vmap`.
_IMPLEMENTATION = "threefry2x32"


def stored_key(words: UInt32[Array, " words"]) -> Key:
    """Return the key whose `jax.random.key_data` is `words`."""
    return jax.random.wrap_key_data(words, impl=_IMPLEMENTATION)
