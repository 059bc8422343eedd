"""Named random streams: those that stored runs depend on keep their roots, and no two streams share a key."""

import itertools

import jax
import numpy as np
import pytest
from flax import nnx

from scoresde.runtime.streams import BRANCHES, FIXED_STREAMS, RUN_STREAMS, branch, fixed_stream, host_generator, stream
from scoresde.types import stored_key


def words(key) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


@pytest.mark.parametrize("name, number", [("sample", 0), ("likelihood", 1), ("optimised_grid", 2), ("restore", 3)])
def test_streams_of_stored_runs_keep_their_roots(name, number):
    assert words(fixed_stream(name)) == words(jax.random.key(number, impl="threefry2x32"))


def test_branches_of_stored_samples_keep_their_numbers():
    key = fixed_stream("sample")
    for name, number in {"observation": 0, "restoration": 1, "class": 2, "augmentation": 2, "prior": 3}.items():
        assert words(branch(key, name)) == words(jax.random.fold_in(key, number))


def test_the_mask_of_stored_restorations_is_the_same():
    np.testing.assert_array_equal(host_generator("mask").random(4), np.random.default_rng(3).random(4))


def test_no_two_streams_have_a_key_in_common():
    """Nor do their first children: the same words of a root would give the same step, sample or record."""
    roots = {name: fixed_stream(name) for name in FIXED_STREAMS}
    for seed in (0, 1, 2, 3, 2**32 - 1):
        roots |= {f"{name} {seed}": stream(seed, name) for name in RUN_STREAMS}
    children = {
        name: {words(root)} | {words(jax.random.fold_in(root, i)) for i in range(16)} for name, root in roots.items()
    }
    for one, other in itertools.combinations(children, 2):
        assert not children[one] & children[other], f"{one} and {other}"


def test_initial_parameters_share_no_key_with_the_steps():
    """Flax folds small numbers into the key of `init`, and a step folds its own number into the key of `train`."""
    rngs = nnx.Rngs(stream(0, "init"))
    drawn = {words(rngs.params()) for _ in range(8)}
    assert not drawn & {words(jax.random.fold_in(stream(0, "train"), step)) for step in range(8)}


@pytest.mark.parametrize("name, children", [("class", 2), ("augmentation", 2), ("prior", 3)])
def test_a_branch_is_none_of_the_keys_that_its_key_is_split_into(name, children):
    key = stream(5, "train")
    assert BRANCHES[name] >= children
    assert words(branch(key, name)) not in {words(part) for part in jax.random.split(key, children)}


def test_a_stream_is_read_again_from_its_words():
    key = stream(2**32 - 1, "train")
    assert words(stored_key(jax.random.key_data(key))) == words(key)
