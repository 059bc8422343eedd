"""Training of one run, from its configuration to its report."""

import functools
import pathlib
import sys
from collections.abc import Callable

import jax
import numpy as np

from scoresde.data import Dataset
from scoresde.data.conditions import LABEL
from scoresde.data.labels import shown
from scoresde.errors import CheckpointError, ConfigError, DataError
from scoresde.experiment.config import differences, from_json, to_json
from scoresde.experiment.description import check_description, description
from scoresde.experiment.experiment import Experiment
from scoresde.experiment.load import TrainedModel
from scoresde.experiment.stored_data import StoredData
from scoresde.report import write_report
from scoresde.runs import Intervals, Run
from scoresde.runs.goodput import GoodputTimer
from scoresde.runtime import peers
from scoresde.runtime.places import user_cache
from scoresde.score import NetworkScore
from scoresde.train import averaged_score, fit
from scoresde.workflows.evaluate import evaluate
from scoresde.workflows.monitor import Monitor
from scoresde.workflows.request import Request

_SCALE_RECORDS = 1000  # number of records at the start from which the scale of the data is computed
_SCALE_OFF, _SCALE_WRONG = 4.0, 100.0  # limits for sigma_data over the standard deviation of the data


def train_run(experiment: Experiment, workdir: pathlib.Path, command: str = "") -> None:
    """Train into a run folder, with samples and metrics during training, and an evaluation and a report at the end.

    The same call resumes an interrupted run.

    Args:
      experiment: parts of the configuration.
      workdir: run folder.
      command: command that is stored for the report.

    Raises:
      ScoreSDEError: see `scoresde.errors`.
    """
    main_process = jax.process_index() == 0
    devices = f"{jax.process_count()} x {jax.local_device_count()} {jax.devices()[0].device_kind}"
    ledger = GoodputTimer(workdir / "ledger.json" if main_process else None, {"command": command, "devices": devices})
    dataset = checked_dataset(experiment)
    stored = StoredData.of(dataset, labelled=bool(experiment.num_classes))
    peers.agree(
        "data", fingerprint=dataset.fingerprint, devices=f"{jax.local_device_count()} {jax.devices()[0].device_kind}"
    )
    score = experiment.score(experiment.network, dataset.scales)
    if main_process:
        devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device(s), {jax.process_count()} process(es)"
        print(f"{score.network.num_params:,} parameters, {len(dataset.train)} examples, {devices}, in {workdir}")

    trained = functools.partial(_trained, experiment, dataset, score, stored)
    watch, meta = Monitor(experiment, dataset, workdir), description(experiment, stored)

    def look(state, path: pathlib.Path) -> dict[str, float]:
        looked_at = trained(state)  # complete on every process
        return watch(looked_at, path) if main_process else {}  # one process is enough

    with _folder(experiment, workdir, meta, look, ledger) as folder:
        state = fit(
            score,
            dataset,
            params=lambda: experiment.init_network().params,
            steps=experiment.training.steps,
            batch_size=experiment.training.batch_size,
            optimizer=experiment.optimizer,
            objective=experiment.objective,
            ema=experiment.averages,
            layout=experiment.parallelism,
            prepare=experiment.prepare_augmented(dataset),
            condition_dropout=experiment.training.condition_dropout,
            seed=experiment.seed,
            run=folder,
        )
    try:
        if experiment.evaluate.num:
            with ledger.part("evaluation"):
                evaluate_trained(trained(state), workdir)
    finally:
        folder.conclude()
    if main_process:
        print(f"done: {workdir}")


def _trained(experiment: Experiment, dataset: Dataset, score: NetworkScore, stored: StoredData, state) -> TrainedModel:
    """Return the run at a state of training, with the first of its averages."""
    read, ema = lambda: dataset, experiment.averages[0]
    averaged = experiment.with_prior_data(averaged_score(score, state, ema), read)
    facts = dict(classes=stored.classes, fingerprint=stored.fingerprint, nulls=stored.nulls)
    return TrainedModel(experiment, dataset.codec, averaged, int(state.step), ema, dataset.shape, read, **facts)


def _folder(experiment: Experiment, workdir: pathlib.Path, meta: dict, watch: Callable, ledger: GoodputTimer) -> Run:
    return Run(
        workdir,
        meta=meta,
        accept=lambda stored: accept(stored, meta),
        cadence=Intervals(
            *(getattr(experiment.training, f"{name}_every") for name in ("log", "checkpoint", "sample", "snapshot"))
        ),
        watch=watch,
        report=lambda: write_report(workdir),
        ledger=ledger,
        learning_rate=experiment.learning_rate,
        keep_best=experiment.training.keep_best,
        trackers=experiment.trackers,
    )


def evaluate_trained(trained: TrainedModel, workdir: pathlib.Path) -> None:
    """Compute the likelihood of `evaluate.num` test records, and write it as a record in WORKDIR/evaluation."""
    num, metric = trained.experiment.evaluate.num, "bpd" if trained.codec.levels else "nats"
    request = Request(
        (metric,), workdir / "evaluation", user_cache(), workdir=str(workdir), num=None if num < 0 else num
    )
    evaluate(request, trained)


def checked_dataset(experiment: Experiment) -> Dataset:
    """Load the data set of a configuration.

    Raises:
      DataError: there are too few records for a batch, or labels are missing.
      ConfigError: the number of classes differs.
    """
    dataset = experiment.dataset()
    if len(dataset.train) < experiment.training.batch_size:
        raise DataError(
            f"{experiment.source_name}: {len(dataset.train)} training examples, fewer than "
            f"training.batch_size = {experiment.training.batch_size}; lower it"
        )
    if experiment.num_classes:
        _check_labels(experiment, dataset)
    _check_conditions(experiment, dataset)
    check_scale(experiment, dataset)
    return dataset


def _check_labels(experiment: Experiment, dataset: Dataset) -> None:
    """Check the labels for training with classes. Training records without a label train the null class.

    Raises:
      DataError: a test label was not trained, or test records that are evaluated lack one.
      ConfigError: the number of classes differs.
    """
    named = f" (training labels {shown(dataset)})" if dataset.classes else ""
    if beyond := dataset.label_names[dataset.classes :]:
        raise DataError(
            f"{experiment.source_name}: test records have the label {beyond[0]}, which no training record has{named}; "
            "remove them, or train without conditions.class"
        )
    if dataset.classes != experiment.num_classes:
        found = f"{experiment.source_name} has labels of {dataset.classes} classes{named}"
        raise ConfigError(f"conditions.class.num_classes = {experiment.num_classes}: {found}")
    unlabelled = not dataset.test.labelled and not experiment.trains_null(LABEL, dataset.nulls)
    if unlabelled and (experiment.evaluate.num or experiment.training.keep_best == "test_loss"):
        field, without = ("evaluate.num", "0") if experiment.evaluate.num else ("training.keep_best", "''")
        raise DataError(
            f"{experiment.source_name}: {field} takes test records under their own labels, and not all have one; add "
            f"the labels, or set {field}={without}"
        )


def _check_conditions(experiment: Experiment, dataset: Dataset) -> None:
    """Check what training and sampling need of the conditions.

    Raises:
      ConfigError: samples under a null that is not trained, or a process whose prior is degraded data.
    """
    names = [name for name, kind in experiment.conditions.items() if kind.droppable]
    if not names:
        return
    missing = [name for name in names if not experiment.trains_null(name, dataset.nulls)]
    if experiment.sampling.labels == "null" and missing:
        raise ConfigError(
            f"sampling.labels = 'null': nothing trains the null of {', '.join(missing)}; set "
            "training.condition_dropout = 0.1, or take uniform or data"
        )
    if experiment.sde.needs_data:
        raise ConfigError(
            f"conditions: sde.name = '{experiment.process_name}' starts from records under any condition; expected none"
        )


def check_scale(experiment: Experiment, dataset: Dataset) -> None:
    """Check `preconditioning.sigma_data` against the data, because the input and output of the network are divided by
    it.

    Raises:
      ConfigError: sigma_data differs from the standard deviation of the data by more than a factor of `_SCALE_WRONG`;
        above `_SCALE_OFF` a warning is printed.
    """
    spectrum = experiment.preconditioning.data_spectrum()
    if spectrum is None:
        return
    values = np.asarray(
        dataset.encode(dataset.train.rows(np.arange(min(len(dataset.train), _SCALE_RECORDS)))[0]), np.float64
    )
    found, given = float(values.std()), spectrum.sigma_data
    if found == 0 or 1 / _SCALE_OFF <= given / found <= _SCALE_OFF:  # constant data have no scale
        return
    text = (
        f"preconditioning.sigma_data = {given:g}: the training data have a standard deviation of {found:.3g} in model "
        "coordinates; set it to that"
    )
    if not 1 / _SCALE_WRONG <= given / found <= _SCALE_WRONG:
        raise ConfigError(text)
    if jax.process_index() == 0:
        print(f"warning: {text}", file=sys.stderr)


def accept(stored: dict, current: dict) -> None:
    """Check that this run may continue from a checkpoint.

    Raises:
      CheckpointError: the experiment or the data differ.
      ValueError: the checkpoint has no valid description.
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
