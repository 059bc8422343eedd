"""The probability flow both ways: encode, decode, interpolate, and what does not depend on the process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from any_process import each_process
from commands import call, digits_run, mixture_run
from inventory import SDES
from oracles import mixture
from PIL import Image

from scoresde.errors import ConfigError
from scoresde.experiment.load import load_run
from scoresde.sample import Adaptive, FixedGrid, ProbabilityFlow, decode, encode, interpolate, slerp
from scoresde.sde import VP, Karras

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    return digits_run(tmp_path_factory)


@pytest.fixture(scope="session")
def plane(tmp_path_factory):
    return mixture_run(tmp_path_factory)


def test_decoding_undoes_encoding():
    """Within a thousandth of the range of the data (about 4) at the default tolerance, in float32, for every
    process."""
    for sde in each_process(SDES).values():
        score = mixture(sde)
        x = jax.vmap(lambda key: score.sample(jnp.float32(sde.t_min), key=key))(jax.random.split(jax.random.key(0), 32))
        latent = encode(score, x)
        back = decode(score, latent.x)
        assert latent.ok.all() and back.ok.all()
        assert abs(back.x - x).max() < 1e-3 * (x.max() - x.min())
        # The latents are of the size of the prior.
        assert 0.3 < jnp.std(latent.x) / sde.sigma(sde.t_max) < 1.1


def test_the_same_noise_is_the_same_image_in_sigma_space(x64):
    """VP and the process y = x / alpha, rho = sigma / alpha have one flow: x_T / alpha_T under Karras gives the image
    of x_T."""
    vp = VP(t_min=1e-4)
    rho = [float(jnp.exp(-vp.log_snr(t) / 2)) for t in (vp.t_min, vp.t_max)]
    karras = Karras(*rho)
    x_T = jax.vmap(lambda key: vp.sample_prior((5,), key=key))(jax.random.split(jax.random.key(1), 16))
    sampler = ProbabilityFlow(stepping=Adaptive(1e-8))
    images = {}
    for sde, start in ((vp, x_T), (karras, x_T / vp.alpha(vp.t_max))):
        score = mixture(sde)
        end = decode(score, start, sampler=sampler)
        assert end.ok.all()
        images[sde] = jax.vmap(lambda x: score.denoise(x, jnp.asarray(sde.t_min)))(end.x)
    np.testing.assert_allclose(images[vp], images[karras], atol=1e-5)


def test_fixed_steps_go_both_ways(x64):
    """On the grid of decoding, run backwards."""
    sde = VP(t_min=1e-3)
    score, sampler = mixture(sde), ProbabilityFlow(stepping=FixedGrid(200))
    x = jax.vmap(lambda key: score.sample(sde.t_min, key=key))(jax.random.split(jax.random.key(0), 4))
    back = decode(score, encode(score, x, sampler=sampler).x, sampler=sampler)
    np.testing.assert_allclose(back.x, x, atol=1e-4)


def test_interpolation_joins_its_ends():
    sde = VP()
    score = mixture(sde)
    x = jax.vmap(lambda key: score.sample(jnp.float32(sde.t_min), key=key))(jax.random.split(jax.random.key(0), 6))
    between = interpolate(score, x[:3], x[3:], jnp.linspace(0.0, 1.0, 5))
    assert between.x.shape == (3, 5, 5) and between.ok.all()
    np.testing.assert_allclose(between.x[:, 0], x[:3], atol=2e-3)
    np.testing.assert_allclose(between.x[:, -1], x[3:], atol=2e-3)
    assert abs(between.x[:, 2] - between.x[:, 1]).max() > 1e-2


def test_slerp_keeps_the_norm_of_noise(x64):
    a, b = jax.random.normal(jax.random.key(0), (2, 10_000))
    norms = [float(jnp.linalg.norm(slerp(a, b, w))) for w in (0.0, 0.25, 0.5, 1.0)]
    np.testing.assert_allclose(norms, 100, rtol=0.03)
    np.testing.assert_allclose(slerp(a, 3 * a, 0.5), 2 * a)  # no angle: the straight line
    np.testing.assert_allclose(slerp(a, b, 1.0), b, rtol=1e-12)


def test_interpolation_of_unlike_batches_is_refused():
    sde = VP()
    with pytest.raises(ConfigError, match="one shape"):
        interpolate(mixture(sde), jnp.zeros((2, 5)), jnp.zeros((3, 5)), jnp.linspace(0.0, 1.0, 3))


# The command


def test_encode_then_decode_returns_the_records(digits, tmp_path):
    encoded = call(
        "sample",
        "--workdir",
        digits,
        "--task",
        "encode",
        "--num",
        3,
        "--out",
        tmp_path / "e",
        "--config.sampling.tolerance=1e-4",
    )
    assert encoded.code == 0 and "3 records encoded" in encoded.out
    latents = np.load(tmp_path / "e" / "latents.npz")
    assert latents["latents"].shape == (3, 8, 8, 1) and latents["ok"].all()
    decoded = call(
        "sample", "--workdir", digits, "--task", "decode", "--input", tmp_path / "e" / "latents.npz", "--out",
        tmp_path / "d",
        "--config.sampling.tolerance=1e-4",
    )  # fmt: skip
    assert decoded.code == 0
    samples = np.load(tmp_path / "d" / "samples.npz")["samples"]
    np.testing.assert_array_equal(samples, load_run(digits).dataset.test.rows(np.arange(3))[0])
    assert (tmp_path / "d" / "grid.png").exists()


def test_rows_that_were_not_encoded_stay_failed(plane, tmp_path):
    latents = np.array([[1.0, 0.0], [np.nan, 0.5]], np.float32)
    np.savez(tmp_path / "latents.npz", latents=latents)
    command = ["--workdir", plane, "--task", "decode", "--input", tmp_path / "latents.npz", "--out", tmp_path]
    assert call("sample", *command).code == 5
    assert np.load(tmp_path / "samples.npz")["ok"].tolist() == [True, False]


def test_interpolate_writes_a_row_a_pair(digits, tmp_path):
    command = [
        "--workdir",
        digits,
        "--task",
        "interpolate",
        "--num",
        4,
        "--points",
        3,
        "--config.sampling.tolerance=1e-3",
    ]
    assert call("sample", *command, "--out", tmp_path).code == 0
    arrays = np.load(tmp_path / "samples.npz")
    assert arrays["samples"].shape == (2, 3, 8, 8, 1) and arrays["weights"].tolist() == [0.0, 0.5, 1.0]
    records = load_run(digits).dataset.test.rows(np.arange(4))[0].astype(int).reshape(2, 2, 8, 8, 1)
    assert abs(arrays["samples"][:, [0, 2]] - records).max() <= 1  # of 17 levels: 0 to 1 and 2 to 3
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > picture.height  # three columns, two rows


def test_records_may_come_from_a_file(plane, tmp_path):
    records = np.array([[1.0, 0.0], [-1.0, 0.5]], np.float32)
    np.savez(tmp_path / "mine.npz", samples=records)
    command = ["--workdir", plane, "--task", "encode", "--input", tmp_path / "mine.npz", "--out", tmp_path / "e"]
    assert call("sample", *command).code == 0
    assert np.load(tmp_path / "e" / "latents.npz")["latents"].shape == (2, 2)


@pytest.mark.parametrize(
    "arrays, flags, code, words",
    [
        ({}, ["--task", "decode"], 2, "--input"),
        ({"samples": np.zeros((2, 2), np.float32)}, ["--task", "decode", "--input", "FILE"], 3, "'latents'"),
        ({"latents": np.zeros((2, 3), np.float32)}, ["--task", "decode", "--input", "FILE"], 3, "[2, 3]"),
        ({"latents": np.full((2, 2), np.nan)}, ["--task", "decode", "--input", "FILE"], 3, "finite"),
        ({"latents": np.zeros((0, 2), np.float32)}, ["--task", "decode", "--input", "FILE"], 3, "[0, 2]"),
        ({"samples": np.full((2, 2), np.nan)}, ["--task", "encode", "--input", "FILE"], 3, "finite"),
        ({"samples": np.float32(1)}, ["--task", "encode", "--input", "FILE"], 3, "[N, 2]"),
        ({"samples": np.zeros((3, 2), np.float32)}, ["--task", "interpolate", "--input", "FILE"], 2, "even"),
        ({}, ["--task", "interpolate", "--points", "1"], 2, "--points"),
        ({}, ["--task", "encode", "--sampler", "ddim"], 2, "--sampler"),
        ({}, ["--task", "encode", "--config.sampling.sampler=ddim"], 2, "--config.sampling.name"),
        ({}, ["--points", "3"], 2, "--points"),
        ({}, ["--num", "3", "--seeds", "0-1"], 2, "--num"),
        ({}, ["--task", "encode", "--input", "no.npz"], 3, "no.npz"),
    ],
)
def test_wrong_tasks_are_one_line(plane, tmp_path, arrays, flags, code, words):
    np.savez(tmp_path / "file.npz", **arrays)
    flags = [str(tmp_path / "file.npz") if flag == "FILE" else flag for flag in flags]
    refused = call("sample", "--workdir", plane, *flags, "--out", tmp_path / "out")
    assert refused.code == code and words in refused.err and len(refused.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "write, words",
    [(lambda path: path.write_bytes(b""), "cut short"), (lambda path: np.save(path, np.zeros((2, 2))), "NPY")],
)
def test_a_file_of_another_kind_is_one_line(plane, tmp_path, write, words):
    write(tmp_path / "file.npy")
    refused = call(
        "sample", "--workdir", plane, "--task", "encode", "--input", tmp_path / "file.npy", "--out", tmp_path / "out"
    )
    assert refused.code == 3 and words in refused.err and len(refused.err.strip().splitlines()) == 1


# Samplers by name


@pytest.mark.parametrize("sampler", ["unipc", "predictor_corrector", "gotta_go_fast", "heun_edm"])
def test_other_samplers_take_their_own_steps(sampler, plane, tmp_path):
    result = call(
        "sample",
        "--workdir",
        plane,
        "--num",
        4,
        "--sampler",
        sampler,
        "--out",
        tmp_path,
        *(["--config.sampling.corrector=langevin", "--config.sampling.norm=batch"] if "corrector" in sampler else []),
    )
    assert result.code == 0 and f"by {sampler}" in result.out and "NFE 9.0" not in result.out  # the run's own 8 steps


def test_an_implicit_solver_on_a_fixed_grid(plane, tmp_path):
    flags = ["--sampler", "probability_flow", "--steps", 20, "--config.sampling.ode_solver=kvaerno3"]
    result = call("sample", "--workdir", plane, "--num", 2, *flags, "--out", tmp_path)
    assert result.code == 0 and "NFE unknown" in result.out


def test_an_optimised_grid(plane, tmp_path):
    flags = ["--sampler", "ddim", "--steps", 6, "--config.sampling.grid=optimised"]
    result = call("sample", "--workdir", plane, "--num", 4, *flags, "--out", tmp_path)
    assert result.code == 0 and "NFE 7.0" in result.out


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--sampler", "ddim", "--config.sampling.eta=2"], "eta = 2.0"),
        (["--sampler", "unipc", "--config.sampling.order=4"], "order = 4"),
        (["--sampler", "gotta_go_fast", "--steps", "5"], "sde_tolerance"),
        (["--sampler", "probability_flow", "--config.sampling.grid=optimised"], "steps from 1 to"),
        (
            [
                "--sampler",
                "predictor_corrector",
                "--config.sampling.predictor=none",
                "--config.sampling.corrector=none",
            ],
            "neither",
        ),
        (["--sampler", "dpm"], "did you mean dpmpp"),
        (["--sampler", "ddim", "--steps", "200", "--config.sampling.grid=optimised"], "128"),
        (["--sampler", "ddim", "--config.sampling.variant=foo"], "ddim takes no variant"),
    ],
)
def test_wrong_samplers_are_one_line(plane, tmp_path, flags, words):
    refused = call("sample", "--workdir", plane, *flags, "--out", tmp_path)
    assert refused.code == 2 and words in refused.err and len(refused.err.strip().splitlines()) == 1
