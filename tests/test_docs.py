"""The documents say what is true: their Python runs, their tables equal the code, their links lead somewhere."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest
from commands import call

from scoresde import errors

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("launch/*.md"), *ROOT.glob("benchmarks/*.md")]
)
COMMANDS = (ROOT / "docs" / "commands.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "name", ["evaluation.md", "extending.md", "function-space.md", "mathematics.md", "restoration.md"]
)
def test_the_python_of_a_document_runs(name):
    """In order and in one namespace, by exec: its asserts are the test."""
    code = "\n".join(blocks((ROOT / "docs" / name).read_text(), "python"))
    exec(compile(code, name, "exec"), {"__name__": name})


def test_the_reference_of_fields_is_that_of_the_signatures():
    """docs/fields.md is what `python docs/make_fields.py` writes, and every field has a meaning."""
    spec = importlib.util.spec_from_file_location("make_fields", ROOT / "docs" / "make_fields.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run python docs/make_fields.py"
    assert not re.findall(r"^\|.*\| *\|$", module.page(), re.MULTILINE)


def test_the_table_of_exit_codes_is_that_of_the_errors():
    written = {int(code): name for code, name in re.findall(r"^\| (\d+) \| ?`?(\w*)`? \|", COMMANDS, re.MULTILINE)}
    kinds = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ScoreSDEError)
    }
    assert written == {kind.exit_code: kind.__name__ for kind in kinds} | {0: ""}


@pytest.mark.parametrize(
    "command", ["data", "train", "sample", "likelihood", "evaluate", "report", "convert", "average", "doctor"]
)
def test_every_flag_is_documented(command):
    """The flags that --help lists are those of the command's section."""
    asked = call(command, "--help").out
    flag = r"--[a-z][a-zA-Z._-]*"
    known = set(re.findall(flag, re.search(r"options:\n(.*?)\nexit codes", asked, re.DOTALL)[1]))
    section = re.search(rf"^## {command}$(.*?)^## ", COMMANDS, re.MULTILINE | re.DOTALL)[1]
    written = set(re.findall(rf"^\| `({flag})", section, re.MULTILINE))
    common = {"--help", "--debug", "--no-compilation-cache", "--config.SECTION.FIELD"}
    assert written == {name for name in known if "_" not in name and not name.startswith("--config.")} - common
    assert all(f"`{name}" in COMMANDS for name in common - {"--help"})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if not re.match(r"https?://|mailto:", target):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_names_in_the_mathematics_exist():
    """Names such as `scoresde.likelihood.log_likelihood` in docs/mathematics.md."""
    names = set(re.findall(r"`(scoresde(?:\.\w+)+)`", (ROOT / "docs" / "mathematics.md").read_text()))
    assert names
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
