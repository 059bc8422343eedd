"""Sections of a configuration, and the completion of a partial configuration.

A section has plain fields (`settings`), the arguments of one component, or both. `complete` inserts the defaults and
collects all problems.
"""

import dataclasses
import difflib
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from scoresde.errors import ConfigError
from scoresde.experiment import kinds
from scoresde.experiment.component import Argument, Kind, arguments, resolve
from scoresde.experiment.inference_settings import Evaluate, Likelihood, Sampling
from scoresde.experiment.limits import Limits, Settings
from scoresde.experiment.settings import Data, Optim, Training
from scoresde.experiment.values import EMPTY, Like

SEED = 42
_SEED_LIMITS = Limits(0, below=2**32)


class Section(NamedTuple):
    """Content of a section.

    Attributes:
      settings: class of its plain fields.
      kind: kind of its component.
      name: default name of its component.
      nested: kinds of those plain fields that are components.
      listed: kinds of the entries of those plain fields that are tuples of names and components.
      entries: kind of the components of a section whose fields have names of the user's choice.
    """

    settings: type[Settings] | None = None
    kind: Kind | None = None
    name: str = ""
    nested: dict[str, Kind] = {}
    listed: dict[str, Kind] = {}
    entries: Kind | None = None

    def fields(self, values: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Argument]:
        """Return the plain fields; `values` has those of a section with entries."""
        if self.entries is not None:
            return {name: Argument(None, Like(None), self.entries) for name in values}
        if self.settings is None:
            return {}
        types = typing.get_type_hints(self.settings)
        return {
            field.name: Argument(
                field.default,
                Like(field.default, types[field.name]),
                self.nested.get(field.name),
                self.listed.get(field.name),
            )
            for field in dataclasses.fields(self.settings)
        }


SECTIONS = {
    "sde": Section(None, kinds.PROCESS, "vp"),
    "data": Section(Data, nested={"source": kinds.SOURCE, "codec": kinds.CODEC, "augment": kinds.AUGMENTATION}),
    "conditions": Section(entries=kinds.CONDITION),
    "model": Section(None, kinds.NETWORK, "unet"),
    "preconditioning": Section(None, kinds.PRECONDITIONING, "edm"),
    "training": Section(
        Training,
        nested={"weighting": kinds.WEIGHTING, "time_law": kinds.TIME_LAW, "objective": kinds.OBJECTIVE},
        listed={"watch": kinds.METRIC, "trackers": kinds.TRACKER},
    ),
    "optim": Section(Optim, kinds.OPTIMIZER, "adam", {"schedule": kinds.SCHEDULE}),
    "sampling": Section(Sampling, kinds.SAMPLER, "reverse_sde"),
    "likelihood": Section(Likelihood, nested={"estimator": kinds.TRACE, "dequantization": kinds.DEQUANTIZATION}),
    "evaluate": Section(Evaluate),
}


class Node:
    """Section or a component in one, with its values so far.

    Attributes:
      where: path of the node, such as "sde.basis".
      values: {field: value}; components in it are {"name": ..., argument: value}. The dictionary is
        changed in place.
      kind: kind of the component, or None.
      section: section of the node; None for a component in a section.
    """

    def __init__(self, where: str, values: dict, kind: Kind | None, section: Section | None = None):
        self.where, self.values, self.kind, self.section = where, values, kind, section
        self.plain = section.fields(values) if section else {}
        self.constructor = resolve(kind, values["name"], f"{where}.name") if kind else None
        self.own = arguments(kind, self.constructor) if kind else {}

    @property
    def fields(self) -> dict[str, Argument]:
        return self.own | self.plain

    def child(self, name: str) -> "Node | None":
        """Return the component of a field, whose values are stored in this one; None if the field has none."""
        argument = self.fields[name]
        value = self.values.get(name, argument.default)
        if (
            argument.kind is None
            or value is None
            or value is EMPTY
            or isinstance(value, str)
            and argument.kind.is_text(value)
        ):
            return None
        if argument.kind.number and isinstance(value, int | float) and not isinstance(value, bool):
            name_of_part, number = argument.kind.number
            if not value:
                return None
            value = {"name": name_of_part, number: value}
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ConfigError(f"{self.where}.{name} = {value!r}: expected a name or a component")
        self.values[name] = value
        return Node(f"{self.where}.{name}", value, argument.kind)

    def holder(self, name: str) -> "Node | None":
        """Return the node that has a field of this name, which is this node or one of the components in its
        component."""
        if name in self.fields:
            return self
        for inner, argument in self.own.items():
            if argument.kind is not None and (child := self.child(inner)) is not None:
                if (found := child.holder(name)) is not None:
                    return found
        return None

    def unknown(self, name: str) -> str:
        """Return the message for a field that does not exist."""
        names = [*self.fields, *(["name"] if self.kind else [])]
        near = difflib.get_close_matches(name, names, 1, cutoff=0.4)
        hint = f"did you mean {self.where}.{near[0]}?" if near else f"there are: {', '.join(names) or 'none'}"
        owner = f"{self.values['name']} takes no {name}" if self.kind else f"unknown field {name}"
        return f"{owner}; {hint}"


def section_node(raw: dict, name: str) -> Node:
    """Return the node of a section of a configuration, whose values are stored in the configuration.

    Raises:
      ConfigError: the section has no component of that name.
    """
    section = SECTIONS[name]
    values = raw.setdefault(name, {})
    if isinstance(values, str) and section.kind:
        values = raw[name] = {"name": values}
    if not isinstance(values, dict):
        raise ConfigError(f"{name} = {values!r}: expected a section")
    if section.kind:
        values.setdefault("name", section.name)
    return Node(name, values, section.kind, section)


def complete(raw: dict, unknown: Callable[[str], bool] = lambda name: False) -> tuple[dict, list[str]]:
    """Return a configuration with every field, and the problems: unknown fields, wrong types, missing arguments, names
    that refer to nothing. The parts check the values when they are built.

    Args:
      raw: {section: {field: value}}; changed in place.
      unknown: function called with the name of an unknown field, "section.field"; returns whether the field is left
        out.
    """
    full, problems = {}, []
    for name in raw:
        if name not in SECTIONS and name != "seed" and not unknown(name):
            near = difflib.get_close_matches(name, [*SECTIONS, "seed"], 1, cutoff=0.0)
            problems.append(f"{name}: unknown section; did you mean {near[0]}?")
    try:
        full["seed"] = Like(SEED).cast(raw.get("seed", SEED))
        problems += filter(None, [_SEED_LIMITS.problem("seed", full["seed"])])
    except (TypeError, ValueError, OverflowError):
        problems.append(f"seed = {raw['seed']!r}: expected a whole number")
    for name in SECTIONS:
        try:
            node = section_node(raw, name)
        except ConfigError as error:
            problems += error.problems
            node = section_node({}, name)  # the default one, so that the rest can be checked
        full[name] = _complete(node, problems, unknown)
    return full, problems


def _complete(node: Node, problems: list[str], unknown: Callable[[str], bool]) -> dict:
    for name in [name for name in node.values if name != "name" or not node.kind]:
        if name in node.fields:
            continue
        try:
            holder = node.holder(name) if node.kind else None
        except ConfigError:
            continue  # a problem inside a component, which is reported below
        if holder is not None:
            holder.values[name] = node.values[name]
        elif not unknown(f"{node.where}.{name}"):
            problems.append(f"{node.where}.{name}: {node.unknown(name)}")
        del node.values[name]
    full = {"name": node.values["name"]} if node.kind else {}
    for name, argument in node.fields.items():
        where, value = f"{node.where}.{name}", node.values.get(name, argument.default)
        try:
            child = node.child(name)
        except ConfigError as error:
            problems += error.problems
            if node.section and node.section.entries:
                continue
            if not argument.kind.names:
                full[name] = argument.default
                continue
            child = Node(where, {"name": next(iter(argument.kind.names))}, argument.kind)
        if child is not None:
            full[name] = _complete(child, problems, unknown)
            continue
        if node.section and node.section.entries:
            continue  # an entry of None is one that was removed
        full[name], problem = _cast(where, value, argument)
        if value is EMPTY:
            problem = f"{where}: {node.values['name']} needs a value for it, {argument.like}"
        elif problem is None and argument.each is not None:
            full[name] = tuple(_entry(where, entry, argument.each, problems, unknown) for entry in full[name])
        elif problem is None and name in node.own:
            problem = Limits().problem(where, full[name])
        problems += [problem] if problem else []
    return full


def _entry(where: str, entry: str | dict, kind: Kind, problems: list[str], unknown: Callable[[str], bool]):
    """Return an entry of a tuple: a name, or a complete component if it has arguments."""
    if isinstance(entry, str) or entry.keys() == {"name"}:
        return entry if isinstance(entry, str) else entry["name"]
    if not isinstance(entry.get("name"), str):
        problems.append(f"{where}: expected names or components, got {entry!r}")
        return entry
    try:
        return _complete(Node(f"{where}.{entry['name'].rpartition(':')[2]}", dict(entry), kind), problems, unknown)
    except ConfigError as error:
        problems += error.problems
        return entry["name"]


def _cast(where: str, value: Any, argument: Argument) -> tuple[Any, str | None]:
    """Return a value in the type of its field, or the default with the problem."""
    try:
        return argument.like.cast(value), None
    except (TypeError, ValueError, OverflowError):
        default = None if argument.default is EMPTY else argument.default
        return default, f"{where} = {value!r}: expected {argument.like}{such_as(argument)}"


def such_as(argument: Argument) -> str:
    return "" if argument.default in (EMPTY, None, "", ()) else f" such as {argument.default!r}"


def flatten(config: Any) -> dict:
    """Return {"section.field": value}, with the fields of components below their section."""
    flat = {}
    for name, value in config.items():
        if hasattr(value, "items"):
            flat.update({f"{name}.{field}": inner for field, inner in flatten(value).items()})
        else:
            flat[name] = value
    return flat
