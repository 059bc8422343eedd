"""Averages of any width at any step, computed from the snapshots of a run and written as a run folder (Karras et al.
2024, section 3.2).

Snapshots before and after the step are used. Damaged snapshots are reported and left out of the fit.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from scoresde.errors import CheckpointError, ConfigError
from scoresde.experiment.description import check_description, check_experiment
from scoresde.experiment.experiment import Experiment
from scoresde.experiment.load import local_sharding, stored_experiment
from scoresde.experiment.saving import write_state
from scoresde.experiment.stored_data import StoredData
from scoresde.runs.checkpoint import AllDamagedError, Checkpoints
from scoresde.runs.snapshots import snapshots
from scoresde.runtime.files import write_text
from scoresde.runtime.streams import stream
from scoresde.train import power_name
from scoresde.train.average import check_width, exponent
from scoresde.train.step import init_state
from scoresde.workflows.posthoc.profiles import fit

# Upper limit for the total weight of the snapshots that are not read, which is below the resolution of float32.
NEGLIGIBLE = 1e-7
RECORD = "average.json"


class PostHoc(NamedTuple):
    """Average that was not tracked during training."""

    experiment: Experiment  # experiment of the run
    data: StoredData  # facts of the training data
    params: PyTree[np.ndarray]  # in float32 or a wider type
    width: float  # relative width
    step: int
    residual: float  # relative error of the profile
    used: dict[int, dict[float, float]]  # {step of a snapshot: {width: coefficient}}

    def text(self) -> str:
        steps = sorted(self.used)
        shown = (
            ", ".join(map(str, steps))
            if len(steps) <= 8
            else f"{', '.join(map(str, steps[:4]))}, ..., {', '.join(map(str, steps[-3:]))}"
        )
        widths = ", ".join(f"{width:g}" for width in sorted({width for at in self.used.values() for width in at}))
        return (
            f"relative width {self.width:g} (gamma {exponent(self.width):.4g}) at step {self.step}: residual "
            f"{self.residual:.2g}, from {len(steps)} snapshot(s) of widths {widths} at steps {shown}"
        )


def reconstruct(
    workdir: str | pathlib.Path, width: float, step: int | None = None, report: Callable[[str], None] = print
) -> PostHoc:
    """Compute the average of relative width `width` at `step`, by default the last snapshot.

    Args:
      workdir: run folder.
      width: relative width.
      step: step of the average; None for the last snapshot.
      report: function called with one line of text about each damaged snapshot.

    Raises:
      ConfigError: the folder contains no run or no run with training.power_ema, or the width or step is out of range.
      CheckpointError: no snapshot is valid, or the snapshots belong to another experiment.
    """
    folder = pathlib.Path(workdir)
    experiment = stored_experiment(folder)
    try:
        check_width(width)
    except ConfigError as error:
        raise ConfigError(f"--sigma-rel: {error}") from None
    widths = np.array(experiment.training.power_ema, float)
    if not widths.size:
        raise ConfigError(
            f"--workdir: {folder} has no averages by power functions; train with --config.training.power_ema=0.05,0.1"
        )
    stored = snapshots(folder, report)
    metas, gamma = stored.metas(check_description), np.array([exponent(width) for width in widths])
    if not metas:
        first = min(experiment.training.snapshot_every, experiment.training.steps)
        raise CheckpointError(f"no good snapshot in {stored.folder}; the first one is taken at step {first}")
    there = sorted(metas)
    while there:
        wanted = _checked(step, there[-1], stored.folder)
        t = np.repeat(np.array(there, float), widths.size)
        found = fit(t, np.tile(gamma, len(there)), float(wanted), exponent(width))
        used = _used(there, experiment.training.power_ema, found.coefficients)
        try:
            params = _combined(
                stored, experiment, used, lambda meta: check_experiment(meta, experiment.config, folder / "config.json")
            )
        except AllDamagedError as error:
            there = [step for step in there if step not in error.steps]
            continue
        data = StoredData.from_json(metas[there[-1]]["data"])
        return PostHoc(experiment, data, params, float(width), wanted, found.residual, used)
    raise CheckpointError(f"all snapshots in {stored.folder} are damaged; restore the folder from a copy")


def write(found: PostHoc, out: pathlib.Path) -> None:
    """Write a run folder with this average for sample, likelihood and evaluate, and its coefficients in
    OUT/average.json.

    Raises:
      ResourceError: there is no space or no permission.
    """
    experiment = found.experiment.changed("training.ema=()", f"training.power_ema={found.width!r}")
    like = experiment.network.params
    params = jax.tree.map(lambda value, p: jnp.asarray(value, p.dtype), found.params, like)
    state = init_state(params, experiment.optimizer, (), stream(experiment.seed, "train"))
    average = jax.tree.map(jnp.asarray, found.params)
    state = dataclasses.replace(state, step=jnp.asarray(found.step, jnp.int32), ema={power_name(found.width): average})
    write_state(out, experiment, state, found.data)
    record = {
        "sigma_rel": found.width, "gamma": exponent(found.width), "step": found.step, "residual": found.residual,
        "snapshots": [{"step": step, "sigma_rel": w, "coefficient": x} for step, at in found.used.items() for w,
        x in at.items()],
    }  # fmt: skip
    write_text(out / RECORD, json.dumps(record, indent=1) + "\n")


def _checked(step: int | None, last: int, folder: pathlib.Path) -> int:
    """Return the requested step, after checking that the snapshots reach it."""
    if step is not None and not 1 <= step <= last:
        raise ConfigError(f"--step: expected 1 to {last}, the last good snapshot in {folder}, got {step}")
    return last if step is None else step


def _used(steps: list[int], widths: tuple[float, ...], coefficients: np.ndarray) -> dict[int, dict[float, float]]:
    """Return the coefficients by step and width, without the smallest ones, whose sum is negligible."""
    order = np.argsort(np.abs(coefficients))
    small = set(order[np.cumsum(np.abs(coefficients[order])) <= NEGLIGIBLE].tolist())
    used = {}
    for i, x in enumerate(coefficients.tolist()):
        if i not in small:
            used.setdefault(steps[i // len(widths)], {})[widths[i % len(widths)]] = x
    return used


def _combined(
    stored: Checkpoints, experiment: Experiment, used: dict[int, dict[float, float]], accept: Callable[[dict], None]
) -> PyTree[np.ndarray]:
    """Return sum_i x_i snapshot_i in float64, reading one snapshot at a time."""
    like = jax.tree.map(
        lambda p: jax.ShapeDtypeStruct(p.shape, jnp.promote_types(p.dtype, jnp.float32), sharding=local_sharding()),
        experiment.network.params,
    )
    target = {power_name(width): like for width in experiment.training.power_ema}
    total = jax.tree.map(lambda p: np.zeros(p.shape), like)
    for step, at in used.items():
        snapshot, _ = stored.restore(target, accept=accept, set_aside=False, step=step)
        for width, x in at.items():
            total = jax.tree.map(lambda s, a: s + x * np.asarray(a, np.float64), total, snapshot[power_name(width)])
    return jax.tree.map(lambda s, p: s.astype(p.dtype), total, like)
