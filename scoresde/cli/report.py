"""`python -m scoresde.report`: report of one run, or comparison of several."""

import pathlib
import sys

from scoresde.cli.parser import Parser
from scoresde.errors import ConfigError, ScoreSDEError


def main(arguments: list[str]) -> None:
    parser = Parser(
        "report", "Write DIR/report.html and DIR/report.md; with several runs, one page that compares them."
    )
    parser.add_path("folders", nargs="+", metavar="DIR", help="run folders")
    parser.add_path("--out", help="the page; default: DIR/report.html, or comparison.html here for several runs")
    found = parser.parse(arguments)
    if found.overrides:
        raise ConfigError("--config: a report shows a run as it is; leave it out")
    from scoresde.report import compare, write_report
    from scoresde.report.facts import read_facts

    folders = [pathlib.Path(folder) for folder in found.folders]
    out = pathlib.Path(found.out) if found.out else None
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        facts = read_facts(folder)
        if not facts.newest and (facts.config.get("training.watch") != [] or not facts.grids):
            look(folder)
    page = (
        write_report(folders[0], out) if len(folders) == 1 else compare(folders, out or pathlib.Path("comparison.html"))
    )
    print(f"wrote {page}")


def look(folder: pathlib.Path) -> None:
    """Draw the pictures that a run omitted, from its newest checkpoint; if the run cannot be read, print a note
    instead."""
    from scoresde.experiment.load import load_run
    from scoresde.workflows.monitor import Monitor

    try:
        trained = load_run(folder)
        path = folder / "samples" / f"{trained.step:06}.png"
        print(f"{folder}: drawing samples at step {trained.step}")
        path.parent.mkdir(exist_ok=True)
        Monitor(trained.experiment, trained.dataset, folder)(trained, path)
    except ScoreSDEError as error:
        print(f"note: {folder}: no pictures, as the run cannot be read: {error}", file=sys.stderr)
