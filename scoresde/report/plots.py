"""Charts of a run, and charts that overlay several runs."""

import numpy as np

from scoresde.report.chart import LARGE, SMALL, Bars, Chart, Line
from scoresde.report.facts import Facts

# Metrics of samples: title of the chart, and label of the axis.
FIGURES = {
    "sliced_wasserstein": ("Distance of samples to test records", "sliced Wasserstein distance"),
    "mean_error": ("Error of the mean", "root mean square"),
    "deviation_error": ("Error of the standard deviation", "root mean square"),
    "nearest": ("Distance to the nearest training record", "relative to test records"),
}


def training_charts(facts: Facts) -> dict[str, Chart]:
    """Return the charts of training, by the name of the SVG file."""
    charts = {
        "loss": Chart("Loss", "step", "loss", (
            Line("batches", *facts.series("loss")),
            Line("fixed training records", *facts.series("train_loss", facts.watched), marks=True),
            Line("fixed test records", *facts.series("test_loss", facts.watched), marks=True),
        ), start=0),
        "learning_rate": Chart("Learning rate", "step", "learning rate", (Line("learning rate",
        *facts.series("learning_rate")),), start=0),
        "grad_norm": Chart("Norm of the gradient", "step", "norm before clipping", (Line("norm",
        *facts.series("grad_norm")),), start=0),
    }  # fmt: skip
    if "log_snr" in facts.newest:
        levels = facts.newest["log_snr"]
        charts["loss_by_log_snr"] = Chart("Loss by log-SNR", "log-SNR (noise on the left)", "loss", tuple(
            Line(f"fixed {name} records", levels, facts.newest[f"{split}_loss"], marks=True)
            for split, name in (("train", "training"), ("test", "test")) if f"{split}_loss" in facts.newest
        ))  # fmt: skip
    return charts


def sample_charts(facts: Facts) -> dict[str, Chart]:
    """Return the charts of the metrics of samples over time."""
    charts = {}
    for name, (title, label) in FIGURES.items():
        x, y = facts.series(name, facts.watched)
        floor = 1.0 if name == "nearest" else facts.newest.get(f"floor_{name}")
        lines = [Line("samples", x, y, marks=True)]
        if len(x) > 1 and floor is not None:
            told = "test records" if name == "nearest" else "as many training records"
            lines.append(Line(told, np.array([x.min(), x.max()]), np.full(2, float(floor)), dashed=True))
        charts[name] = Chart(title, "step", label, tuple(lines), size=LARGE if name == "nearest" else SMALL, start=0)
    return charts


def distance_chart(facts: Facts) -> Chart:
    """Return the chart of the nearest distances of samples and of test records."""
    sets = (("samples", "nearest"), ("test records", "nearest_of_test"))
    bars = tuple(Bars(told, facts.newest[name]) for told, name in sets if name in facts.newest)
    return Chart("Distance to the nearest training record", "distance / median of test records", "share", bars=bars)


def likelihood_charts(facts: Facts) -> dict[str, Chart]:
    """Return a histogram for each unit, in which the splits overlap."""
    units = {
        unit: [(split, values) for split, other, values in facts.likelihoods if other == unit]
        for _, unit, _ in facts.likelihoods
    }
    return {
        f"likelihood_{k}": Chart(
            "Likelihood of records", unit, "share", bars=tuple(Bars(split, values) for split, values in sets)
        )
        for k, (unit, sets) in enumerate(units.items())
    }


def pair_charts(facts: Facts) -> list[Chart]:
    """Return, for runs on curves, charts of a sample and its nearest training record, one for each pair and channel."""
    pairs = facts.newest.get("pairs")
    if pairs is None or pairs.ndim != 4:  # [2, pairs, points, channels]
        return []
    places = (np.arange(pairs.shape[2]) + 0.5) / pairs.shape[2]
    names = ("sample", "training record")
    return [
        Chart("Sample and nearest training record", "place", f"channel {c}" if pairs.shape[3] > 1 else "value", tuple(
            Line(name, places, pairs[side, k, :, c]) for side, name in enumerate(names)
        ), size=SMALL)
        for k in range(min(pairs.shape[1], 6)) for c in range(pairs.shape[3])
    ]  # fmt: skip


def trajectory_charts(facts: Facts) -> list[Chart]:
    """Return, for runs on curves, charts of E[x_0 | x_t] of a few seeds, one for each time and channel."""
    curves = facts.newest.get("trajectory")
    if curves is None or curves.ndim != 4:  # [times, seeds, points, channels]
        return []
    places = (np.arange(curves.shape[2]) + 0.5) / curves.shape[2]
    return [
        Chart(f"log-SNR {level:.3g}", "place", f"channel {c}" if curves.shape[3] > 1 else "value", tuple(
            Line("", places, curve[:, c]) for curve in each
        ), size=SMALL)
        for c in range(curves.shape[3]) for level, each in zip(facts.newest["trajectory_log_snr"], curves)
    ]  # fmt: skip


def comparing_charts(runs: list[Facts]) -> dict[str, Chart]:
    """Return charts that each show one metric of all runs."""
    charts = {
        "loss": Chart(
            "Loss", "step", "loss of batches", tuple(Line(run.name, *run.series("loss")) for run in runs), start=0
        )
    }
    charts["test_loss"] = Chart("Loss on fixed test records", "step", "loss", tuple(
        Line(run.name, *run.series("test_loss", run.watched), marks=True) for run in runs
    ), start=0)  # fmt: skip
    charts["learning_rate"] = Chart("Learning rate", "step", "learning rate", tuple(
        Line(run.name, *run.series("learning_rate")) for run in runs
    ), start=0)  # fmt: skip
    for name, (title, label) in FIGURES.items():
        lines = tuple(Line(run.name, *run.series(name, run.watched), marks=True) for run in runs)
        charts[name] = Chart(title, "step", label, lines, start=0)
    with_levels = [run for run in runs if "test_loss" in run.newest]
    charts["loss_by_log_snr"] = Chart("Test loss by log-SNR", "log-SNR (noise on the left)", "loss", tuple(
        Line(run.name, run.newest["log_snr"], run.newest["test_loss"], marks=True) for run in with_levels
    ))  # fmt: skip
    return charts
