"""Conditions through the commands: a vector and a sequence from an NPZ file, with and without a trained null."""

import json

import numpy as np
import pytest
from commands import call

FLAGS = [
    "--config", "configs/mixture_2d.py", "--config.data.levels=0", "--config.model.width=16", "--config.model.depth=1",
    "--config.conditions.y=vector", "--config.conditions.y.size=1",
    "--config.conditions.rows=sequence", "--config.conditions.rows.length=3", "--config.conditions.rows.size=2",
    "--config.training.steps=20", "--config.training.batch_size=32", "--config.training.sample_every=20",
    "--config.training.checkpoint_every=20", "--config.training.ema=0.9,", "--config.sampling.num=4",
    "--config.sampling.name=ddim", "--config.sampling.steps=4", "--config.optim.warmup=1", "--config.evaluate.num=0",
    "--config.likelihood.tolerance=1e-2",
]  # fmt: skip


def write(path, shift: float = 0.0, **changed):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 64), ("test", 8)):
        y = 50 + 10 * rng.standard_normal((n, 1)).astype(np.float32)
        rows = rng.standard_normal((n, 3, 2)).astype(np.float32)
        rows[::3, 2] = np.nan
        x = (y - 50) / 10 + 0.1 * rng.standard_normal((n, 2))
        arrays |= {f"x_{split}": x.astype(np.float32), f"y_{split}": np.arange(n) % 2}
        arrays |= {f"y_{split}": y + shift, f"rows_{split}": rows}
    arrays |= changed
    np.savez(path, **arrays)
    return path


# `y_train` is the default name of labels, so the records are named and labels are left out.
NAMES = "--config.data.arrays=('x_train','','x_test','')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("conditions")


def train(folder, name: str, *flags):
    data = write(folder / "d.npz")
    return call("train", *FLAGS, NAMES, f"--config.data.source=npz:{data}", "--workdir", folder / name, *flags)


@pytest.fixture(scope="module")
def run(folder):
    assert train(folder, "run").code == 0
    return folder / "run"


@pytest.fixture(scope="module")
def dropped(folder):
    assert train(folder, "dropped", "--config.training.condition_dropout=0.2").code == 0
    return folder / "dropped"


def samples(path):
    with np.load(path / "samples.npz") as file:
        return {name: file[name] for name in file.files}


def condition(path, rows: int, **changed):
    arrays = {"y": np.linspace(40, 60, rows)[:, None].astype(np.float32), "rows": np.ones((rows, 3, 2), np.float32)}
    np.savez(path, **{name: value for name, value in (arrays | changed).items() if value is not None})
    return path


def test_the_run_stores_the_statistics_and_samples_follow_the_condition(run, tmp_path):
    from scoresde.experiment import load_run

    trained = load_run(run)
    offset, scale = trained.score.scales["y"]
    assert abs(float(offset[0]) - 50) < 5 and 7 < float(scale[0]) < 13
    each = condition(tmp_path / "c.npz", 3)
    assert call("sample", "--workdir", run, "--condition", each, "--out", tmp_path / "each").code == 0
    found = samples(tmp_path / "each")
    assert found["samples"].shape == (3, 2) and found["condition_y"][:, 0].tolist() == [40, 50, 60]
    for k, y in enumerate((40, 50, 60)):
        one = condition(tmp_path / "one.npz", 1, y=np.array([[y]], np.float32))
        flags = ["--condition", one, "--num", 3, "--out", tmp_path / f"one{k}"]
        assert call("sample", "--workdir", run, *flags).code == 0
        np.testing.assert_allclose(samples(tmp_path / f"one{k}")["samples"][k], found["samples"][k], atol=1e-5)


def test_samples_without_a_file_take_conditions_of_training_records(run, tmp_path):
    refused = call("sample", "--workdir", run, "--num", 4, "--out", tmp_path / "a")
    assert refused.code == 2 and "this law is for classes, and the run takes rows, y" in refused.err
    flags = ["--num", 4, "--config.sampling.labels=data", "--out", tmp_path / "b"]
    assert call("sample", "--workdir", run, *flags).code == 0
    with np.load(run.parent / "d.npz") as data:
        assert np.isin(samples(tmp_path / "b")["condition_y"][:, 0], data["y_train"][:, 0]).all()


def test_likelihood_and_loss_are_those_under_the_own_condition(run, tmp_path):
    assert call("likelihood", "--workdir", run, "--nats", "--num", 4, "--out", tmp_path / "l.json").code == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("watch/test_loss" in line for line in lines)


def test_the_null_is_refused_where_it_was_not_trained(run, dropped, tmp_path):
    for flags in (["--task", "encode"], ["--task", "interpolate"], ["--config.sampling.labels=null"]):
        refused = call("sample", "--workdir", run, "--num", 2, "--out", tmp_path / "a", *flags)
        assert refused.code == 2 and "nothing trained the null of 'rows'" in refused.err, refused.err
        assert len(refused.err.splitlines()) == 1
        assert call("sample", "--workdir", dropped, "--num", 2, "--out", tmp_path / flags[-1], *flags).code == 0


@pytest.mark.parametrize(
    "changed, words",
    [
        (dict(y=np.full((2, 1), np.nan, np.float32)), "y has a row without a value"),
        (dict(y=np.array([[1.0], [np.inf]])), "NaN or infinity in 1 of 2 rows, the first in row 1"),
        (dict(y=np.ones((2, 2))), r"expected numbers [N, 1], got float64 [2, 2]"),
        (dict(y=np.array([["a"], ["b"]])), "expected numbers [N, 1], got <U1"),
        (dict(z=np.ones((2, 1))), "expected arrays named rows, y, got z"),
        (dict(y=np.ones((3, 1))), "one per sample in all arrays"),
    ],
)
def test_a_wrong_file_of_conditions_is_one_line(changed, words, run, tmp_path):
    file = condition(tmp_path / "c.npz", 2, **changed)
    refused = call("sample", "--workdir", run, "--condition", file, "--out", tmp_path / "out")
    assert refused.code == 2 and words in refused.err and len(refused.err.splitlines()) == 1, refused.err
    assert not (tmp_path / "out").exists()


def test_the_number_of_rows_is_that_of_the_samples(run, tmp_path):
    file = condition(tmp_path / "c.npz", 2)
    refused = call("sample", "--workdir", run, "--condition", file, "--num", 3, "--out", tmp_path / "out")
    assert refused.code == 2 and "one for each of 3, got 2 rows" in refused.err


@pytest.mark.parametrize(
    "flags, code, words",
    [
        (["--config.training.condition_dropout=1.5"], 2, "condition_dropout = 1.5: expected a probability"),
        (["--config.training.condition_dropout={'z':0.1}"], 2, "there is no condition z; there are: rows, y"),
        (["--config.conditions.y.size=2"], 3, "expected numbers [N, 2], got float32 [64, 1]"),
        (["--config.conditions.y.sise=2"], 2, "did you mean conditions.y.size?"),
        (["--config.conditions.z=vector", "--config.conditions.z.size=1"], 3, "expected an array 'z_train'"),
        (["--config.conditions.z=vektor"], 2, "did you mean vector?"),
        (["--config.conditions.z=image"], 2, "x has no grid"),
        (["--config.sampling.labels=null"], 2, "nothing trains the null of rows, y"),
    ],
)
def test_what_a_configuration_of_conditions_cannot_have(flags, code, words, folder, tmp_path):
    refused = train(folder, tmp_path / "run", *flags)
    assert refused.code == code and words in refused.err, refused.err
    assert len(refused.err.splitlines()) == 1
