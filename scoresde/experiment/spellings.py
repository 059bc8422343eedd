"""Spellings of earlier versions, mapped to the current fields.

They work as flags, in configuration files that set fields one by one, and in the config.json of earlier runs, which
contained the fields of all parts, whether a run used them or not.
"""

import sys

from scoresde.errors import ConfigError
from scoresde.experiment.sections import SECTIONS, section_node

NAMES = {
    "model.preconditioning": "preconditioning.name",
    "optim.optimizer": "optim.name",
    "sampling.sampler": "sampling.name",
}
# If there are several places, the first one whose component has the field is used.
FIELDS = {
    "model.sigma_data": ("preconditioning.sigma_data", "training.weighting.sigma_data"),
    "model.data_index": ("preconditioning.data_index", "training.weighting.data_index"),
    "model.data_screening": ("preconditioning.data_screening", "training.weighting.data_screening"),
    "training.log_normal_mean": ("training.time_law.mean",),
    "training.log_normal_std": ("training.time_law.std",),
    "sampling.sde_solver": ("sampling.solver",),
    "sampling.ode_solver": ("sampling.solver",),
    "sampling.corrections": ("sampling.corrections", "sampling.corrector.repeats"),
    "likelihood.variational_steps": ("likelihood.dequantization.steps",),
    "likelihood.variational_batch_size": ("likelihood.dequantization.batch_size",),
    "likelihood.variational_rate": ("likelihood.dequantization.rate",),
    "likelihood.variational_width": ("likelihood.dequantization.width",),
    "likelihood.variational_depth": ("likelihood.dequantization.depth",),
}
# Fields that every stored configuration contained, with the defaults that they had.
_STORED = {
    "likelihood.variational_steps": 1000, "likelihood.variational_batch_size": 64,
    "likelihood.variational_rate": 1e-3, "likelihood.variational_width": 32, "likelihood.variational_depth": 4,
}  # fmt: skip
# Values that denoted the default of the sampler.
_DEFAULTS = {"steps": 0, "order": 0, "grid": ""}
# Removed fields, each with the value that the code now assumes.
_RETIRED = {"model.param_dtype": "float32"}


NUM_CLASSES = "model.num_classes"


def set_earlier(raw: dict, path: str, text: str) -> bool:
    """Set a field of earlier versions that `modernise` moves, from text; return whether it is one."""
    if path != NUM_CLASSES or _has(raw, path):
        return False
    _pop(raw, "conditions.class")
    _put(raw, path, int(text) if text.isdecimal() else text)
    return True


def current(raw: dict, path: str) -> str:
    """Return the path of a field in this version."""
    if path in NAMES:
        return NAMES[path]
    for place in FIELDS.get(path, ()):
        if _has(raw, place):
            return place
    return FIELDS.get(path, (path,))[0]


def modernise(raw: dict, *, earlier: bool) -> None:
    """Move the fields of earlier versions to their places, in place.

    Args:
      raw: configuration, which is changed in place.
      earlier: whether the configuration was written by an earlier version, with the fields of all parts.

    Raises:
      ConfigError: a field that was removed has a value that this version does not support.
    """
    for path, value in _RETIRED.items():
        if earlier and (found := _pop(raw, path)) not in (None, value):
            raise ConfigError(f"{path} = {found!r}: expected {value!r}, which this version always has")
    if not _has(raw, NUM_CLASSES) and (classes := _pop(raw, NUM_CLASSES)):  # 0 denoted no classes
        _put(raw, "conditions.class", {"name": "class", "num_classes": classes})
    for path, place in NAMES.items():
        if (value := _pop(raw, path)) is not None:
            _put(raw, place, value)
    sampling = raw.get("sampling")
    if earlier and isinstance(sampling, dict):
        flow = sampling.get("name") == "probability_flow"
        sampling.pop("sde_solver" if flow else "ode_solver", None)  # the other one was not used
    for path, places in FIELDS.items():
        if path not in places and (value := _pop(raw, path)) is not None:
            place = next((place for place in places if _has(raw, place)), None)
            if place is not None:
                _put(raw, place, value)
            elif not earlier:
                raise ConfigError(f"{path}: it is now {places[0]}, which this configuration does not have")
    if isinstance(sampling, dict):
        for name, value in _DEFAULTS.items():
            if name in sampling and sampling[name] == value:
                del sampling[name]
        if "corrections" in sampling and not _has(raw, "sampling.corrections"):
            value = sampling.pop("corrections")
            if _has(raw, "sampling.corrector.repeats"):
                _put(raw, "sampling.corrector.repeats", value)


def leave_out_idle(raw: dict, where: str) -> None:
    """Leave out fields of a stored configuration that none of its parts used, in place, with a note unless they have
    their defaults."""
    for path, default in _STORED.items():
        if not any(_has(raw, place) for place in FIELDS[path]) and (value := _pop(raw, path)) not in (None, default):
            place = FIELDS[path][0]
            print(f"note: {where}: {path} = {value} was not in use and is left out; it is now {place}", file=sys.stderr)


def _has(raw: dict, path: str) -> bool:
    """Return whether a component of the configuration has a field."""
    section, *names = path.split(".")
    try:
        node = section_node(raw, section)
        for name in names[:-1]:
            node = node.child(name) if name in node.fields else None
            if node is None:
                return False
        return names[-1] in node.fields
    except ConfigError:
        return False  # reported when the configuration is completed


def _pop(raw: dict, path: str):
    section, _, field = path.partition(".")
    values = raw.get(section)
    return values.pop(field, None) if isinstance(values, dict) else None


def _put(raw: dict, path: str, value) -> None:
    section, *names = path.split(".")
    values = raw.setdefault(section, {"name": SECTIONS[section].name} if SECTIONS[section].kind else {})
    if isinstance(values, str):
        values = raw[section] = {"name": values}
    if not isinstance(values, dict):
        return  # reported when the configuration is completed
    for name in names[:-1]:
        inner = values.get(name) or section_node(raw, section).fields[name].default
        values[name] = values = {"name": inner} if isinstance(inner, str) else inner
    values[names[-1]] = value
