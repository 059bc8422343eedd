"""`python -m scoresde.likelihood`: methods, estimators and dequantizations, what is written, and what is refused."""

import json
import shutil

import numpy as np
import pytest
from commands import call, digits_run, mixture_run

from scoresde.experiment import load_run

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="session")
def mixture(tmp_path_factory):
    return mixture_run(tmp_path_factory)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    return digits_run(tmp_path_factory)


def likelihood(run, out, *flags):
    result = call("likelihood", "--workdir", run, "--num", 3, "--out", out, *flags)
    assert result.code == 0, result.err
    with np.load(out.with_suffix(".npz")) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(out.with_suffix(".json").read_text()), result.out


# method, dequantization: what the data end as
ROUTES = [("flow", "truncated_normal"), ("elbo", "uniform"), ("elbo", "none"), ("vlb", "uniform"), ("vlb", "none")]


@pytest.mark.parametrize("method, dequantization", ROUTES)
def test_every_route_to_bits_per_dim(method, dequantization, digits, tmp_path):
    flags, draws = (["--samples", 8] if method != "flow" else []), 1
    if (method, dequantization) == ("elbo", "uniform"):
        flags, draws = [*flags, "--dequantizations", 2], 2
    flags += ["--method", method, "--dequantization", dequantization, "--config.likelihood.vlb_steps=50"]
    arrays, report, text = likelihood(digits, tmp_path / "x", *flags)
    assert report["method"] == method and report["dequantization"] == dequantization and report["ok"] == 3 * draws
    assert f"method {method}" in text and f"dequantization {dequantization}" in text
    expected = -(arrays["log_prob"] - arrays["log_q"]).mean(axis=1, dtype=float) / (64 * np.log(2))
    np.testing.assert_allclose(arrays["bits_per_dim"], expected, rtol=1e-5)
    assert np.isfinite(expected).all() and arrays["standard_error"].shape == (3, draws)
    assert np.all(arrays["log_prob"][:, 1:] != arrays["log_prob"][:, :1])  # each dequantization draws anew
    if method != "flow":
        assert np.all(arrays["nfe"] == 16)  # 8 for the diffusion, 8 for the decoder
    if dequantization == "uniform":
        np.testing.assert_allclose(-arrays["log_q"], report["log_jacobian"], rtol=1e-6)
    elif dequantization == "none":
        assert np.all(arrays["log_q"] == 0) and np.all(arrays["log_prob"] < 0)  # log of probabilities
    else:  # within +- tau = 58 sigma: narrower than the bin
        assert np.all(-arrays["log_q"] < report["log_jacobian"])


@pytest.mark.slow
def test_a_variational_dequantization_is_trained_once(digits, tmp_path):
    """And kept in the run folder: the second command gives the same numbers; a damaged file is said to be one."""
    flags = ["--dequantization", "variational", "--method", "elbo", "--samples", 4]
    flags += ["--config.likelihood.variational_steps=3", "--config.likelihood.variational_width=4"]
    first, report, _ = likelihood(digits, tmp_path / "a", *flags)
    assert report["dequantization"] == "variational"
    [kept] = (digits / "dequantizer").glob("*.npz")
    stamp = kept.stat().st_mtime_ns
    again, _, _ = likelihood(digits, tmp_path / "b", *flags)
    np.testing.assert_array_equal(first["log_prob"], again["log_prob"])
    np.testing.assert_array_equal(first["log_q"], again["log_q"])
    assert kept.stat().st_mtime_ns == stamp
    kept.write_bytes(kept.read_bytes()[:100])
    refused = call("likelihood", "--workdir", digits, "--num", 3, "--out", tmp_path / "d", *flags)
    assert refused.code == 4 and "delete it" in refused.err and len(refused.err.splitlines()) == 1


OUTSIDE = """
import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.likelihood import AbstractDequantization


class Middle(AbstractDequantization):
    share: float = eqx.field(static=True, default=0.5)

    def draw(self, sde, bins, v, *, key):
        u = 0.5 + self.share * (jax.random.uniform(key, v.shape) - 0.5)
        return bins.encode(v, u), -jnp.asarray(bins.log_jacobian(v.size) + v.size * jnp.log(self.share))


class AtTheEnd(Middle):
    at_t_min = True
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    (tmp_path / "dequantizations_of_somebody.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "dequantizations_of_somebody"


def test_a_dequantization_from_outside(outside, digits, tmp_path):
    """Uniform on the middle of the bin: log q is that of the uniform one, less D log share."""
    flags = ["--dequantization", f"{outside}:Middle", "--config.likelihood.dequantization.share=0.25"]
    arrays, report, text = likelihood(digits, tmp_path / "x", *flags, "--method", "elbo", "--samples", 4)
    assert report["dequantization"] == f"{outside}:Middle" and f"dequantization {outside}:Middle" in text
    assert report["config"]["likelihood"]["dequantization"]["share"] == 0.25
    np.testing.assert_allclose(arrays["log_q"], 64 * np.log(4) - report["log_jacobian"], rtol=1e-5)
    refused = call("likelihood", "--workdir", digits, "--dequantization", f"{outside}:AtTheEnd", "--method", "vlb")
    assert refused.code == 2 and "its x is at t_min, and vlb" in refused.err and len(refused.err.splitlines()) == 1
    refused = call("likelihood", "--workdir", digits, "--dequantization", "unifrom")
    assert refused.code == 2 and "did you mean uniform?" in refused.err and len(refused.err.splitlines()) == 1


def test_fields_of_an_earlier_version(digits, tmp_path, capsys):
    """A stored configuration held the fields of the variational dequantization, in use or not."""
    run = shutil.copytree(digits, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    old = {"steps": 1000, "batch_size": 64, "rate": 1e-2, "width": 32, "depth": 4}
    config["likelihood"] |= {f"variational_{name}": value for name, value in old.items()}
    (run / "config.json").write_text(
        json.dumps(config | {"likelihood": config["likelihood"] | {"dequantization": "uniform"}})
    )
    assert load_run(run).experiment.config["likelihood"]["dequantization"] == {"name": "uniform"}
    assert "likelihood.variational_rate = 0.01 was not in use" in capsys.readouterr().err
    config["likelihood"]["dequantization"] = "variational"
    (run / "config.json").write_text(json.dumps(config))
    trained = load_run(run, overrides=["likelihood.variational_steps=3"])
    assert trained.experiment.config["likelihood"]["dequantization"] == {"name": "variational", **old, "steps": 3}
    assert not any("variational_" in name for name in trained.experiment.config["likelihood"])


@pytest.mark.parametrize("estimator", ["gaussian", "hutchpp"])
def test_estimators_agree_with_the_exact_trace(estimator, mixture, tmp_path):
    """In two dimensions Hutch++ with 6 derivatives spans the plane."""
    exact, report, text = likelihood(mixture, tmp_path / "exact", "--nats", "--probes", 0)
    assert report["estimator"] == "exact" and report["dequantization"] is None and "exact trace" in text
    probes = {"gaussian": 64, "hutchpp": 6}[estimator]
    found, report, _ = likelihood(mixture, tmp_path / "x", "--nats", "--probes", probes, "--estimator", estimator)
    assert report["estimator"] == estimator and report["probes"] == probes
    off = abs(found["log_prob"] - exact["log_prob"])
    assert np.all(off < 5 * found["standard_error"] + 1e-3)
    assert found["standard_error"].max() < 1e-3 if estimator == "hutchpp" else found["standard_error"].min() > 1e-3


def test_the_report_is_enough_to_repeat_the_number(mixture, tmp_path):
    arrays, report, text = likelihood(mixture, tmp_path / "x", "--nats", "--method", "vlb", "--samples", 4)
    assert report["command"] and report["config"]["likelihood"]["samples"] == 4 and "jax" in report["versions"]
    assert "larger is better" in report["signs"] and "fold_in" in report["keys"] and report["indices"] == "0 to 2"
    assert report["quantity"].startswith("discrete-time bound") and report["quantity"] in text
    assert len(report["parameters_crc32"]) == 8 and report["parameters_crc32"] in text
    assert report["vlb_steps"] == 1000 and report["solver"] is None and report["data"].startswith("gaussian_mixture")
    again = [f"--config.likelihood.{name}={report['config']['likelihood'][name]}" for name in ("method", "samples")]
    other, _, _ = likelihood(mixture, tmp_path / "y", "--nats", *again)
    np.testing.assert_array_equal(other["log_prob"], arrays["log_prob"])


@pytest.mark.parametrize(
    "flags, code, words",
    [
        (["--method", "flwo"], 2, "did you mean flow?"),
        (["--estimator", "hutch"], 2, "hutchpp"),
        (["--estimator", "hutchpp", "--probes", 2], 2, "at least 3"),
        (["--estimator", "hutchpp", "--probes", 0], 2, "exact"),
        (["--dequantization", "none"], 2, "no decoder"),
        (["--config.likelihood.variational_steps=3"], 2, "uniform takes no steps"),
        (["--method", "elbo", "--dequantization", "truncated_normal"], 2, "t_min"),
        (["--method", "elbo", "--dequantization", "none", "--dequantizations", 2], 2, "nothing to draw"),
        (["--method", "elbo", "--probes", 4], 2, "--probes"),
        (["--samples", 4], 2, "--samples"),
        (["--method", "vlb", "--samples", 0], 2, "at least 1"),
        (["--method", "vlb", "--config.likelihood.vlb_steps=1"], 2, "at least 2"),
        (["--nats", "--dequantization", "uniform"], 3, "continuous"),
        (["--method", "elbo"], 3, "--nats"),
    ],
)
def test_what_makes_no_sense_is_one_line(flags, code, words, mixture):
    refused = call("likelihood", "--workdir", mixture, "--num", 2, *flags)
    assert refused.code == code and words in refused.err and len(refused.err.splitlines()) == 1, refused.err
