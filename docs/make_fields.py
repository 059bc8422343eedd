"""Write docs/fields.md, the reference of the fields of a configuration, from signatures and docstrings.

python docs/make_fields.py
"""

import inspect
import pathlib
import re

from scoresde.experiment import kinds
from scoresde.experiment.component import Kind, arguments, resolve
from scoresde.experiment.sections import SECTIONS, SEED
from scoresde.experiment.values import EMPTY

PAGE = pathlib.Path(__file__).parent / "fields.md"
HEADER = """# Fields of a configuration

This page is written by `python docs/make_fields.py` from the signatures and docstrings of the parts.

A section that names a part, such as `sde`, has the field `name` and the arguments of that part. A part that is itself
an argument is set by its name, as in `--config.sde.basis=fourier`, and its arguments by its path or below the part, as in
`--config.sde.basis.length=2` or `--config.sde.length=2`. In Python both are `component("fourier", length=2.0)`. Instead
of a short name, every part may be `module:attribute` of a package of yours; see [extending.md](extending.md).

| `seed` | default |
|---|---|
| data order, initial parameters, all noise of training; below 2^32 | `{seed}` |
"""
ABOUT = {
    "sde": "The process.",
    "conditions": "The conditions that the network receives about each example: an entry for each, with a name of your choice, "
    'such as `c.conditions["class"] = component("class", num_classes=10)`. The kinds of entries are:',
    "model": "The network.",
    "preconditioning": "How the network becomes a score.",
    "optim": "The optimizer, its name and arguments beside the fields that surround it.",
    "sampling": "The sampler, its name and arguments beside the fields that surround it.",
}


def meanings(thing) -> dict[str, str]:
    """Return {argument: meaning} from the section Args or Attributes of a docstring."""
    found, name, indent = {}, None, None
    lines = inspect.getdoc(thing) or ""
    match = re.search(r"^(?:Args|Attributes):\n((?:[ ]+.*\n?|\n)*)", lines, re.MULTILINE)
    for line in match[1].splitlines() if match else ():
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None and line.strip() else indent
        entry = re.match(r"(\w+(?:, \w+)*): (.*)", line.strip())
        if entry and depth == indent:
            name = entry[1]
            for each in name.split(", "):
                found[each] = entry[2]
        elif name and line.strip():
            for each in name.split(", "):
                found[each] += " " + line.strip()
    return found


def summary(thing) -> str:
    """Return the first paragraph of a docstring in one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def table(fields: dict, about: dict[str, str]) -> list[str]:
    rows = ["| field | default | meaning |", "|---|---|---|"]
    for name, argument in fields.items():
        default = "required" if argument.default is EMPTY else f"`{argument.default!r}`".replace("|", "\\|")
        rows.append(f"| `{name}` | {default} | {about.get(name, '').replace('|', chr(92) + '|')} |")
    return rows if len(rows) > 2 else []


def parts(kind: Kind, heading: str) -> list[str]:
    lines = []
    for name in kind.names:
        made = resolve(kind, name, "")
        lines += [f"{heading} `{name}`", "", summary(made), ""]
        rows = table(arguments(kind, made), meanings(made))
        lines += [*rows, ""] if rows else []
    return lines


def page() -> str:
    lines = [HEADER.format(seed=SEED)]
    for name, section in SECTIONS.items():
        lines += [f"## {name}", "", ABOUT.get(name) or summary(section.settings), ""]
        if section.settings:
            lines += [*table(section.fields(), meanings(section.settings)), ""]
        if section.kind:
            lines += [f"`name`, by default `{section.name}`, is one of the following.", "", *parts(section.kind, "###")]
        if section.entries:
            lines += parts(section.entries, "###")
        for field, kind in (section.nested | section.listed).items():
            lines += [f"### {name}.{field}", "", *parts(kind, "####")] if kind.names else []
    lines += ["## Parts of parts", ""]
    inner = {"sde.basis": kinds.BASIS, "sde.covariance": kinds.COVARIANCE, "sampling.grid": kinds.GRID}
    inner |= {"sampling.solver": kinds.SOLVER, "sampling.predictor": kinds.PREDICTOR}
    inner |= {"sampling.corrector": kinds.CORRECTOR}
    for path, kind in inner.items():
        lines += [f"### {path}", "", *parts(kind, "####")]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
