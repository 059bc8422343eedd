"""The commands as a user runs them, in this process (`call`) or in one of their own (`start`, `finish`), and tiny
runs."""

import contextlib
import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from scoresde.cli import parser
from scoresde.errors import STOPS, ConfigError
from scoresde.experiment import Experiment

ROOT = Path(__file__).parents[1]
PATIENCE = 150  # seconds for one process; a hang is what some of these tests look for

# 20 ms a step: dropout and micro-batches, so that all noise counts; two averages, not in the order of their names,
# and below the warm-up of the average, so that they differ. 128 x 128 is as small as `training.fsdp` splits.
MIXTURE = [
    f"--config={ROOT / 'configs' / 'mixture_2d.py'}",
    "--config.model.width=128", "--config.model.depth=1", "--config.model.dropout=0.1",
    "--config.training.batch_size=64", "--config.training.accumulation=2", "--config.training.ema=0.6,0.2",
    "--config.training.log_every=1", "--config.training.checkpoint_every=10", "--config.training.sample_every=100000",
    "--config.optim.warmup=5", "--config.sampling.num=8", "--config.sampling.steps=8", "--config.evaluate.num=0",
    "--config.training.watch=()",
]  # fmt: skip
DIGITS = [
    f"--config={ROOT / 'configs' / 'digits_vp.py'}",
    # a U-Net takes ten seconds more to compile
    "--config.model.name=mlp", "--config.model.width=32", "--config.model.depth=1",
    "--config.training.batch_size=16", "--config.training.checkpoint_every=2", "--config.training.log_every=1",
    "--config.optim.decay_steps=0", "--config.optim.warmup=0", "--config.sampling.num=4", "--config.sampling.steps=8",
    "--config.likelihood.tolerance=1e-3", "--config.evaluate.num=0", "--config.training.watch=()",
]  # fmt: skip


class Result(NamedTuple):
    code: int
    out: str
    err: str


def call(command: str, *arguments) -> Result:
    """A command in this process; whatever leaves `run` other than by its exit code fails the test."""
    main = importlib.import_module(f"scoresde.cli.{command.removeprefix('data.')}").main
    out, err = io.StringIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            parser.run(main, [str(a) for a in arguments])
        raise AssertionError("the command did not exit")
    except SystemExit as left:
        return Result(left.code or 0, out.getvalue(), err.getvalue())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(command: str, *arguments, devices: int = 1) -> subprocess.Popen:
    """A command in a process of its own, with so many simulated devices."""
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag]
    environment = os.environ | {
        "XLA_FLAGS": " ".join([*flags, f"--xla_force_host_platform_device_count={devices}"]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    line = [sys.executable, "-m", f"scoresde.{command}", *map(str, arguments)]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> Result:
    """Wait for the end of a process; one that hangs is killed and fails the test."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"hung: {process.args}\n{process.communicate()}") from None
    return Result(process.returncode, out, err)


def run(command: str, *arguments, devices: int = 1) -> Result:
    return finish(start(command, *arguments, devices=devices))


def wait_until(holds, process: subprocess.Popen) -> None:
    """Return as soon as `holds()`; a process that ends before, or takes too long, fails the test."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"ended with {process.returncode} too early: {process.communicate()}")
        time.sleep(0.002)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def metrics(workdir: Path) -> list[dict]:
    """The lines of metrics.jsonl, but for one still being written."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def losses(workdir: Path) -> np.ndarray:
    """Losses of steps 1, 2, ...; a step that is missing or stands twice fails the test."""
    lines = [line for line in metrics(workdir) if "loss" in line]  # the others are of `watch`
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return np.array([line["loss"] for line in lines])


def saved_steps(workdir: Path) -> list[int]:
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


def stored(workdir: Path, step: int, place: str = "checkpoints") -> dict[str, np.ndarray]:
    """Every leaf of a checkpoint by its path, read by Orbax alone."""
    folder = (workdir / place / str(step) / "state").resolve()
    with ocp.PyTreeCheckpointer() as reader:
        leaves = reader.metadata(folder).item_metadata.tree
        to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), leaves)
        tree = reader.restore(folder, restore_args=to_numpy)
    return named(tree)


def named(tree) -> dict[str, np.ndarray]:
    """The leaves of nested dicts by their path, such as "ema/0.6/blocks/0/dense_1/bias"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def same_bits(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and one[k].tobytes() == other[k].tobytes() for k in one
    )


_made: dict[str, Path] = {}  # the tiny runs of this session, each trained once


def mixture_run(factory) -> Path:
    """40 steps on the 2-D mixture, in one go. Copy it before changing it. `factory` is tmp_path_factory."""
    if "mixture" not in _made:
        workdir = factory.mktemp("mixture")
        result = run("train", *MIXTURE, "--workdir", workdir, "--config.training.steps=40")
        assert result.code == 0, result.err
        _made["mixture"] = workdir
    return _made["mixture"]


def digits_run(factory) -> Path:
    """4 steps on the digits. Copy it before changing it."""
    if "digits" not in _made:
        workdir = factory.mktemp("digits")
        result = call("train", *DIGITS, "--workdir", workdir, "--config.training.steps=4")
        assert result.code == 0, result.err
        _made["digits"] = workdir
    return _made["digits"]


def problems_of(config) -> list[str]:
    """The problems of the parts of a configuration, as a command reports them."""
    try:
        Experiment.from_config(config)
    except ConfigError as error:
        return list(error.problems)
    return []
