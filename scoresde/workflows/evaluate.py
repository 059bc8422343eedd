"""Evaluation of runs and of sets of images: each metric is one line of OUT/records.jsonl.

    fakes   samples generated from a run, OUT/samples/KEY; or an array of a file
    reals   a split of the run's data; or an array of a file; or published mu and sigma
    both    -> features, OUT/features/KEY of fakes and STATS/KEY of reals -> metrics

Every step stores its results, so an interrupted command continues in the same batches and gives the same numbers.
"""

import hashlib
import json
import math
import pathlib
import sys
import time

import jax
import numpy as np

from scoresde.data.conditions import LABEL
from scoresde.errors import ConfigError, DataError
from scoresde.experiment.load import LATEST, TrainedModel, load_run
from scoresde.metrics import record
from scoresde.metrics.measure import FID_NUM, Measured, check, measure
from scoresde.metrics.scales import check_scales
from scoresde.runtime.versions import commit, versions
from scoresde.workflows.compared_sets import fakes_of, given_features, reals_of
from scoresde.workflows.conditions import by_data, open_entries
from scoresde.workflows.feature_extractors import feature_network
from scoresde.workflows.function_metrics import function_metrics
from scoresde.workflows.likelihood import evaluate_batches, parameters_crc32
from scoresde.workflows.request import Request, validate

FILE = "records.jsonl"
# Fields that must be equal if one number repeats another.
_SAME = (
    "step",
    "ema",
    "parameters_crc32",
    "data",
    "config_hash",
    "samples",
    "reference",
    "network",
    "network_sha256",
    "seeds",
)
_EMPTY = dict.fromkeys((
    "num_fake", "num_real", "split", "step", "ema", "data", "config_hash", "parameters_crc32", "sampler", "sampling",
    "nfe", "seeds",
    "failed", "samples", "reference", "network", "network_sha256", "resize", "channels",
))  # fmt: skip


def load(request: Request) -> TrainedModel | None:
    """Load the run of a request; None if the request has no run."""
    if not request.workdir:
        return None
    overrides = [*request.overrides] + ([] if request.steps is None else [f"sampling.steps={request.steps}"])
    trained = load_run(
        request.workdir, ema=request.ema, sampler=request.sampler, overrides=overrides,
        checkpoint=request.checkpoint or LATEST,
    )  # fmt: skip
    if not open_entries(trained) or any(text.startswith("sampling.labels=") for text in request.overrides):
        return trained
    if trained.dataset.classes or open_entries(trained) != [LABEL]:
        return by_data(trained)
    print(f"note: {trained.dataset.name} has no labels: classes of samples are drawn uniformly", file=sys.stderr)
    return trained


def evaluate(request: Request, trained: TrainedModel | None, expected: dict | None = None) -> list[dict]:
    """Compute all metrics of a request, write them as records and return them.

    Several processes share the work of `bpd` and `nats`.

    Args:
        request: flags of the command.
        trained: result of `load`.
        expected: record that this evaluation repeats, if any.

    Raises:
        ConfigError: a flag is wrong, or the run or network differs from `expected`.
        DataError: data are wrong or missing.
        NumericError: a solver failed.
    """
    validate(request)
    request.out.mkdir(parents=True, exist_ok=True)  # before the work, so that a bad path causes no loss
    about = _EMPTY | {
        "repeats": request.repeats or 1, "versions": versions(), "commit": commit(),
        "arguments": request.arguments(),
        "device": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
    }  # fmt: skip
    if trained:
        config = dict(trained.experiment.config)
        # The location of the data and the length of the run are not compared: see "data" and "parameters_crc32".
        config["data"] = {k: v for k, v in config["data"].items() if k not in ("source", "data_dir")}
        config = {k: v for k, v in config.items() if k not in ("training", "optim")}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        about |= {"step": trained.step, "ema": trained.ema, "data": _fingerprint(trained), "config_hash": digest}
        about |= {"parameters_crc32": parameters_crc32(trained)}
    records = []
    if request.of_features:
        records += _compared(request, trained, about, expected)
    for name in request.of_run:
        _same(about, expected, of_features=False)
        records += [_written(request, about | found) for found in _OF_RUN[name](request, trained, name)]
    return records


def _fingerprint(trained: TrainedModel) -> str:
    """Return the fingerprint of the data. If the data are missing and nothing else needs them, the fingerprint that was
    stored at training is returned."""
    try:
        return trained.dataset.fingerprint
    except DataError:
        return trained.fingerprint


def _compared(request: Request, trained: TrainedModel | None, about: dict, expected: dict | None) -> list[dict]:
    """Compute the metrics of features. Files, shapes and the reference are checked before samples are generated."""
    wanted = request.of_features
    if request.features:
        space, fakes, reals = given_features(request)
    else:
        fakes, reals = fakes_of(request, trained), reals_of(request, trained)
        space = feature_network(request.network, fakes.shape)
        if reals.shape not in (None, fakes.shape):
            raise DataError(
                f"expected fakes and reals of one shape, got {fakes.shape} and {reals.shape}; give images of one size"
            )
        if reals.shape is not None:
            check_scales(fakes.span, reals.span, fakes.shape)
    check(wanted, space, features_known=bool(request.features) or reals.shape is not None)
    about = about | fakes.about | reals.about
    about |= {"network": space.name, "network_sha256": space.sha256, "resize": space.resize, "channels": space.channels}
    _same(about, expected)
    real = None if wanted == ("is",) else reals.get(space)
    parts, counts = [], []
    for features, count in fakes.get(space):
        parts.append(measure(wanted, features, real, space))
        counts.append(count)
    known = all(count["nfe"] is not None for count in counts)
    about |= {"num_fake": counts[0]["num_fake"], "failed": sum(count["failed"] for count in counts)}
    about |= {"nfe": float(np.mean([count["nfe"] for count in counts])) if known else None}
    return [_written(request, about | _together([part[k] for part in parts])) for k in range(len(parts[0]))]


def _likelihood(request: Request, trained: TrainedModel, name: str) -> list[dict]:
    if name == "bpd" and not trained.codec.levels:
        raise DataError(
            f"bpd: bits/dim needs integer data, and {trained.experiment.source_name} is continuous (data.levels = 0); "
            "ask for nats"
        )
    found = evaluate_batches(
        trained, num=-1 if request.num is None else request.num, out=request.out, folder=pathlib.Path(request.workdir)
    )
    if _main():
        print(found.text())
    key = {"bpd": "bits_per_dim", "nats": "nats"}[name]
    about = {"split": "test", "num_real": found.report["num"], "nfe": found.report["nfe"]}
    details = {
        k: v for k, v in found.report.items() if k not in ("config", "versions", "command", "devices", "signs", *about)
    }
    measured = Measured(name, found.report[key], found.report[f"{key}_error"], name, details)
    return [about | _together([measured])]


def _functions(request: Request, trained: TrainedModel, _: str) -> list[dict]:
    about, found = function_metrics(trained, request.num, request.seeds, request.out)
    return [about | _together([measured]) for measured in found]


_OF_RUN = {"bpd": _likelihood, "nats": _likelihood, "functions": _functions}


def _together(parts: list[Measured]) -> dict:
    """Average over repeats, with the standard error over repeats, or that of the single estimate."""
    values, first = [part.value for part in parts], parts[0]
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else first.standard_error
    spread = "over repeats" if len(values) > 1 else None if error is None else "within the one set of fakes"
    found = {
        "metric": first.metric,
        "value": float(np.mean(values)),
        "standard_error": error,
        "error_is": spread,
        "values": values,
    }
    return found | {"asked": first.asked, "details": first.details}


def _written(request: Request, found: dict) -> dict:
    found = (
        {name: found[name] for name in ("metric", "value", "standard_error")}
        | found
        | {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    )
    if not _main():
        return found
    record.append(request.out / FILE, found)
    error = "" if found["standard_error"] is None else f" +- {found['standard_error']:.2g}"
    sides = ", ".join(
        f"{found[name]} {word}" for name, word in (("num_fake", "fakes"), ("num_real", "reals")) if found[name]
    )
    print(
        f"{found['metric']} {found['value']:.6g}{error}  ({sides}{', ' + found['network'] if found['network'] else ''})"
    )
    if found["metric"].startswith("fid@"):
        print(
            f"note: {found['metric']} is biased upwards and is not FID, which takes {FID_NUM} fakes; compare it at "
            "this number alone"
        )
    return found


def _main() -> bool:
    """Return whether this process writes and prints; only one of several processes does."""
    return jax.process_index() == 0


def _same(about: dict, expected: dict | None, *, of_features: bool = True) -> None:
    """Check that the evaluated run, data and network are those of the record.

    Raises:
        ConfigError: the run, data or network differs from the record.
    """
    names = _SAME if of_features else _SAME[:5]
    if expected and (
        different := [
            f"{name} was {expected.get(name)!r}, is {about[name]!r}"
            for name in names
            if expected.get(name) != about[name]
        ]
    ):
        earlier = f", or add --checkpoint {expected['step']}" if expected.get("step") != about["step"] else ""
        raise ConfigError(
            f"--repeat: this is no repetition: {'; '.join(different)}; put back what was evaluated{earlier}"
        )
