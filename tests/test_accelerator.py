"""benchmarks/accelerator.sh against a stand-in for Python: what it runs, what it runs again, and that its flags are
right."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from commands import PATIENCE, ROOT

from scoresde.experiment.config import load_config

SCRIPT = ROOT / "benchmarks" / "accelerator.sh"


@pytest.fixture
def call(tmp_path):
    """The script with a Python that notes its arguments and leaves with the code in the file `code`."""
    python, noted, code = (tmp_path / name for name in ("python", "noted", "code"))
    python.write_text(
        f'#!/bin/sh\nif [ "$1" = - ]; then exec {shlex.quote(sys.executable)} "$@"; fi\n'
        f'for a in "$@"; do printf "%s\\t" "$a"; done >>{noted}; echo >>{noted}\nexit "$(cat {code})"\n'
    )
    python.chmod(0o755)
    rate = tmp_path / "runs" / "fast_rate"
    rate.mkdir(parents=True)
    (tmp_path / "runs" / "ncsnpp_ve").mkdir()
    (rate / "metrics.jsonl").write_text(json.dumps({"step": 1000, "loss": 1.0, "steps_per_second": 31.4}) + "\n")
    environment = os.environ | {"PYTHON": str(python), "OUT": str(tmp_path / "out"), "RUNS": str(tmp_path / "runs")}

    def run(*pieces, exits=0):
        code.write_text(str(exits))
        noted.write_text("")
        done = subprocess.run([SCRIPT, *pieces], env=environment, capture_output=True, text=True, timeout=PATIENCE)
        return done, [line.split("\t")[:-1] for line in noted.read_text().splitlines()]

    return run


def test_every_piece_is_a_command_that_is_understood(call):
    done, commands = call()
    assert done.returncode == 0, done.stderr
    listed = call("--list")[0].stdout.split()
    assert listed.count("done") == len(listed) / 2 == 12, done.stdout
    trained = {}
    for command in commands:
        if command[:2] == ["-m", "scoresde.train"]:
            flags = dict(zip(command[2::2], command[3::2])) if "=" not in command[2] else {}
            overrides = [flag.removeprefix("--config.") for flag in command if flag.startswith("--config.")]
            trained[flags["--workdir"].split("/")[-1]] = load_config(str(ROOT / flags["--config"]), overrides)
        else:
            assert (ROOT / command[0]).is_file() or command[:1] == ["-m"]
    assert set(trained) == {"fast_rate", "fast", "ncsnpp_ve", "ddpmpp_subvp", "mnist"}
    assert trained["fast"].training.steps == 33_900  # 1080 s of 31.4 steps/s, a multiple of 50
    assert trained["fast"].optim.decay_steps == 33_900 * 3 // 2
    assert not call()[1], "what is done is run again"


def test_a_piece_that_was_stopped_goes_on(call):
    stopped, first = call("fast", exits=75)
    assert stopped.returncode == 0 and "fast: exit 75" in stopped.stdout
    again, second = call("fast")
    assert again.returncode == 0 and first == second and len(second) == 1 and not call("fast")[1]


def test_a_failure_is_shown_and_the_rest_goes_on(call):
    done, commands = call("fast_grid", "fast_bpd", exits=4)
    assert done.returncode == 4 and len(commands) == 2 and "fast_bpd: exit 4" in done.stdout


def test_an_unknown_piece_is_refused(call):
    done, commands = call("fats")
    assert done.returncode == 2 and "no piece fats" in done.stderr and not commands
