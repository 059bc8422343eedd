"""Trained models of functions against fresh draws of the truth: python benchmarks/functions.py NAME=WORKDIR ...

For runs of `gp_mixture`, `quadratic` and `gaussian_process`, whose laws are known on every grid; of measured functions
the test records are compared, beside the training records. Draws 1000 functions with the run's
own sampler on the grid of training and on two and four times as many points, and writes results/functions.json and
docs/functions.png (one row a run, a column a grid; the truth on the left).

- unbiased MMD^2 and power of the two-sample test for 10 and 100 functions (5 % is chance), beside the same of fresh
truth;
- transfer: distances on the grid of training and on the finer one, see `scoresde.metrics.functions.transfer_curve`.
"""

import sys

import matplotlib
import numpy as np
from record import FOLDER, record

from scoresde.data import functions
from scoresde.errors import ConfigError
from scoresde.experiment.load import load_run
from scoresde.metrics.functions import median_bandwidth, mmd2, permutation_test, power, transfer_curve
from scoresde.runtime.sharding import local_copy
from scoresde.workflows.generate import draw, sampler_of

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

NUM, BATCH, SHOWN = 1000, 250, 40
TESTS = {10: 400, 100: 100}  # functions in a test: tests
SEEDS = (1, 2)  # of the truth to compare with, and of the truth that stands for a perfect model


def drawn(trained) -> np.ndarray:
    sampler, parts = sampler_of(trained), []
    for first in range(0, NUM, BATCH):
        parts.append(draw(trained, sampler, np.arange(first, first + BATCH, dtype=np.uint32), BATCH, {}))
    if not all(part.ok.all() for part in parts):
        raise ConfigError("a sample is not finite")
    return np.concatenate([part.x for part in parts])


def compared(x: np.ndarray, truth: np.ndarray) -> dict:
    tests = {size: power(truth, x, size, repeats=repeats) for size, repeats in TESTS.items()}
    return {"mmd2": mmd2(x, truth), **{f"power_{m}": [t.rate, t.standard_error] for m, t in tests.items()}}


def rows_of(samples: dict, truth: dict, points: int) -> list[dict]:
    """The transfer curve without what a grid does not have: the training grid has no waves above its own."""
    return [
        {name: value for name, value in row.items() if value == value}
        for row in transfer_curve(samples, truth, (points,))
    ]


def measured(trained) -> dict:
    """MMD^2 to the test records, of samples and of the training records, and the p-values of as many of each against
    them."""
    test, train = (part.values for part in (trained.dataset.test, trained.dataset.train))
    pools, found = {"model": drawn(trained), "training records": train}, {}
    for name, x in pools.items():
        p = permutation_test(x[-len(test) :], test).p_value
        found[name] = {"mmd2": mmd2(x, test, median_bandwidth(train, test)), "p_value": p}
    return {"source": trained.experiment.data.source.partition(":")[0], "test records": len(test), **found}


def main(arguments: list[str]) -> None:
    runs = dict(argument.split("=", 1) for argument in arguments)
    table, rows = {}, []
    for name, workdir in runs.items():
        trained = load_run(workdir)
        trained = trained._replace(score=local_copy(trained.score))
        if trained.experiment.data.source.startswith("functions:"):
            table[name] = measured(trained)
            print(name, table[name], flush=True)
            continue
        source, (points, channels) = trained.experiment.data.source, trained.shape
        grids = [points, 2 * points, 4 * points]
        truth, again = ({n: functions.draw(source, NUM, (n, channels), seed) for n in grids} for seed in SEEDS)
        samples = {n: drawn(trained.at((n,))) for n in grids}
        table[name] = {
            "source": source, "sde": trained.experiment.process_name, "step": trained.step,
            "sampler": trained.experiment.sampler_name,
            "model": compared(samples[points], truth[points]), "fresh truth": compared(again[points], truth[points]),
            "transfer": rows_of(samples, truth, points), "transfer of fresh truth": rows_of(again, truth, points),
        }  # fmt: skip
        print(name, {k: table[name][k] for k in ("model", "fresh truth")}, flush=True)
        for row in table[name]["transfer"]:
            print("  ", {k: v if isinstance(v, str | int) else f"{v:.2g}" for k, v in row.items()}, flush=True)
        rows.append((name, truth[points], samples))
    record("functions", {"num": NUM, "tests": TESTS, "runs": table})
    picture(rows)


def picture(rows) -> None:
    figure, axes = plt.subplots(len(rows), 4, figsize=(13, 2.4 * len(rows)), sharey="row", squeeze=False)
    for line, (name, truth, samples) in zip(axes, rows):
        for axis, (title, x) in zip(
            line, {f"{name}: truth": truth, **{f"model, {n} points": x for n, x in samples.items()}}.items()
        ):
            axis.plot(
                (np.arange(x.shape[1]) + 0.5) / x.shape[1], x[:SHOWN, :, 0].T, color="navy", alpha=0.35, linewidth=0.6
            )
            axis.set_title(title, fontsize=9)
            axis.tick_params(labelsize=7)
    figure.tight_layout()
    figure.savefig(FOLDER.parents[1] / "docs" / "functions.png", dpi=90)


if __name__ == "__main__":
    main(sys.argv[1:])
