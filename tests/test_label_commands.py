"""A run with the labels 2 and 7, a tenth of them 7: they are its two classes, by these names, for every command."""

import json

import numpy as np
import pytest
from commands import DIGITS, MIXTURE, call

from scoresde.data import load
from scoresde.data.inspection import inspect, text
from scoresde.experiment.load import load_run
from scoresde.runs.checkpoint import Checkpoints
from scoresde.workflows.evaluate import load as load_evaluated
from scoresde.workflows.request import Request

CENTRES = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]], np.float32)


def points(path, train, test, **changes):
    random = np.random.default_rng(0)
    at = lambda labels: (CENTRES[np.asarray(labels) % 3] + 0.2 * random.normal(size=(len(labels), 2))).astype(
        np.float32
    )  # noqa: E731
    arrays = dict(x_train=at(train), y_train=np.array(train), x_test=at(test), y_test=np.array(test)) | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


TINY = [*MIXTURE, "--config.model.width=16", "--config.training.steps=10", "--config.training.checkpoint_every=10"]
TINY += ["--config.optim.learning_rate=0.1", "--config.model.num_classes=2"]
TRAIN, TEST = 9 * [2] * 20 + [7] * 20, [2, 7, 2, 2, 7]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    data = points(folder / "d.npz", TRAIN, TEST)
    result = call("train", *TINY, f"--config.data.source=npz:{data}", "--workdir", folder / "run")
    assert result.code == 0, result.err
    return folder / "run"


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def test_samples_hold_their_labels(run, tmp_path):
    """By the data's shares a tenth of 400 seeds have the label 7: 40 +- 6; drawn uniformly, half."""
    flags = ["sample", "--workdir", run, "--sampler", "ddim", "--steps", 2, "--num", 400]
    for law, share in (("uniform", 0.5), ("data", 0.1)):
        assert call(*flags, f"--config.sampling.labels={law}", "--out", tmp_path / law).code == 0
        found = arrays(tmp_path / law / "samples.npz")
        assert found["label_names"].tolist() == ["2", "7"] and found["labels"].dtype == np.int32
        assert abs((found["labels"] == 1).mean() - share) < 4 * np.sqrt(share * (1 - share) / 400)
    assert call(*flags, "--label", 7, "--out", tmp_path / "one").code == 0
    one = arrays(tmp_path / "one" / "samples.npz")
    assert set(one["labels"].tolist()) == {1}
    same = found["labels"] == 1
    np.testing.assert_allclose(one["samples"][same], found["samples"][same], atol=1e-5)
    assert np.abs(one["samples"] - found["samples"])[~same].max() > 1e-3, "else this test cannot fail"


def test_nothing_takes_the_null_class(run, tmp_path):
    for flags in (
        ["--config.sampling.labels=null"],
        *(["--task", task] for task in ("encode", "interpolate", "decode", "restore")),
    ):
        refused = call("sample", "--workdir", run, "--out", tmp_path / "out", *flags)
        assert (
            refused.code == 2
            and "nothing trained the null of 'class'" in refused.err
            and len(refused.err.splitlines()) == 1
        ), flags
    assert "one of 2, 7" in refused.err
    for label in (0, 1):  # numbers of classes are no names of them
        refused = call("sample", "--workdir", run, "--label", label)
        assert refused.code == 2 and "expected one of 2, 7, got" in refused.err
    refused = call(
        "train",
        *TINY,
        f"--config.data.source=npz:{run.parent / 'd.npz'}",
        "--config.sampling.labels=null",
        "--workdir",
        tmp_path / "a",
    )
    assert refused.code == 2 and "nothing trains" in refused.err


def test_tasks_take_the_records_of_the_label(run, tmp_path):
    assert (
        call(
            "sample",
            "--workdir",
            run,
            "--task",
            "encode",
            "--label",
            7,
            "--out",
            tmp_path,
            "--config.sampling.tolerance=1e-2",
        ).code
        == 0
    )
    found = arrays(tmp_path / "latents.npz")
    assert found["index"].tolist() == [1, 4] and found["labels"].tolist() == [1, 1]


def likelihood(run, source, out, *flags):
    return call(
        "likelihood",
        "--workdir",
        run,
        "--nats",
        "--out",
        out,
        f"--config.data.source=npz:{source}",
        "--config.likelihood.tolerance=1e-2",
        *flags,
    )


def test_likelihood_of_records_without_a_class_is_refused(run, tmp_path):
    """And that of another file takes its labels by name: here 7 alone, as class 1."""
    missing = likelihood(run, points(tmp_path / "a.npz", TRAIN, TEST, y_test=None), tmp_path / "out")
    assert missing.code == 3 and "got none for 5 of 5" in missing.err and "error" in missing.err.splitlines()[-1]
    unseen = likelihood(run, points(tmp_path / "b.npz", TRAIN, [2, 9]), tmp_path / "out")
    assert unseen.code == 3 and "the first is 9; expected one of 2, 7" in unseen.err
    own = likelihood(run, run.parent / "d.npz", tmp_path / "own")
    other = likelihood(
        run,
        points(tmp_path / "c.npz", [7] * 9, TEST, x_test=arrays(run.parent / "d.npz")["x_test"]),
        tmp_path / "other",
    )
    assert own.code == other.code == 0, other.err
    np.testing.assert_array_equal(arrays(tmp_path / "own.npz")["log_prob"], arrays(tmp_path / "other.npz")["log_prob"])


@pytest.mark.parametrize(
    "changes, flags, code, word",
    [
        (dict(train=TRAIN, test=[2, 9]), [], 3, "label 9, which no training record has (training labels 2, 7)"),
        (
            dict(train=TRAIN, test=[2], y_train=np.array(TRAIN) + 2**40),
            [],
            3,
            f"label 2, which no training record has (training labels {2**40 + 2}",
        ),
        (dict(train=TRAIN, test=TEST), ["--config.model.num_classes=8"], 2, "2 classes (training labels 2, 7)"),
        (dict(train=TRAIN, test=TEST, y_test=None), ["--config.evaluate.num=3"], 3, "evaluate.num=0"),
        (dict(train=TRAIN, test=TEST, y_train=None, y_test=None), [], 2, "0 classes"),
    ],
)
def test_training_with_labels_that_do_not_do(changes, flags, code, word, tmp_path):
    data = points(tmp_path / "d.npz", **changes)
    refused = call("train", *TINY, *flags, f"--config.data.source=npz:{data}", "--workdir", tmp_path / "run")
    assert refused.code == code and word in refused.err and len(refused.err.splitlines()) == 1


def test_a_process_that_starts_from_records_takes_no_classes(tmp_path):
    """It would start from a record of one class and draw under another."""
    flags = ["--config.model.num_classes=10", "--config.sde.name=fade", "--config.sampling.sampler=ddim"]
    refused = call("train", *DIGITS, *flags, "--config.sampling.grid=uniform", "--workdir", tmp_path / "run")
    assert refused.code == 2 and "starts from records under any condition; expected none" in refused.err, refused.err


def test_training_without_test_labels_leaves_the_test_loss_out(tmp_path):
    data = points(tmp_path / "d.npz", TRAIN, TEST, y_test=None)
    flags = ["--config.training.watch=loss", "--config.training.sample_every=10"]
    assert call("train", *TINY, *flags, f"--config.data.source=npz:{data}", "--workdir", tmp_path / "run").code == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    watched = next(line for line in lines if "watch/train_loss" in line)
    assert np.isfinite(watched["watch/train_loss"]) and not [name for name in watched if "test_loss" in name]
    assert (tmp_path / "run" / "report" / "loss_by_log_snr.svg").exists()


def test_evaluate_draws_classes_by_their_shares(run, tmp_path):
    """Unless it is told, or the data have no labels."""
    law = lambda **fields: (
        load_evaluated(Request(("nats",), tmp_path, tmp_path, workdir=str(run), **fields)).experiment.sampling.labels
    )  # noqa: E731
    assert law() == "data" and law(overrides=("sampling.labels=uniform",)) == "uniform"
    bare = points(tmp_path / "bare.npz", TRAIN, TEST, y_train=None, y_test=None)
    assert law(overrides=(f"data.source=npz:{bare}",)) == "uniform"


def test_a_run_of_an_earlier_version_has_its_classes_from_the_data(run, tmp_path, monkeypatch):
    """Its checkpoints name none. Of data with another number of classes, names are taken for numbers."""
    restore = Checkpoints.restore_part

    def without_names(*arguments, **options):
        state, meta = restore(*arguments, **options)
        assert meta["data"].pop("classes") == ["2", "7"]
        return state, meta

    monkeypatch.setattr(Checkpoints, "restore_part", without_names)
    assert load_run(run).classes == ("2", "7")
    other = load_run(run, overrides=[f"data.source=npz:{points(tmp_path / 'one.npz', [1, 1], [1])}"])
    assert other.classes == ("0", "1") and other.dataset.train.labels.tolist() == [1, 1]


def test_inspect_counts_the_labels_that_are_there(tmp_path):
    data = load(
        f"npz:{points(tmp_path / 'd.npz', [0, 7, 7], [7, 9], x_test=np.ones((2, 2)))}",
        shape=(2,),
        levels=0,
        centered=True,
    )
    report = inspect(data)
    assert (report["classes"], report["label_names"], report["labels"]["train"]) == (
        2,
        ["0", "7", "9"],
        {"0": 1, "1": 2},
    )
    told = text(report, [])
    assert "2 classes: 0: 1, 1 is 7: 2" in told and "of test records alone: 9" in told
    bare = load(
        f"npz:{points(tmp_path / 'd.npz', [0, 7, 7], [7, 9], y_test=None)}", shape=(2,), levels=0, centered=True
    )
    assert inspect(bare)["without_label"] == {"train": 0, "test": 2} and "2 test records without a label" in text(
        inspect(bare), []
    )


@pytest.mark.slow
def test_the_distance_to_data_of_unequal_shares(tmp_path):
    """Shares of 80, 15 and 5 %: samples of a network that learned its classes are as near as the shares of 4000 seeds
    allow.

    These deviate by less than .01, which moves the mean by .03 and a variance by .04: a squared distance of about .001.
    With uniform classes the means alone are 1.6 apart.
    """
    random = np.random.default_rng(0)
    labels = random.choice(3, 2000, p=(0.8, 0.15, 0.05))
    data = points(tmp_path / "d.npz", labels[:1800], labels[1800:])
    flags = [
        "--config.training.steps=1500",
        "--config.training.batch_size=128",
        "--config.training.ema=0.99",
        "--config.model.dropout=0",
    ]
    flags += [
        "--config.training.checkpoint_every=1500",
        "--config.model.num_classes=3",
        "--config.optim.decay_steps=1500",
    ]
    trained = call("train", *MIXTURE, *flags, f"--config.data.source=npz:{data}", "--workdir", tmp_path / "run")
    assert trained.code == 0, trained.err
    found = {}
    for law in ("", "--config.sampling.labels=uniform"):
        ask = [
            "--metrics",
            "fd",
            "--network",
            "pixels",
            "--num",
            4000,
            "--sampler",
            "dpmpp",
            "--steps",
            20,
            *filter(None, [law]),
        ]
        out = tmp_path / f"out{law}"
        assert (
            call("evaluate", "--workdir", tmp_path / "run", *ask, "--stats", tmp_path / "stats", "--out", out).code == 0
        )
        found[law] = json.loads((out / "records.jsonl").read_text().splitlines()[-1])["value"]
    assert found[""] < 0.02 and found["--config.sampling.labels=uniform"] > 1, found
