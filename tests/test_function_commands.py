"""The commands on functions: train on curves, draw at another resolution, take likelihoods, start from degraded
data."""

import json

import jax
import numpy as np
import pytest
from commands import ROOT, call

from scoresde.data import functions
from scoresde.experiment.config import default, override
from scoresde.experiment.load import load_run
from scoresde.likelihood import gaussian_kl
from scoresde.metrics.functions import mmd2, permutation_test
from scoresde.sde import DCT, PowerLaw

TINY = (
    "--config.training.steps=6", "--config.training.batch_size=16", "--config.training.log_every=2",
    "--config.training.checkpoint_every=6",
    "--config.training.sample_every=6", "--config.optim.decay_steps=0", "--config.sampling.steps=6",
    "--config.sampling.num=4",
    "--config.evaluate.num=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """A run on quadratic curves of 16 points."""
    folder = tmp_path_factory.mktemp("curves")
    small = (
        "--config.data.image_size=16,",
        "--config.model.width=8",
        "--config.model.depth=1",
        "--config.model.modes=6",
    )
    done = call("train", "--config", ROOT / "configs" / "quadratic_heat.py", "--workdir", folder, *TINY, *small)
    assert done.code == 0, done.err
    assert (folder / "samples" / "000006.png").is_file()
    return folder


def test_draw_at_another_resolution(curves, tmp_path):
    for grid, points in (((), 16), (("--resolution", "40"), 40)):
        out = tmp_path / str(points)
        done = call("sample", "--workdir", curves, "--num", "5", "--out", out, *grid)
        assert done.code == 0, done.err
        drawn = np.load(out / "samples.npz")["samples"]
        assert drawn.shape == (5, points, 1) and np.isfinite(drawn).all() and (out / "grid.png").is_file()


def test_another_resolution_does_not_continue_the_draws_of_the_first(curves, tmp_path):
    assert call("sample", "--workdir", curves, "--num", "3", "--out", tmp_path).code == 0
    assert call("sample", "--workdir", curves, "--num", "3", "--out", tmp_path, "--resolution", "32").code == 0
    assert np.load(tmp_path / "samples.npz")["samples"].shape == (3, 32, 1)


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--resolution", "0"], "sizes above 0"),
        (["--resolution", "8,8"], "expected 1 sizes"),
        (["--resolution", "x"], "sizes such as"),
        (["--resolution", "8", "--task", "encode"], "no such thing"),
        (["--grid", "8"], "--grid: it is now --resolution"),
        (["--grid=8"], "--grid: it is now --resolution"),
    ],
)
def test_a_bad_resolution_is_one_line(curves, flags, expected):
    refused = call("sample", "--workdir", curves, *flags)
    assert refused.code == 2 and expected in refused.err and refused.err.count("\n") == 1


def test_likelihood_of_curves(curves, tmp_path):
    """Of the values at the points; and relative to the prior, whose own KL to itself is 0."""
    done = call(
        "likelihood",
        "--workdir",
        curves,
        "--num",
        "3",
        "--nats",
        "--out",
        tmp_path / "report",
        "--config.likelihood.tolerance=1e-3",
    )
    assert done.code == 0, done.err
    assert "relative to the prior" in done.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pixel_logdet"] == pytest.approx(-8 * np.log(16))
    basis = DCT(16, (10.0,))
    q = PowerLaw.normalised(basis, 1.5, 1.0)(basis)
    assert float(gaussian_kl(q, q)) == 0
    assert np.isfinite(report["nats_relative_to_prior"]) and report["nats_relative_to_prior"] != report["nats"]


def test_encode_and_decode_curves(curves, tmp_path):
    assert (
        call(
            "sample",
            "--workdir",
            curves,
            "--task",
            "encode",
            "--num",
            "2",
            "--out",
            tmp_path,
            "--config.sampling.tolerance=1e-4",
        ).code
        == 0
    )
    done = call(
        "sample",
        "--workdir",
        curves,
        "--task",
        "decode",
        "--input",
        tmp_path / "latents.npz",
        "--out",
        tmp_path,
        "--config.sampling.tolerance=1e-4",
    )
    assert done.code == 0, done.err
    records = load_run(curves).dataset.test.rows(np.arange(2))[0]
    np.testing.assert_allclose(
        np.load(tmp_path / "samples.npz")["samples"], records, atol=5e-3
    )  # the solver's tolerance, twice, over 16 points


@pytest.mark.parametrize("process", ["coloured_vp", pytest.param("vp", marks=pytest.mark.slow)])
def test_noise_of_a_kernel_and_white_noise_on_another_grid(process, tmp_path):
    small = (
        "--config.data.image_size=12,",
        "--config.model.width=8",
        "--config.model.depth=1",
        "--config.model.modes=4",
    )
    of_basis = () if process == "vp" else ("--config.sde.basis=kernel", "--config.sde.length=1")
    of_process = (f"--config.sde.name={process}", *of_basis, "--config.model.data_index=0")
    done = call(
        "train", "--config", ROOT / "configs" / "quadratic_heat.py", "--workdir", tmp_path, *TINY, *small, *of_process
    )
    assert done.code == 0, done.err
    finer = ("--resolution", "30", "--out", tmp_path / "finer")
    assert call("sample", "--workdir", tmp_path, "--num", "2", *finer).code == 0
    assert np.load(tmp_path / "finer" / "samples.npz")["samples"].shape == (2, 30, 1)
    for out, grid in (("own", ()), ("named", ("--resolution", "12"))):
        assert call("sample", "--workdir", tmp_path, "--num", "2", *grid, "--out", tmp_path / out).code == 0
    own, named = (np.load(tmp_path / out / "samples.npz")["samples"] for out in ("own", "named"))
    np.testing.assert_allclose(named, own, atol=1e-4)  # the grid of training is one of them


@pytest.mark.parametrize("name", [pytest.param("blur", marks=pytest.mark.slow), "inverse_heat"])
def test_images_in_modes(name, tmp_path):
    """The digits under processes of modes: train, draw, bits/dim."""
    of_model = ("--config.model.name=mlp", "--config.model.width=16", "--config.model.depth=1")
    process = (
        f"--config.sde.name={name}",
        *(() if name == "blur" else ("--config.sde.blur_min=0.3",)),
        "--config.sampling.sampler=ddim",
        "--config.likelihood.samples=8",
    )
    done = call(
        "train", "--config", ROOT / "configs" / "digits_blur.py", "--workdir", tmp_path, *TINY, *of_model, *process
    )
    assert done.code == 0, done.err
    assert call("sample", "--workdir", tmp_path, "--num", "2").code == 0
    if name == "blur":
        done = call("likelihood", "--workdir", tmp_path, "--num", "2", "--config.likelihood.tolerance=1e-2")
        assert done.code == 0 and "bits/dim" in done.out, done.err
    else:
        refused = call("likelihood", "--workdir", tmp_path, "--num", "2")
        assert refused.code == 2 and "degraded data" in refused.err
        for method in ("elbo", "vlb"):
            done = call("likelihood", "--workdir", tmp_path, "--num", "2", "--method", method)
            assert done.code == 0 and "bits/dim" in done.out, done.err
        refused = call("sample", "--workdir", tmp_path, "--task", "encode")
        assert refused.code == 2 and "--operator start" in refused.err
    refused = call("sample", "--workdir", tmp_path, "--resolution", "16,16")
    assert refused.code == 2 and "has the resolution it was trained at" in refused.err


WRONG = [
    ("quadratic_heat", "--config.sde.index=-0.6", "not trace class"),
    ("quadratic_heat", "--config.model.preconditioning=eps", "predicts x_0"),
    ("quadratic_heat", "--config.model.name=edm2", "got curves"),
    (
        "quadratic_heat",
        "--config.model.name=unet --config.model.multipliers=(1,1,1,1,1,1,1,1)",
        "curve points: expected",
    ),
    ("quadratic_heat", "--config.model.modes=65", "expected 1 to 64 modes"),
    ("quadratic_heat", "--config.sde.name=heta", "did you mean heat"),
    ("quadratic_heat", "--config.sde.basis=kernel", "no eigenvalues"),
    ("digits_blur", "--config.sde.name=inverse_heat", "degraded data"),
    ("quadratic_heat", "--config.sde.name=cosine", "data_index = 2.0: expected 0"),
    ("curves_coloured", "--config.data.source=functions:nowhere.npz", "nowhere.npz"),
    (
        "digits_vp",
        "--config.training.weighting=likelihood --config.sde.name=subvp",
        "training.time_law: likelihood weighting",
    ),
    (
        "digits_vp",
        "--config.sde.name=cosine --config.sde.log_snr_min=-30 --config.likelihood.tolerance=1e-6",
        "float32 carries 7e-06",
    ),
    ("quadratic_heat", "--config.sampling.sampler=deis", "one alpha"),
    ("quadratic_heat", "--config.data.image_size=0", "vectors have no neighbours"),
    ("digits_blur", "--config.likelihood.dequantization=truncated_normal", "needs pixels"),
    ("digits_blur", "--config.sde.basis=kernel", "expected curves"),
    ("digits_blur", "--config.sde.blur_max=-1", "blur_max >= 0"),
]


@pytest.mark.parametrize(
    "text, names", [("a", ("a",)), ("a,b-1", ("a", "b-1")), ("('a', 'b')", ("a", "b")), ("()", ())]
)
def test_names_need_no_quotes(text, names):
    config = default()
    override(config, [f"data.arrays={text}"])
    assert config.data.arrays == names


@pytest.mark.parametrize("config, flag, expected", WRONG)
def test_a_bad_field_is_one_line(config, flag, expected, tmp_path):
    refused = call("train", "--config", ROOT / "configs" / f"{config}.py", "--workdir", tmp_path, *flag.split())
    assert refused.code == (3 if "nowhere" in expected else 2) and expected in refused.err, refused.err
    assert not list(tmp_path.iterdir()) and jax.device_count() > 0


def test_metrics_of_functions_are_records(curves, tmp_path):
    """Those that `scoresde.metrics.functions` gives for the samples that were drawn and the truth of seed 1."""
    done = call("evaluate", "--workdir", curves, "--metrics", "functions", "--num", "20", "--out", tmp_path)
    assert done.code == 0, done.err
    found = {line["metric"]: line for line in map(json.loads, (tmp_path / "records.jsonl").read_text().splitlines())}
    assert list(found) == ["mmd2", "mmd_p_value", "sliced_wasserstein", "spectrum_error", "test_power_10"]
    x = np.load(next(tmp_path.glob("samples/*/samples.npz")))["samples"]
    truth = functions.draw("quadratic", 20, (16, 1), 1)
    assert found["mmd2"]["value"] == pytest.approx(mmd2(x, truth)) and found["mmd2"]["num_fake"] == 20
    assert found["mmd_p_value"]["value"] == permutation_test(x, truth).p_value
