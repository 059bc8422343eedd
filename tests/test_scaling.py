"""What the real training step sends on 8 devices: gradients once, parameters once, activations never.

`benchmarks/scaling.py` measures it on larger networks. The programs are compiled in a process of its own, with 8
simulated devices.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import scaling  # noqa: E402
from collectives import Collective  # noqa: E402
from speed_count import least_work  # noqa: E402

# With kernels on both sides of the size from which arrays are split.
TINY = {
    "mlp": ["model.name=mlp", "model.width=128", "model.depth=1"],
    "dit": [
        "model.name=dit",
        "model.width=64",
        "model.depth=1",
        "model.head_channels=32",
        "model.patch=4",
        "model.num_classes=10",
    ],
}
PROGRAM = f"""
import json, sys
sys.path.append({str(ROOT / "benchmarks")!r})
import scaling
scaling.NETWORKS.update({TINY!r})
cases = [scaling.Case(sys.argv[1], 8, fsdp, each=each) for fsdp, each in ((1, 1), (0, 1), (0, 2))]
print(json.dumps([scaling.figures_of(case) for case in cases]))
"""


@pytest.fixture(
    scope="module", params=[pytest.param("mlp", marks=pytest.mark.slow), pytest.param("dit", marks=pytest.mark.slow)]
)
def steps(request):
    """Figures of (data parallel, fully sharded, fully sharded with twice the batch)."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    line = [sys.executable, "-c", PROGRAM, request.param]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SCALARS = 1024  # bytes: loss, norm of the gradient, its parts


def test_data_parallelism_sends_the_gradients_once(steps):
    data = steps[0]
    assert set(data["totals"]) == {"all-reduce"}
    assert 0 <= data["totals"]["all-reduce"]["bytes"] - data["parameter_bytes"] < SCALARS


def test_a_sharded_step_gathers_each_parameter_once(steps):
    """The CPU has no reduce-scatter: gradients are all-reduced and sliced there."""
    data, sharded, _ = steps
    gathers, split_bytes = sharded["gathers"], sharded["parameter_bytes"] - sharded["whole_parameter_bytes"]
    assert gathers["split"] >= 3 and (gathers["least"], gathers["most"], gathers["other"]) == (1, 1, [])
    assert sharded["totals"]["all-gather"]["bytes"] == split_bytes > sharded["parameter_bytes"] / 2
    assert 0 <= sharded["totals"]["all-reduce"]["bytes"] - sharded["parameter_bytes"] < SCALARS
    # Parameters, two moments and an average: an eighth of what is split.
    assert data["arguments"] - sharded["arguments"] == pytest.approx(4 * split_bytes * 7 / 8, rel=0.01)


def test_nothing_that_is_sent_grows_with_the_batch(steps):
    _, sharded, larger = steps
    assert scaling.growth(sharded, larger) == {}
    assert larger["flops_of_products"] == 2 * sharded["flops_of_products"]


def test_gathered_activations_and_second_gathers_are_told():
    split = [(64, 8), (8, 64), (3, 3, 4, 16)]
    gather = lambda times, *shapes: Collective("all-gather", tuple(("f32", s) for s in shapes), 8, times, True, "")  # noqa: E731
    once = [gather(1, (64, 8), (1, 64, 8)), gather(1, (3, 3, 4, 16))]
    assert scaling.gathers(split, once) == {"split": 3, "least": 1, "most": 1, "other": []}
    assert scaling.gathers(split, [*once, gather(2, (3, 3, 4, 16))])["most"] == 3
    assert scaling.gathers(split, [*once, gather(1, (128, 5))])["other"] == [[5, 128]]
    assert scaling.gathers(split, once[1:])["least"] == 0
    more = {"totals": {"all-gather": {"bytes": 10}}}
    assert scaling.growth({"totals": {}}, more) == {"all-gather": 10} and scaling.growth(more, more) == {}


def _flops(function, *arguments) -> int:
    import jax

    return least_work(jax.jit(function).trace(*arguments))["flops"]


def test_flops_of_products_are_counted_through_loops_and_gradients():
    import jax
    import jax.numpy as jnp

    def loss(w, x):
        x, _ = jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, 3)
        return x.sum()

    w, x = jnp.ones((16, 16)), jnp.ones((4, 16))
    assert _flops(loss, w, x) == 3 * 2 * 4 * 16 * 16
    assert _flops(jax.grad(loss), w, x) == 3 * 3 * 2 * 4 * 16 * 16
    image, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))
    conv = lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))  # noqa: E731
    assert _flops(conv, image, kernel) == 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3)
