"""Content of a run folder for the report, read only from its files. Missing and damaged parts are left out."""

import math
import pathlib
from dataclasses import dataclass, field

import numpy as np

from scoresde.errors import ConfigError
from scoresde.experiment.config import from_json, to_json, usual_fields
from scoresde.experiment.sections import flatten
from scoresde.runtime.arrays import read_npz
from scoresde.runtime.files import UnreadableError
from scoresde.runtime.reading import is_whole_number, json_lines, read_object

COLUMNS = ("metric", "value", "standard_error", "num_fake", "num_real", "split", "step", "sampler", "nfe", "time")
_MOST_STEPS, _MOST = 2**53, 1e200  # larger numbers count as damage, because axes of larger numbers overflow
_MOST_ROWS = 60  # largest number of rows of the metric table, which shows the newest


@dataclass(frozen=True)
class Facts:
    """Content of a run folder for the report.

    Attributes:
      folder: the run folder.
      name: name of the run on the page.
      config: values by "section.field".
      log: lines of metrics.jsonl with a loss.
      watched: lines of metrics.jsonl with metrics of samples, whose names are without "watch/".
      ledger: content of ledger.json.
      best: content of best.json.
      metrics: rows of the metric table, from all evaluations.
      likelihoods: (split, unit, values) of each file of the likelihood command.
      grids: (step, PNG) in the order of steps.
      newest: arrays of watch/newest.npz.
    """

    folder: pathlib.Path
    name: str
    config: dict
    log: list[dict] = field(default_factory=list)
    watched: list[dict] = field(default_factory=list)
    ledger: dict = field(default_factory=dict)
    best: dict = field(default_factory=dict)
    metrics: list[dict] = field(default_factory=list)
    likelihoods: list[tuple[str, str, np.ndarray]] = field(default_factory=list)
    grids: list[tuple[int, pathlib.Path]] = field(default_factory=list)
    newest: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def step(self) -> int:
        return max([line["step"] for line in self.log] + [step for step, _ in self.grids], default=0)

    def series(self, name: str, lines: list[dict] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return (steps, values) of a metric in the log, or in other `lines`; null becomes NaN."""
        found = [(line["step"], line[name]) for line in (self.log if lines is None else lines) if name in line]
        return np.array([s for s, _ in found], float), np.array([np.nan if v is None else v for _, v in found], float)


def read_facts(folder: pathlib.Path) -> Facts:
    """Read the facts of a run folder.

    Raises:
      ConfigError: the folder is not a run folder.
    """
    folder = pathlib.Path(folder)
    if not (config := _json(folder / "config.json")):
        raise ConfigError(f"{folder}: expected a run folder with a readable config.json; train into it first")
    flat = _current(config)
    for name, kind in (("data.source", str), ("training.steps", int), ("training.batch_size", int)):
        if not isinstance(flat.get(name), kind):
            raise ConfigError(
                f"{folder / 'config.json'}: expected {name} in it, {'a text' if kind is str else 'a whole number'}; "
                "restore the file"
            )
    lines = [line for line in map(_numbers, _json_lines(folder / "metrics.jsonl")) if _is_step(line.get("step"))]
    watched = [
        {"step": line["step"]}
        | {key.removeprefix("watch/"): value for key, value in line.items() if key.startswith("watch/")}
        for line in lines
    ]
    pictures = [
        path for path in (folder / "samples").glob("*.png") if is_whole_number(path.stem) and _is_step(int(path.stem))
    ]
    return Facts(
        folder=folder,
        name=folder.resolve().name,
        config=flat,
        log=[line for line in lines if "loss" in line],
        watched=[line for line in watched if len(line) > 1],
        ledger=_ledger(_json(folder / "ledger.json")),
        best=_best(_json(folder / "best.json")),
        metrics=_metrics(folder)[-_MOST_ROWS:],
        likelihoods=_likelihoods(folder),
        grids=sorted((int(path.stem), path) for path in pictures),
        newest=_arrays(folder / "watch" / "newest.npz"),
    )


def _current(config: dict) -> dict:
    """Return the fields of a configuration in the form of this version, {"section.field": value}; as they are stored
    if this version cannot read them, for example because a package is not installed."""
    try:
        config = to_json(from_json(config))
    except (ConfigError, TypeError, AttributeError):
        pass
    flat = flatten(config)
    return flat | {"data.source": flat.get("data.source", flat.get("data.source.name"))}


def changed_fields(config: dict) -> list[tuple[str, object, object]]:
    """Return (field, default, value) of the fields that differ from the default; a field of another version has no
    default."""
    usual = usual_fields(config)
    return [
        (name, usual.get(name, "absent"), value)
        for name, value in sorted(config.items())
        if value != usual.get(name, "absent")
    ]


def differing_fields(configs: list[dict]) -> list[tuple[str, list]]:
    """Return (field, values of all runs) of the fields in which runs differ."""
    names = sorted(set().union(*configs))
    rows = [(name, [config.get(name, "absent") for config in configs]) for name in names]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values)]


def _metrics(folder: pathlib.Path) -> list[dict]:
    """Return rows of `COLUMNS`, with None for unknown values. A likelihood in both a report and a record is one row."""
    rows, names = [], {"bpd": "bits/dim", "nats": "log p (nats)"}
    for path in [folder / "evaluation" / "evaluation.json", *sorted(folder.glob("likelihood_*.json"))]:
        if isinstance(found := _json(path), dict) and "nats" in found:
            name = "bits_per_dim" if "bits_per_dim" in found else "nats"
            rows.append({
                "metric": "bits/dim" if name == "bits_per_dim" else "log p (nats)", "value": found[name],
                "standard_error": found.get(f"{name}_error"), "num_real": found.get("num"), "split": found.get("split"),
                "step": found.get("step"), "sampler": found.get("method"), "nfe": found.get("nfe"),
            })  # fmt: skip
    known = {(row["metric"], row["value"]) for row in rows if _is_number(row["value"])}
    for row in _json_lines(folder / "evaluation" / "records.jsonl"):
        if "metric" in row and "value" in row:
            metric = str(row["metric"])
            if not _is_number(row["value"]) or (names.get(metric, metric), row["value"]) not in known:
                rows.append(row | {"metric": names.get(metric, row["metric"])})
    return [_row(row) for row in rows]


def _row(row: dict) -> dict:
    """Return the row with a text, a number or None in every column."""
    kept = {name: value for name, value in row.items() if isinstance(value, str) or _is_number(value)}
    error = kept.get("standard_error")
    return (
        dict.fromkeys(COLUMNS)
        | kept
        | {"metric": str(row["metric"]), "standard_error": error if _is_finite(error) else None}
    )


# A file may be damaged, or edited, and still be JSON: values of a wrong type are left out like missing ones.


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_finite(value) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_step(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_STEPS


def _numbers(line: dict) -> dict:
    return {
        name: value
        for name, value in line.items()
        if value is None or _is_number(value) and abs(value) < _MOST or value != value
    }


def _ledger(found: dict) -> dict:
    seconds, sessions = found.get("seconds"), found.get("sessions")
    kept = {"goodput": found["goodput"]} if _is_finite(found.get("goodput")) else {}
    if isinstance(seconds, dict):
        kept["seconds"] = {name: value for name, value in seconds.items() if _is_finite(value)}
    if isinstance(sessions, list):
        kept["sessions"] = [
            {name: str(value) for name, value in each.items()} for each in sessions if isinstance(each, dict)
        ]
    return kept


def _best(found: dict) -> dict:
    whole = isinstance(found.get("metric"), str) and _is_finite(found.get("value")) and _is_step(found.get("step"))
    return found if whole else {}


def _likelihoods(folder: pathlib.Path) -> list[tuple[str, str, np.ndarray]]:
    found = []
    for path in [*sorted(folder.glob("likelihood_*.npz")), folder / "evaluation" / "evaluation.npz"]:
        arrays = _arrays(path)
        split = path.stem.removeprefix("likelihood_") if path.stem != "evaluation" else "test"
        if any(
            array.dtype.kind != "f" or not array.ndim
            for name, array in arrays.items()
            if name in ("bits_per_dim", "log_prob")
        ):
            continue
        if "bits_per_dim" in arrays:
            found.append((split, "bits/dim", arrays["bits_per_dim"]))
        elif "log_prob" in arrays:
            found.append((split, "log p (nats)", arrays["log_prob"].mean(axis=-1)))
    # The file that the likelihood command wrote for a split takes precedence over the evaluation after training.
    return [row for k, row in enumerate(found) if row[0] not in {other[0] for other in found[:k]}]


def _json(path: pathlib.Path) -> dict:
    try:
        return read_object(path)
    except UnreadableError:
        return {}


def _json_lines(path: pathlib.Path) -> list[dict]:
    try:
        lines, _ = json_lines(path)  # the last line of a killed run is damaged
    except UnreadableError:
        return []
    return [line.value for line in lines]


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(path)
    except UnreadableError:
        return {}
