"""Charts of the calibration of posterior samplers, from `scoresde.metrics.sbc` and `scoresde.metrics.tarp`.

`scoresde.report.svg` draws them:

    pathlib.Path("ranks.svg").write_text(svg(sbc_charts(sbc(truths, draws), 0)[0]))
"""

import numpy as np

from scoresde.metrics.ecdf import Band
from scoresde.metrics.expected_coverage import TARP
from scoresde.metrics.ranks import SBC
from scoresde.report.chart import SMALL, Chart, Line


def sbc_charts(result: SBC, statistic: int = 0, *, name: str = "") -> tuple[Chart, Chart]:
    """Return the histogram of the ranks of one statistic, and its empirical distribution function less the uniform one.

    The dashed lines are the pointwise intervals of the counts, relative to the expected counts, and the simultaneous
    band of the function. The difference is drawn because the band is narrow compared with the function itself.

    Args:
        result: result of `sbc`.
        statistic: index of the statistic.
        name: name of the statistic in the titles.
    """
    of, level = f" of {name}" if name else "", f"{100 * result.band.level:g} %"
    bins = len(result.expected)
    places, length = np.linspace(0, 1, bins + 1), result.draws
    counts, low, high = (row / result.expected for row in (result.histogram[statistic], *result.interval))
    histogram = Chart(
        f"Ranks{of} among {length} draws",
        "rank / number of draws",
        "count / expected count",
        (
            _outline("ranks", *_stairs(places, counts)),
            _closed(f"{level} for each bin", *_stairs(places, low), *_stairs(places, high)),
        ),
        size=SMALL,
    )
    function = _difference(
        f"Distribution of the ranks{of}", "z = rank / (draws + 1)", "share of ranks below, less z", result.band,
        result.ecdf[statistic], "ranks",
    )  # fmt: skip
    return histogram, function


def tarp_chart(result: TARP) -> Chart:
    """Return the chart of the expected coverage less the nominal level, with its simultaneous band."""
    return _difference(
        "Expected coverage", "nominal level", "expected coverage less level", result.band, result.ecp, "coverage"
    )


def _difference(title: str, x_label: str, y_label: str, band: Band, values: np.ndarray, name: str) -> Chart:
    z = np.array([0, *band.places, 1])
    row, low, high = (np.array([0, *(ends - band.places), 0]) for ends in (values, band.low, band.high))
    limits = _closed(f"{100 * band.level:g} % for the whole curve", z, low, z, high)
    return Chart(title, x_label, y_label, (Line(name, z, row, marks=True), limits), size=SMALL)


def _outline(name: str, x: np.ndarray, y: np.ndarray) -> Line:
    """Return the line with its ends on the axis, which therefore contains 0 and is not logarithmic."""
    return Line(name, np.array([x[0], *x, x[-1]]), np.array([0, *y, 0]))


def _closed(name: str, x: np.ndarray, low: np.ndarray, x_back: np.ndarray, high: np.ndarray) -> Line:
    """Return the two ends of a band as one line, which has one colour and one entry in the legend."""
    return Line(name, np.concatenate([x, x_back[::-1]]), np.concatenate([low, high[::-1]]), dashed=True)


def _stairs(edges: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(edges, 2)[1:-1], np.repeat(heights, 2)
