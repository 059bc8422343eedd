"""The step as a program: its memory and what is said when there is too little, several steps a dispatch, what is
computed again."""

import ctypes
import dataclasses
import os
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import MIXTURE, call, mixture_run, problems_of, stored
from jax.flatten_util import ravel_pytree

from scoresde.errors import ConfigError, ResourceError
from scoresde.experiment.config import default
from scoresde.nets import FNO, MLP, REMAT, DiT, EDM2UNet, Network, UNet
from scoresde.runtime.sharding import data_mesh
from scoresde.score import EDMPreconditioning, NetworkScore
from scoresde.sde import VP
from scoresde.train import Objective, Parallelism, program
from scoresde.train.batch_iterator import prefetch
from scoresde.train.program import GIB, memory, memory_advice, return_heap, too_large
from scoresde.train.step import _compiler_options, init_state, make_step

# Memory


@pytest.mark.parametrize("stays, temporaries, limit, batch, accumulation", [
    (2.0, 90.0, 80.0, 512, 1), (1.0, 300.0, 16.0, 2048, 4), (15.0, 4.0, 16.0, 96, 1),
])  # fmt: skip
def test_what_is_advised_fits(stays, temporaries, limit, batch, accumulation):
    """By the rule that temporaries go with the examples of a micro-batch."""
    text = too_large(
        int(stays * GIB), int(temporaries * GIB), int(limit * GIB), batch, Parallelism(accumulation=accumulation)
    )
    parts, smaller = (int(re.search(rf"training\.{name} = (\d+)", text)[1]) for name in ("accumulation", "batch_size"))
    assert parts % accumulation == 0 and batch % parts == 0 and parts > accumulation and 0 < smaller < batch
    assert stays + temporaries * accumulation / parts <= limit and stays + temporaries * smaller / batch <= limit
    assert stays + temporaries * (smaller + accumulation) / batch > limit, "a larger batch would have done"
    assert f"needs {stays + temporaries:.1f} GiB" in text and "training.remat" in text and "\n" not in text


def test_no_advice_that_does_not_help():
    assert "the state alone does not fit" in too_large(20 * GIB, GIB, 16 * GIB, 64, Parallelism())
    alone = too_large(GIB, 64 * GIB, 2 * GIB - 1, 64, Parallelism())
    assert "one example at a time does not fit" in alone and "accumulation" not in alone
    assert "remat" not in too_large(GIB, 64 * GIB, 16 * GIB, 64, Parallelism(remat="block"))


def test_a_step_that_does_not_fit_is_refused_before_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "memory_limit", lambda: 2**21)
    refused = call("train", *MIXTURE, "--workdir", tmp_path / "run")
    assert (
        refused.code == 6
        and len(refused.err.splitlines()) == 1
        and "a training step of 64 examples needs 0.0 GiB" in refused.err
    )
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_running_out_of_memory_is_told_with_what_to_do():
    said = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes.\nmany more lines"
    with pytest.raises(ResourceError, match="allocate 1234 bytes.*training.accumulation = 4.*training.batch_size = 32"):
        with memory_advice(64, Parallelism(accumulation=2)):
            raise jax.errors.JaxRuntimeError(said)
    with pytest.raises(jax.errors.JaxRuntimeError), memory_advice(64, Parallelism(accumulation=2)):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_memory_is_that_of_arguments_and_temporaries():
    compiled = jax.jit(lambda x: jnp.sin(x @ x) @ x).lower(jnp.zeros((256, 256))).compile()
    stays, temporaries = memory(compiled)
    assert stays == 2 * 256**2 * 4 and temporaries >= 256**2 * 4


# Several steps in one dispatch


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory of this process")
def test_what_was_freed_goes_back_to_the_system():
    """A hundred megabytes of small blocks below one that stays, as a compiler leaves them."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("another C library than glibc")

    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [libc.malloc(2000) for _ in range(50_000)]
    for block in blocks:
        ctypes.memset(block, 1, 2000)
    last = libc.malloc(2000)
    for block in blocks:
        libc.free(block)
    before = held()
    return_heap()
    assert before - held() > 50e6
    libc.free(last)


def test_dispatches_end_at_multiples_and_at_the_last_step():
    three = Parallelism(steps_per_dispatch=3)
    assert three.ends(0, 7) == [3, 6, 7] and three.ends(4, 9) == [6, 9] and three.ends(0, 2) == [2]
    assert Parallelism().ends(3, 5) == [4, 5] and Parallelism().ends(5, 5) == [] and three.ends(7, 5) == []


def test_two_steps_a_dispatch_are_two_steps(tmp_path, tmp_path_factory):
    """The last dispatch of 19 steps has one; then the run goes on one by one."""
    one, two = mixture_run(tmp_path_factory), tmp_path / "run"
    cadence = [
        "--config.training.steps_per_dispatch=2",
        "--config.training.log_every=4",
        "--config.training.checkpoint_every=10",
    ]
    assert call("train", *MIXTURE, *cadence, "--workdir", two, "--config.training.steps=19").code == 0
    resumed = call("train", *MIXTURE, "--workdir", two, "--config.training.steps=20")
    assert resumed.code == 0 and "resumed at step 19" in resumed.out
    there, here = (stored(workdir, 20) for workdir in (two, one))
    names = [name for name in here if name.startswith(("params/", "ema/"))]
    assert len(names) >= 18
    for name in (
        names
    ):  # another program rounds otherwise: 1e-7 of a parameter at each of 20 steps, which Adam's division enlarges
        np.testing.assert_allclose(there[name], here[name], rtol=1e-4, atol=2e-6, err_msg=name)


def test_cadences_are_multiples_of_a_dispatch():
    config = default()
    config.training.steps_per_dispatch, config.training.log_every = 8, 50
    (problem,) = problems_of(config)
    assert (
        "training.log_every = 50: expected a multiple of training.steps_per_dispatch = 8; nearest: 48 or 56" in problem
    )


def test_batches_go_to_the_device_one_ahead():
    put = []
    stream = prefetch(iter("abc"), lambda x: put.append(x) or x)
    assert next(stream) == "a" and put == ["a", "b"] and list(stream) == ["b", "c"]


# What is computed again

SHAPES = {UNet: (4, 4, 1), EDM2UNet: (4, 4, 1), DiT: (4, 4, 1), FNO: (16, 1), MLP: (5,)}
SMALL = {
    UNet: dict(channels=8, multipliers=(1,), blocks=1, attention=(4,), dropout=0.5),
    EDM2UNet: dict(channels=8, multipliers=(1,), blocks=1, attention=(4,), head_channels=8, dropout=0.5),
    DiT: dict(width=16, depth=1, head_channels=8, positions="rotary", dropout=0.5),
    FNO: dict(width=8, depth=1, modes=4),
    MLP: dict(width=16, depth=1, dropout=0.5),
}  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
def test_gradients_do_not_depend_on_what_is_computed_again(kind):
    """More work of the same program, and less that waits for the backward pass."""
    network = Network.init(lambda rngs: kind(SHAPES[kind], **SMALL[kind], rngs=rngs), key=jax.random.key(0))
    network = dataclasses.replace(
        network, params=jax.tree.map(lambda p: p + 0.1, network.params)
    )  # away from zero outputs
    x = jax.random.normal(jax.random.key(1), (2, *SHAPES[kind]))

    def loss(params, remat):
        changed = dataclasses.replace(network, params=params, remat=remat)
        return jnp.sum(changed(x, jnp.array([0.1, 0.7]), key=jax.random.key(2)) ** 2)

    found, flops, kept = {}, {}, {}
    for remat in REMAT:
        gradient = jax.jit(jax.grad(loss), static_argnums=1).lower(network.params, remat)
        flops[remat] = gradient.cost_analysis()["flops"]  # of the program as written
        pullback = jax.eval_shape(lambda params: jax.vjp(lambda p: loss(p, remat), params)[1], network.params)  # noqa: B023
        kept[remat] = sum(residual.size for residual in jax.tree.leaves(pullback))
        compiled = gradient.compile()
        found[remat] = ravel_pytree(compiled(network.params))[0]
    for remat in ("products", "block"):
        np.testing.assert_allclose(found[remat], found["none"], rtol=1e-4, atol=1e-5 * np.abs(found["none"]).max())
    assert flops["none"] < flops["products"] < flops["block"] and kept["none"] > kept["products"] > kept["block"]


@pytest.mark.parametrize(
    "platform, copies, remat, off",
    [("gpu", 8, "block", True), ("gpu", 2, "products", True), ("gpu", 8, "none", False), ("gpu", 1, "block", False),
    ("tpu", 8, "block", False), ("cpu", 8, "block", False)],
)  # fmt: skip
def test_gpus_that_sum_gradients_do_not_put_them_off(platform, copies, remat, off):
    options = _compiler_options(platform, copies, remat) or {}
    assert options.get("xla_gpu_enable_latency_hiding_scheduler") is (False if off else None)


def test_groups_that_a_torus_does_not_have_are_refused(monkeypatch):
    """jax.make_mesh says so with NotImplementedError, on TPU v5p 4x8x8 for groups of 16 for example."""

    def refuse(*_, **__):
        raise NotImplementedError("Failed to find assignment for logical_axis_index 1 of size 16")

    monkeypatch.setattr(jax, "make_mesh", refuse)
    monkeypatch.setattr(jax, "device_count", lambda: 256)
    with pytest.raises(
        ConfigError, match=r"training.fsdp = 16: expected a product of axes of the TPU slice .* for all 256 chips"
    ):
        Parallelism(fsdp=16).mesh()


# No convolution in a loop on the CPU


def _in_loops(jaxpr, inside=False):
    """The primitives inside the loops of a program."""
    for equation in jaxpr.eqns:
        if inside:
            yield equation.primitive.name
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "jaxpr") or hasattr(v, "eqns")
        ):
            if hasattr(value, "jaxpr") or hasattr(value, "eqns"):
                yield from _in_loops(
                    getattr(value, "jaxpr", value), inside or equation.primitive.name in ("scan", "while")
                )


def _traced(kind, *, steps=1, accumulation=1, **options):
    """The program of a training step, and its state."""
    sde, mesh, optimizer = VP(), data_mesh(), optax.adam(1e-3)
    network = Network.init(lambda rngs: kind(SHAPES[kind], **SMALL[kind], **options, rngs=rngs), key=jax.random.key(0))
    score = NetworkScore(sde, network, EDMPreconditioning(0.5))
    like = jax.eval_shape(lambda: init_state(network.params, optimizer, (0.9,), jax.random.key(0)))
    step = make_step(
        score,
        Objective(),
        optimizer,
        prepare=lambda v, y, *, key: (v, y),
        accumulation=accumulation,
        state=like,
        mesh=mesh,
    )
    value = jax.ShapeDtypeStruct((steps, 4, *SHAPES[kind]), jnp.float32)
    return step.trace(like, {"value": value, "condition": {}}).jaxpr, like


@pytest.mark.parametrize("steps, accumulation", [(1, 1), (1, 2), (2, 1)])
def test_no_gradient_is_taken_in_a_loop_on_a_cpu(steps, accumulation):
    """XLA's CPU backend takes 20 to 50 times as long there, also in a loop of one turn."""
    traced, _ = _traced(UNet, steps=steps, accumulation=accumulation)
    assert "conv_general_dilated" in str(traced) and "conv_general_dilated" not in set(_in_loops(traced.jaxpr))


def test_what_is_sent_is_in_the_dtype_of_the_computation():
    """Parameters before they are gathered, gradients before they are summed: half the bytes. The state stays
    float32."""
    traced, state = _traced(MLP, dtype=jnp.bfloat16)
    sent = re.findall(r"(bf16|f32)\[[\d,]*\] = sharding_constraint", str(traced))
    arrays = len(jax.tree.leaves(state.params))
    assert (
        len(sent) == 3 * arrays and sent[:arrays] == sent[arrays : 2 * arrays] == sent[2 * arrays :]
    )  # shards, whole; gradients
    assert (
        sent[:arrays].count("bf16") >= 6
    )  # kernel and bias of the input, the block and the output; embeddings are float32
    assert {p.dtype for p in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
