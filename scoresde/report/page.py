"""Pages: report.html and report.md of a run, and the page that compares runs.

A page contains its pictures and loads nothing: no script, no style sheet, no font. All text is rendered by jinja2 with
autoescape, because names come from configurations and folders; a policy in the page also forbids scripts.
"""

import base64
import functools
import html
import io
import math
import pathlib
import re
import shlex

import jinja2
import markupsafe
from PIL import Image

from scoresde.data.images import BadImage, opened_file
from scoresde.errors import DataError
from scoresde.report import plots
from scoresde.report.chart import Chart
from scoresde.report.facts import Facts, changed_fields, differing_fields, read_facts
from scoresde.runs.goodput import PARTS
from scoresde.runtime.files import write_text

# Columns of the metric table: key, heading, whether the column has numbers. Columns without entries are left out.
_COLUMNS = (
    ("split", "split", False), ("num_fake", "samples", True), ("num_real", "records", True), ("step", "step", True),
    ("sampler", "sampler or method", False), ("nfe", "NFE", True), ("time", "time", False),
)  # fmt: skip
_GRIDS = 6  # pictures over time, which include the first and the last
_MARKS = re.compile(r"[\\`*\[\]|~$#!]")  # special characters of Markdown, for which "_" within a word is a letter
_PIXELS = 900  # larger pictures are reduced to this width or height


def write_report(folder: pathlib.Path, out: pathlib.Path | None = None) -> pathlib.Path:
    """Write FOLDER/report.html, FOLDER/report.md and charts in FOLDER/report/, or only the page at `out`.

    Raises:
      ConfigError: the folder is not a run folder.
    """
    folder = pathlib.Path(folder)
    facts = read_facts(folder)
    content = _content(facts)
    page = out or folder / "report.html"
    write_text(page, _environment().get_template("report.html").render(content))
    if out is None:
        drawn = {name: svg for charts in content["charts"].values() for name, svg in charts.items()}
        (folder / "report").mkdir(exist_ok=True)
        for name, svg in drawn.items():
            write_text(folder / "report" / f"{name}.svg", svg)
        write_text(folder / "report.md", _environment().get_template("report.md").render(content))
    return page


def compare(folders: list[pathlib.Path], out: pathlib.Path) -> pathlib.Path:
    """Write the page that compares runs.

    Raises:
      ConfigError: a folder is not a run folder.
    """
    runs = [read_facts(folder) for folder in folders]
    names = [run.name for run in runs]
    runs = [run if names.count(run.name) == 1 else _renamed(run) for run in runs]
    figures = sorted(
        {
            name
            for run in runs
            for name in (run.watched[-1] if run.watched else {})
            if "@" not in name and name != "step"
        }
    )
    metrics = sorted({_metric(row) for run in runs for row in run.metrics})
    content = {
        "title": "Comparison of " + ", ".join(run.name for run in runs),
        "runs": [{"name": run.name, "folder": run.folder, "tiles": _tiles(run),
        "grid": _inline(run.grids[-1][1]) if run.grids else None,
                  "grid_step": run.grids[-1][0] if run.grids else 0, "goodput": _goodput(run)} for run in runs],
        "charts": _drawn(plots.comparing_charts(runs)),
        "figures": [(name, [run.watched[-1].get(name) if run.watched else None for run in runs]) for name in figures],
        "metrics": [(name, [next((row for row in reversed(run.metrics) if _metric(row) == name),
        None) for run in runs]) for name in metrics],
        "differences": differing_fields([run.config for run in runs]),
    }  # fmt: skip
    write_text(out, _environment().get_template("compare.html").render(content))
    return out


def _renamed(run: Facts) -> Facts:
    """Return the run with its path as its name, for two runs with the same name."""
    return Facts(**{**run.__dict__, "name": str(run.folder)})


def _metric(row: dict) -> str:
    return " ".join(str(part) for part in (row["metric"], row.get("split")) if part)


def _content(facts: Facts) -> dict:
    """Return everything that the templates show."""
    watch, trajectories = facts.folder / "watch", plots.trajectory_charts(facts)
    return {
        "title": facts.name,
        "facts": facts,
        "columns": [column for column in _COLUMNS if any(row[column[0]] not in (None, "") for row in facts.metrics)],
        "tiles": _tiles(facts),
        "charts": {
            "training": _drawn(plots.training_charts(facts)),
            "samples": _drawn(plots.sample_charts(facts)),
            "distances": _drawn({"nearest_histogram": plots.distance_chart(facts)}),
            "likelihood": _drawn(plots.likelihood_charts(facts)),
            "trajectory": _drawn({f"denoising_{k}": chart for k, chart in enumerate(trajectories)}),
            "pairs": _drawn({f"pair_{k}": chart for k, chart in enumerate(plots.pair_charts(facts))}),
        },
        "grids": [(step, path.name, _inline(path)) for step, path in _spread(facts.grids)],
        "trajectory": _inline(watch / "trajectory.png"),
        "trajectory_titles": [chart.title for chart in trajectories],
        "pairs": _inline(watch / "pairs.png"),
        "watched_step": int(facts.newest["step"]) if "step" in facts.newest else None,
        "figures": [(name, value) for name, value in _last_figures(facts).items()],
        "goodput": _goodput(facts),
        "sessions": [{"started": "", "devices": ""} | session for session in facts.ledger.get("sessions", [])],
        "changed": changed_fields(facts.config),
        "commands": _commands(facts),
    }


def _last_figures(facts: Facts) -> dict[str, float]:
    found = facts.watched[-1] if facts.watched else {}
    return {name: value for name, value in found.items() if "@" not in name and name != "step"}


def _tiles(facts: Facts) -> list[tuple[str, str]]:
    """Return the few numbers at the top of the page, as (name, value)."""
    log, figures = facts.log[-1] if facts.log else {}, _last_figures(facts)
    tiles = [("step", f"{facts.step:,} of {facts.config.get('training.steps', 0):,}")]
    if log.get("loss") is not None:
        tiles.append(("loss", f"{log['loss']:.4g}"))
    if figures.get("test_loss") is not None:
        tiles.append(("test loss", f"{figures['test_loss']:.4g}"))
    tiles += [(f"{row['metric']}, {row.get('split') or ''}".rstrip(", "), _value(row)) for row in facts.metrics[:2]]
    if facts.best.get("metric"):
        tiles.append((f"best {facts.best['metric']}", f"{facts.best['value']:.4g} at step {facts.best['step']:,}"))
    if log.get("steps_per_second"):
        rate = log["steps_per_second"] * facts.config.get("training.batch_size", 1)
        tiles.append(("examples a second", f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"))
    if "goodput" in facts.ledger:
        tiles.append(("goodput", f"{facts.ledger['goodput']:.0%}"))
    return tiles


def _value(row: dict) -> str:
    """Format a number with its standard error, rounded to two significant digits of the error."""
    value, error = row.get("value"), row.get("standard_error")
    if not isinstance(value, (int, float)):
        return str(value)
    if not isinstance(error, (int, float)) or not error > 0:
        return f"{value:.5g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _goodput(facts: Facts) -> list[tuple[str, str, float, float]]:
    """Return (part, meaning, seconds, share) of the time of a run, the largest first."""
    seconds = facts.ledger.get("seconds", {})
    total = sum(seconds.values()) or 1.0
    rows = [(name, PARTS.get(name, ""), value, value / total) for name, value in seconds.items() if value >= 0.05]
    return sorted(rows, key=lambda row: -row[2])


def _commands(facts: Facts) -> list[str]:
    """Return the commands that trained the run, each once, and commands that use the run."""
    folder = shlex.quote(str(facts.folder))
    trained = [session.get("command", "") for session in facts.ledger.get("sessions", [])]
    return [
        *dict.fromkeys(filter(None, trained)),
        f"python -m scoresde.sample --workdir {folder}",
        f"python -m scoresde.likelihood --workdir {folder}",
        f"python -m scoresde.evaluate --workdir {folder}",
        f"python -m scoresde.report {folder}",
    ]


def _spread(grids: list) -> list:
    """Return at most six grids, evenly spaced, including the first and the last."""
    if len(grids) <= _GRIDS:
        return grids
    return [grids[round(k * (len(grids) - 1) / (_GRIDS - 1))] for k in range(_GRIDS)]


def _drawn(charts: dict[str, Chart]) -> dict[str, str]:
    """Return the SVG of every chart with content, by name. Its texts are escaped, so the pages include it unchanged."""
    drawn = {name: svg(chart) for name, chart in charts.items()}
    return {name: text for name, text in drawn.items() if text}


def svg(chart: Chart) -> str:
    """Return the SVG of a chart, or "" if there is nothing to draw. Its texts are escaped."""
    layout = chart.layout()
    return _environment().get_template("chart.svg").render(c=layout) if layout else ""


def _inline(path: pathlib.Path) -> str | None:
    """Return a PNG as a data address, or None if it does not exist, cannot be read, or is too large to come from a
    run."""
    try:
        with opened_file(path) as image:
            image.load()
            if max(image.size) > _PIXELS:
                image.thumbnail((_PIXELS, _PIXELS), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, "PNG", optimize=True)
    except (BadImage, DataError):
        return None
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("scoresde.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["measured"] = _value
    environment.filters["entry"] = lambda value: (
        "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    )
    environment.filters["cell"] = _as_markdown
    # In a block of code Markdown is not interpreted, and quotes stay unescaped, so that they can be copied. Tags are
    # escaped in case the file is shown as HTML.
    environment.filters["code"] = lambda text: markupsafe.Markup(html.escape(_on_one_line(text), quote=False))
    return environment


def _on_one_line(value) -> str:
    return " ".join(str(value).split())


def _as_markdown(value) -> str:
    """Escape a value for Markdown, also in a cell of a table, so that it shows as text.

    No link, picture, code or emphasis can result. Autoescape escapes HTML, and a link needs brackets, which are
    escaped here.
    """
    return _MARKS.sub(r"\\\g<0>", _on_one_line(value))
