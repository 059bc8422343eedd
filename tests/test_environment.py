"""A run does not depend on where and under which environment variables its commands are called."""

import jax
import numpy as np
import pytest
from commands import MIXTURE, call, losses, metrics, mixture_run


@pytest.fixture(scope="session")
def mixture(tmp_path_factory):
    return mixture_run(tmp_path_factory)


def _samples(folder):
    with np.load(folder / "samples.npz") as file:
        return file["samples"]


# JAX_DEFAULT_PRNG_IMPL


def test_samples_do_not_depend_on_the_default_implementation_of_keys(mixture, tmp_path):
    """A run of threefry keys is read under rbg, and draws the same samples, in batches of any size: to the bit, as the
    program is the same, or to rounding, as the batch is another."""
    assert call("sample", "--workdir", mixture, "--num", 8, "--out", tmp_path / "threefry").code == 0
    with jax.default_prng_impl("rbg"):
        drawn = call("sample", "--workdir", mixture, "--num", 8, "--out", tmp_path / "rbg")
        assert drawn.code == 0, drawn.err
        one = call(
            "sample", "--workdir", mixture, "--seeds", 5, "--out", tmp_path / "one", "--config.sampling.batch_size=1"
        )
        assert one.code == 0, one.err
    np.testing.assert_array_equal(_samples(tmp_path / "rbg"), _samples(tmp_path / "threefry"))
    np.testing.assert_allclose(_samples(tmp_path / "one")[0], _samples(tmp_path / "threefry")[5], atol=1e-4)


def test_training_does_not_depend_on_the_default_implementation_of_keys(mixture, tmp_path):
    with jax.default_prng_impl("rbg"):
        trained = call("train", *MIXTURE, "--workdir", tmp_path, "--config.training.steps=3")
    assert trained.code == 0, trained.err
    np.testing.assert_allclose(losses(tmp_path), losses(mixture)[:3], rtol=1e-5)  # one of them in a process of its own


def test_a_cosine_may_be_prolonged(tmp_path):
    """The learning rate is a function of the number of updates: its schedule may change where a run goes on."""
    flags = [*MIXTURE, "--workdir", tmp_path]
    assert call("train", *flags, "--config.training.steps=8", "--config.optim.decay_steps=8").code == 0
    late = call("train", *flags, "--config.training.steps=9", "--config.optim.decay_steps=8")
    assert late.code == 0 and len([line for line in late.err.splitlines() if "optim.decay_steps" in line]) == 1
    spread = call("train", *flags, "--config.training.steps=12", "--config.optim.decay_steps=12")
    assert spread.code == 0 and "optim.decay_steps" not in spread.err, spread.err
    rates = {line["step"]: line["learning_rate"] for line in metrics(tmp_path)}
    peak = max(rates.values())
    assert rates[9] == pytest.approx(0.01 * peak, rel=0.05) and rates[10] > 0.1 * peak


# Paths


PATH_FLAGS = [
    ("train", ["--config"], "--config"), ("train", ["--config", "x.py", "--workdir"], "--workdir"),
    ("sample", ["--workdir"], "--workdir"), ("sample", ["--workdir", "x", "--out"], "--out"), ("sample", ["--workdir",
    "x", "--input"], "--input"),
    ("likelihood", ["--workdir"], "--workdir"), ("likelihood", ["--workdir", "x", "--out"], "--out"),
    *(("evaluate", [flag], flag) for flag in ("--workdir", "--out", "--stats", "--samples", "--reference", "--features",
    "--network", "--repeat")),
    ("average", ["--workdir"], "--workdir"), ("average", ["--workdir", "x", "--out"], "--out"),
    ("convert", [], "SOURCE"), ("convert", ["x", "--out"], "--out"), ("convert", ["x", "--export"], "--export"),
    ("report", [], "DIR"), ("report", ["x", "--out"], "--out"),
    ("data", ["inspect", "digits", "--config"], "--config"), ("data", ["inspect", "digits", "--out"], "--out"),
    ("data.navier_stokes", ["--out"], "--out"),
]  # fmt: skip


@pytest.mark.parametrize("command, before, flag", PATH_FLAGS, ids=lambda item: item if isinstance(item, str) else "")
def test_an_address_in_the_place_of_a_path_is_refused(command, before, flag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = call(command, *before, "gs://bucket/folder")
    assert refused.code == 2 and not list(tmp_path.iterdir())
    (line,) = refused.err.splitlines()
    assert all(word in line for word in (flag, "gs://bucket/folder", "mount"))


@pytest.mark.parametrize("command, before, flag", PATH_FLAGS, ids=lambda item: item if isinstance(item, str) else "")
def test_every_path_may_begin_with_the_home_directory(command, before, flag):
    """No one has this home directory: the line names it, so `~` was looked at."""
    refused = call(command, *before, "~nobody_of_this_name/x")
    (line,) = refused.err.splitlines()
    assert refused.code == 2 and flag in line and "begins with ~" in line


@pytest.mark.parametrize(
    "field",
    [
        "data.source=npz:s3://bucket/d.npz",
        "data.source=folder:gs://bucket/d",
        "data.labels=gs://b/l.csv",
        "data.data_dir=gs://b",
    ],
)
def test_an_address_of_data_is_refused(field, tmp_path):
    refused = call("train", *MIXTURE, f"--config.{field}", "--workdir", tmp_path / "run")
    assert refused.code == 2 and "://b" in refused.err and not (tmp_path / "run").exists()


def test_a_run_in_the_home_directory_is_used_from_another_folder(tmp_path, monkeypatch):
    """Its data are named by a relative path: config.json has it in full."""
    home, other = tmp_path / "home", tmp_path / "other"
    (home / "data").mkdir(parents=True)
    other.mkdir()
    random = np.random.default_rng(0)
    np.savez(
        home / "data" / "d.npz",
        x_train=random.normal(size=(200, 2)).astype("f4"),
        x_test=random.normal(size=(50, 2)).astype("f4"),
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    flags = [*MIXTURE, "--workdir=~/run", "--config.training.steps=2"]
    trained = call("train", *flags, "--config.data.source=npz:data/d.npz")
    assert trained.code == 0, trained.err
    assert sorted(path.name for path in home.iterdir()) == ["data", "run"]  # and none named "~"
    monkeypatch.chdir(other)
    drawn = call("likelihood", "--workdir", "~/run", "--nats", "--num", 2)
    assert drawn.code == 0, drawn.err
    (home / "data").rename(tmp_path / "moved")  # the data are the same wherever they are: their fingerprint says so
    again = call(
        "train", *flags, "--config.training.steps=3", f"--config.data.source=npz:{tmp_path / 'moved' / 'd.npz'}"
    )
    assert again.code == 0 and "resumed at step 2" in again.err + again.out, again.err
    refused = call("train", *flags, "--config.training.steps=4")
    assert refused.code == 4 and "data were" in refused.err
