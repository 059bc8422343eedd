"""`python -m scoresde.sample --task restore`: what it writes, and what it refuses."""

import numpy as np
import pytest
from commands import DIGITS, call, digits_run, mixture_run
from PIL import Image

from scoresde.experiment.load import load_run

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    return digits_run(tmp_path_factory)


@pytest.fixture(scope="session")
def plane(tmp_path_factory):
    return mixture_run(tmp_path_factory)


@pytest.mark.parametrize(
    "operator", ["blur", *(pytest.param(name, marks=pytest.mark.slow) for name in ("downsample", "inpaint"))]
)
def test_the_command_writes_what_it_saw_and_made(digits, tmp_path, operator):
    flags = [
        "--operator",
        operator,
        "--observation-noise",
        0,
        "--sampler",
        "ddim",
        "--steps",
        4,
        "--num",
        3,
        "--baseline",
    ]
    flags += ["--joint"] if operator == "downsample" else []
    result = call("sample", "--workdir", digits, "--task", "restore", *flags, "--out", tmp_path)
    assert result.code == 0 and f"restored from {operator} with noise 0" in result.out and "NFE 5.0" in result.out
    arrays = np.load(tmp_path / "samples.npz")
    assert arrays["ok"].all() and arrays["ok"].shape == (3,)
    originals = load_run(digits).dataset.test.rows(np.arange(3))[0]
    np.testing.assert_array_equal(arrays["originals"], originals)
    for name in ("restored", "degraded", "baseline"):
        assert arrays[name].shape == originals.shape and arrays[name].dtype == originals.dtype
    if operator == "inpaint":  # without noise, what was seen comes back
        seen = (arrays["degraded"] == originals).all(axis=0) & (arrays["degraded"] != 8).any(axis=0)
        assert 20 < seen.sum() < 40
        np.testing.assert_array_equal(arrays["restored"][:, seen], originals[:, seen])
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.height > picture.width  # four rows, three columns


@pytest.mark.slow
def test_the_command_restores_a_file_whatever_the_batch(digits, tmp_path):
    np.savez(tmp_path / "mine.npz", samples=load_run(digits).dataset.test.rows(np.arange(5, 8))[0])
    restored = []
    for size in (1, 3):
        flags = ["--input", tmp_path / "mine.npz", "--steps", 3, f"--config.sampling.batch_size={size}"]
        result = call("sample", "--workdir", digits, "--task", "restore", *flags, "--out", tmp_path)
        assert result.code == 0 and "by sde_dpmpp" in result.out and "PSNR in dB" in result.out
        restored.append(np.load(tmp_path / "samples.npz")["restored"])
    assert abs(restored[0].astype(int) - restored[1]).max() <= 1  # a value next to an edge of its bin


@pytest.mark.slow
def test_a_process_that_starts_from_data_degrades_by_itself(tmp_path):
    names = [
        "--config.sde.name=inverse_heat",
        "--config.sde.length=0.0",
        "--config.sde.blur_max=4.0",
        "--config.training.weighting=noise_field",
    ]
    assert call("train", *DIGITS, *names, "--workdir", tmp_path, "--config.training.steps=2").code == 0
    command = ["sample", "--workdir", tmp_path, "--task", "restore", "--num", 2, "--steps", 3]
    result = call(*command)
    assert result.code == 0 and "restored from the process itself, inverse_heat to t = 1" in result.out
    arrays = np.load(tmp_path / "restore" / "samples.npz")
    assert arrays["degraded"].std() < arrays["originals"].std()
    refused = call(*command, "--operator", "blur")
    assert refused.code == 2 and "starts from degraded data" in refused.err
    refused = call(*command, "--strength", 2, "--baseline", "--joint")
    assert refused.code == 2 and all(flag in refused.err for flag in ("--strength", "--baseline", "--joint"))


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--task", "restore", "--operator", "start"], "starts from noise"),
        (["--task", "restore", "--operator", "downsample", "--strength", 3], "divides every size"),
        (["--task", "restore", "--operator", "downsample", "--strength", 1.5], "whole factor"),
        (["--task", "restore", "--operator", "inpaint", "--strength", 1], "between 0 and 1"),
        (["--task", "restore", "--strength", -1], "blur = -1.0"),
        (["--task", "restore", "--observation-noise", -1], "sigma_y = -1.0"),
        (["--task", "restore", "--seeds", "0-3"], "--seeds"),
        (["--operator", "blur"], "--operator: --task generate has no such thing"),
        (["--observation-noise", 0.1], "--observation-noise: --task generate"),
        (["--task", "encode", "--baseline"], "--baseline: --task encode"),
    ],
)
def test_wrong_restorations_are_one_line(digits, tmp_path, flags, words):
    refused = call("sample", "--workdir", digits, *flags, "--out", tmp_path / "out")
    assert refused.code == 2 and words in refused.err and len(refused.err.strip().splitlines()) == 1


def test_vectors_are_not_restored(plane, tmp_path):
    refused = call("sample", "--workdir", plane, "--task", "restore", "--out", tmp_path / "out")
    assert refused.code == 2 and "images or curves" in refused.err
