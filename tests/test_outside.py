"""A package outside brings every part of an experiment, and the commands use them. No file of scoresde knows of it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, call

from scoresde.experiment import component

OUTSIDE = ROOT / "tests" / "outside"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder in which pip has installed the package."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder]
    done = subprocess.run([*install, OUTSIDE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "ring"
    file.write_text("the points are computed, and this file stands for them")
    return file


@pytest.fixture
def run(package, ring, tmp_path):
    """Call a command in a process of its own, in an empty folder."""
    import os

    def call(command, *arguments, parts=package, data=ring, folder=tmp_path):
        paths = [str(path) for path in (parts, ROOT) if path]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "RING": str(data), "JAX_PLATFORMS": "cpu"}
        return subprocess.run(
            [sys.executable, "-m", f"scoresde.{command}", *map(str, arguments)],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=200,
        )  # fmt: skip

    return call


def importable(package, monkeypatch) -> None:
    """Make the package importable in this process."""
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setattr(component, "_entry_points", component._entry_points.__wrapped__)  # nothing kept


def test_every_part_comes_from_outside(run, ring, tmp_path):
    """Trained, resumed to the same bits, sampled without the data, measured, and reported."""
    train = ("train", "--config", OUTSIDE / "experiment.py")
    whole = run(*train, "--workdir", "whole")
    assert whole.returncode == 0, whole.stderr
    assert run(*train, "--workdir", "cut", "--config.training.steps=20").returncode == 0
    resumed = run(*train, "--workdir", "cut")
    assert resumed.returncode == 0, resumed.stderr
    lines = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in ("whole", "cut")]
    losses = [[(line["step"], line["loss"]) for line in log if "loss" in line] for log in lines]
    assert losses[0] == losses[1] and len(losses[0]) == 4
    assert any("watch/radius" in line for line in lines[0]) and (tmp_path / "whole" / "best").is_dir()
    drawn = run("sample", "--workdir", "whole", "--num", 8, data="nowhere")  # the records are gone
    assert drawn.returncode == 0, drawn.stderr
    with np.load(tmp_path / "whole" / "samples_Ancestral" / "samples.npz") as found:
        assert found["samples"].shape == (8, 2) and found["ok"].all() and (found["nfe"] == 31).all()
    for command, *flags in (
        ("likelihood", "--num", 10, "--nats"), ("evaluate", "--metrics", "nats", "--num", 10), ("report",),
    ):  # fmt: skip
        folder = ["whole"] if command == "report" else ["--workdir", "whole"]
        done = run(command, *folder, *flags)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "whole" / "report.html").is_file()


@pytest.mark.parametrize("network", ["Equinox", "pair"])
def test_networks_that_are_not_of_flax(run, network, tmp_path):
    flags = [f"--config.model=scoresde_outside.networks:{network}", "--config.training.steps=120"]
    done = run("train", "--config", OUTSIDE / "experiment.py", "--workdir", "run", "--config.evaluate.num=0", *flags)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    assert run("sample", "--workdir", "run", "--num", 4).returncode == 0


REFUSED = {
    "vpp": (["--config.sde=vpp"], ["sde.name = 'vpp'", "did you mean vp?"]),
    "no package": (["--config.sde=no_such_package:X"], ["no_such_package", "install"]),
    "no attribute": (["--config.sde=scoresde_outside.processes:LinearLogSNT"], ["did you mean LinearLogSNR?"]),
    "os:system": (["--config.sde=os:system"], ["expected a process", "not called"]),
    "subprocess:run": (["--config.model=subprocess:run"], ["expected a network", "not called"]),
    "builtins:eval": (["--config.optim=builtins:eval"], ["expected an optimizer", "or of optax", "not called"]),
    "another kind": (["--config.sampling=scoresde_outside.processes:LinearLogSNR"], ["expected a sampler"]),
    "a path": (["--config.sde=../processes.py:X"], ["module:attribute", "not a path"]),
    "raises": (["--config.sde=scoresde_outside.processes:Raising"], ["RuntimeError", "third quarter"]),
    "unknown field": (["--config.sde.log_snr_maxx=3"], ["did you mean sde.log_snr_max?"]),
    "wrong type": (["--config.model.width=wide"], ["model.width", "a whole number", "'wide'"]),
    "sigma falls": (["--config.sde=scoresde_outside.processes:Growing"], ["log-SNR", "must fall"]),
}


@pytest.mark.parametrize("flags, words", REFUSED.values(), ids=REFUSED)
def test_bad_parts_are_one_line(package, monkeypatch, flags, words, tmp_path):
    importable(package, monkeypatch)
    refused = call("train", "--config", OUTSIDE / "experiment.py", *flags, "--workdir", tmp_path / "run")
    assert refused.code == 2, refused.err
    (line,) = refused.err.splitlines()
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_a_network_whose_output_has_another_shape(run, tmp_path):
    """In a process without the checks of types that tests have."""
    flags = ["--config.model=scoresde_outside.networks:Halved", "--workdir", "run"]
    refused = run("train", "--config", OUTSIDE / "experiment.py", *flags)
    assert refused.returncode == 2 and "returns the shape (1, 1) for x of shape (1, 2)" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1 and not (tmp_path / "run").exists()


def test_all_problems_of_parts_come_at_once(package, monkeypatch):
    importable(package, monkeypatch)
    flags = [flag for key in ("vpp", "subprocess:run", "builtins:eval", "another kind") for flag in REFUSED[key][0]]
    refused = call("train", "--config", OUTSIDE / "experiment.py", *flags)
    assert refused.code == 2 and len(refused.err.splitlines()) == 4


def test_an_argument_that_is_an_array_is_refused(package, monkeypatch, tmp_path):
    text = (OUTSIDE / "experiment.py").read_text().replace("log_snr_max=9.0", "log_snr_max=np.ones(3)")
    (tmp_path / "arrays.py").write_text("import numpy as np\n" + text)
    importable(package, monkeypatch)
    refused = call("train", "--config", tmp_path / "arrays.py")
    assert refused.code == 2 and "log_snr_max is a ndarray, which JSON does not hold" in refused.err


def test_a_run_whose_package_is_missing_names_it(run, tmp_path):
    done = run("train", "--config", OUTSIDE / "experiment.py", "--workdir", "run", "--config.training.steps=1")
    assert done.returncode == 0, done.stderr
    refused = run("sample", "--workdir", "run", parts=None)
    assert refused.returncode == 2 and "no module scoresde_outside; install" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_code_that_lies_in_a_run_folder_is_not_executed(run, tmp_path):
    """The current directory is importable, and may be the run folder of a stranger."""
    done = run("train", "--config", OUTSIDE / "experiment.py", "--workdir", "run", "--config.training.steps=1")
    assert done.returncode == 0, done.stderr
    config = (tmp_path / "run" / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(config.replace('"linear_log_snr"', '"stranger.parts:X"', 1))
    (tmp_path / "run" / "stranger").mkdir()
    (tmp_path / "run" / "stranger" / "parts.py").write_text("open('executed', 'w')")
    (tmp_path / "run" / "stranger" / "__init__.py").write_text("open('executed', 'w')")
    for folder in (tmp_path / "run", tmp_path):
        refused = run("sample", "--workdir", tmp_path / "run", folder=folder)
        assert refused.returncode == 2 and "stranger" in refused.stderr, refused.stderr
        assert ("not executed" in refused.stderr) == (folder.name == "run")
        assert not list(tmp_path.rglob("executed"))


def test_the_package_takes_public_names_alone():
    import re

    for path in (OUTSIDE / "scoresde_outside").glob("*.py"):
        for module in re.findall(r"from (scoresde\S*) import", path.read_text()):
            assert module in ("scoresde.config", "scoresde.sample", "scoresde.sde", "scoresde.train"), module
