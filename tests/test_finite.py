"""What leaves float32: in a step, in a checkpoint, and in the coefficients of a process and the scale of the data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import MIXTURE, call, metrics, stored
from test_train import Points, _equal, _fit, _score

from scoresde.data import ArraySource, Dataset
from scoresde.errors import CheckpointError, ConfigError, NumericError
from scoresde.experiment import Experiment
from scoresde.experiment.component import build
from scoresde.experiment.config import load_config, override
from scoresde.experiment.kinds import PROCESS
from scoresde.experiment.parts.processes import out_of_range
from scoresde.experiment.sections import complete
from scoresde.runs import Intervals, Run
from scoresde.runs import manifest as manifest_module
from scoresde.runs.checkpoint import Checkpoints
from scoresde.train import fit
from scoresde.train.step import MAX_SKIPPED, _update, finite
from scoresde.workflows.train_run import check_scale

# A step


def _spoiling(part):
    """SGD that spoils its second step: the gradients are finite, and what follows from them is not."""

    def init(params):
        return {"count": jnp.zeros((), jnp.int32), "moment": jax.tree.map(jnp.zeros_like, params)}

    def update(grads, state, params):
        bad = jnp.where(state["count"] == 1, jnp.float32(3e38), 0.0)
        moment = jax.tree.map(lambda g: g + (bad * bad if part == "moments" else 0.0), grads)
        # Averages: parameters of 3e38 are finite, their distance from an average of -3e38 is not.
        updates = jax.tree.map(lambda g: -1e-2 * g + {"params": bad * bad, "averages": bad}.get(part, 0.0), grads)
        return updates, {"count": state["count"] + 1, "moment": moment}

    return optax.GradientTransformation(init, update)


@pytest.mark.parametrize("part", ["params", "moments"])
def test_a_step_that_leaves_float32_is_skipped(part):
    recorder = _fit(steps=4, optimizer=_spoiling(part))
    before, after = recorder.states[1], recorder.states[2]
    for kept in ("params", "ema", "opt_state"):
        assert _equal(getattr(before, kept), getattr(after, kept))
    assert np.isfinite(recorder.metrics[2]["loss"]) and np.isfinite(
        recorder.metrics[2]["grad_norm"]
    )  # they alone do not tell
    assert int(after.skipped) == 1 and all(bool(finite(state)) for state in recorder.states.values())


def test_an_average_that_leaves_float32_is_skipped_as_well():
    start, far = _score(), jnp.float32(-3e38)
    state = fit(start, Points(), steps=1, batch_size=32, optimizer=optax.sgd(0.0), ema=(0.9,))
    lowest = jax.tree.map(lambda a: jnp.full_like(a, far), state.ema)
    state = dataclasses.replace(
        state, **{"ema": lowest, "opt_state": _spoiling("averages").init(state.params) | {"count": jnp.int32(1)}}
    )
    zero = jax.tree.map(jnp.zeros_like, state.params)
    new, metrics = _update(_spoiling("averages"), state, jnp.float32(1.0), zero, 32)
    assert int(metrics["skipped"]) == 1 and _equal(new.ema, state.ema) and _equal(new.params, state.params)


def test_an_epsilon_below_float32_ends_in_one_line_and_no_checkpoint_is_spoiled(tmp_path):
    """Adam divides by sqrt(v) + eps: 0 / 0 where a gradient is 0, as that of a layer behind one that starts at zero."""
    flags = [
        "--config.optim.eps=1e-50",
        "--config.training.steps=40",
        "--config.training.checkpoint_every=5",
        "--config.training.sample_every=1000",
    ]
    found = call("train", *MIXTURE, "--workdir", tmp_path, *flags)
    assert (
        found.code == 5
        and "new parameters were not finite 10 times in a row" in found.err
        and "raise optim.eps" in found.err
    )
    assert all(line["loss"] is not None for line in metrics(tmp_path))  # the losses were finite all the time
    for step in Checkpoints(tmp_path / "checkpoints").steps():
        assert all(np.isfinite(leaf).all() for leaf in stored(tmp_path, step).values() if leaf.dtype.kind == "f")


def test_finite_looks_at_every_value():
    good = {"a": jnp.ones(3), "b": [jnp.zeros((2, 2), jnp.bfloat16)], "n": jnp.int32(2**31 - 1)}
    assert bool(finite(good)) and bool(finite({"n": jnp.int32(1)}))
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert not bool(finite(good | {"b": [jnp.zeros((2, 2), jnp.bfloat16).at[1, 1].set(bad)]}))


# Checkpoints


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    folder = Checkpoints(tmp_path)
    with pytest.raises(NumericError, match=r"not finite at \['b'\]"):
        folder.save(1, {"a": jnp.ones(2), "b": jnp.array([1.0, jnp.inf])}, {})
    folder.close()
    assert Checkpoints(tmp_path).steps() == []


def test_a_checkpoint_that_is_not_finite_is_passed_over(tmp_path, monkeypatch):
    """An earlier version wrote such ones, with a good CRC-32."""
    said, folder = [], Checkpoints(tmp_path)
    folder.save(1, {"a": jnp.ones(2)}, {})
    with monkeypatch.context() as before:
        before.setattr(manifest_module, "_all_finite", lambda array: True)
        folder.save(2, {"a": jnp.array([1.0, jnp.nan])}, {})
        folder.wait()
    folder.close()
    state, meta = Checkpoints(tmp_path, report=said.append).restore(
        {"a": jnp.zeros(2)}, accept=lambda meta: None, set_aside=True
    )
    assert meta["step"] == 1 and np.array_equal(state["a"], np.ones(2))
    assert "step 2 is damaged (values that are not finite at ['a']" in said[0] and Checkpoints(tmp_path).steps() == [1]
    with pytest.raises(CheckpointError, match="all damaged"):
        _only_bad(tmp_path / "other", monkeypatch).restore(
            {"a": jnp.zeros(1)}, accept=lambda meta: None, set_aside=False
        )


def _only_bad(path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(manifest_module, "_all_finite", lambda array: True)
        folder = Checkpoints(path, report=lambda text: None)
        folder.save(1, {"a": jnp.array([jnp.nan])}, {})
        folder.wait()
        folder.close()
    return Checkpoints(path, report=lambda text: None)


def test_a_run_gives_up_on_updates_that_stay_not_finite(tmp_path):
    options = dict(meta={"config": {}}, accept=lambda meta: None, watch=lambda state, path: {})
    with pytest.raises(NumericError, match=f"{MAX_SKIPPED} times in a row"):
        with Run(tmp_path, cadence=Intervals(log=1, checkpoint=2, sample=1000), **options) as run:
            fit(_score(), Points(), steps=30, batch_size=32, optimizer=optax.sgd(1e39), run=run)


# Coefficients of a process


def _config(*overrides):
    config = load_config(MIXTURE[0].removeprefix("--config="), [])
    override(config, list(overrides))
    return config


@pytest.mark.parametrize("name", PROCESS.names)
def test_default_coefficients_are_within_float32(name):
    given, options = {"grid": (8, 8)}, {"index": 2.5} if name == "heat" else {}
    full, problems = complete({"sde": {"name": name, **options}})
    assert not problems and out_of_range(build(PROCESS, full["sde"], "sde", given)) is None


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["sde.beta_max=1e30"], "alpha^2 = 0 at t_min"),
        (["sde.beta_max=200"], "alpha^2 = 3.54e-44 at t_max"),  # exp(-(0.1 + 200) / 2)
        (["sde.name=subvp", "sde.t_min=1e-20"], "sigma^2 = 1e-42 at t_min"),
        (["sde.name=ve", "sde.sigma_max=1e20"], "sigma^2 = 1e+40 at t_max"),
        (["sde.name=ve", "sde.sigma_min=1e-25"], "sigma^2 = 1e-50 at t_min"),
        (
            ["sde.name=ve", "sde.sigma_min=50", "sde.sigma_max=50.000001"],
            "log-SNR = -7.82405 at t_min and -7.82405 at t_max",
        ),
        (["sde.name=karras", "sde.sigma_max=1e30"], "sigma^2 = 1e+60 at t_max"),
        (["model.sigma_data=1e-20"], "sigma_data^2 = 1e-40"),
        (["model.sigma_data=1e20"], "sigma_data^2 = 1e+40"),
    ],
)
def test_coefficients_that_leave_float32_are_refused(overrides, expected):
    with pytest.raises(ConfigError) as found:
        Experiment.from_config(_config(*overrides))
    assert expected in str(found.value) and len(found.value.problems) == 1


def test_the_longest_schedules_that_float32_carries_are_taken():
    """alpha^2 = exp(-(0.1 + 170) / 2) = 1.1e-37, above the smallest normal number, 1.2e-38."""
    for overrides in (
        ["sde.beta_max=170"],
        ["sde.name=cosine", "sde.log_snr_min=-60", "sde.log_snr_max=60", "likelihood.method=elbo"],
        ["sde.t_min=1e-30"],
    ):
        assert Experiment.from_config(_config(*overrides)).shape == (2,)


# The scale of the data


def _records(deviation, count=500):
    values = (deviation * np.random.default_rng(0).normal(size=(count, 2))).astype(np.float32)
    source = ArraySource(values)
    return Dataset("gaussian", source, source, levels=0, centered=True, fingerprint="")


@pytest.mark.parametrize(
    "given, word",
    [(1.0, None), (0.3, None), (3.5, None), (0.2, "warning"), (5.0, "warning"), (1e-6, "error"), (1e6, "error")],
)
def test_sigma_data_is_compared_with_the_data(capsys, given, word):
    config = Experiment.from_config(_config(f"model.sigma_data={given}"))
    if word == "error":
        with pytest.raises(
            ConfigError, match=r"the training data have a standard deviation of (0.9|1.0)\d* in model coordinates"
        ):
            check_scale(config, _records(1.0))
    else:
        check_scale(config, _records(1.0))
    assert ("warning: preconditioning.sigma_data" in capsys.readouterr().err) == (word == "warning")
    check_scale(Experiment.from_config(_config("model.preconditioning=eps")), _records(1.0))  # which has no scale


def test_constant_data_have_no_scale(capsys):
    check_scale(Experiment.from_config(_config("model.sigma_data=1e-6")), _records(0.0))
    assert not capsys.readouterr().err
