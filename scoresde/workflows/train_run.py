"""Training of one run, from its configuration to its report."""

import functools
import pathlib
import sys
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from scoresde.data import Dataset
from scoresde.data.labels import check_classes, shown
from scoresde.errors import CheckpointError, ConfigError, DataError
from scoresde.experiment.build import (
    abstract_network,
    build_augment,
    build_averages,
    build_dataset,
    build_network,
    build_objective,
    build_optimizer,
    build_parallelism,
    build_prepare,
    build_score,
    learning_rate,
    with_prior_data,
)
from scoresde.experiment.config import differences, from_json, to_json
from scoresde.experiment.description import check_description, description
from scoresde.experiment.load import TrainedModel
from scoresde.experiment.processes import PROCESSES
from scoresde.experiment.stored_data import StoredData
from scoresde.report import write_report
from scoresde.runs import Intervals, Run
from scoresde.runs.goodput import GoodputTimer
from scoresde.runtime import peers
from scoresde.runtime.places import user_cache
from scoresde.score import NetworkScore
from scoresde.train import averaged_score, fit
from scoresde.workflows.evaluate import evaluate
from scoresde.workflows.generate import UNTRAINED
from scoresde.workflows.monitor import Monitor
from scoresde.workflows.request import Request

_SCALE_RECORDS = 1000  # the first ones, from which the scale of the data is taken
_SCALE_OFF, _SCALE_WRONG = 4.0, 100.0  # of model.sigma_data over the deviation of the data


def train_run(config: ConfigDict, workdir: pathlib.Path, command: str = "") -> None:
    """Train into a run folder, with samples and metrics during training, and an evaluation and a report at the end. The
    same call resumes an interrupted run.

    Args:
      config: validated, as `load_config` returns it.
      workdir: the run folder.
      command: stored for the report.

    Raises:
      ScoreSDEError: see `scoresde.errors`.
    """
    main_process = jax.process_index() == 0
    devices = f"{jax.process_count()} x {jax.local_device_count()} {jax.devices()[0].device_kind}"
    ledger = GoodputTimer(workdir / "ledger.json" if main_process else None, {"command": command, "devices": devices})
    dataset = checked_dataset(config)
    stored = StoredData.of(dataset, labelled=bool(config.model.num_classes))
    peers.agree(
        "data", fingerprint=dataset.fingerprint, devices=f"{jax.local_device_count()} {jax.devices()[0].device_kind}"
    )
    score = build_score(config, abstract_network(config))
    averages = build_averages(config)
    if main_process:
        devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device(s), {jax.process_count()} process(es)"
        print(f"{score.network.num_params:,} parameters, {len(dataset.train)} examples, {devices}, in {workdir}")

    trained = functools.partial(_trained, config, dataset, score, stored)
    watch, meta = Monitor(config, dataset, workdir), description(config, stored)

    def look(state, path: pathlib.Path) -> dict[str, float]:
        looked_at = trained(state)  # whole on every process
        return watch(looked_at, path) if main_process else {}  # one is enough

    with _folder(config, workdir, meta, look, ledger) as folder:
        state = fit(
            score,
            dataset,
            params=lambda: build_network(config).params,
            steps=config.training.steps,
            batch_size=config.training.batch_size,
            optimizer=build_optimizer(config),
            objective=build_objective(config),
            ema=averages,
            layout=build_parallelism(config),
            prepare=build_prepare(config, dataset),
            augment=build_augment(config),
            seed=config.seed,
            run=folder,
        )
    try:
        if config.evaluate.num:
            with ledger.part("evaluation"):
                evaluate_trained(trained(state), workdir)
    finally:
        folder.conclude()
    if main_process:
        print(f"done: {workdir}")


def _trained(config: ConfigDict, dataset: Dataset, score: NetworkScore, stored: StoredData, state) -> TrainedModel:
    """The run at a state of training, with the first of its averages."""
    read, ema = lambda: dataset, build_averages(config)[0]
    averaged = with_prior_data(averaged_score(score, state, ema), config, read)
    step, shape = int(state.step), dataset.shape
    return TrainedModel(config, dataset.codec, averaged, step, ema, shape, read, stored.classes, stored.fingerprint)


def _folder(config: ConfigDict, workdir: pathlib.Path, meta: dict, watch: Callable, ledger: GoodputTimer) -> Run:
    return Run(
        workdir,
        meta=meta,
        accept=lambda stored: accept(stored, meta),
        cadence=Intervals(*(config.training[f"{name}_every"] for name in ("log", "checkpoint", "sample", "snapshot"))),
        watch=watch,
        report=lambda: write_report(workdir),
        ledger=ledger,
        learning_rate=learning_rate(config),
        keep_best=config.training.keep_best,
        trackers=tuple(config.training.trackers),
    )


def evaluate_trained(trained: TrainedModel, workdir: pathlib.Path) -> None:
    """Compute the likelihood of `evaluate.num` test records, and write it as a record in WORKDIR/evaluation."""
    num, metric = trained.config.evaluate.num, "bpd" if trained.codec.levels else "nats"
    request = Request(
        (metric,), workdir / "evaluation", user_cache(), workdir=str(workdir), num=None if num < 0 else num
    )
    evaluate(request, trained)


def checked_dataset(config):
    """Load the data set of a configuration.

    Raises:
      DataError: too few records for a batch, or missing labels. ConfigError: a different number of classes.
    """
    dataset = build_dataset(config)
    if len(dataset.train) < config.training.batch_size:
        raise DataError(
            f"{config.data.source}: {len(dataset.train)} training examples, fewer than "
            f"training.batch_size = {config.training.batch_size}; lower it"
        )
    if config.model.num_classes:
        _check_labels(config, dataset)
    check_scale(config, dataset)
    return dataset


def _check_labels(config, dataset) -> None:
    """Check the labels for training with classes. The null class is not trained, so no record may use it.

    Raises:
      DataError: labels are missing, or a test label was not trained. ConfigError: a different number of classes.
    """
    named = f" (training labels {shown(dataset)})" if dataset.classes else ""
    if beyond := dataset.label_names[dataset.classes :]:
        raise DataError(
            f"{config.data.source}: test records have the label {beyond[0]}, which no training record has{named}; "
            "remove them, or train without classes (model.num_classes=0)"
        )
    if dataset.classes != config.model.num_classes:
        found = f"{config.data.source} has labels of {dataset.classes} classes{named}"
        raise ConfigError(f"model.num_classes = {config.model.num_classes}: {found}")
    if not dataset.train.labelled:
        check_classes(dataset, dataset.train.labels, "training records")
    if not dataset.test.labelled and (config.evaluate.num or config.training.keep_best == "test_loss"):
        field, without = ("evaluate.num", "0") if config.evaluate.num else ("training.keep_best", "''")
        raise DataError(
            f"{config.data.source}: {field} takes test records under their own labels, and not all have one; add the "
            f"labels, or set {field}={without}"
        )
    if config.sampling.labels == "null":
        raise ConfigError(UNTRAINED)
    if PROCESSES[config.sde.name].starts:
        raise ConfigError(
            f"model.num_classes = {config.model.num_classes}: sde.name = '{config.sde.name}' starts from records of "
            "any class; expected 0"
        )


def check_scale(config, dataset) -> None:
    """Check `model.sigma_data` against the data: the input and output of the network are divided by it.

    Raises:
      ConfigError: it differs by more than a factor of `_SCALE_WRONG`; above `_SCALE_OFF` a warning is printed.
    """
    if config.model.preconditioning != "edm":
        return
    values = np.asarray(
        dataset.encode(dataset.train.rows(np.arange(min(len(dataset.train), _SCALE_RECORDS)))[0]), np.float64
    )
    found, given = float(values.std()), config.model.sigma_data
    if found == 0 or 1 / _SCALE_OFF <= given / found <= _SCALE_OFF:  # constant data have no scale
        return
    text = (
        f"model.sigma_data = {given:g}: the training data have a standard deviation of {found:.3g} in model "
        "coordinates; set it to that"
    )
    if not 1 / _SCALE_WRONG <= given / found <= _SCALE_WRONG:
        raise ConfigError(text)
    if jax.process_index() == 0:
        print(f"warning: {text}", file=sys.stderr)


def accept(stored: dict, current: dict) -> None:
    """Check that this run may continue from a checkpoint.

    Raises:
      CheckpointError: the experiment or the data differ. ValueError: the checkpoint has no valid description.
    """
    check_description(stored)
    lines = differences(to_json(from_json(stored["config"], where="checkpoint")), current["config"])
    if stored["data"]["fingerprint"] != current["data"]["fingerprint"]:
        lines.append(f"data were {stored['data']['fingerprint']}, are {current['data']['fingerprint']}")
    if lines:
        raise CheckpointError(
            "the run folder holds another experiment: "
            + "; ".join(lines)
            + "; undo the change, or choose another --workdir"
        )
    # An earlier version stored fewer packages.
    known = {name: current["versions"].get(name) for name in stored["versions"]}
    for part, now in (("versions", known), ("devices", current["devices"])):
        if stored[part] != now:
            print(f"note: {part} changed from {stored[part]} to {now}; not bit-identical", file=sys.stderr)
