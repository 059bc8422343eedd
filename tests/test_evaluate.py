"""`python -m scoresde.evaluate` from a run or from files of images to records, killed and continued, and repeated."""

import json
import os
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from commands import DIGITS, ROOT, call, digits_run

from scoresde.data import digits as digits_data
from scoresde.errors import ConfigError, DataError
from scoresde.metrics import features, port, record
from scoresde.metrics.features import Given, Images, InceptionFeatures, Pixels, extract
from scoresde.metrics.frechet import Moments, frechet_distance, moments
from scoresde.metrics.kid import kid
from scoresde.metrics.measure import Reals, check, measure
from scoresde.nets import inception
from scoresde.runtime.arrays import Npz
from scoresde.runtime.places import user_cache
from scoresde.workflows import image_sets as images
from scoresde.workflows.feature_extractors import feature_network

NUM = 150
SAMPLER = ["--sampler", "dpmpp", "--steps", 3, "--network", "pixels", "--config.sampling.batch_size=10"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return digits_run(tmp_path_factory)


@pytest.fixture(scope="module")
def evaluated(digits, tmp_path_factory):
    """OUT of a whole evaluation of the tiny run."""
    out = tmp_path_factory.mktemp("evaluated")
    metrics = [
        "--metrics",
        "fd,kid,prdc,bpd",
        "--num",
        NUM,
        "--config.likelihood.method=elbo",
        "--config.likelihood.samples=1",
    ]
    done = call("evaluate", "--workdir", digits, *metrics, *SAMPLER, "--out", out, "--stats", out / "stats")
    assert done.code == 0, done.err
    return out


def records(out) -> dict[str, dict]:
    return {found["metric"]: found for found in record.read_results(out / "records.jsonl").values()}


def test_records_hold_the_number_and_what_it_takes_to_repeat_it(evaluated):
    found = records(evaluated)
    assert list(found) == [
        "fd_pixels",
        "kid_pixels",
        "precision_pixels",
        "recall_pixels",
        "density_pixels",
        "coverage_pixels",
        "bpd",
    ]
    (file,) = evaluated.glob("samples/*/samples.npz")
    with np.load(file) as archive:
        assert archive["nfe"].tolist() == [4] * NUM  # 3 steps and the final denoising
        fake = np.round(archive["samples"].reshape(NUM, -1) * (255 / 16)).astype(np.uint8) / np.float32(255)
    real = np.round(digits_data().train.values.reshape(1500, -1) * (255 / 16)).astype(np.uint8) / np.float32(255)
    fd = found["fd_pixels"]
    assert fd["value"] == pytest.approx(frechet_distance(moments(fake), moments(real)), rel=1e-9)
    assert found["kid_pixels"]["value"] == pytest.approx(kid(fake, real).value, rel=1e-6)
    about = {
        "num_fake": NUM,
        "num_real": 1500,
        "split": "train",
        "step": 4,
        "sampler": "dpmpp",
        "nfe": 4.0,
        "seeds": f"0-{NUM - 1}",
        "network": "pixels",
    }
    assert about.items() <= fd.items() and fd["standard_error"] > 0 and fd["data"] == digits_data().fingerprint
    assert {"resize", "ema", "config_hash", "versions", "commit", "time", "arguments", "network_sha256"} <= fd.keys()
    report = json.loads((evaluated / "evaluation.json").read_text())
    bpd = found["bpd"]
    assert (bpd["value"], bpd["standard_error"]) == (report["bits_per_dim"], report["bits_per_dim_error"]) and bpd[
        "split"
    ] == "test"


KILLED = """
import os, signal, sys
from scoresde.cli import evaluate as command
from scoresde.cli import parser
from scoresde.metrics import features
from scoresde.runs.sample_store import SampleStore
where, count = (SampleStore, "append") if sys.argv[1] == "samples" else (features.Pixels, "__call__")
whole, calls = getattr(where, count), []
def third(self, *arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, *arguments)
setattr(where, count, third)
parser.run(command.main, sys.argv[2:])
"""


def test_a_killed_evaluation_continues_and_gives_the_same_number(evaluated, digits, tmp_path):
    """SIGKILL while samples are drawn, again while features are computed; then the number of the run that was left
    alone."""
    command = [
        "--workdir",
        digits,
        "--metrics",
        "fd,kid",
        "--num",
        NUM,
        *SAMPLER,
        "--out",
        tmp_path,
        "--stats",
        evaluated / "stats",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for where in ("samples", "features"):
        line = [sys.executable, "-c", KILLED, where, *map(str, command)]
        assert subprocess.run(line, env=environment, capture_output=True, timeout=150).returncode == -9
        assert not (tmp_path / "records.jsonl").exists()
    ended = call("evaluate", *command)
    assert ended.code == 0 and "continuing after 64 features" in ended.out and "samples/s" not in ended.out
    once, twice = records(evaluated), records(tmp_path)
    for metric in ("fd_pixels", "kid_pixels"):
        assert twice[metric]["value"] == once[metric]["value"]


def test_a_record_is_repeated(evaluated, tmp_path):
    """As it was; after its number was changed by more than the tolerance; and after its inputs were."""
    same = call("evaluate", "--repeat", f"{evaluated / 'records.jsonl'}:3")
    assert same.code == 0 and "precision_pixels: recorded" in same.out and "difference 0 " in same.out
    assert not list(evaluated.glob(".repeat*"))
    for flag in (
        ["--out", evaluated],
        ["--metrics", "kid"],
    ):  # the folder of a repetition is deleted: never one that is named
        assert (
            call("evaluate", "--repeat", evaluated / "records.jsonl", *flag).code == 2
            and (evaluated / "samples").is_dir()
        )
    line = records(evaluated)["fd_pixels"]
    for change, code, word in (
        ({"value": line["value"] * 1.01}, 5, "not the recorded one"),
        ({"step": 5}, 2, "step was 5, is 4"),
    ):
        (tmp_path / "r.jsonl").write_text(json.dumps(line | change) + "\n")
        refused = call("evaluate", "--repeat", tmp_path / "r.jsonl")
        assert refused.code == code and word in refused.err and len(refused.err.splitlines()) == 1
    assert call("evaluate", "--repeat", f"{evaluated / 'records.jsonl'}:99").code == 2
    assert call("evaluate", "--repeat", tmp_path / "none.jsonl").code == 3


def test_a_number_of_a_run_that_went_on_is_repeated_from_its_checkpoint(digits, evaluated, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    assert (
        call(
            "evaluate", "--workdir", run, "--metrics", "fd", "--num", 20, *SAMPLER, "--stats", evaluated / "stats"
        ).code
        == 0
    )
    assert call("train", *DIGITS, "--workdir", run, "--config.training.steps=6").code == 0
    refused = call("evaluate", "--repeat", run / "evaluation" / "records.jsonl")
    assert (
        refused.code == 2
        and "step was 4, is 6" in refused.err
        and "add --checkpoint 4" in refused.err
        and "config_hash" not in refused.err
    )
    assert "difference 0 " in call("evaluate", "--repeat", run / "evaluation" / "records.jsonl", "--checkpoint", 4).out


def test_repeats_have_seeds_of_their_own_and_a_spread(digits, evaluated, tmp_path):
    flags = [
        "--workdir",
        digits,
        "--metrics",
        "fd",
        "--seeds",
        "0-59",
        "--repeats",
        3,
        *SAMPLER,
        "--out",
        tmp_path,
        "--stats",
        evaluated / "stats",
    ]
    assert call("evaluate", *flags).code == 0
    found = records(tmp_path)["fd_pixels"]
    values = found["values"]
    assert len(set(values)) == 3 and found["num_fake"] == 20
    assert found["value"] == pytest.approx(np.mean(values)) and found["standard_error"] == pytest.approx(
        np.std(values, ddof=1) / np.sqrt(3)
    )
    assert call("evaluate", *flags[:5], "0-60", *flags[6:]).code == 2, "three sets cannot share 61 seeds"


# Files of images and of features


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    x, y = (
        random.integers(0, 256, (80, 4, 4, 3)).astype(np.uint8),
        random.integers(0, 200, (90, 4, 4, 3)).astype(np.uint8),
    )
    np.savez(folder / "a.npz", samples=x, other=y)
    np.savez_compressed(folder / "b.npz", arr_0=y)
    features = (x.reshape(80, -1) / np.float32(255), y.reshape(90, -1) / np.float32(255))
    np.savez(folder / "f.npz", fake=features[0], real=features[1], fake_logits=np.eye(80, 8, dtype=np.float32))
    exact = moments(features[1])
    np.savez(folder / "mu.npz", mu=exact.mean, sigma=exact.covariance)
    np.savez(folder / "no_mu.npz", mu=exact.mean, sigma=-exact.covariance)
    np.savez(folder / "huge.npz", fake=features[0] * np.float64(1e60), real=features[1] * np.float64(1e60))
    np.savez(folder / "wide.npz", samples=random.integers(0, 256, (80, 5, 4, 3)).astype(np.uint8))
    np.savez(folder / "floats.npz", samples=random.standard_normal((80, 4, 4, 3)).astype(np.float32))
    np.savez(folder / "tall.npz", samples=x.astype(np.int64))
    return folder, frechet_distance(moments(features[0]), exact)


@pytest.mark.parametrize("reference", ["a.npz:other", "b.npz", "mu.npz"])
def test_two_files_are_compared_without_a_run(reference, files, tmp_path):
    folder, exact = files
    sides = ["--samples", folder / "a.npz", "--reference", folder / reference, "--network", "pixels"]
    assert call("evaluate", *sides, "--metrics", "fd", "--out", tmp_path, "--stats", tmp_path).code == 0
    found = records(tmp_path)["fd_pixels"]
    assert found["value"] == pytest.approx(exact, rel=1e-6) and found["num_fake"] == 80 and found["seeds"] is None
    assert found["num_real"] == (None if reference == "mu.npz" else 90)


def test_features_of_another_network_are_taken_as_they_are(files, tmp_path):
    folder, exact = files
    assert call("evaluate", "--features", folder / "f.npz", "--metrics", "fd,kid,is", "--out", tmp_path).code == 0
    found = records(tmp_path)
    assert found["fd_f"]["value"] == pytest.approx(exact, rel=1e-6) and set(found) == {"fd_f", "kid_f", "is_f"}


@pytest.mark.parametrize(
    "flags, code, word",
    [
        (["--metrics", "fid", "--samples", "a.npz", "--reference", "b.npz"], 2, "needs a feature space"),
        (["--metrics", "fid", "--samples", "a.npz", "--reference", "b.npz", "--network", "pixels"], 2, "ask for fd"),
        (["--metrics", "fid", "--features", "f.npz"], 2, "ask for fd"),
        (["--metrics", "is", "--samples", "a.npz", "--reference", "b.npz", "--network", "pixels"], 2, "logits"),
        (
            ["--metrics", "kid", "--samples", "a.npz", "--reference", "mu.npz", "--network", "pixels"],
            2,
            "features of the reference",
        ),
        (["--metrics", "fd", "--samples", "a.npz", "--network", "pixels"], 2, "--reference"),
        (["--metrics", "fd,bpd", "--features", "f.npz"], 2, "--workdir"),
        (["--workdir", "a.npz", "--network", "pixels"], 2, "add --metrics"),
        (["--metrics", "fd", "--features", "f.npz", "--ema", "0.9"], 2, "belong to a run"),
        (["--metrics", "fd,colour", "--features", "f.npz"], 2, "colour"),
        (["--metrics", "fd", "--features", "f.npz", "--num", "8"], 2, "does nothing beside --features"),
        (["--metrics", "kid", "--features", "huge.npz"], 5, "not finite"),
        (
            ["--metrics", "fd", "--samples", "a.npz", "--reference", "no_mu.npz", "--network", "pixels"],
            3,
            "is no covariance",
        ),
        (["--metrics", "fd", "--samples", "a.npz", "--reference", "wide.npz", "--network", "pixels"], 3, "one shape"),
        (["--metrics", "fd", "--samples", "tall.npz", "--reference", "b.npz", "--network", "pixels"], 3, "uint8"),
        (
            ["--metrics", "fd", "--samples", "a.npz:nothing", "--reference", "b.npz", "--network", "pixels"],
            3,
            "nothing",
        ),
        (
            ["--metrics", "fd", "--samples", "a.npz", "--reference", "b.npz", "--network", "pixels", "--num", "81"],
            3,
            "has 80 images",
        ),
        (
            ["--metrics", "fid", "--samples", "a.npz", "--reference", "b.npz", "--network", "a.npz"],
            3,
            "are missing, the first",
        ),
        (["--metrics", "fid", "--samples", "a.npz", "--reference", "b.npz", "--network", "none.npz"], 3, "none.npz"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_one_line(flags, code, word, files, tmp_path):
    folder, _ = files
    flags = [str(folder / flag) if ".npz" in flag else flag for flag in flags]
    refused = call("evaluate", *flags, "--out", tmp_path, "--stats", tmp_path)
    assert refused.code == code and word in refused.err and len(refused.err.splitlines()) == 1, refused.err
    assert not (tmp_path / "records.jsonl").exists()


def test_an_array_in_a_file_is_mapped_if_it_can_be(tmp_path):
    x = np.arange(60, dtype=np.float32).reshape(5, 3, 4)
    np.savez(tmp_path / "a.npz", first=np.ones(3), samples=x)
    np.savez_compressed(tmp_path / "b.npz", samples=x)
    with Npz(tmp_path / "a.npz") as a, Npz(tmp_path / "b.npz") as b:
        found = a.mapped("samples")
        assert isinstance(found, np.memmap) and np.array_equal(found, x)
        assert b.mapped("samples") is None and a.mapped("none") is None
    one, other = images.of_file(str(tmp_path / "a.npz")), images.of_file(str(tmp_path / "b.npz"))
    assert one.identity == other.identity != images.of_file(f"{tmp_path / 'a.npz'}", num=4).identity


# Features on disk


def test_features_are_computed_once_and_damage_is_seen(tmp_path):
    calls = []

    class Counted(Pixels):
        def __call__(self, values):
            calls.append(len(values))
            return super().__call__(values)

    x = np.random.default_rng(0).integers(0, 256, (50, 2, 2, 1)).astype(np.uint8)
    some = Images("some", 50, (2, 2, 1), lambda first, last: x[first:last])
    for _ in range(2):
        np.testing.assert_array_equal(extract(Counted((2, 2, 1)), some, tmp_path), x.reshape(50, 4) / np.float32(255))
    assert sum(calls) == 50
    extract(Counted((2, 2, 1)), some._replace(identity="others"), tmp_path)
    assert sum(calls) == 100, "other images are not taken for these"
    for name, content in (("features.npy", b"cut"), ("progress.json", b"{")):
        for file in tmp_path.glob(f"*/{name}"):
            file.write_bytes(content)
        with pytest.raises(DataError, match=f"{name} is damaged; delete"):
            extract(Counted((2, 2, 1)), some, tmp_path)


def test_another_process_at_the_same_features_does_no_harm(tmp_path):
    """One that starts when the first rows are written and not yet noted."""

    class Disturbed(Pixels):
        calls = 0

        def __call__(self, values):
            self.calls += 1
            if self.calls == 2:
                for note in tmp_path.glob("*/progress.json"):
                    note.unlink()
                with pytest.MonkeyPatch.context() as patch:  # it has come as far as its first row
                    patch.setattr(features, "_fill", lambda *_: None)
                    extract(Pixels((2, 2, 1)), some, tmp_path)
            return super().__call__(values)

    x = np.random.default_rng(0).integers(0, 256, (90, 2, 2, 1)).astype(np.uint8)
    some = Images("some", 90, (2, 2, 1), lambda first, last: x[first:last])
    np.testing.assert_array_equal(extract(Disturbed((2, 2, 1)), some, tmp_path), x.reshape(90, 4) / np.float32(255))
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["features.npy", "progress.json"]


def test_without_a_home_references_are_kept_beside_the_numbers(files, tmp_path, monkeypatch):
    folder, _ = files
    for home in (None, "/dev/null"):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.delenv("HOME", raising=False) if home is None else monkeypatch.setenv("HOME", home)
        monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no entry"])
        out = tmp_path / str(home is None)
        flags = [
            "--samples",
            folder / "a.npz",
            "--reference",
            folder / "b.npz",
            "--network",
            "pixels",
            "--metrics",
            "fd",
        ]
        assert call("evaluate", *flags, "--out", out).code == 0 and list(out.glob("references/*/moments.npz"))
    assert user_cache() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert user_cache() == tmp_path / "cache" / "scoresde"


def test_only_fifty_thousand_fakes_make_a_fid():
    space = Given("inception-2015", 1, 0)
    real = Reals(Moments(np.zeros(1), np.ones((1, 1)), 10), None)
    fake = np.random.default_rng(0).standard_normal((50_001, 1)).astype(np.float32)
    names = [measure(("fid",), fake[:num], real, space)[0].metric for num in (49_999, 50_000, 50_001)]
    assert names == ["fid@49999", "fid", "fid@50001"]
    check(("fid",), space)
    with pytest.raises(ConfigError):
        check(("fid",), Given("inception-2015-of-mine", 1, 0))


# Records


def test_a_line_cut_short_costs_no_other(tmp_path):
    path = tmp_path / "records.jsonl"
    one = {"metric": "a", "value": 1.0, "asked": "fd", "arguments": [], "standard_error": float("nan")}
    record.append(path, one)
    path.write_text(path.read_text() + '{"metric": "cut')
    record.append(path, one | {"metric": "b"})
    assert {line: found["metric"] for line, found in record.read_results(path).items()} == {1: "a", 3: "b"}
    assert record.read_results(path)[1]["standard_error"] is None
    record.append(path, one | {"values": [float("inf"), 1.0], "details": {"x": float("nan")}})
    assert record.read_results(path)[4]["values"] == [None, 1.0] and record.read_results(path)[4]["details"] == {
        "x": None
    }
    for number, change in enumerate(
        ({"value": None}, {"value": "1"}, {"asked": None}, {"metric": [1]}, {"arguments": "x"}, {"arguments": [1]})
    ):
        other = tmp_path / f"{number}.jsonl"
        record.append(other, one | change)
        with pytest.raises(DataError, match="found none"):  # JSON, but nothing that can be repeated
            record.read_results(other)
    assert record.agrees(2.0, 2.0019) and not record.agrees(2.0, 2.003)


# The Inception network: parity with the published one is in benchmarks/metrics_parity.py


def graph_arrays() -> dict[str, np.ndarray]:
    """Weights by the names of the graph: kernel k is k + 1 everywhere, mean 0, var 1 - eps, so that folding keeps
    it."""
    arrays = {}
    for k, (name, (height, width, inputs, outputs)) in enumerate(
        zip(port._graph_names(), inception.shapes(), strict=True)
    ):
        arrays[f"{name}.weight"] = np.broadcast_to(np.float32(k + 1), (outputs, inputs, height, width))
        for part, value in (("beta", k), ("mean", 0), ("var", 1 - inception.BATCH_NORM_EPSILON)):
            arrays[f"{name}.{part}"] = np.full(outputs, value, np.float32)
    return arrays


def test_both_families_of_names_give_one_network():
    arrays = graph_arrays()
    assert len(arrays) == 4 * inception.CONVOLUTIONS
    other = {"fc.weight": np.ones((7, 2048), np.float32)}
    for graph, torch in zip(port._graph_names(), port._port_names(), strict=True):
        for ours, theirs in (
            ("weight", "conv.weight"),
            ("beta", "bn.bias"),
            ("mean", "bn.running_mean"),
            ("var", "bn.running_var"),
        ):
            other[f"{torch}.{theirs}"] = arrays[f"{graph}.{ours}"]
        other[f"{torch}.bn.weight"] = np.full(len(arrays[f"{graph}.beta"]), 2, np.float32)
    assert "Mixed_6b.branch7x7dbl_3.conv.weight" in other and "net.layers.mixed_4.tower_1.conv_2.weight" in arrays
    (graph, none), (torch, readout) = port.weights(arrays, "a"), port.weights(other, "b")
    assert none is None and readout.shape == (2048, 7)
    for k, ((kernel, bias), (doubled, _)) in enumerate(zip(graph, torch, strict=True)):
        assert kernel.min() == pytest.approx(k + 1) and kernel.max() == pytest.approx(k + 1) and np.allclose(bias, k)
        assert doubled.flat[0] == pytest.approx(2 * (k + 1)), "the port's scale counts"
    del arrays["net.layers.mixed_10.conv.var"]
    with pytest.raises(DataError, match="1 of 376 are missing, the first 'net.layers.mixed_10.conv.var'"):
        port.weights(arrays, "a")


def test_resize_is_that_of_tensorflow_1():
    """Pixel by pixel: source i * size / 299, the next point or the last, no half-pixel centres."""
    image = np.random.default_rng(0).integers(0, 256, (7, 32)).astype(np.float64)
    exact = np.zeros((299, 299))
    for i in range(299):
        for j in range(299):
            (a, u), (b, v) = ((int(k * size / 299), k * size / 299 % 1) for k, size in ((i, 7), (j, 32)))
            c, d = min(a + 1, 6), min(b + 1, 31)
            top, bottom = ((1 - v) * image[row, b] + v * image[row, d] for row in (a, c))
            exact[i, j] = (1 - u) * top + u * bottom
    found = np.asarray(inception.resized(jnp.asarray(image[None, :, :, None], jnp.float32)))[0, :, :, 0]
    np.testing.assert_allclose(found, exact, atol=1e-4)
    assert found[0, 0] == image[0, 0] and found[-1, -1] == pytest.approx(image[-1, -1]), (
        "beyond the last point nothing is extrapolated"
    )


def test_a_convolution_folds_its_batch_normalisation_and_the_mean_leaves_out_padding():
    random = np.random.default_rng(0)
    kernel, x = (
        random.standard_normal((4, 3, 1, 3)).astype(np.float32),
        random.standard_normal((1, 5, 6, 3)).astype(np.float32),
    )
    scale, beta, mean, var = (random.uniform(0.5, 2, 4).astype(np.float32) for _ in range(4))
    layer = inception.Convolution((1, 3), 3, 4)
    layer.kernel[...], layer.bias[...] = inception.folded(kernel, scale, beta, mean, var)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    y = np.stack([np.einsum("bhwi,oi->bhwo", padded[:, :, k : k + 6], kernel[:, :, 0, k]) for k in range(3)]).sum(
        axis=0
    )
    exact = np.maximum(scale * (y - mean) / np.sqrt(var + 1e-3) + beta, 0)
    np.testing.assert_allclose(layer(jnp.asarray(x)), exact, atol=1e-5)
    pooled = np.asarray(inception.AveragePool()(jnp.asarray(x)))
    np.testing.assert_allclose(pooled[0, 0, 0], x[0, :2, :2].mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(pooled[0, 2, 3], x[0, 1:4, 2:5].mean(axis=(0, 1)), atol=1e-6)


@pytest.mark.slow
def test_the_whole_network_in_a_command(tmp_path, monkeypatch):
    """Random weights of the right scale. One channel counts as three equal ones; unequal ones are other features."""
    monkeypatch.setattr("scoresde.metrics.features._BATCH_CPU", 4)
    random, arrays = np.random.default_rng(0), graph_arrays()
    for name in [name for name in arrays if name.endswith("weight")]:
        shape = arrays[name].shape
        arrays[name] = random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        arrays[name.replace("weight", "beta")] = np.zeros(shape[0], np.float32)
    np.savez(tmp_path / "w.npz", **arrays)
    grey, other = random.integers(0, 256, (2, 7, 8, 8, 1)).astype(np.uint8)
    np.savez(
        tmp_path / "x.npz",
        grey=grey,
        three=np.repeat(grey, 3, axis=-1),
        red=np.pad(grey, ((0, 0),) * 3 + ((0, 2),)),
        other=other,
    )
    np.savez(tmp_path / "y.npz", grey=other, three=np.repeat(other, 3, axis=-1))
    values = []
    for fake, real in (("grey", "grey"), ("three", "three"), ("red", "three")):
        sides = [
            "--samples",
            f"{tmp_path / 'x.npz'}:{fake}",
            "--reference",
            f"{tmp_path / 'y.npz'}:{real}",
            "--network",
            tmp_path / "w.npz",
        ]
        done = call("evaluate", *sides, "--metrics", "fid,kid,prdc", "--out", tmp_path / fake, "--stats", tmp_path)
        assert done.code == 0 and "is not FID" in done.out, done.err
        found = records(tmp_path / fake)
        assert (
            found["fid@7"]["channels"] == ("one, three times" if fake == "grey" else "three")
            and "kid" in found
            and "precision" in found
        )
        values.append(found["fid@7"]["value"])
    assert values[0] == pytest.approx(values[1], rel=1e-4) and abs(values[2] / values[1] - 1) > 0.01


def test_a_pytorch_file_needs_torch_and_is_never_unpickled(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"\x80\x04not weights")
    try:
        import torch  # noqa: F401
    except ImportError:
        expected = (ConfigError, "needs torch")
    else:
        expected = (DataError, "nothing was unpickled")
    with pytest.raises(expected[0], match=expected[1]):
        feature_network(str(tmp_path / "w.pth"), (8, 8, 3))
    for shape in ((8, 8, 4), (2,), (64, 1)):
        with pytest.raises(DataError, match="expected images"):
            InceptionFeatures([], None, sha256="", shape=shape)
