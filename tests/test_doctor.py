"""The doctor: a sound installation passes, one that computes something else does not, and its facts can be pasted."""

import json

import jax
import optax
from commands import call

from scoresde.doctor import selftest
from scoresde.doctor.facts import MORE_PACKAGES, facts
from scoresde.runtime.versions import PACKAGES
from scoresde.score import GaussianScore
from scoresde.sde import VP


def test_a_sound_installation_passes_and_says_what_it_is(monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".5")
    result = call("doctor", "--json")
    assert result.code == 0, result.out + result.err
    found = json.loads(result.out)
    assert [check["ok"] for check in found["self-test"]] == [True] * len(selftest.CHECKS)
    assert (
        set(found["versions"]) == {"python", *PACKAGES, *MORE_PACKAGES} and "missing" not in found["versions"].values()
    )
    assert found["environment"]["XLA_PYTHON_CLIENT_MEM_FRACTION"] == ".5"
    assert found["devices"]["backend"] == "cpu" and "GiB" in found["memory and disk"]["host memory"]


def test_another_process_is_told(monkeypatch, capsys):
    """sigma too large by 1 %: every check but training sees it; the command ends with exit code 5."""
    right = VP.sigma
    monkeypatch.setattr(VP, "sigma", lambda self, t: 1.01 * right(self, t))
    assert not selftest.run("", selftest.coefficients).ok
    monkeypatch.setattr(selftest, "CHECKS", {"coefficients": selftest.coefficients, "broken": lambda: 1 / 0})
    result = call("doctor")
    assert result.code == 5 and "coefficients, broken" in result.err
    assert result.out.count("FAILED") == 2 and "ZeroDivisionError" in result.out


def test_a_score_that_is_wrong_is_told(monkeypatch):
    """By the sampler, which takes its prediction of x_0, and by the likelihood, which takes the score."""
    right, denoise = GaussianScore.__call__, GaussianScore.denoise
    monkeypatch.setattr(GaussianScore, "__call__", lambda self, x, t: 1.02 * right(self, x, t))
    monkeypatch.setattr(GaussianScore, "denoise", lambda self, x, t: denoise(self, x, t) + 0.05)
    jax.clear_caches()  # programs of the right one
    assert not selftest.run("", selftest.sampler).ok
    assert not selftest.run("", selftest.likelihood).ok
    jax.clear_caches()


def test_training_that_does_not_learn_is_told(monkeypatch):
    monkeypatch.setattr(optax, "adam", lambda rate: optax.sgd(0.0))
    check = selftest.run("", selftest.training)
    assert not check.ok and "the least being" in check.detail


def test_keys_are_no_facts(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert "secret" not in json.dumps(facts())
