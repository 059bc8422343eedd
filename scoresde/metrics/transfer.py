r"""Metrics of a model that was trained on one grid on finer grids.

Samples on a finer grid are compared twice: projected to the training grid, where the metrics should not become worse,
and on the finer grid, where the wavenumbers above the training grid's must also be right. The truth is projected in the
same way, so that the part that the projection removes does not count as an error.
"""

from collections.abc import Callable

import numpy as np

from scoresde.errors import DataError
from scoresde.metrics.arrays import functions, pair
from scoresde.metrics.spectra import FLOOR, autocorrelation_error, moment_errors, project, spectrum_error
from scoresde.metrics.twosample import mmd2, sliced_wasserstein


def distances(x, y, nyquist: int, floor: float = FLOOR) -> dict[str, float]:
    """Return the metrics of a row of `transfer_curve`; `floor` is that of `spectrum_error`."""
    spectrum, pointwise = spectrum_error(x, y, nyquist, floor), moment_errors(x, y)
    return {
        "mmd2": mmd2(x, y),
        "sliced_wasserstein": sliced_wasserstein(x, y),
        "spectrum_below": spectrum.below,
        "spectrum_above": spectrum.above,
        "mean": pointwise["mean"],
        "variance": pointwise["variance"],
        "autocorrelation": autocorrelation_error(x, y),
    }


def transfer_curve(
    samples: dict, truth: dict, training: tuple[int, ...], *, project: Callable = project, metrics: Callable = distances
) -> list[dict]:
    """Return rows {"points", "at": "training" or "native", metric: value}, in the order of `samples`.

    Args:
        samples: {points along the first axis: [N, *grid, channels]}, samples of the model on each grid.
        truth: {points: [N, *grid, channels]}, samples of the true distribution with the same keys.
        training: the training grid, such as (64,).
        project: function (x, grid) -> x on the grid.
        metrics: function (x, y, nyquist) -> {name: value}, where `nyquist` is the least number of points along an axis
            of the training grid. For `distances` with another floor use `functools.partial(distances, floor=...)`.

    Raises:
        DataError: the truth lacks a grid, or its records have another shape than the samples.
    """
    training, rows = tuple(training), []
    for points, drawn in samples.items():
        if points not in truth:
            raise DataError(
                f"truth: expected draws on {points} points as well, got {', '.join(map(str, truth))}; draw them"
            )
        x, y = pair(drawn, truth[points], (f"samples[{points}]", f"truth[{points}]"))
        for at, grid in (("training", training), ("native", x.shape[1:-1])):
            a, b = (x, y) if grid == x.shape[1:-1] else (project(x, grid), project(y, grid))
            rows.append({"points": points, "at": at, **metrics(a, b, min(training))})
    return rows


def commutation(fine: Callable, coarse: Callable, u, grid: tuple[int, ...], *, project: Callable = project) -> float:
    """Return |P D_fine(u) - D_coarse(P u)| / |D_coarse(P u)|, which is 0 for a denoiser of functions.

    Both denoisers map [N, *grid, channels] to the same shape at one t. The exact denoiser of band-limited functions
    under noise with a fixed trace-class covariance gives 0. Under white pixel noise the same function has another SNR
    on every grid.

    Args:
        fine: denoiser on the grid of u.
        coarse: denoiser on `grid`.
        u: noisy functions [N, *fine grid, channels].
        grid: the coarse grid.
        project: P, a function (x, grid) -> x on the grid.

    Raises:
        DataError: D_coarse(P u) is 0 everywhere.
    """
    u = functions(u, "u", 1)
    first = functions(project(functions(fine(u), "fine(u)", 1), grid), "project(fine(u))", 1)
    second = functions(coarse(functions(project(u, grid), "project(u)", 1)), "coarse(project(u))", 1)
    first, second = pair(first, second, ("project(fine(u))", "coarse(project(u))"), 1)
    size = np.linalg.norm(second)
    if not size > 0:
        raise DataError("commutation: expected a denoiser that is not 0, got 0 everywhere; give another u or t")
    return float(np.linalg.norm(first - second) / size)
