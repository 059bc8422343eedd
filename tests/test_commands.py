"""sample, likelihood and evaluate from the run folder to their files, and what each says when something is wrong."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from commands import DIGITS, MIXTURE, call, digits_run, finish, mixture_run, start, wait_until
from PIL import Image

from scoresde.errors import ConfigError
from scoresde.experiment.load import load_run
from scoresde.runs.folder import lock
from scoresde.runs.sample_store import SampleStore, parse_seeds
from scoresde.train.step import with_params
from scoresde.workflows.generate import draw, draw_to, sampler_of

SAMPLERS = ["reverse_sde", "probability_flow"]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="session")
def mixture(tmp_path_factory):
    return mixture_run(tmp_path_factory)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    return digits_run(tmp_path_factory)


def _samples(folder):
    with np.load(folder / "samples.npz") as file:
        return {name: file[name] for name in file.files}


# sample


@every_sampler
def test_a_sample_depends_on_its_seed_alone(sampler, digits):
    """In model coordinates, whatever the batch: 8 at once, one by one, or others around it."""
    trained = load_run(digits, overrides=[f"sampling.sampler={sampler}"])
    seeds = np.arange(8, dtype=np.uint32)
    together = draw(trained, sampler_of(trained), seeds, 8, {})
    assert together.ok.all() and np.isfinite(together.x).all()
    for k in (0, 3, 7):
        np.testing.assert_allclose(
            draw(trained, sampler_of(trained), seeds[k : k + 1], 1, {}).x[0], together.x[k], atol=1e-4
        )
    np.testing.assert_allclose(
        draw(trained, sampler_of(trained), seeds[[5, 3]], 8, {}).x, together.x[[5, 3]], atol=1e-4
    )
    assert np.abs(together.x[0] - together.x[1]).max() > 0.1


def test_seeds_in_one_batch_in_eight_and_alone(mixture, tmp_path):
    whole = call("sample", "--workdir", mixture, "--num", 8, "--out", tmp_path / "a")
    assert whole.code == 0 and "solver ok for 8 of 8" in whole.out
    a = _samples(tmp_path / "a")
    assert a["samples"].shape == (8, 2) and a["samples"].dtype == np.float32
    assert a["seeds"].tolist() == list(range(8)) and a["ok"].all()
    assert not (tmp_path / "a" / ".partial").exists()
    with Image.open(tmp_path / "a" / "grid.png") as picture:
        assert len(np.unique(np.asarray(picture))) > 1

    single = ["--num", 8, "--out", tmp_path / "b", "--config.sampling.batch_size=1"]
    assert call("sample", "--workdir", mixture, *single).code == 0
    np.testing.assert_allclose(_samples(tmp_path / "b")["samples"], a["samples"], atol=1e-4)

    assert call("sample", "--workdir", mixture, "--seeds", "5,3", "--out", tmp_path / "c").code == 0
    np.testing.assert_allclose(_samples(tmp_path / "c")["samples"], a["samples"][[5, 3]], atol=1e-4)


def test_digits_are_decoded(digits, tmp_path):
    assert call("sample", "--workdir", digits, "--num", 3, "--out", tmp_path).code == 0
    samples = _samples(tmp_path)["samples"]
    assert samples.shape == (3, 8, 8, 1) and samples.dtype == np.uint8 and samples.max() <= 16


@pytest.mark.slow  # the other runs on digits are of a perceptron
def test_a_unet_through_the_commands(tmp_path):
    unet = [
        "--config.model.name=unet",
        "--config.model.channels=8",
        "--config.model.multipliers=(1,)",
        "--config.model.attention=(8,)",
    ]
    others = [flag for flag in DIGITS if not flag.startswith("--config.model.")]
    assert call("train", *others, *unet, "--workdir", tmp_path, "--config.training.steps=2").code == 0
    assert call("sample", "--workdir", tmp_path, "--num", 2, "--out", tmp_path / "drawn").code == 0
    assert call("likelihood", "--workdir", tmp_path, "--num", 2, "--out", tmp_path / "bits").code == 0
    assert _samples(tmp_path / "drawn")["ok"].all() and np.isfinite(
        json.loads((tmp_path / "bits.json").read_text())["bits_per_dim"]
    )


@pytest.mark.parametrize("ema", ["0.6", "0.2"])
def test_the_average_asked_for_is_used(ema, mixture, tmp_path):
    """The first of training.ema by default, which is not the first in alphabetical order."""
    trained = load_run(mixture, ema=float(ema))
    assert trained.ema == ema
    flags = [] if ema == "0.6" else ["--ema", ema]
    result = call("sample", "--workdir", mixture, "--num", 2, "--out", tmp_path, *flags)
    assert f"(ema {ema})" in result.out
    direct = draw(trained, sampler_of(trained), np.arange(2, dtype=np.uint32), 2, {}).x
    np.testing.assert_allclose(_samples(tmp_path)["samples"], direct, atol=1e-5)
    other = load_run(mixture, ema=0.2 if ema == "0.6" else 0.6)
    other = draw(other, sampler_of(other), np.arange(2, dtype=np.uint32), 2, {}).x
    assert np.abs(direct - other).max() > 1e-3


def test_a_killed_command_continues_where_it_stopped(mixture, tmp_path):
    command = ["--workdir", mixture, "--num", 3000, "--config.sampling.batch_size=1"]
    few = [*command[:3], 40, command[4]]
    assert call("sample", *few, "--out", tmp_path / "whole").code == 0

    progress = tmp_path / "run" / ".partial" / "progress.json"
    done = lambda: json.loads(progress.read_text())["done"] if progress.exists() else 0  # noqa: E731
    process = start("sample", *command, "--out", tmp_path / "run")
    wait_until(lambda: done() >= 5, process)
    process.kill()
    finish(process)
    stopped = done()
    assert 5 <= stopped < 3000 and not (tmp_path / "run" / "samples.npz").exists()
    kept = np.load(tmp_path / "run" / ".partial" / "samples.npy")[:stopped]
    np.testing.assert_allclose(kept[:40], _samples(tmp_path / "whole")["samples"][: len(kept)], atol=1e-4)

    other = call("sample", *few, "--out", tmp_path / "run")  # 40 seeds are another set than 3000
    assert other.code == 2 and "seeds" in other.err and ".partial" in other.err
    again = call("sample", *command[:-1], "--config.sampling.batch_size=500", "--out", tmp_path / "run")
    assert again.code == 0 and f"continuing after {stopped} samples" in again.out
    samples = _samples(tmp_path / "run")
    np.testing.assert_array_equal(samples["samples"][:stopped], kept)
    assert samples["ok"].all() and np.abs(samples["samples"]).min(axis=1).all()  # no row was left empty


def test_seeds_of_equal_number_ends_and_sum_are_told_apart(tmp_path):
    """0, 1, 5, 6 and 0, 2, 4, 6."""
    trained = {"shape": (2,), "dtype": np.float32, "num": 4}
    with SampleStore(tmp_path, {"seeds": "a"}, **trained) as store:
        store.append(np.ones((1, 2)), np.ones(1, bool), np.ones(1, int))
    with SampleStore(tmp_path, {"seeds": "a"}, **trained) as store:
        assert store.done == 1
        with pytest.raises(ConfigError, match="another process is drawing"):  # two would overwrite each other's rows
            SampleStore(tmp_path, {"seeds": "a"}, **trained)
    with pytest.raises(ConfigError, match="1 samples of another run") as refused:
        SampleStore(tmp_path, {"seeds": "b"}, **trained)
    with SampleStore(
        tmp_path, {"seeds": "a"}, **trained
    ) as store:  # the one refused, alive in `refused`, holds nothing
        assert store.done == 1 and refused.tb is not None


def test_the_samples_of_another_run_are_not_mixed_in(mixture, tmp_path):
    """Two runs of one configuration at one step differ in their parameters alone."""
    trained = load_run(mixture)
    scaled = jax.tree.map(lambda leaf: 1.001 * leaf, trained.score.network.params)
    other = trained._replace(score=with_params(trained.score, scaled))
    one = np.array([0, 1, 5, 6], np.uint32)
    trained, other = (
        run._replace(experiment=run.experiment.changed("sampling.batch_size=2")) for run in (trained, other)
    )
    append = SampleStore.append

    def stop_after_one(self, *rows):
        append(self, *rows)
        raise KeyboardInterrupt

    SampleStore.append = stop_after_one
    try:
        with pytest.raises(KeyboardInterrupt):
            draw_to(trained, one, tmp_path)
    finally:
        SampleStore.append = append
    for trained_now, seeds, word in ((other, one, "parameters"), (trained, np.array([0, 2, 4, 6], np.uint32), "seeds")):
        with pytest.raises(ConfigError, match=f"2 samples of another run .*{word}"):
            draw_to(trained_now, seeds, tmp_path)
    assert draw_to(trained, one, tmp_path) == []


def test_a_solver_that_fails_is_exit_5_with_its_seeds(mixture, tmp_path):
    command = ["--workdir", mixture, "--seeds", "4,7", "--sampler", "probability_flow", "--out", tmp_path]
    hard = "--config.sampling.tolerance=1e-30"
    failed = call("sample", *command, hard)
    assert failed.code == 5 and "2 of 2 seeds: 4, 7" in failed.err and "--keep-going" in failed.err
    assert not _samples(tmp_path)["ok"].any()
    assert call("sample", *command, hard, "--keep-going").code == 0


@pytest.mark.parametrize(
    "flags, word",
    [
        (["--num", "0"], "--num"),
        (["--num", "three"], "--num"),
        (["--seeds", "5-3"], "--seeds"),
        (["--seeds", "5-"], "--seeds"),
        (["--seeds", "1,1"], "--seeds"),
        (["--seeds", "0-99999999999"], "--seeds"),
        (["--seeds", "x"], "--seeds"),
        (["--sampler", "ode"], "sampling.name"),
        (["--steps", "0"], "--steps"),
        (["--steps", "-3"], "--steps"),
        (["--label", "3"], "no labels"),
        (["--ema", "0.5"], "0.6, 0.2"),
        (["--config.model.width=3"], "model.width"),
        (["--config.sampling.stpes=3"], "sampling.steps"),
        (["--workdir", "nowhere"], "config.json"),
    ],
)
def test_wrong_flags_of_sample(flags, word, mixture):
    refused = call("sample", "--workdir", mixture, *flags)
    assert refused.code == 2 and word in refused.err and len(refused.err.splitlines()) == 1


@pytest.mark.parametrize("text, seeds", [("7", [7]), ("0-2", [0, 1, 2]), ("9,0-1,4294967295", [9, 0, 1, 2**32 - 1])])
def test_seeds_are_parsed(text, seeds):
    assert parse_seeds(text).tolist() == seeds


# likelihood


@pytest.fixture(scope="session")
def rows(digits, tmp_path_factory):
    """The likelihood of the 297 test digits, 200 at a time: the second batch is padded."""
    out = tmp_path_factory.mktemp("likelihood") / "test"
    result = call("likelihood", "--workdir", digits, "--out", out, "--config.likelihood.batch_size=200")
    assert result.code == 0, result.err
    with np.load(out.with_suffix(".npz")) as file:
        return {name: file[name] for name in file.files}, json.loads(out.with_suffix(".json").read_text()), result.out


def test_every_record_has_its_row(rows):
    arrays, report, text = rows
    assert report["num"] == report["ok"] == 297 and arrays["index"].tolist() == list(range(297))
    assert arrays["log_prob"].shape == (297, 1) and arrays["bits_per_dim"].shape == (297,)
    assert np.isfinite(arrays["log_prob"]).all() and len(np.unique(arrays["log_prob"])) > 290
    assert f"{report['bits_per_dim']:.4f} +-" in text and "297 test examples" in text


def test_bits_per_dim_is_the_formula_written_down(rows):
    """-(log p(x) + D log(2/L)) / (D log 2), D = 64, L = 17."""
    arrays, report, _ = rows
    np.testing.assert_allclose(report["log_jacobian"], 64 * np.log(2 / 17), rtol=1e-12)
    expected = -(arrays["log_prob"][:, 0].astype(float) + 64 * np.log(2 / 17)) / (64 * np.log(2))
    np.testing.assert_allclose(arrays["bits_per_dim"], expected, rtol=1e-5)
    np.testing.assert_allclose(report["bits_per_dim"], expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(report["bits_per_dim_error"], expected.std(ddof=1) / np.sqrt(297), rtol=1e-3)


def test_a_record_does_not_depend_on_its_batch(rows, digits, tmp_path):
    result = call(
        "likelihood", "--workdir", digits, "--num", 3, "--out", tmp_path / "three", "--config.likelihood.batch_size=2"
    )
    assert result.code == 0, result.err
    with np.load(tmp_path / "three.npz") as file:
        np.testing.assert_allclose(file["bits_per_dim"], rows[0]["bits_per_dim"][:3], atol=1e-3)


def test_the_exact_trace_and_many_probes_agree(mixture, tmp_path):
    rows = {}
    for probes in (0, 64):
        flags = ["--nats", "--num", 8, "--probes", probes, "--out", tmp_path / str(probes)]
        assert call("likelihood", "--workdir", mixture, *flags).code == 0
        with np.load(tmp_path / f"{probes}.npz") as file:
            rows[probes] = {name: file[name][:, 0] for name in ("log_prob", "standard_error")}
            assert "bits_per_dim" not in file.files
    assert np.all(rows[0]["standard_error"] == 0)
    off = np.abs(rows[64]["log_prob"] - rows[0]["log_prob"])
    assert np.all(off < 5 * rows[64]["standard_error"] + 1e-3)


def test_continuous_data_have_no_bits(mixture):
    refused = call("likelihood", "--workdir", mixture, "--num", 2)
    assert refused.code == 3 and "--nats" in refused.err and len(refused.err.splitlines()) == 1


def test_a_likelihood_that_fails_is_exit_5(mixture, tmp_path):
    flags = ["--nats", "--num", 2, "--tolerance", "2e-11", "--out", tmp_path / "x"]
    assert call("likelihood", "--workdir", mixture, *flags).code == 5


@pytest.mark.parametrize("command", ["likelihood", "evaluate"])
@pytest.mark.parametrize("num", [0, -2])
def test_no_records_are_refused(command, num, mixture):
    refused = call(command, "--workdir", mixture, "--num", num)
    assert refused.code == 2 and "--num" in refused.err


# evaluate


def test_evaluate_writes_a_report_and_a_picture(mixture, tmp_path):
    result = call("evaluate", "--workdir", mixture, "--num", 8, "--out", tmp_path / "e")
    assert result.code == 0, result.err
    report = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert report["num"] == 8 and np.isfinite(report["nats"]) and report["step"] == 40 and report["ema"] == "0.6"
    assert f"{report['nats']:.4f}" in result.out
    (line,) = (tmp_path / "e" / "records.jsonl").read_text().splitlines()
    assert {"metric": "nats", "value": report["nats"], "num_real": 8, "split": "test"}.items() <= json.loads(
        line
    ).items()
    for metric, code, word in (("bpd", 3, "ask for nats"), ("functions", 3, "no functions"), ("fid", 2, "--network")):
        refused = call("evaluate", "--workdir", mixture, "--metrics", metric, "--out", tmp_path / "e")
        assert refused.code == code and word in refused.err and len(refused.err.splitlines()) == 1
    with Image.open(tmp_path / "e" / "grid.png") as picture:
        assert picture.size[0] > 100


# What is in the way


@pytest.mark.parametrize("command", ["sample", "likelihood", "evaluate"])
def test_a_folder_that_is_no_run(command, tmp_path):
    refused = call(command, "--workdir", tmp_path)
    assert refused.code == 2 and "config.json" in refused.err and len(refused.err.splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"seed": 4',
        b"[]",
        b"\xff\xfe\x00",
        b'{"seed": "abc"}',
        b'{"model": {"colour": 1}}',
        b'{"seed": null}',
        b"NaN",
    ],
)
def test_a_damaged_config_json_is_one_line(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    refused = call("sample", "--workdir", tmp_path)
    assert refused.code == 2 and "config.json" in refused.err and len(refused.err.splitlines()) == 1


def test_a_run_without_checkpoints(mixture, tmp_path):
    shutil.copy(mixture / "config.json", tmp_path)
    refused = call("sample", "--workdir", tmp_path)
    assert refused.code == 4 and "no checkpoint" in refused.err


def test_a_file_in_the_place_of_a_folder(mixture, tmp_path):
    (tmp_path / "file").write_text("here first")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        for command in (
            ["train", *MIXTURE, "--workdir", place],
            ["sample", "--workdir", mixture, "--num", 2, "--out", place],
            ["evaluate", "--workdir", mixture, "--num", 2, "--out", place],
        ):
            refused = call(*command)
            assert refused.code == 6 and len(refused.err.splitlines()) == 1, refused


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert call("train", *MIXTURE, "--workdir", tmp_path / "closed").code == 6


def test_one_run_at_a_time_in_a_folder(mixture):
    held = lock(mixture)
    try:
        refused = call("train", *MIXTURE, "--workdir", mixture, "--config.training.steps=40")
    finally:
        held.close()
    assert refused.code == 2 and "another process is training" in refused.err


def test_training_that_blows_up_is_exit_5(tmp_path):
    blow = ["--config.optim.learning_rate=1e30", "--config.optim.grad_clip=0", "--config.training.steps=30"]
    failed = call("train", *MIXTURE, *blow, "--workdir", tmp_path)
    assert failed.code == 5 and "10 times in a row" in failed.err and len(failed.err.splitlines()) == 1
    assert load_run(tmp_path).step == 10 and "the checkpoint at step 10 is kept" in failed.err


@pytest.mark.parametrize(
    "overrides, code, word",
    [
        (["data.source=npz:nowhere.npz"], 3, "nowhere.npz"),
        (["data.source=digit"], 2, "digits"),
        (["training.batch_size=2000"], 3, "fewer than"),
        (["model.num_classes=11"], 2, "10 classes"),
        (["data.levels=256"], 3, "17"),
    ],
)
def test_data_that_are_not_as_told(overrides, code, word, tmp_path):
    refused = call("train", *DIGITS, *(f"--config.{text}" for text in overrides), "--workdir", tmp_path / "run")
    assert refused.code == code and word in refused.err and len(refused.err.splitlines()) == 1


def test_labels_reach_the_samples(tmp_path):
    """A run with classes: each seed has its own unless --label says which; a class there is not is refused."""
    train = ["--config.model.num_classes=8", "--config.training.steps=10", "--config.optim.learning_rate=0.1"]
    assert call("train", *MIXTURE, *train, "--workdir", tmp_path).code == 0
    drawn = {}
    for label in ("own", *range(8)):
        flags = [] if label == "own" else ["--label", label]
        assert call("sample", "--workdir", tmp_path, "--num", 6, "--out", tmp_path / str(label), *flags).code == 0
        drawn[label] = _samples(tmp_path / str(label))["samples"]
    assert np.abs(drawn[1] - drawn[2]).max() > 1e-3
    off = np.stack([np.abs(drawn["own"] - drawn[label]).max(axis=-1) for label in range(8)])  # [class, seed]
    assert (
        np.all(np.sort(off, axis=0)[0] < 1e-4)
        and np.all(np.sort(off, axis=0)[1] > 1e-3)
        and len(set(off.argmin(axis=0))) > 1
    )
    refused = call("sample", "--workdir", tmp_path, "--label", 8)
    assert refused.code == 2 and "expected one of 0, 1, 2, 3, 4, 5, 6, 7, got 8" in refused.err
