"""Curves and histograms as SVG: axes with round ticks, a logarithmic axis if values span decades, a legend.

The page needs only two kinds of chart, and a run should not need a plotting package. This module computes positions and
paths; templates/chart.svg contains the drawing.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LARGE, SMALL = (620, 300), (430, 230)  # width and height of a chart, in SVG units
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 24, 14, 46
# Okabe and Ito's colours, which are distinguishable with colour vision deficiency.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
_POINTS = 400  # largest number of points of a line; more are averaged
_IN_A_ROW, _ROW, _LONGEST = 3, 20, 26  # legend: entries per row, height of a row, characters of a name
_BINS = 24  # largest number of bins of a histogram
_TICKS = 9  # largest number of ticks on a logarithmic axis
_DECADES = 1.3  # span in decades from which an axis of positive values is logarithmic


@dataclass(frozen=True)
class Line:
    """Curve of a chart.

    Attributes:
      name: entry in the legend; "" for none.
      x: positions.
      y: values.
      marks: draw a dot at each point; for few points.
      dashed: draw a dashed line; for a reference level.
    """

    name: str
    x: Float[np.ndarray, " N"]
    y: Float[np.ndarray, " N"]
    marks: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Bars:
    """Histogram of values."""

    name: str
    values: Float[np.ndarray, " N"]


@dataclass(frozen=True)
class Chart:
    """Content of a chart; points that are not finite are left out.

    Args:
      title: title.
      x_label: label of the x axis.
      y_label: label of the y axis.
      lines: curves.
      bars: histograms over common bins, as shares of their values.
      size: width and height in SVG units.
      start: value of x that the axis includes, such as step 0; None: none.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...] = ()
    bars: tuple[Bars, ...] = ()
    size: tuple[int, int] = LARGE
    start: float | None = None

    def layout(self) -> dict | None:
        """Return the positions for the template, or None if there is nothing to draw."""
        return _histogram(self) if self.bars else _curves(self)


def _curves(chart: Chart) -> dict | None:
    # The colour of a curve does not depend on whether others are empty.
    lines = [(line, colour, *_finite(line)) for line, colour in zip(chart.lines, itertools.cycle(COLOURS))]
    lines = [row for row in lines if len(row[2])]
    if not lines:
        return None
    ys = np.concatenate([y for *_, y in lines])
    log = bool(ys.min() > 0 and math.log10(ys.max() / ys.min()) > _DECADES)
    width, height = chart.size
    xs = [x for _, _, x, _ in lines] + ([np.array([chart.start])] if chart.start is not None else [])
    x_axis = Axis.of(np.concatenate(xs), _LEFT, width - _RIGHT, margin=0.0)
    y_axis = Axis.of(ys, height - _BOTTOM, _TOP, log=log)
    drawn = []
    for line, colour, x, y in lines:
        few_x, mean, low, high = _averaged(x, y)
        places = list(zip(x_axis.place(few_x), y_axis.place(mean)))
        band = [
            *zip(x_axis.place(few_x), y_axis.place(high)),
            *reversed(list(zip(x_axis.place(few_x), y_axis.place(low)))),
        ]
        drawn.append({
            "name": line.name, "colour": colour, "path": _path(places), "dashed": line.dashed,
            "band": _path(band) if len(x) > len(few_x) else "", "marks": places if line.marks or len(x) == 1 else [],
        })  # fmt: skip
    return _frame(chart, x_axis, y_axis, drawn) | {"rects": []}


def _histogram(chart: Chart) -> dict | None:
    sets = [(bars, bars.values[np.isfinite(bars.values)]) for bars in chart.bars]
    sets = [(bars, values) for bars, values in sets if len(values)]
    if not sets:
        return None
    everything = np.concatenate([values for _, values in sets])
    edges = np.histogram_bin_edges(everything, bins=min(_BINS, max(4, int(math.sqrt(len(everything)) * 1.5))))
    shares = [np.histogram(values, edges)[0] / len(values) for _, values in sets]
    width, height = chart.size
    x_axis = Axis.of(edges, _LEFT, width - _RIGHT, margin=0.0)
    y_axis = Axis.of(np.array([0.0, max(share.max() for share in shares) * 1.08]), height - _BOTTOM, _TOP, margin=0.0)
    x, ground, rects, names = x_axis.place(edges), height - _BOTTOM, [], []
    for k, ((bars, _), share) in enumerate(zip(sets, shares)):
        colour = COLOURS[k % len(COLOURS)]
        names.append({"name": bars.name, "colour": colour, "path": "", "dashed": False, "band": "", "marks": []})
        for left, right, top in zip(x, x[1:], y_axis.place(share)):
            if top < ground:
                rects.append(
                    {
                        "x": left + 0.5,
                        "y": top,
                        "width": max(right - left - 1, 0.5),
                        "height": ground - top,
                        "colour": colour,
                    }
                )
    return _frame(chart, x_axis, y_axis, names) | {"rects": rects}


def _frame(chart: Chart, x_axis: "Axis", y_axis: "Axis", lines: list[dict]) -> dict:
    """Return everything except the bars; with more than one line there is a legend below, in rows of three."""
    (width, height), named = chart.size, [line for line in lines if line["name"]]
    in_a_row = min(max(len(named), 1), _IN_A_ROW if width == LARGE[0] else _IN_A_ROW - 1)
    for k, line in enumerate(named):
        line["key"] = (
            round(_LEFT + k % in_a_row * (width - _LEFT - _RIGHT) / in_a_row, 1),
            height + 8 + k // in_a_row * _ROW,
        )
        line["short"] = line["name"] if len(line["name"]) <= _LONGEST else line["name"][: _LONGEST - 1] + "\u2026"
    rows = -(-len(named) // in_a_row) if len(chart.lines) + len(chart.bars) > 1 else 0
    return {
        "lines": lines, "legend": named if rows else [], "full_height": height + rows * _ROW,
        "title": chart.title, "x_label": chart.x_label, "y_label": chart.y_label + (" (log)" if y_axis.log else ""),
        "x_ticks": x_axis.ticks(), "y_ticks": y_axis.ticks(), "width": width, "height": height,
        "left": _LEFT, "right": width - _RIGHT, "top": _TOP, "bottom": height - _BOTTOM,
    }  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """Map from values to positions: `low` lies at `start`, `high` at `stop`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    @classmethod
    def of(cls, values: np.ndarray, start: float, stop: float, *, log: bool = False, margin: float = 0.06) -> "Axis":
        values = np.log10(values) if log else values
        low, high = float(values.min()), float(values.max())
        if not high > low:
            low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
        return cls(low - margin * (high - low), high + margin * (high - low), start, stop, log)

    def place(self, values: np.ndarray) -> np.ndarray:
        values = np.log10(values) if self.log else values
        return np.round(self.start + (values - self.low) / (self.high - self.low) * (self.stop - self.start), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Return (position, text) of round values."""
        values = _round_powers(self.low, self.high) if self.log else _round_values(self.low, self.high)
        return [(float(place), _text(value)) for place, value in zip(self.place(np.array(values, float)), values)]


def _round_values(low: float, high: float, most: int = 6) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten in an interval."""
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _round_powers(low: float, high: float) -> list[float]:
    """Return the powers of ten between 10^low and 10^high, and if these are few also their products with 2 and 5."""
    for factors in ((1, 2, 5), (1,)):
        found = [m * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for m in factors]
        found = [value for value in found if low <= math.log10(value) <= high]
        if len(found) <= _TICKS:
            break
    return found[:: math.ceil(len(found) / _TICKS)] if found else [10**low, 10**high]


def _text(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.6g}"


def _finite(line: Line) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    good = np.isfinite(x) & np.isfinite(y)
    return x[good], y[good]


def _averaged(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the means of x and y over at most 400 groups of neighbours, and the least and greatest y of each group."""
    groups = np.array_split(np.arange(len(x)), min(len(x), _POINTS))
    return tuple(
        np.array([f(values[g]) for g in groups]) for f, values in ((np.mean, x), (np.mean, y), (np.min, y), (np.max, y))
    )


def _path(places: list[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:g},{y:g}" for x, y in places)
