"""Commands answer at once: what they load before they know what is asked of them, how long that takes, and the programs
that they keep from one call to the next."""

import importlib
import os
import resource
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest

from scoresde.cli.main import COMMANDS
from scoresde.runtime import programs
from scoresde.runtime.lazy import exports

ROOT = Path(__file__).parents[1]
HEAVY = {
    "jax", "jaxlib", "flax", "equinox", "diffrax", "optax", "orbax", "tensorflow_datasets", "grain", "ml_collections",
    "scipy", "jinja2",
}  # fmt: skip


def measured(*arguments, **environment: str) -> tuple[subprocess.CompletedProcess, float]:
    """A Python process from the root of the repository, and the processor time that it took. It has the environment of
    a user, without what the tests set for JAX."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "EQX_"))}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT, env=plain | {"JAX_PLATFORMS": "cpu"} | environment, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
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


# The console command


CONSOLE = "import sys; sys.argv[0] = '/somewhere/bin/scoresde'; from scoresde.cli.main import main; main()"


def test_the_console_command_is_installed():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["scoresde"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_console_command_calls_each_command(command):
    """Its help names the command as it was called; but for that, it is the help of `python -m`."""
    ours, seconds = measured("-c", CONSOLE, command, "--help")
    theirs, _ = measured("-m", f"scoresde.{command}", "--help")
    assert ours.returncode == 0 and ours.stdout.startswith(f"usage: scoresde {command} ") and seconds < 0.6
    assert theirs.stdout.startswith(f"usage: python -m scoresde.{command} ")
    assert ours.stdout.partition("options:")[2] == theirs.stdout.partition("options:")[2] != ""


def test_the_console_command_passes_flags_and_exit_codes_on():
    done, _ = measured("-c", CONSOLE, "sample", "--workdir", "/no/such/run")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "/no/such/run" in done.stderr


def test_the_console_command_lists_the_commands():
    done, _ = measured("-c", CONSOLE, "--help")
    assert done.returncode == 0 and all(f"  {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["sampel"], "error: unknown command sampel; did you mean sample?"),
        (["xyz"], f"error: unknown command xyz; expected one of {', '.join(COMMANDS)}"),
        ([], f"error: no command; expected one of {', '.join(COMMANDS)}"),
    ],
)
def test_an_unknown_command_is_one_line(arguments, line):
    done, _ = measured("-c", CONSOLE, *arguments)
    assert done.returncode == 2 and done.stderr.splitlines() == [line] and not done.stdout


# Compiled programs


def draws(out, cache, *flags, **environment) -> tuple[subprocess.CompletedProcess, float]:
    """`sample` of the small run that is kept with the tests."""
    asked = ("--workdir", ROOT / "tests" / "fixtures" / "mixture_run", "--num", 8, "--out", out)
    done, seconds = measured("-m", "scoresde.sample", *asked, *flags, XDG_CACHE_HOME=str(cache), **environment)
    assert done.returncode == 0, done.stderr
    return done, seconds


def samples(out: Path) -> np.ndarray:
    with np.load(out / "samples.npz") as file:
        return file["samples"]


def kept(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_the_second_sample_compiles_nothing(tmp_path):
    """It takes about half of the processor time, of which most is imports and tracing: the network is tiny, and the
    bound allows for other processes on the same cores."""
    done, first = draws(tmp_path / "one", tmp_path / "cache")
    programs_of_first = kept(tmp_path / "cache")
    again, second = draws(tmp_path / "two", tmp_path / "cache")
    assert kept(tmp_path / "cache") == programs_of_first and any("denoised_draw" in str(p) for p in programs_of_first)
    np.testing.assert_array_equal(samples(tmp_path / "one"), samples(tmp_path / "two"))
    assert second < 0.65 * first
    assert not done.stderr + again.stderr
    folder = tmp_path / "cache" / "scoresde" / "programs"
    assert folder.stat().st_mode & 0o777 == 0o700
    # A program that was cut short, as by a full disk: one note, and the same samples.
    for path in folder.rglob("*-cache"):
        path.write_bytes(path.read_bytes()[:-20])
    damaged, _ = draws(tmp_path / "three", tmp_path / "cache")
    (line,) = damaged.stderr.splitlines()
    assert line.startswith("note: compiled programs in ") and str(folder) in line
    np.testing.assert_array_equal(samples(tmp_path / "one"), samples(tmp_path / "three"))


def test_programs_are_not_kept_on_request_or_where_they_cannot_be(tmp_path):
    draws(tmp_path / "without", tmp_path / "cache", "--no-compilation-cache")
    assert not (tmp_path / "cache").exists()
    draws(tmp_path / "own", tmp_path / "cache", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert not (tmp_path / "cache").exists() and (tmp_path / "mine").is_dir()
    (tmp_path / "file").touch()
    done, _ = draws(tmp_path / "file_in_the_way", tmp_path / "file")
    (line,) = done.stderr.splitlines()
    assert line.startswith("note: compiled programs are not kept: no folder for caches can be written")


def test_why_a_folder_is_not_taken(tmp_path, monkeypatch):
    assert programs._obstacle(tmp_path / "good") == ""
    (tmp_path / "file").touch()
    assert programs._obstacle(tmp_path / "file" / "below") == "Not a directory"
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert programs._obstacle(tmp_path / "open") == "another user may write to it"
    monkeypatch.setattr(programs.shutil, "disk_usage", lambda path: programs.shutil._ntuple_diskusage(10, 10, 0))
    assert programs._obstacle(tmp_path / "good") == "the disk is full"


def test_a_process_that_has_jax_keeps_its_settings(monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setattr(programs, "user_cache", lambda: pytest.fail("looked for a folder"))
    before = dict(os.environ)
    programs.keep_programs()
    assert dict(os.environ) == before


def test_the_programs_used_longest_ago_go_first(tmp_path):
    for k in range(8):
        path = tmp_path / f"{k % 2}" / f"{k}-cache"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(8192))
        os.utime(path, (1000 - k, 1000 - k))
    programs.shrink(tmp_path, 8 * 8192)
    assert len(kept(tmp_path)) == 8
    programs.shrink(tmp_path, 6 * 8192)
    assert {path.name for path in kept(tmp_path)} == {f"{k}-cache" for k in range(4)}


def test_trouble_with_programs_is_one_note(tmp_path, monkeypatch, capsys):
    others = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *rest, **options: others.append(str(message)))
    programs._report_trouble_once(tmp_path)
    for name in "ab":
        text = f"Error writing persistent compilation cache entry for '{name}': OSError: [Errno 28] No space left"
        warnings.showwarning(UserWarning(text), UserWarning, "file", 1)
    warnings.showwarning(UserWarning("another"), UserWarning, "file", 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: ") and "No space left" in line and others == ["another"]
