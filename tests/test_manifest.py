"""CRCs of parts give the CRC of the whole; no array leaves its host; a flipped byte is noticed on any sharding."""

import itertools
import json
import os
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharded_checkpoint as sharded
from commands import ROOT, finish, free_port

from scoresde.errors import NumericError
from scoresde.runs import crc32
from scoresde.runs.manifest import _joined, check_manifest, manifest

INTEGERS = 300  # bytes: room for one integer per leaf and copy, with 7 leaves and at most 8 copies


def _zlib(array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


@pytest.mark.parametrize("dtype", [np.uint8, jnp.bfloat16, np.float32, np.int64])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (4, 6), (6, 5, 8), (3, 3, 8, 4), (2, 1, 5, 1, 3), (0, 3)])
def test_any_boxes_give_the_crc_of_the_whole(shape, dtype):
    rng = np.random.default_rng(len(shape))
    for _ in range(20):
        array = rng.integers(0, 256, shape).astype(dtype)
        cuts = [sorted({0, n, *rng.integers(0, n + 1, 2).tolist()}) for n in shape]
        parts = 0
        for box in itertools.product(*(list(itertools.pairwise(cut)) for cut in cuts)):
            values = np.asarray(array[tuple(slice(first, last) for first, last in box)])
            parts ^= crc32.part(values, tuple(first for first, _ in box), shape)
        assert crc32.whole(parts, array.nbytes) == _zlib(array)


def test_a_long_array_of_many_runs():
    array = np.random.default_rng(0).integers(0, 256, (1000, 257), np.uint8)
    parts = crc32.part(array[:, :100], (0, 0), array.shape) ^ crc32.part(array[:, 100:], (0, 100), array.shape)
    assert crc32.whole(parts, array.nbytes) == _zlib(array)


def test_entries_are_those_of_the_arrays_in_c_order():
    plain = sharded.values()
    found = manifest(jax.tree.map(jnp.asarray, plain))
    for name, array in plain.items():
        entry = {"crc32": _zlib(array), "dtype": str(array.dtype), "shape": list(array.shape)}
        assert found[f"['{name}']"] == entry
    assert found == manifest(plain) == manifest({name: np.array(array, order="F") for name, array in plain.items()})


@pytest.mark.parametrize("name", sharded.SHAPES)
def test_one_flipped_bit_is_named(name):
    plain = sharded.values()
    stored = manifest(plain)
    check_manifest(plain, stored)
    with pytest.raises(ValueError, match=rf"^CRC-32 differs at \['{name}'\]$"):
        check_manifest(sharded.with_a_flipped_byte(plain, name), stored)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.complex64])
def test_values_that_are_not_finite_are_refused(dtype):
    for value in (np.nan, np.inf):
        state = {"a": jnp.ones(3, dtype), "b": jnp.ones(4, dtype).at[2].set(value)}
        with pytest.raises(NumericError, match=r"not finite at \['b'\]"):
            manifest(state)


def test_parts_are_joined_only_where_they_fill_a_box():
    whole = np.arange(24).reshape(4, 6)
    halves = {(0, 0): whole[:, :3], (0, 3): whole[:, 3:]}
    ((start, joined),) = _joined(halves).items()
    assert start == (0, 0) and np.array_equal(joined, whole)
    apart = {(0, 0): whole[:2, :3], (2, 3): whole[2:, 3:]}
    assert _joined(apart) is apart


# Several devices and processes


def _run(folder, task: str, *, fsdp: int, devices: int, processes: int = 1) -> list[dict]:
    """What each process of sharded_checkpoint.py prints; `devices` in each of them."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    script, port = ROOT / "tests" / "sharded_checkpoint.py", free_port()
    started = [
        subprocess.Popen(
            [sys.executable, script, f"{rank},{processes},{port}", str(fsdp), folder, task],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        for rank in range(processes)
    ]
    results = [finish(process) for process in started]
    assert all(result.code == 0 for result in results), results
    found = [json.loads(result.out.splitlines()[-1]) for result in results]
    assert all(one["devices"] == devices * processes for one in found)
    return found


def _manifest_on_disk(folder) -> dict:
    return json.loads((folder / "1" / "meta" / "metadata").read_text())["manifest"]


@pytest.mark.parametrize("fsdp", [4, 8])  # a copy in each process; one copy, split over both
def test_two_processes_send_integers_alone_and_agree(fsdp, tmp_path):
    for found in _run(tmp_path / "saved", "save", fsdp=fsdp, devices=4, processes=2):
        assert found["found"]["saved"] == {"restored": True, "lines": []}
        assert 0 < found["sent"] <= INTEGERS
        assert len(found["largest"]) == 5 and all(share == 4 / fsdp for share in found["largest"].values())
        # Bytes of one process alone: the other one, whose own are good, comes to the same verdict.
        assert found["found"]["same"] == "" and found["found"]["byte"] == "CRC-32 differs at ['small']"
        assert found["found"]["nan"].startswith("values that are not finite at ['middle']")
    assert _manifest_on_disk(tmp_path / "saved") == manifest(sharded.values())
    target = jax.tree.map(jnp.zeros_like, sharded.values())
    assert sharded.restore(tmp_path / "saved", target) == {"restored": True, "lines": []}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Checkpoints of 8 devices: in each, a byte of another array is flipped."""
    folder = tmp_path_factory.mktemp("damaged")
    _run(folder, "damage", fsdp=8, devices=8)
    return folder


def _assert_named(found: dict) -> None:
    assert set(found) == set(sharded.SHAPES)
    for name, result in found.items():
        line = f"checkpoint at step 1 is damaged (CRC-32 differs at ['{name}'])"
        assert result == {"restored": False, "lines": [line]}


def test_a_flipped_byte_of_eight_devices_is_noticed_on_one(damaged):
    target = jax.tree.map(jnp.zeros_like, sharded.values())
    _assert_named({path.name: sharded.restore(path, target) for path in damaged.iterdir()})


@pytest.mark.parametrize("devices, processes, fsdp", [(2, 1, 2), (8, 1, 8), (8, 1, 1), (1, 2, 2)])
def test_a_flipped_byte_of_eight_devices_is_noticed_on_others(damaged, devices, processes, fsdp):
    for found in _run(damaged, "restore", fsdp=fsdp, devices=devices, processes=processes):
        _assert_named(found["found"])
