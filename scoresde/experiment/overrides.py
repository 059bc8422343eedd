"""Application of `SECTION.FIELD=value` texts to a configuration that may be partial.

The texts are not parsed by the flags of ml_collections, which stop at the first problem inside a traceback, treat a
missing file as an empty configuration, and reject 1e5 for a whole number.
"""

import difflib

from scoresde.errors import ConfigError
from scoresde.experiment.component import Argument
from scoresde.experiment.sections import SECTIONS, SEED, section_node, such_as
from scoresde.experiment.values import EMPTY, Like


def set_name(raw: dict, path: str, text: str) -> bool:
    """Set the field at `path` if it names a component, which then has its default arguments; return whether it does.

    A component that already has this name keeps its arguments.
    """
    names = path.split(".")
    names = names[:-1] if names[-1] == "name" and len(names) > 1 else names
    if names[0] not in SECTIONS:
        return False
    section = SECTIONS[names[0]]
    if len(names) == 1:
        if not section.kind:
            return False
        node = raw.get(names[0], {})
        node = {"name": node} if isinstance(node, str) else node
        if node.get("name", section.name) != text:
            raw[names[0]] = {"name": text} | {key: node[key] for key in section.fields() if key in node}
        return True
    try:
        node = section_node(raw, names[0])
    except ConfigError:
        return False  # reported when the configuration is completed
    try:
        for name in names[1:-1]:
            node = node.child(name) if name in node.fields else None
            if node is None:
                return False
        if len(names) == 2 and section.entries:
            node.plain[names[-1]] = Argument(None, Like(None), section.entries)  # a new entry
        node = node.holder(names[-1])
        argument = node.fields[names[-1]] if node else None
        if argument is None or argument.kind is None or argument.kind.is_text(text):
            return False
        if argument.kind.number and _is_number(text):
            node.values[names[-1]] = float(text)
            return True
        if text.lower() in ("none", "null") and "none" not in argument.kind.names:
            node.values[names[-1]] = None
            return True
        child = None if node.values.get(names[-1], argument.default) in (None, EMPTY) else node.child(names[-1])
    except ConfigError:
        child = None
    if child is None or child.values["name"] != text:
        node.values[names[-1]] = {"name": text}
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def set_text(raw: dict, path: str, text: str) -> str | None:
    """Set the field at `path`, "section.field", from text, in the type of the field, and return the problem, or
    None."""
    names = path.split(".")
    if names == ["seed"]:
        return _parse(raw, "seed", Argument(SEED, Like(SEED), None), text, path)
    if names[0] not in SECTIONS:
        near = difflib.get_close_matches(names[0], [*SECTIONS, "seed"], 1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are: seed, {', '.join(SECTIONS)}"
        return f"--config.{path}: unknown field {names[0]}; {hint}"
    try:
        node = section_node(raw, names[0])
        if len(names) == 1:
            return f"--config.{path}: this is a section; set one of its fields: {', '.join(node.fields)}"
        for i, name in enumerate(names[1:-1], 1):
            child = node.child(name) if name in node.fields else None
            if child is None:
                missing = names[i + 1] if name in node.fields else name
                return f"--config.{path}: {node.unknown(missing)}"
            node = child
        holder = node.holder(names[-1]) if node.kind else (node if names[-1] in node.fields else None)
        if holder is None:
            return f"--config.{path}: {node.unknown(names[-1])}"
    except ConfigError:
        return None  # reported when the configuration is completed
    return _parse(holder.values, names[-1], holder.fields[names[-1]], text, path)


def _parse(values: dict, name: str, argument: Argument, text: str, path: str) -> str | None:
    try:
        values[name] = argument.like.parse(text)
    except (
        ValueError,
        SyntaxError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ):  # int(inf) overflows; unclosed brackets also fail
        return f"--config.{path}: expected {argument.like}{such_as(argument)}, got {text!r}"
    return None
