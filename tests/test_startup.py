"""Commands answer at once: what they load before they know what is asked of them, and how long that takes."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from scoresde.runtime.lazy import exports

ROOT = Path(__file__).parents[1]
COMMANDS = ("train", "sample", "likelihood", "evaluate", "data", "convert", "average", "report", "doctor")
HEAVY = {
    "jax", "jaxlib", "flax", "equinox", "diffrax", "optax", "orbax", "tensorflow_datasets", "grain", "ml_collections",
    "scipy", "jinja2",
}  # fmt: skip


def measured(*arguments) -> tuple[subprocess.CompletedProcess, float]:
    """A Python process from the root of the repository, and the processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=150)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def loaded(importtime: str) -> set[str]:
    """The packages in what `-X importtime` prints."""
    rows = [line.split("|") for line in importtime.splitlines() if line.startswith("import time:")]
    return {row[2].strip().partition(".")[0] for row in rows}


@pytest.mark.parametrize("command", [*COMMANDS, "data.navier_stokes"])
def test_help_loads_nothing_heavy(command):
    done, seconds = measured("-X", "importtime", "-m", f"scoresde.{command}", "--help")
    assert done.returncode == 0 and f"scoresde.{command}" in done.stdout
    assert not loaded(done.stderr) & HEAVY
    assert seconds < 0.6


def test_a_wrong_flag_loads_nothing_heavy():
    done, seconds = measured("-X", "importtime", "-m", "scoresde.sample", "--workdir", "x", "--nmu", "8")
    assert done.returncode == 2 and "did you mean --num?" in done.stderr
    assert not loaded(done.stderr) & HEAVY and seconds < 0.6


def test_the_package_loads_its_names_on_first_use():
    code = (
        "import sys, scoresde, scoresde.sample, scoresde.train, scoresde.likelihood, scoresde.data, scoresde.report\n"
        "assert 'jax' not in sys.modules and 'VP' in dir(scoresde)\n"
        "assert scoresde.VP is scoresde.sde.VP and scoresde.VP.__module__ == 'scoresde.sde.isotropic'\n"
        "assert scoresde.errors.ConfigError.exit_code == 2\n"  # a module that nobody has imported by name
        "import scoresde.train.augmentation\n"
        "assert callable(scoresde.train.augment) and callable(scoresde.likelihood.dequantize)\n"
        "try: scoresde.no_such_name\n"
        "except AttributeError as error: print(error)\n"
    )
    done, _ = measured("-c", code)
    assert done.stdout == "module 'scoresde' has no attribute 'no_such_name'\n", done.stderr


@pytest.mark.parametrize("names", [{"a": "one", "b": "one"}, {"a": "a"}])
def test_a_name_has_one_meaning(names):
    with pytest.raises(ValueError, match="two meanings"):
        exports("package", names)
