"""A run whose data are gone: it draws the same samples, and whatever needs a record says that they are missing."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import DIGITS, MIXTURE, call
from test_label_commands import TEST, TRAIN, points

from scoresde.data.codec import Codec
from scoresde.data.sources import load
from scoresde.experiment.load import load_run
from scoresde.experiment.stored_data import StoredData

TINY = [*MIXTURE, "--config.model.width=16", "--config.training.steps=10"]
CODECS = {
    "integers": Codec((8, 8, 1), 17, True), "16 bits": Codec((4, 4, 3), 65536, False),
    "standardised": Codec((12, 2), 0, True, np.array([0.1, -3.0]), np.array([1 / 3, 2.0]), 3.0),
}  # fmt: skip


def samples(run: Path, out: Path, *flags) -> bytes:
    result = call("sample", "--workdir", run, "--num", 4, *flags, "--out", out)
    assert result.code == 0, result.err
    with np.load(out / "samples.npz") as file:
        return b"".join(file[name].tobytes() for name in sorted(file.files))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(run folder, the samples it drew before its data were deleted): two classes, two averages, and snapshots."""
    folder = tmp_path_factory.mktemp("gone")
    data = points(folder / "d.npz", TRAIN, TEST)
    flags = [
        *TINY,
        "--config.model.num_classes=2",
        "--config.training.power_ema=0.1",
        "--config.training.snapshot_every=5",
    ]
    result = call("train", *flags, f"--config.data.source=npz:{data}", "--workdir", folder / "run")
    assert result.code == 0, result.err
    before = samples(folder / "run", folder / "before")
    data.unlink()
    return folder / "run", before


@pytest.fixture
def no_codec(monkeypatch):
    """Runs are written as by earlier versions, which stored no codec."""
    to_json = StoredData.to_json
    monkeypatch.setattr(StoredData, "to_json", lambda self: to_json(self._replace(codec=None)))


def digits(folder: Path) -> Path:
    records = np.random.default_rng(0).integers(0, 17, size=(32, 8, 8, 1), dtype=np.uint8)
    np.savez(folder / "d.npz", x_train=records, x_test=records[:4])
    return folder / "d.npz"


@pytest.fixture
def images(no_codec, tmp_path):
    """(run folder, its records, the samples it drew before its data were deleted), of integers, without a codec."""
    data = digits(tmp_path)
    flags = [*DIGITS, f"--config.data.source=npz:{data}", "--config.training.steps=2"]
    assert call("train", *flags, "--workdir", tmp_path / "run").code == 0
    with np.load(data) as file:
        records = file["x_train"]
    before = samples(tmp_path / "run", tmp_path / "before")
    data.unlink()
    return tmp_path / "run", records, before


def test_it_draws_the_same_samples(run, tmp_path):
    folder, before = run
    assert samples(folder, tmp_path / "after") == before
    assert load_run(folder).classes == ("2", "7")
    named = samples(folder, tmp_path / "named", "--label", 7)
    assert named and samples(folder, tmp_path / "numbered", "--label", 7) == named


def test_its_average_and_its_export_are_made_and_drawn(run, tmp_path):
    folder, _ = run
    assert call("average", "--workdir", folder, "--sigma-rel", 0.1, "--out", tmp_path / "average").code == 0
    assert load_run(tmp_path / "average").classes == ("2", "7")
    assert samples(tmp_path / "average", tmp_path / "of_average")
    assert call("convert", folder, "--export", tmp_path / "w.safetensors").code == 0
    assert call("convert", tmp_path / "w.safetensors", "--out", tmp_path / "again").code == 0
    assert samples(tmp_path / "again", tmp_path / "of_again")


def test_latents_are_made_of_records_of_a_file(run, tmp_path):
    folder, _ = run
    np.savez(tmp_path / "mine.npz", samples=np.zeros((2, 2), np.float32))
    flags = ["sample", "--workdir", folder, "--label", 2]
    encoded = call(*flags, "--task", "encode", "--input", tmp_path / "mine.npz", "--out", tmp_path / "e")
    assert encoded.code == 0, encoded.err
    decoded = call(*flags, "--task", "decode", "--input", tmp_path / "e" / "latents.npz", "--out", tmp_path / "d")
    assert decoded.code == 0, decoded.err


@pytest.mark.parametrize(
    "flags",
    [
        ["likelihood", "--nats", "--num", 2],
        ["evaluate", "--metrics", "nats", "--num", 2],
        ["sample", "--num", 2, "--config.sampling.labels=data"],
        *(["sample", "--num", 2, "--label", 2, "--task", task] for task in ("encode", "interpolate")),
    ],
    ids=lambda flags: " ".join(map(str, flags[:1] + flags[-1:])),
)
def test_what_needs_records_says_that_they_are_missing(run, tmp_path, flags):
    result = call(*flags, "--workdir", run[0], "--out", tmp_path / "out")
    assert result.code == 3 and "d.npz: expected an NPZ file, found nothing there" in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_images_are_compared_with_a_reference(images, tmp_path):
    """No record is needed for that, and the evaluation says which data the run was trained on."""
    folder, records, _ = images
    np.savez(tmp_path / "reference.npz", samples=records)
    flags = ["--metrics", "fd", "--network", "pixels", "--num", 16, "--reference", tmp_path / "reference.npz"]
    result = call("evaluate", "--workdir", folder, *flags, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    (record,) = map(json.loads, (tmp_path / "out" / "records.jsonl").read_text().splitlines())
    assert record["data"].startswith("npz:32+4:") and record["num_real"] == 32


def test_a_process_that_starts_from_data_says_that_it_needs_them(tmp_path):
    flags = [*DIGITS, f"--config.data.source=npz:{digits(tmp_path)}", "--config.training.steps=2"]
    flags += ["--config.sde.name=inverse_heat", "--config.sampling.sampler=reverse_sde"]
    trained = call("train", *flags, "--workdir", tmp_path / "run")
    assert trained.code == 0, trained.err
    (tmp_path / "d.npz").unlink()
    result = call("sample", "--workdir", tmp_path / "run", "--num", 2, "--out", tmp_path / "out")
    assert result.code == 3 and "sde.name = 'inverse_heat' starts from training records" in result.err
    assert "d.npz: expected an NPZ file, found nothing there" in result.err


def test_a_run_of_integers_without_a_stored_codec_needs_no_data(images, tmp_path):
    """Runs of earlier versions: shape, levels and range of integers are declared in their config.json."""
    folder, _, before = images
    assert samples(folder, tmp_path / "after") == before


def test_continuous_data_without_a_stored_codec_are_read(no_codec, tmp_path):
    data = points(tmp_path / "d.npz", [0] * 64, [0] * 8)
    assert call("train", *TINY, f"--config.data.source=npz:{data}", "--workdir", tmp_path / "run").code == 0
    assert samples(tmp_path / "run", tmp_path / "before")
    data.unlink()
    result = call("sample", "--workdir", tmp_path / "run", "--num", 2, "--out", tmp_path / "out")
    assert result.code == 3 and "d.npz" in result.err


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_comes_back_from_json(name):
    codec = CODECS[name]
    again = Codec.from_json(json.loads(json.dumps(codec.to_json())))
    assert again.to_json() == codec.to_json() and again.shape == codec.shape
    x = np.random.default_rng(0).normal(size=(3, *codec.shape))
    np.testing.assert_array_equal(again.units(x), codec.units(x))
    np.testing.assert_array_equal(again.decode(x), codec.decode(x))
    np.testing.assert_array_equal(again.images(x), codec.images(x))
    assert again.log_jacobian() == codec.log_jacobian()


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": []}, {"shape": "88"}, {"shape": [8, -1]}, {"levels": 1}, {"levels": "17"}, {"centered": 1},
        {"offset": "a"}, {"scale": [1, float("nan")]}, {"span": [3.0]}, {"span": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_codec_is_refused(changes):
    with pytest.raises(ValueError, match="codec|levels"):
        Codec.from_json(CODECS["integers"].to_json() | changes)


def test_the_codec_is_that_of_the_data_set():
    data = load("digits", shape=(8, 8, 1), levels=17, centered=True)
    v, u = np.arange(17), np.linspace(0, 1, 17, endpoint=False, dtype=np.float32)
    np.testing.assert_array_equal(data.codec.encode(v, u), data.encode(v, u))
    # One map for training and likelihood: they differ only within rounding of the edges, where `Codec` stays inside.
    np.testing.assert_array_equal(data.codec.bins.encode(v, u)[1:], data.codec.encode(v, u)[1:])
    assert data.codec.bins.log_jacobian(64) == data.log_jacobian()
