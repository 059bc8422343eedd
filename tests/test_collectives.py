"""The collectives that a compiled program has, read from its text, against programs whose collectives are known.

`benchmarks/collectives.py` reads them; the programs run on 8 simulated devices, in a process of their own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import chips  # noqa: E402
import collectives as reader  # noqa: E402
from traffic import memory_traffic  # noqa: E402

# Arrays of 4 x 16 floats on each of 8 devices; (kind, bytes, devices, times, counted).
PROGRAMS = """
import json, os, sys
import jax, jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P

auto = (AxisType.Auto, AxisType.Auto)
mesh = jax.make_mesh((2, 4), ("data", "shard"), axis_types=auto)
both = ("data", "shard")
around = [(i, (i + 1) % 4) for i in range(4)]
programs = {
    "all_reduce": lambda x: jax.lax.psum(x, both),
    "part": lambda x: jax.lax.psum(x, "shard"),
    "two_types": lambda x: sum(jax.lax.psum((x, x[0].astype(jnp.int32)), both)),
    "gather": lambda x: jax.lax.all_gather(x, both),
    "scatter": lambda x: jax.lax.psum_scatter(x, "shard", scatter_dimension=1, tiled=True),
    "exchange": lambda x: jax.lax.all_to_all(x, "shard", 1, 1, tiled=True),
    "shift": lambda x: jax.lax.ppermute(x, "shard", around),
    "loop": lambda x: jax.lax.fori_loop(0, 5, lambda _, x: jax.lax.psum(x, both) / 8, x),
    "nested": lambda x: jax.lax.scan(lambda x, _: (jax.lax.fori_loop(0, 3, lambda _, x: jax.lax.psum(x, both) / 8, x), None), x, None, 4)[0],
    "until": lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: jax.lax.psum(x, both), x),
    "branch": lambda x: jax.lax.cond(jax.lax.psum(x[0, 0], both) > 0, lambda x: jax.lax.psum(x, "data"), lambda x: x, x),
    "none": lambda x: x + 1,
}
x = jax.ShapeDtypeStruct((32, 16), jnp.float32)
texts = {}
for name, f in programs.items():
    mapped = jax.shard_map(f, mesh=mesh, in_specs=P(both), out_specs=P(both), check_vma=False)
    texts[name] = jax.jit(mapped).lower(x).compile().as_text()
print(json.dumps(texts))
"""
N = 4 * 16 * 4
KNOWN = {
    "all_reduce": [("all-reduce", N, 8, 1, True)],
    "part": [("all-reduce", N, 4, 1, True)],
    "gather": [("all-gather", 8 * N, 8, 1, True)],
    "scatter": [("reduce-scatter", N, 4, 1, True)],
    "exchange": [("all-to-all", N, 4, 1, True)],
    "shift": [("collective-permute", N, 8, 1, True)],
    "loop": [("all-reduce", N, 8, 5, True)],
    "nested": [("all-reduce", N, 8, 12, True)],
    "until": [("all-reduce", N, 8, 1, False)],
    "branch": [("all-reduce", 4, 8, 1, True), ("all-reduce", N, 2, 1, True)],
    "none": [],
}


@pytest.fixture(scope="module")
def texts():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS], env=environment, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", KNOWN)
def test_known_collectives(texts, name):
    found = reader.collectives(texts[name])
    assert sorted((c.kind, c.bytes, c.devices, c.times, c.counted) for c in found) == KNOWN[name]


def test_arrays_of_several_types_are_all_counted(texts):
    assert reader.totals(reader.collectives(texts["two_types"]))["all-reduce"]["bytes"] == N + 16 * 4


# What CPU programs do not have: forms of the texts that the TPU and GPU compilers write.
ASYNCHRONOUS = """HloModule step, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%all-reduce-scatter.1 (p: bf16[64,32]) -> bf16[8,32] {
  %p = bf16[64,32]{1,0:T(8,128)(2,1)} parameter(0)
  %all-reduce.3 = bf16[64,32]{1,0:T(8,128)(2,1)} all-reduce(%p), replica_groups=[1,8]<=[8], to_apply=%add
  ROOT %slice = bf16[8,32]{1,0} dynamic-slice(%all-reduce.3, %p), dynamic_slice_sizes={8,32}
}

%step.1 (p: bf16[16,8]) -> (bf16[16,8], bf16[128,8], u32[]) {
  %p = bf16[16,8]{1,0} parameter(0)
  %gather = bf16[128,8]{1,0} all-gather(%p), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}
  ROOT %begun = (bf16[16,8]{1,0}, bf16[128,8]{1,0}, u32[]) custom-call(%gather), custom_call_target="AsyncCollectiveStart"
}

%step.2 (p: bf16[16,8]) -> bf16[128,8] {
  %p = bf16[16,8]{1,0} parameter(0)
  ROOT %gather.1 = bf16[128,8]{1,0} all-gather(%p), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}
}

ENTRY %main (x: f32[4,128]) -> f32[4,128] {
  %x = f32[4,128]{1,0:T(4,128)S(1)} parameter(0)
  %g = (f32[4,128]{1,0:T(4,128)}, f32[32,128]{1,0:T(8,128)}) all-gather-start(%x), replica_groups=mesh['data'=1,'shard'=8] {'shard'}, dimensions={0}
  %gd = f32[32,128]{1,0} all-gather-done(%g)
  %gs = ((f32[4,128]{1,0}, f32[2]{0}), (f32[8,128]{1,0}, f32[4]{0})) all-gather-start(%x, %y), replica_groups={{0,1},{2,3},{4,5},{6,7}}, dimensions={0}
  %r = f32[4,128]{1,0} all-reduce-start(%x), replica_groups=[2,4]<=[2,4]T(1,0), to_apply=%add, metadata={op_name="jit(step)/psum"}
  %rd = f32[4,128]{1,0} all-reduce-done(%r)
  %r2 = (f32[4,128]{1,0}, f32[4,128]{1,0}) all-reduce-start(%x), replica_groups=[1,8]<=[8], to_apply=%add
  %r3 = (f32[4,128]{1,0}, f32[2]{0}) all-reduce-start(%x, %y), replica_groups={}, to_apply=%add
  %s = ((f32[4,128]{1,0}), f32[4,64]{1,0}, u32[], u32[]) reduce-scatter-start(%x), replica_groups=mesh['data'=8] {'data':(4)2}, dimensions={1}, to_apply=%add
  %f = bf16[8,32]{1,0} fusion(%y), kind=kCustom, calls=%all-reduce-scatter.1
  %p = (f32[4,128]{1,0}, f32[4,128]{1,0}, u32[]{:T(128)S(2)}, u32[]{:T(128)S(2)}) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  %begin = (bf16[16,8]{1,0}, bf16[128,8]{1,0}, u32[]) fusion(%z), kind=kCustom, calls=%step.1
  %end = bf16[128,8]{1,0} fusion(%z), kind=kCustom, calls=%step.2
  %alone = f32[4,128]{1,0} all-reduce(%x), replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}, to_apply=%add
  ROOT %out = f32[4,128]{1,0} copy(%x)
}
"""


def test_asynchronous_forms_tilings_and_named_groups():
    found = [(c.kind, c.bytes, c.devices) for c in reader.collectives(ASYNCHRONOUS)]
    assert found == [
        ("all-gather", 32 * 128 * 4, 8),
        ("all-gather", (8 * 128 + 4) * 4, 2),
        ("all-reduce", 4 * 128 * 4, 4),
        ("all-reduce", 4 * 128 * 4, 8),
        ("all-reduce", (4 * 128 + 2) * 4, 8),
        ("reduce-scatter", 4 * 128 * 4, 2),
        ("reduce-scatter", 64 * 32 * 2, 8),
        ("collective-permute", 4 * 128 * 4, 2),
        ("all-gather", 128 * 8 * 2, 8),
    ]


def test_bytes_on_a_ring():
    """n - 1 of n parts, twice for an all-reduce; groups of one send nothing and are left out."""
    sent = reader.totals(reader.collectives(ASYNCHRONOUS))
    assert sent["all-reduce"]["wire_bytes"] == 2 * (2048 * 3 / 4 + (2048 + 2056) * 7 / 8)
    assert sent["all-gather"]["wire_bytes"] == 16384 * 7 / 8 + 4112 / 2 + 2048 * 7 / 8
    assert sent["collective-permute"]["wire_bytes"] == 2048


# Memory and time

LOOP = """HloModule step, num_partitions=1

%inside (p: f32[8,8]) -> f32[8,8] {
  %p = f32[8,8]{1,0} parameter(0)
  %big = f32[64,64]{1,0} broadcast(%p), dimensions={}
  ROOT %n = f32[8,8]{1,0} negate(%p)
}

%body (t: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %t = (s32[], f32[8,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %x = f32[8,8]{1,0} get-tuple-element(%t), index=1
  %f = f32[8,8]{1,0} fusion(%x), kind=kLoop, calls=%inside
  ROOT %out = (s32[], f32[8,8]{1,0}) tuple(%i, %f)
}

%condition (t: (s32[], f32[8,8])) -> pred[] {
  %t = (s32[], f32[8,8]{1,0}) parameter(0)
  ROOT %go = pred[] constant(true)
}

ENTRY %main (a: f32[8,16], b: bf16[16,8]) -> f32[8,8] {
  %a = f32[8,16]{1,0} parameter(0)
  %b = bf16[16,8]{1,0} parameter(1)
  %d = f32[8,8]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %z = s32[] constant(0)
  %s = (s32[], f32[8,8]{1,0}) tuple(%z, %d)
  %w = (s32[], f32[8,8]{1,0}) while(%s), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %r = f32[8,8]{1,0} get-tuple-element(%w), index=1
}
"""


def test_memory_traffic_counts_fusions_once_and_loops_by_their_trips():
    assert memory_traffic(LOOP) == (8 * 16 * 4 + 16 * 8 * 2 + 8 * 8 * 4) + 3 * 2 * (8 * 8 * 4)


def test_memory_traffic_is_that_of_xla():
    """On a program without loops, where both count every instruction."""
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(lambda x, w: jnp.tanh(x @ w) @ w).lower(jnp.ones((64, 64)), jnp.ones((64, 64))).compile()
    assert memory_traffic(compiled.as_text()) == pytest.approx(compiled.cost_analysis()["bytes accessed"], rel=0.02)


def test_rates_of_rings_and_the_bounds_of_a_step():
    """16 of 256 chips are one axis of a v5e slice, half of the links; across nodes a GPU has an eighth of the cards'
    total."""
    v5e, node, nodes = chips.Slice("v5e", (16, 16)), chips.Slice("H200", (1, 8)), chips.Slice("H200", (2, 8))
    assert (v5e.rate(256), v5e.rate(16), chips.Slice("v5p", (4, 4, 4)).rate(16)) == (200e9, 100e9, 400e9)
    assert (node.rate(8), node.rate(2)) == (450e9, 450e9)
    assert (nodes.rate(16), nodes.rate(8), nodes.rate(2)) == (400e9, 450e9, 50e9)
    gradients = [reader.Collective("all-reduce", (("f32", (10**8,)),), devices, 2, True, "") for devices in (256, 16)]
    sent = {size: kinds["all-reduce"]["wire_bytes"] for size, kinds in reader.by_group(gradients).items()}
    bound = chips.roofline(v5e, flops=197e9, memory_bytes=2 * 819e6, sent=sent)
    assert bound["compute"] == pytest.approx(1e-3) and bound["memory"] == pytest.approx(2e-3)
    assert bound["network"] == pytest.approx(4 * 4e8 * 255 / 256 / 200e9 + 4 * 4e8 * 15 / 16 / 100e9)
    assert bound["overlapped"] == bound["network"] and bound["one_after_another"] == sum(
        bound[k] for k in ("compute", "memory", "network")
    )
    assert bound["of_peak_one_after_another"] == pytest.approx(1e-3 / bound["one_after_another"])
