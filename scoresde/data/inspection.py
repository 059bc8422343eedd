"""Inspection of a data set before training: counts, values, duplicates, and values for the configuration.

    sigma_data      standard deviation of the training values in model coordinates (Karras et al. 2022, table 1)
    sigma_max       largest distance between two training records in model coordinates (Song and Ermon 2020,
                    technique 1); it is computed from a sample and so is a lower estimate

Duplicates are records with equal decoded bytes.
"""

import hashlib
import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from scoresde.data.dataset import Dataset, Source
from scoresde.data.files import listed
from scoresde.data.labels import MISSING
from scoresde.data.stream import permutation
from scoresde.data.survey import in_threads

SAMPLED, SAMPLED_VALUES = 2048, 2**25  # most records whose distances are computed, and values (256 MiB)
SHOWN = 64  # records in the picture
_SAMPLE = 2**32 + 1  # seed of the sample of records, which no run and no generated set has
_CHUNK = 256
_LISTED = 20


class Part(NamedTuple):
    """Statistics of the values of train or test; `mean` and `std` are per channel, `levels` counts the grey levels."""

    count: int
    labels: dict[int, int]
    low: float
    high: float
    mean: np.ndarray
    std: np.ndarray
    levels: np.ndarray
    digests: list[bytes]

    def counts(self) -> dict[str, int]:
        """Return the number of records with each label."""
        return {str(k): n for k, n in sorted(self.labels.items()) if k != MISSING}


def inspect(dataset: Dataset) -> dict:
    """Return the report on a data set, in JSON types."""
    parts = {
        name: _scanned(source, dataset.levels, f"inspect {name}")
        for name, source in (("train", dataset.train), ("test", dataset.test))
    }
    train = parts["train"]
    sampled, distance = largest_distance(dataset)
    # x = slope v + ..., so standard deviations are multiplied by the slope, which is 1 for continuous data.
    slope = (2.0 if dataset.centered else 1.0) / dataset.levels if dataset.levels else 1.0
    # If all values are equal, a computed deviation would be rounding error.
    overall = math.sqrt(float(np.mean(train.std**2) + np.var(train.mean))) if train.low < train.high else 0.0
    report = {
        "source": dataset.name,
        "fingerprint": dataset.fingerprint,
        "shape": list(dataset.shape),
        "levels": dataset.levels,
        "train": train.count,
        "test": parts["test"].count,
        "classes": dataset.classes,
        "labels": {name: part.counts() for name, part in parts.items()},
        "label_names": list(dataset.label_names),
        "without_label": {name: part.labels.get(MISSING, 0) for name, part in parts.items()},
        "range": [train.low, train.high],
        "levels_used": int((train.levels > 0).sum()) if dataset.levels else 0,
        "mean": train.mean.tolist(),
        "std": train.std.tolist(),
        "sigma_data": slope * overall,
        "sigma_max": distance,
        "sampled": sampled,
        "duplicates": duplicates(dataset, parts["train"].digests, parts["test"].digests),
    }
    return report | ({"files": _files(dataset.found)} if dataset.found else {})


def sample(source: Source, count: int) -> np.ndarray:
    """Return the numbers of `count` random records, the same on every call."""
    return np.sort(permutation(_SAMPLE, 0, len(source))[:count])


def largest_distance(dataset: Dataset) -> tuple[int, float]:
    """Return the number of compared training records, and the largest distance between two of them in model
    coordinates."""
    size = math.prod(dataset.shape)
    count = min(len(dataset.train), SAMPLED, max(2, SAMPLED_VALUES // size))
    values, _ = dataset.train.rows(sample(dataset.train, count))
    x = np.asarray(dataset.encode(values), np.float64).reshape(count, size)
    x -= x[0]  # so that equal records have the distance 0 without rounding error
    squares = (x**2).sum(axis=1)
    return count, math.sqrt(max(0.0, float((squares[:, None] + squares - 2 * x @ x.T).max())))


def duplicates(dataset: Dataset, train: list[bytes], test: list[bytes]) -> dict:
    """Count copies within train and within test and test records that are also in train, and name the first ones."""
    names = {"train": _names(dataset.train, "train"), "test": _names(dataset.test, "test")}
    first, counts, pairs = {}, {"train": 0, "test": 0, "between": 0}, []
    for part, digests in (("train", train), ("test", test)):
        own = set()
        for number, digest in enumerate(digests):
            place = (part, number)
            if digest in own:
                counts[part] += 1
            elif digest in first:
                counts["between"] += 1
            if digest in first and len(pairs) < _LISTED:
                other, at = first[digest]
                pairs.append([names[other](at), names[part](number)])
            own.add(digest)
            first.setdefault(digest, place)
    return counts | {"first": pairs}


def _names(source: Source, part: str):
    """Return the function that names a record: by its file, or by its number."""
    return getattr(source, "name_of", lambda number: f"{part} {number}")


def _scanned(source: Source, levels: int, what: str) -> Part:
    channels = source.shape[-1]
    chunks = range(0, len(source), _CHUNK)

    def look(number: int):
        values, conditions = source.rows(np.arange(chunks[number], min(chunks[number] + _CHUNK, len(source))))
        labels = conditions.get("class", np.full(len(values), MISSING))
        flat = values.reshape(-1, channels).astype(np.float64)
        used = np.bincount(values.reshape(-1), minlength=levels) if levels else np.zeros(0, np.int64)
        digests = [hashlib.blake2b(value.tobytes(), digest_size=16).digest() for value in values]
        own = flat.mean(axis=0)
        moments = len(flat), own, ((flat - own) ** 2).sum(axis=0)
        return *moments, flat.min(), flat.max(), used, Counter(labels.tolist()), digests

    # The sums are merged as in Chan, Golub and LeVeque 1983, which avoids cancellation if the mean is much larger than
    # the deviation.
    points, mean, square = 0, np.zeros(channels), np.zeros(channels)
    low, high, used, labels, digests = math.inf, -math.inf, np.zeros(levels, np.int64), Counter(), []
    looked = in_threads(len(chunks), look, what, records=len(source))
    for count, own, squares, least, most, counts, of_chunk, found in looked:
        share, apart = count / (points + count), own - mean
        square = square + squares + apart**2 * (points * share)
        points, mean = points + count, mean + apart * share
        low, high, used = min(low, float(least)), max(high, float(most)), used + counts
        labels.update(of_chunk)
        digests += found
    std = np.sqrt(square / points)
    return Part(len(source), dict(labels), low, high, mean, std, used, digests)


def _files(found) -> dict:
    survey = found.survey
    return {
        "summary": survey.summary(),
        "kinds": survey.kinds,
        "sizes": dict(
            zip(
                ("least_width", "greatest_width", "least_height", "greatest_height", "median_shorter_side"),
                survey.sizes,
            )
        ),
        "resized": survey.unlike,
        "enlarged": survey.enlarged,
        "bad": [list(pair) for pair in survey.bad],
        "parts": found.parts,
        "labels_from": found.labelled,
        "not_read": found.others,
        "notes": list(found.notes),
        "class_names": list(found.classes),
        "left_out": found.left_out,
        "rule": str(found.rule),
    }


def text(report: dict, lines: list[str]) -> str:
    """Format the report as text, followed by the lines of configuration to copy."""

    def row(name: str, *values: str) -> list[str]:
        return [f"{name if k == 0 else '':<12}{value}" for k, value in enumerate(values)]

    files, shape = report.get("files"), report["shape"]
    out = [
        report["source"],
        *row(
            "records",
            f"{report['train']} for training, {report['test']} for testing" + (f" ({files['parts']})" if files else ""),
        ),
    ]
    if files:
        out += row(
            "files",
            files["summary"],
            *([f"{files['left_out']} left out: in neither part"] if files["left_out"] else []),
        )
        out += row("not read", listed(files["not_read"]) if files["not_read"] else "none: all files are images")
        out += row("damaged", *([f"{name}: {reason}" for name, reason in files["bad"]] or ["none"]))
    levels = (
        f"{report['levels']} grey levels, {report['levels_used']} of them used" if report["levels"] else "continuous"
    )
    out += row(
        "shape", f"{' x '.join(map(str, shape))}, {levels}, from {report['range'][0]:.6g} to {report['range'][1]:.6g}"
    )
    per_channel = [f"{mean:.6g} +- {std:.6g}" for mean, std in zip(report["mean"], report["std"])]
    out += row(
        "channels",
        *[f"{k}: {value}" for k, value in enumerate(per_channel[:8])],
        *(["..."] if len(per_channel) > 8 else []),
    )
    names = report["label_names"]
    called = [k if name == k else f"{k} is {name}" for k, name in zip(map(str, range(len(names))), names)]
    counts = [f"{called[int(k)]}: {n}" for k, n in report["labels"]["train"].items()]
    origin = f" (from {files['labels_from']})" if files else ""
    shown = ", ".join(counts[:_LISTED]) + (", ..." if len(counts) > _LISTED else "")
    untrained = names[report["classes"] :]
    beyond = [f"of test records alone: {', '.join(untrained[:_LISTED])}"] if untrained else []
    beyond += [f"{n} {part} records without a label" for part, n in report["without_label"].items() if n and names]
    out += row("labels", f"{report['classes']} classes{origin}: {shown}", *beyond) if names else row("labels", "none")
    out += row("notes", *files["notes"]) if files else []
    same = report["duplicates"]
    pairs = [f"{a} = {b}" for a, b in same["first"]]
    out += row(
        "duplicates", f"{same['train']} in train, {same['test']} in test, {same['between']} of test in train", *pairs
    )
    if not report["sigma_data"] or same["train"] == report["train"] - 1 > 0:
        equal = "records" if report["sigma_data"] else "values"
        out += row("constant", f"all training {equal} are the same: there is nothing to learn")
    out += row("sigma_data", f"{report['sigma_data']:.4g}, in model coordinates")
    out += row(
        "sigma_max",
        f"{report['sigma_max']:.4g} or a little more, the largest distance among {report['sampled']} training records "
        "(ve, karras)",
    )
    return "\n".join([*out, "", "in a configuration:", *lines])
