"""Named random streams: the root of every key and the branches that a key has beside its split.

A key is threefry's pair of 32-bit words. A stream of a run has the words (number of the name, seed of the run), and a
fixed stream, whose draws depend on an index alone, has (0, number of the name), which is `jax.random.key(number)`. So
no two streams share a root, whatever the seed.

`fold_in(key, i)` is the same key as `split(key, n)[i]`. A branch of a key that is split as well therefore has a number
from the length of the split on.
"""

import jax
import jax.numpy as jnp
import numpy as np

from scoresde.types import Key, stored_key

# Streams that differ from run to run. The key of training is stored with the state, so that a run that is resumed keeps
# its own, also where an earlier version began it.
RUN_STREAMS = {
    "init": 1,  # the initial parameters
    "train": 2,  # example i of step n
    "dequantizer_init": 3,
    "dequantizer_train": 4,
}

# Streams that are the same for every run. Samples, likelihoods and restorations of stored runs depend on the first
# four, which must not change.
FIXED_STREAMS = {
    "sample": 0,  # the sample of a seed
    "likelihood": 1,  # the dequantization, the probes and the draws of a record
    "optimised_grid": 2,  # the trajectories that a grid is fitted to
    "restore": 3,  # a record that is degraded and restored
    "monitor_loss": 4,
    "monitor_trajectory": 5,
    "self_test": 6,
}

# Branches of a key, each beside the split of the code that holds it.
BRANCHES = {
    "observation": 0,  # of "restore", which is not split
    "restoration": 1,
    "class": 2,  # of the key of a sample, which is split into prior and path
    "condition": 3,  # of the key of an example in training, which is split into data, dropout and loss
    "augmentation": 2,  # of the key of a record, which is split into level and flip
    "prior": 3,  # of the key of a bound, which is split into place, noise and decoder
}

# Seeds of generators of NumPy, on the host.
HOST_GENERATORS = {
    "mask": 3,  # the hidden points of `inpaint`
    "self_test": 0,
}


def stream(seed: int, name: str) -> Key:
    """Return the root key of a run's stream, for the seed of the run.

    Args:
      seed: from 0 to 2^32 - 1.
      name: a name in `RUN_STREAMS`.
    """
    return stored_key(jnp.array([RUN_STREAMS[name], seed], jnp.uint32))


def fixed_stream(name: str) -> Key:
    """Return the root key of a stream in `FIXED_STREAMS`, the same for every run."""
    return stored_key(jnp.array([0, FIXED_STREAMS[name]], jnp.uint32))


def branch(key: Key, name: str) -> Key:
    """Return the branch of a key that has this name in `BRANCHES`."""
    return jax.random.fold_in(key, BRANCHES[name])


def host_generator(name: str) -> np.random.Generator:
    """Return a new generator of NumPy with the seed of this name in `HOST_GENERATORS`."""
    return np.random.default_rng(HOST_GENERATORS[name])
