"""A configuration from a file and flags, validated, and its JSON form. The fields are in `fields`.

Section names are those of score_sde. An experiment file in `configs/` defines `get_config()`, which takes `default()`
and changes what the experiment is about; `--config.SECTION.FIELD=value` changes it further. A saved run is read back
from its `config.json`: no Python file is needed, or executed, to sample from it.
"""

import difflib
import importlib.util
import json
import pathlib
import sys

from ml_collections import ConfigDict

from scoresde.data import sources
from scoresde.errors import ConfigError, Interrupted
from scoresde.experiment.build import flatten
from scoresde.experiment.fields import FREE_FIELDS, RETIRED
from scoresde.experiment.fields import default as default
from scoresde.experiment.overrides import apply
from scoresde.experiment.validation import validate
from scoresde.runtime.places import in_full

_IN_FULL = {"source": sources.in_full, "data_dir": in_full, "labels": in_full}


def load_config(path: str, overrides: list[str]) -> ConfigDict:
    """Load the configuration of a file, apply `SECTION.FIELD=value` overrides, and validate the result.

    Raises:
      ConfigError: all problems, one line each.
    """
    config = _from_file(pathlib.Path(path))
    override(config, overrides)
    return config


def override(config: ConfigDict, overrides: list[str]) -> None:
    """Apply `SECTION.FIELD=value` texts in place and validate the result.

    Raises:
      ConfigError: all problems, one line each.
    """
    problems = [problem for text in overrides if (problem := apply(config, *text.partition("=")[::2]))]
    if problems := problems + validate(config):
        raise ConfigError(*problems)


def with_full_paths(config: ConfigDict) -> None:
    """Write the paths of data in full, in place, so that the run can be used from another working directory.

    Raises:
      ConfigError: an address instead of a path.
    """
    for field, full in _IN_FULL.items():
        if value := config.data[field]:
            config.data[field] = full(value)


def with_full_path(text: str) -> str:
    """Return a `SECTION.FIELD=value` text with its path of data written in full."""
    name, _, value = text.partition("=")
    section, _, field = name.partition(".")
    return f"{name}={_IN_FULL[field](value)}" if section == "data" and field in _IN_FULL and value else text


def differences(old: dict, new: dict) -> list[str]:
    """Return lines for the fields that a resumed run may not change and that differ between two JSON forms."""
    old, new, lines = flatten(old), flatten(new), []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name, "absent"), new.get(name, "absent")
        if a != b and not name.startswith(FREE_FIELDS):
            lines.append(f"{name} was {a!r}, is {b!r}")
    return lines


def to_json(config: ConfigDict) -> dict:
    """{"section": {"field": value}} in JSON types; tuples become lists."""
    return json.loads(json.dumps(config.to_dict(), allow_nan=False))


def from_json(stored: dict, where: str = "config.json") -> ConfigDict:
    """Invert `to_json`. Missing fields take their defaults, because a later version added them. Fields of an earlier
    version are left out if they hold the value that this version assumes (`RETIRED`), and, with a note, if they do not
    affect the model (`FREE_FIELDS`).

    Raises:
      ConfigError: other unknown fields, or wrong types.
    """
    config = default()
    problems = fill(config, stored, where)
    if problems := problems + validate(config):
        raise ConfigError(*problems)
    return config


def fill(config: ConfigDict, stored: dict, where: str) -> list[str]:
    """Set the fields of {"section": {"field": value}} in place, without validating their values. Returns the problems,
    one line each: unknown fields and wrong types. Fields of an earlier version are left out as in `from_json`.

    Args:
      where: the name of the stored configuration in messages.
    """
    known, problems = flatten(config), []
    for name, value in flatten(stored).items():
        if name in RETIRED and value == RETIRED[name]:
            continue
        if name not in known and name.startswith(FREE_FIELDS):
            print(f"note: {where}: {name} is no field of this version; left out", file=sys.stderr)
            continue
        text = value if isinstance(value, str) else repr(tuple(value) if isinstance(value, list) else value)
        problem = apply(config, name, text)
        problems += [f"{where}: {problem}"] if problem else []
    return problems


def _from_file(path: pathlib.Path) -> ConfigDict:
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else pathlib.Path("configs")
        there = sorted(p.name for p in folder.glob("*.py"))
        near = difflib.get_close_matches(path.name, there, 1, cutoff=0.0)
        hint = f"did you mean {folder / near[0]}?" if near else "give a file that defines get_config()"
        raise ConfigError(f"--config: no file {path}; {hint}")
    spec = importlib.util.spec_from_file_location("experiment", path)
    if spec is None:
        raise ConfigError(f"--config: expected a Python file that defines get_config(), got {path}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except (KeyboardInterrupt, Interrupted):
        raise
    except SystemExit as error:
        raise ConfigError(
            f"{path}: it leaves with sys.exit({error.code!r}); expected get_config() to return a configuration"
        ) from error
    except BaseException as error:  # any exception of the user's file is reported as a problem of the file
        raise ConfigError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(config, ConfigDict) or set(default().keys()) - set(config.keys()):
        raise ConfigError(f"{path}: expected get_config() to return scoresde.experiment.config.default() with changes")
    return config
