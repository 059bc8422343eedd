"""`python -m scoresde.train`: train, draw, evaluate; run again to continue."""

import pathlib
import shlex
import sys

import jax

from scoresde.build import (
    build_augment,
    build_averages,
    build_dataset,
    build_layout,
    build_network,
    build_objective,
    build_optimizer,
    build_prepare,
    build_score,
    learning_rate,
    undrawn_network,
    with_starts,
)
from scoresde.config import differences, from_json, load_config, to_json
from scoresde.door import Parser, add_distributed, connect, run
from scoresde.errors import CheckpointError, ConfigError, DataError
from scoresde.evaluate.request import Request, default_stats
from scoresde.evaluations import evaluate
from scoresde.report import write_report
from scoresde.train import Cadence, Run, averaged_score, fit
from scoresde.train.ledger import Ledger
from scoresde.train.trackers import require
from scoresde.trained import Trained, check_description, description
from scoresde.watch import Watch


def main(arguments: list[str]) -> None:
    parser = Parser("train", "Train a score network. The same command continues a run that was interrupted.")
    parser.add_argument("--config", required=True, help="experiment file, such as configs/digits_vp.py")
    parser.add_argument("--workdir", help="the run folder; default: runs/NAME_OF_CONFIG")
    add_distributed(parser)
    found = parser.parse(arguments)
    connect(found.distributed)  # before anything is computed; a process checks its parameters by computing
    config = load_config(found.config, found.overrides)
    require(tuple(config.training.trackers))
    build_layout(config).check(config.training.batch_size)
    workdir = pathlib.Path(found.workdir or pathlib.Path("runs") / pathlib.Path(found.config).stem)
    train(config, workdir, shlex.join(["python", "-m", "scoresde.train", *arguments]))


def train(config, workdir: pathlib.Path, command: str = "") -> None:
    """The whole line of one run: train, watch, evaluate, report. `command` is kept for the report."""
    main_process = jax.process_index() == 0
    devices = f"{jax.process_count()} x {jax.local_device_count()} {jax.devices()[0].device_kind}"
    ledger = Ledger(workdir / "ledger.json" if main_process else None, {"command": command, "devices": devices})
    dataset = checked_dataset(config)
    score = build_score(config, undrawn_network(config))
    averages = build_averages(config)
    if main_process:
        devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device(s), {jax.process_count()} process(es)"
        print(f"{score.network.num_params:,} parameters, {len(dataset.train)} examples, {devices}, in {workdir}")

    def trained(state) -> Trained:
        averaged = with_starts(averaged_score(score, state, averages[0]), config, dataset)
        return Trained(config, dataset, averaged, int(state.step), averages[0], dataset.shape)

    watch, meta = Watch(config, dataset, workdir), description(config, dataset.fingerprint)

    def look(state, path: pathlib.Path) -> dict[str, float]:
        looked_at = trained(state)  # whole on every process
        return watch(looked_at, path) if main_process else {}  # one is enough

    with Run(
        workdir,
        meta=meta,
        accept=lambda stored: accept(stored, meta),
        cadence=Cadence(*(config.training[f"{name}_every"] for name in ("log", "checkpoint", "sample", "snapshot"))),
        watch=look,
        report=lambda: write_report(workdir),
        ledger=ledger,
        learning_rate=learning_rate(config),
        keep_best=config.training.keep_best,
        trackers=tuple(config.training.trackers),
    ) as folder:
        state = fit(
            score,
            dataset,
            params=lambda: build_network(config).params,
            steps=config.training.steps,
            batch_size=config.training.batch_size,
            optimizer=build_optimizer(config),
            objective=build_objective(config),
            ema=averages,
            layout=build_layout(config),
            prepare=build_prepare(config, dataset),
            augment=build_augment(config),
            seed=config.seed,
            run=folder,
        )
    try:
        if num := config.evaluate.num:
            metric, out = "bpd" if dataset.levels else "nats", workdir / "evaluation"
            request = Request((metric,), out, default_stats(), workdir=str(workdir), num=None if num < 0 else num)
            with ledger.part("evaluation"):
                evaluate(request, trained(state))
    finally:
        folder.conclude()
    if main_process:
        print(f"done: {workdir}")


def checked_dataset(config):
    """The data set of a configuration.

    Raises:
      DataError: too few records for a batch. ConfigError: another number of classes.
    """
    dataset = build_dataset(config)
    if len(dataset.train) < config.training.batch_size:
        raise DataError(
            f"{config.data.source}: {len(dataset.train)} training examples, fewer than "
            f"training.batch_size = {config.training.batch_size}; lower it"
        )
    if config.model.num_classes and dataset.classes != config.model.num_classes:
        raise ConfigError(
            f"model.num_classes = {config.model.num_classes}: {config.data.source} has labels of {dataset.classes} classes"
        )
    return dataset


def accept(stored: dict, current: dict) -> None:
    """Whether a checkpoint may be continued by this run.

    Raises:
      CheckpointError: the experiment or the data are not the same. ValueError: the checkpoint does not say what it is of.
    """
    check_description(stored)
    lines = differences(to_json(from_json(stored["config"], where="checkpoint")), current["config"])
    if stored["data"]["fingerprint"] != current["data"]["fingerprint"]:
        lines.append(f"data were {stored['data']['fingerprint']}, are {current['data']['fingerprint']}")
    if lines:
        raise CheckpointError(
            "the run folder holds another experiment: " + "; ".join(lines) + "; undo the change, or choose another --workdir"
        )
    for part in ("versions", "devices"):
        if stored[part] != current[part]:
            print(f"note: {part} changed from {stored[part]} to {current[part]}; not bit-identical", file=sys.stderr)


if __name__ == "__main__":
    run(main)
