"""A run does not depend on where and under which environment variables its commands are called."""

import jax
import numpy as np
import pytest
from commands import MIXTURE, call, losses, mixture_run


@pytest.fixture(scope="session")
def mixture(tmp_path_factory):
    return mixture_run(tmp_path_factory)


def _samples(folder):
    with np.load(folder / "samples.npz") as file:
        return file["samples"]


# JAX_DEFAULT_PRNG_IMPL


def test_samples_do_not_depend_on_the_default_implementation_of_keys(mixture, tmp_path):
    """A run of threefry keys is read under rbg, and draws the same samples, in batches of any size: to the bit, as the program is
    the same, or to rounding, as the batch is another."""
    assert call("sample", "--workdir", mixture, "--num", 8, "--out", tmp_path / "threefry").code == 0
    with jax.default_prng_impl("rbg"):
        drawn = call("sample", "--workdir", mixture, "--num", 8, "--out", tmp_path / "rbg")
        assert drawn.code == 0, drawn.err
        one = call("sample", "--workdir", mixture, "--seeds", 5, "--out", tmp_path / "one", "--config.sampling.batch_size=1")
        assert one.code == 0, one.err
    np.testing.assert_array_equal(_samples(tmp_path / "rbg"), _samples(tmp_path / "threefry"))
    np.testing.assert_allclose(_samples(tmp_path / "one")[0], _samples(tmp_path / "threefry")[5], atol=1e-4)


def test_training_does_not_depend_on_the_default_implementation_of_keys(mixture, tmp_path):
    with jax.default_prng_impl("rbg"):
        trained = call("train", *MIXTURE, "--workdir", tmp_path, "--config.training.steps=3")
    assert trained.code == 0, trained.err
    np.testing.assert_allclose(losses(tmp_path), losses(mixture)[:3], rtol=1e-5)  # one of them in a process of its own
