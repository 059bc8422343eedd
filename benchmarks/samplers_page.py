"""docs/samplers.md and its plot from benchmarks/results/samplers.json. Called by samplers.py."""

import pathlib

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PLOTTED = (
    "DDIM", "Heun EDM", "DPM-Solver++ 2M", "UniPC-3", "iPNDM-4", "Euler-Maruyama", "SDE-DPM-Solver++ 2M", "SEEDS-2",
    "PC, Langevin",
)  # fmt: skip
TICKS = (5, 10, 20, 50, 100, 1000)
# A budget's best are those whose errors are this close to the least.
CLOSE = 1.1


def write_page(figures: dict) -> None:
    table = Table(figures)
    plot(table)
    lines = [
        *head(figures),
        *recommendation(table),
        "![Error against calls of the score](samplers.png)",
        "",
        "Distance against NFE, both on logarithmic axes; rows: the ring, 64 dimensions, the Gaussian; dashed: the "
        "floor.",
        "At the longest runs the curves end at the higher floor of fewer samples. Langevin correctors with a fixed "
        "signal-to-noise ratio keep a",
        "bias, which is large in few dimensions.",
        "",
        *orders(figures),
        *grids(figures),
        *adaptive(figures),
        *errors(table),
    ]
    (DOCS / "samplers.md").write_text("\n".join(lines).rstrip() + "\n")
    print(f"wrote {DOCS / 'samplers.md'} and {DOCS / 'samplers.png'}")


class Table:
    """The errors by (target, sampler, process, NFE); infinity where a sampler failed, absent where it has no such
    NFE."""

    def __init__(self, figures: dict):
        self.floors, self.deterministic = figures["floors"], figures["deterministic"]
        self.cells = {}
        for key, cell in figures["errors"].items():
            target, name, process, nfe = key.split(" | ")
            self.cells[target, name, process, int(nfe)] = np.inf if cell["error"] is None else cell["error"]
        self.targets, self.samplers, self.processes, self.nfes = (
            list(dict.fromkeys(key[i] for key in self.cells)) for i in range(4)
        )
        self.nfes.sort()

    def row(self, target, name, process) -> list[float | None]:
        return [self.cells.get((target, name, process, nfe)) for nfe in self.nfes]

    def measured(self, target, name, nfe) -> bool:
        return all((target, name, process, nfe) in self.cells for process in self.processes)

    def standing(self, names, nfe) -> dict[str, dict[str, float]]:
        """{name: {target: geometric mean, over processes, of the error over the least of `names`}}, of the samplers
        measured on every target that any of them was measured on."""
        targets = [t for t in self.targets if any(self.measured(t, name, nfe) for name in names)]
        names = [name for name in names if all(self.measured(t, name, nfe) for t in targets)]
        errors = {
            name: np.array([[self.cells[t, name, p, nfe] for p in self.processes] for t in targets]) for name in names
        }
        least = np.min(list(errors.values()), axis=0)
        return {
            name: dict(zip(targets, np.exp(np.mean(np.log(found / least), axis=1)))) for name, found in errors.items()
        }


def head(figures) -> list[str]:
    floors = ", ".join(f"{figures['floors'][name]:.4f} for the {name}" for name in figures["floors"])
    counts = ", ".join(f"{t['samples']:,} for the {name}" for name, t in figures["targets"].items())
    return [
        "# Samplers, measured",
        "",
        f"Written by `python benchmarks/samplers.py` ({figures['time']}, jax {figures['versions']['jax']}, "
        f"{figures['machine']}, commit {figures['commit']}). Do not edit.",
        "",
        "Every sampler draws from known mixtures by their exact scores, on every process at its default parameters. "
        "The figure",
        "is the sliced Wasserstein-2 distance from the data, after the denoising at t_min, over 64 fixed directions. "
        "NFE",
        "counts every call of the score, the denoising included. Samplers with two calls a step use as many steps as "
        "fit. So what",
        "stands here is discretization alone; a trained score adds its own error, which noise on the way forgets. The "
        "Gaussian has",
        "eigenvalues from 1.5 to 0.01, and its distances are in units of the deviation of each axis: one of 0.1 is a "
        "variance that is off",
        "by a fifth on every axis, which hardly counts in the other two targets where it concerns the narrow "
        "directions.",
        "",
        *(
            f"The {name} was measured on {t['time']}, commit {t['commit']}."
            for name, t in figures["targets"].items()
            if (t["time"], t["commit"]) != (figures["time"], figures["commit"])
        ),
        "",
        f"Samples: {counts}. Floor, the distance of as many exact draws: {floors}. Below twice the floor differences "
        "mean nothing.",
        f"The column of {figures['long']['nfe']} calls has {figures['long']['samples']:,} samples, with floors "
        + " and ".join(f"{floor:.4f}" for floor in figures["long"]["floors"].values())
        + ".",
        "",
    ]


def recommendation(table: Table) -> list[str]:
    lines = [
        "## What to take",
        "",
        "A sampler that is best on one kind of data may be poor on another, so the one with the least error on its "
        "worst target stands",
        "here: the largest, over the targets, of the geometric mean over processes of its error over the least of its "
        "kind. In brackets",
        "that figure for each target, in the order ring, 64 dimensions, Gaussian; others within a tenth of the "
        "largest. Where two",
        "figures stand, the Gaussian was not measured.",
        "",
        *header("NFE", "without noise", "with noise"),
    ]
    for nfe in table.nfes:
        cells = []
        for deterministic in (True, False):
            standing = table.standing([n for n in table.samplers if table.deterministic[n] == deterministic], nfe)
            worst = {name: max(of.values()) for name, of in standing.items() if np.isfinite(max(of.values()))}
            first, *rest = sorted(worst, key=worst.get)
            close = [n for n in rest if worst[n] < CLOSE * worst[first]]
            figures = ", ".join(f"{figure:.2f}" for figure in standing[first].values())
            cells.append(f"**{first}** ({figures})" + (f"; {', '.join(close)}" if close else ""))
        lines.append(row(nfe, *cells))
    return [*lines, ""]


def orders(figures) -> list[str]:
    processes = list(next(iter(figures["orders"].values())))
    lines = [
        "## Orders of convergence",
        "",
        "In float64. Flows: error at t_min from the same x_T on a smooth mixture, 320 against 640 calls, against a "
        "solve at tolerance",
        "1e-13. With noise: error of the variance on Gaussian data, which is computed without sampling, 160 against "
        "320 calls. The grid",
        "has steps in log-SNR, equal for the latter; for the flows they grow from very short ones, so that the low "
        "order that a",
        "multistep method starts with is not measured. The orders of diffrax's own solvers are measured in the tests.",
        "",
        *header("sampler", "theory", *processes),
    ]
    for name, found in figures["orders"].items():
        lines.append(row(name, figures["theory"][name], *(f"{found[p]:.2f}" for p in processes)))
    return [*lines, ""]


def grids(figures) -> list[str]:
    cells = {tuple(key.split(" | ")): cell["error"] for key, cell in figures["grids"].items()}
    names = list(dict.fromkeys(key[3] for key in cells))
    lines = [
        "## Grids",
        "",
        "The mixture in 64 dimensions. `optimised` is fitted to the score by 128 calls on 64 examples (GITS). Bold: "
        "the least.",
        "",
        *header("process", "sampler", "NFE", *names),
    ]
    for process, sampler, nfe in dict.fromkeys(key[:3] for key in cells):
        lines.append(row(process, sampler, nfe, *shown([cells[process, sampler, nfe, name] for name in names])))
    return [*lines, ""]


def adaptive(figures) -> list[str]:
    lines = [
        "## Steps chosen per example",
        "",
        "1,024 samples: NFE (mean over examples) and distance. In 64 dimensions the bias of Gotta go fast is below the "
        "floor; on",
        "N(0, I/4) in 2 dimensions under VE its variance is 2.1, 2.5 and 2.9 times the true one at tolerances of 0.05, "
        "0.02 and 0.005, where",
        "adaptive ShARK has 0.97 +- 0.03.",
        "",
    ]
    cells = {tuple(key.split(" | ")): cell for key, cell in figures["adaptive"].items()}
    processes = list(dict.fromkeys(key[2] for key in cells))
    lines += header("target", "sampler", "tolerance", *processes)
    for target, name, tolerance in dict.fromkeys((key[0], key[1], key[3]) for key in cells):
        found = [cells[target, name, process, tolerance] for process in processes]
        texts = [f"{c['nfe']:.0f}: {'failed' if c['error'] is None else format(c['error'], '.4f')}" for c in found]
        lines.append(row(target, name, tolerance, *texts))
    return [*lines, ""]


def errors(table: Table) -> list[str]:
    lines = ["## All errors", "", "Columns are NFE. Bold: the least of a column, and what is within a tenth of it.", ""]
    for target in table.targets:
        for process in table.processes:
            nfes = [
                nfe for nfe in table.nfes if any((target, name, process, nfe) in table.cells for name in table.samplers)
            ]
            lines += [f"### {process}, {target}", "", *header("sampler", *nfes)]
            rows = {name: [table.cells.get((target, name, process, nfe)) for nfe in nfes] for name in table.samplers}
            rows = {name: errors for name, errors in rows.items() if any(error is not None for error in errors)}
            columns = [shown([errors[i] for errors in rows.values()], close=CLOSE) for i in range(len(nfes))]
            lines += [row(name, *(c[k] for c in columns)) for k, name in enumerate(rows)]
            lines.append("")
    return lines


def header(*names) -> list[str]:
    return [row(*names), "|" + "---|" * len(names)]


def row(*cells) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def shown(values, close: float = 1.0) -> list[str]:
    """Errors as text: the least, and those within a factor `close` of it, in bold."""
    least = min((v for v in values if v is not None and np.isfinite(v)), default=np.inf)
    texts = []
    for value in values:
        if value is None:
            texts.append("")
        elif not np.isfinite(value):
            texts.append("failed")
        else:
            text = f"{value:.4f}" if value < 1 else f"{value:.2g}"
            texts.append(f"**{text}**" if value <= close * least else text)
    return texts


def plot(table: Table) -> None:
    height = 3.3 * len(table.targets)
    figure, axes = plt.subplots(
        len(table.targets), len(table.processes), figsize=(16, height), sharex=True, sharey="row"
    )
    colours = plt.get_cmap("tab10")
    for axes_row, target in zip(axes, table.targets):
        for axis, process in zip(axes_row, table.processes):
            for k, name in enumerate(PLOTTED):
                points = [
                    (n, e)
                    for n, e in zip(table.nfes, table.row(target, name, process))
                    if e is not None and np.isfinite(e)
                ]
                if not points:
                    continue
                style = "-" if table.deterministic[name] else ":"
                axis.plot(*zip(*points), style, marker=".", ms=4, lw=1.3, color=colours(k), label=name)
            axis.axhline(table.floors[target], color="gray", lw=0.8, ls="--")
            axis.set(xscale="log", yscale="log", ylim=(0.6 * table.floors[target], 2))
            axis.set_xticks(TICKS, [str(n) for n in TICKS])
            axis.minorticks_off()
            axis.set_title(process, fontsize=10)
            axis.grid(alpha=0.25)
        axes_row[0].set_ylabel(target, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("NFE", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(PLOTTED), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.33 / height, 1, 1))
    figure.savefig(DOCS / "samplers.png", dpi=80)
    plt.close(figure)
