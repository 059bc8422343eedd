"""The benchmarks that compare with exact answers and with other libraries, by their own functions at a small size."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from scoresde.sample import ReverseDiffusion
from scoresde.sde import VP

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


def benchmark(name: str, monkeypatch):
    """The module; its neighbours are found by their names, and what it does to the environment is undone."""
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.syspath_prepend(BENCHMARKS)
    described = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_likelihoods_are_compared_with_exact_answers(x64, monkeypatch):
    row = benchmark("oracles", monkeypatch).figures(VP(), points=4, repetitions=20, dimensions=12)
    assert row["mixture_nats"] < 1e-5 and row["gaussian_bits_per_dim"] < 1e-5
    assert 1e-5 < row["prior_mismatch_nats"] < 0.1 and row["coverage"] >= 0.75  # 5 of 20 outside: p = 0.003


@pytest.mark.slow
def test_samplers_are_compared_with_the_exact_flow(x64, monkeypatch):
    """Heun with 20 steps ends where the flow does, within its error; DDIM is further off."""
    parity = benchmark("parity", monkeypatch)
    cases = parity.cases()
    keys = jax.random.split(jax.random.key(0), parity.EXAMPLES)
    z_T = parity.inputs(keys)["z_T"]
    exact = parity.exact_flow(cases["DPMSolverPP 2"], {}, z_T)
    errors = [
        parity.difference(parity.run_ours(cases[name], {}, keys, z_T), exact)
        for name in ("DPMSolverPP 2", "DDIM eta=0")
    ]
    assert errors[0] < errors[1] / 2 < 0.1


def test_a_case_of_reverse_diffusion_has_that_predictor(monkeypatch):
    """Whatever the default is."""
    cases = benchmark("parity", monkeypatch).cases()
    for name in ("ReverseDiffusion, VE", "ReverseDiffusion, Langevin, VE"):
        assert isinstance(cases[name].ours(3, np.linspace).predictor, ReverseDiffusion)
