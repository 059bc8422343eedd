"""Configuration from a file and flags, and its JSON form.

Section names are those of score_sde. An experiment file in `configs/` defines `get_config()`, which calls `default()`
and changes the fields that are specific to the experiment; `--config.SECTION.FIELD=value` changes the configuration
further. A saved run is read from its `config.json`, without the file. `sections` contains the fields, and `component`
explains how parts are named.

A configuration that was loaded here is complete: it has every field of every part that it names. The parts check their
values when they are built, by `scoresde.experiment.Experiment`.
"""

import difflib
import importlib.util
import json
import pathlib
import sys

from ml_collections import ConfigDict

from scoresde.data import sources
from scoresde.errors import ConfigError, Interrupted
from scoresde.experiment.building import value_problems
from scoresde.experiment.overrides import set_name, set_text
from scoresde.experiment.sections import SECTIONS, SEED, complete, flatten
from scoresde.experiment.spellings import current, leave_out_idle, modernise, set_earlier
from scoresde.runtime.places import in_full

# Fields that a trained run may change as well: how it is used, and where and how its data are read.
FIELDS_OF_USE = (
    "sampling.", "likelihood.", "evaluate.", "data.source", "data.data_dir", "data.labels",
    "data.max_bad", "data.max_pixels", "data.memory",
)  # fmt: skip
# Fields that a resumed run may change. They do not affect the state, or change it only by rounding errors, except for
# the first four, which rescue a run that diverges or prolong a run. The location of the data may change because the
# fingerprint identifies their content.
FREE_FIELDS = (
    "optim.learning_rate", "optim.decay_steps", "optim.grad_clip", "training.steps", "training.accumulation",
    "training.remat", "training.fsdp", "training.steps_per_dispatch",
    "training.log_every", "training.checkpoint_every", "training.snapshot_every", "training.sample_every",
    "training.watch", "training.keep_best", "training.trackers", *FIELDS_OF_USE,
)  # fmt: skip
# Fields of earlier versions that belong to one part; a configuration contained those of all parts.
_EARLIER = frozenset(
    f"{section}.{field}"
    for section, fields in {
        "sde": (
            "beta_min beta_max sigma_min sigma_max log_snr_min log_snr_max t_min basis length index "
            "screening variance kernel length_scale jitter blur_min blur_max min_scale noise "
        ),
        "model": (
            "preconditioning sigma_data data_index data_screening embedding fourier_scale dropout "
            "num_classes dtype channels multipliers blocks attention skip_rescale decoder_attention "
            "modulation resampling resample_filter resample_skip progressive_input progressive combine "
            "center_input input_fourier norm_epsilon head_channels patch positions width depth modes boundary "
        ),
        "optim": ("optimizer learning_rate beta1 beta2 eps weight_decay warmup decay_steps grad_clip "),
        "sampling": (
            "sampler steps grid order sde_solver ode_solver tolerance sde_tolerance absolute_tolerance "
            "predictor corrector snr corrections norm step_size labels churn s_min s_max s_noise eta "
            "variant variable tau tau_low tau_high num batch_size "
        ),
    }.items()
    for field in fields.split()
)
_IN_FULL = {"source": sources.in_full, "data_dir": in_full, "labels": in_full}


def default() -> ConfigDict:
    """Return a configuration to change, which has every section, with the name of its component and its plain fields.

    Arguments of components that are not set have the defaults of their constructors.
    """
    config = {"seed": SEED}
    for name, section in SECTIONS.items():
        fields = {field: argument.default for field, argument in section.fields().items()}
        config[name] = ({"name": section.name} if section.kind else {}) | fields
    return _config(config)


def _config(values: dict) -> ConfigDict:
    return ConfigDict(values, type_safe=False, convert_dict=True)


def load_config(path: str, overrides: list[str]) -> ConfigDict:
    """Load the configuration of a file, apply `SECTION.FIELD=value` overrides, and complete it.

    Raises:
      ConfigError: all problems, one line each.
    """
    config = _from_file(pathlib.Path(path))
    override(config, overrides, where=f"{path}: ")
    return config


def override(config: ConfigDict, overrides: list[str], where: str = "") -> None:
    """Apply `SECTION.FIELD=value` texts in place, and complete the configuration.

    Texts that name components are applied first, in any order of the texts; a component with a new name has default
    arguments.

    Args:
      config: configuration to change.
      overrides: texts `SECTION.FIELD=value`.
      where: prefix of messages about problems of the configuration before the change.

    Raises:
      ConfigError: all problems, one line each.
    """
    problems = change(config, overrides, where)
    if problems:
        found = {problem.partition(":")[0].partition(" ")[0] for problem in problems}
        more = [line for line in value_problems(config.to_dict()) if line.partition(" ")[0].rstrip(":") not in found]
        raise ConfigError(*problems, *more)


def change(config: ConfigDict, overrides: list[str], where: str = "") -> list[str]:
    """Apply texts as `override` does, and return the problems of names and types; the affected fields then have
    defaults."""
    _set_plain(config, overrides)
    raw = _plain(config.to_dict())
    modernise(raw, earlier=False)
    pairs = [text.partition("=")[::2] for text in overrides]
    rest = [(path, text) for path, text in pairs if not set_earlier(raw, path, text)]
    modernise(raw, earlier=False)
    rest = [(path, text) for path, text in rest if not set_name(raw, current(raw, path), text)]
    rest = [(path, text) for path, text in rest if not set_name(raw, current(raw, path), text)]  # of new components
    problems = []
    for path, text in rest:
        given = f"--config.{path}:"
        if problem := set_text(raw, current(raw, path), text):
            problems.append(problem if problem.startswith(given) else f"{given} {problem.partition(': ')[2]}")
    modernise(raw, earlier=False)  # a value may denote the default of its sampler
    full, more = complete(raw)
    flags = tuple(current(raw, path).removesuffix(".name") for path, _ in pairs)  # not of the file
    problems += [problem if problem.startswith(flags) else where + problem for problem in more]
    with config.unlocked():
        for name in list(config.keys()):
            del config[name]  # `update` would keep the arguments of another component
        config.update(_config(full))
    return problems


def _plain(value):
    """Return a value with its configurations replaced by dictionaries, also those in tuples."""
    if hasattr(value, "items"):
        return {name: _plain(inner) for name, inner in value.items()}
    return type(value)(map(_plain, value)) if isinstance(value, tuple | list) else value


def _set_plain(config: ConfigDict, overrides: list[str]) -> None:
    """Set the plain fields in place, so that fields that a file computes from them (`config.get_ref`) follow."""
    for path, _, text in (override.partition("=") for override in overrides):
        section, _, field = path.partition(".")
        argument = SECTIONS[section].fields().get(field) if section in SECTIONS else None
        if argument is not None and argument.kind is None:
            try:
                config[section][field] = argument.like.parse(text)
            except (ValueError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError):
                pass  # reported by `set_text`


def with_full_paths(config: ConfigDict) -> None:
    """Write the paths of data in full, in place, so that the run can be used from another working directory.

    Raises:
      ConfigError: a path is an address.
    """
    for field, full in _IN_FULL.items():
        if isinstance(value := config.data[field], str) and value:
            config.data[field] = full(value)


def with_full_path(text: str) -> str:
    """Return a `SECTION.FIELD=value` text with any path of data written in full."""
    name, _, value = text.partition("=")
    section, _, field = name.partition(".")
    return f"{name}={_IN_FULL[field](value)}" if section == "data" and field in _IN_FULL and value else text


def differences(old: dict, new: dict) -> list[str]:
    """Return one line for each field that differs between two JSON forms and that a resumed run may not change."""
    old, new, lines = flatten(old), flatten(new), []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name, "absent"), new.get(name, "absent")
        if a != b and not name.startswith(FREE_FIELDS):
            lines.append(f"{name} was {a!r}, is {b!r}")
    return lines


def to_json(config: ConfigDict) -> dict:
    """Return {"section": {"field": value}} in JSON types; tuples become lists."""
    return json.loads(json.dumps(config.to_dict(), allow_nan=False))


def from_json(stored: dict, where: str = "config.json") -> ConfigDict:
    """Return the configuration of a JSON form, which is the inverse of `to_json`.

    Missing fields have their defaults, because a later version added them. Unknown fields that do not affect the model
    (`FREE_FIELDS`) are left out with a note. Configurations of earlier versions, which contained the fields of all
    parts, are converted to the form of this version.

    Raises:
      ConfigError: there are other unknown fields, or wrong types.
    """
    raw = json.loads(json.dumps(stored))
    earlier = "preconditioning" not in raw

    def unknown(name: str) -> bool:
        if earlier:
            return name.count(".") > 0 and name in _EARLIER
        if free := name.startswith(FREE_FIELDS):
            print(f"note: {where}: {name} is no field of this version; left out", file=sys.stderr)
        return free

    leave_out_idle(raw, where)
    modernise(raw, earlier=earlier)
    full, problems = complete(raw, unknown)
    if problems:
        raise ConfigError(*(f"{where}: {problem}" for problem in problems))
    return _config(full)


def from_fields(fields: dict[str, dict], overrides: list[str], where: str) -> ConfigDict:
    """Return the defaults with the given fields, in the spellings of any version, and with `SECTION.FIELD=value` texts.

    Args:
      fields: {section: {field: value}}.
      overrides: texts `SECTION.FIELD=value`.
      where: name of the fields in messages.

    Raises:
      ConfigError: all problems, one line each.
    """
    raw = json.loads(json.dumps(fields))
    earlier = "preconditioning" not in raw and "preconditioning" in raw.get("model", {})
    modernise(raw, earlier=False)
    full, problems = complete(raw, lambda name: earlier and name in _EARLIER)
    if problems:
        raise ConfigError(*(f"{where}: {problem}" for problem in problems))
    config = _config(full)
    override(config, overrides)
    return config


def usual_fields(config: dict) -> dict:
    """Return the fields, {"section.field": value}, of a configuration with the same components as `config` and defaults
    otherwise.

    The names in it are the default ones.
    """
    raw = {}
    for path, value in config.items():
        section, _, field = path.partition(".")
        if field == "name":
            raw.setdefault(section, {})["name"] = value
    found, usual = (flatten(json.loads(json.dumps(complete(values)[0]))) for values in (raw, {}))
    return found | {name: value for name, value in usual.items() if name.endswith(".name")}


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
    if not isinstance(config, ConfigDict) or {"sde", "data", "model", "training"} - set(config.keys()):
        raise ConfigError(f"{path}: expected get_config() to return scoresde.config.default() with changes")
    return config
