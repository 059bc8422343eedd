"""Likelihoods of a data set under a trained score, as the commands take them: records -> nats and bits/dim.

In batches of one shape over the devices of each process, the records shared among the processes.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from scoresde.devices import batch_for_devices, local_copy, padded, spread
from scoresde.errors import DataError, NumericError
from scoresde.likelihood import bits_per_dim, dequantized_log_likelihood, mean_and_error
from scoresde.progress import Progress
from scoresde.trained import Trained

# Root of the keys: a likelihood depends on the index of its record alone, not on the seed of training.
_ROOT = 1


@dataclasses.dataclass(frozen=True)
class DataLikelihood:
    """The likelihood of records of a data set, with all that the number depends on.

    Arrays: per record N, or [N, K] with K dequantizations. `report` is JSON.
    """

    index: np.ndarray
    log_prob: np.ndarray  # [N, K], nats, in model coordinates
    standard_error: np.ndarray  # [N, K], of the trace estimate
    nfe: np.ndarray
    ok: np.ndarray
    bits_per_dim: np.ndarray | None  # [N], None for continuous data
    report: dict

    def save(self, path: pathlib.Path) -> None:
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "report"}
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})

    def text(self) -> str:
        r = self.report
        lines = []
        if self.bits_per_dim is not None:
            lines.append(f"{r['bits_per_dim']:.4f} +- {_error(r['bits_per_dim_error'])} bits/dim")
        lines.append(f"{r['nats']:.4f} +- {_error(r['nats_error'])} nats of log p per example in model coordinates")
        lines.append(
            f"{r['num']} {r['split']} examples, +- is one standard error over them; NFE {r['nfe']:.1f} (largest "
            f"{r['nfe_largest']}), tolerance {r['tolerance']:g}, t_min {r['t_min']:g}, "
            f"probes {r['probes'] or 'none (exact trace)'}, dequantizations {r['dequantizations']}, "
            f"log-Jacobian {r['log_jacobian']:.4f} nats, {r['dimensions']} dimensions, solver ok for {r['ok']} of {r['solves']}"
        )
        return "\n".join(lines)


def _error(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def data_likelihood(trained: Trained, *, split: str, num: int, nats: bool) -> DataLikelihood:
    """The probability-flow likelihood of the first `num` records of a split (-1: all), dequantized uniformly.

    Args:
      nats: accept continuous data, which have no bits/dim.

    Raises:
      DataError: bits/dim of continuous data. NumericError: the solver failed for every record.
    """
    config, dataset = trained.config, trained.dataset
    source, options = {"train": dataset.train, "test": dataset.test}[split], config.likelihood
    if not dataset.levels and not nats:
        raise DataError(
            f"{dataset.name}: bits/dim needs integer data in a declared range, and data.levels = 0 (continuous values); "
            "pass --nats for log p in nats"
        )
    total = len(source) if num < 0 else min(num, len(source))
    draws = options.dequantizations if dataset.levels else 1
    rows = {name: np.zeros((total, draws), kind) for name, kind in _ROWS.items()}
    trained = trained._replace(score=local_copy(trained.score))
    progress = Progress(0, -(-total // jax.process_count()) * draws, items=1, unit="likelihood")
    done = 0
    for index, values, score in _batches(trained, source, total, options.batch_size):
        for k in range(draws):
            part = _solve_batch(trained, score, values, index, k)
            for name in rows:
                rows[name][index, k] = getattr(part, name)[: len(index)]
            done += len(index)
            progress.show(done, f"NFE {rows['nfe'][index, k].mean():.1f}")
    progress.close()
    if jax.process_count() > 1:  # each process filled its own rows of zeros
        rows = {name: multihost_utils.process_allgather(part).sum(axis=0) for name, part in rows.items()}
        rows["ok"] = rows["ok"].astype(bool)
    return _summary(trained, split, rows)


_ROWS = {"log_prob": np.float32, "standard_error": np.float32, "nfe": np.int32, "ok": np.bool_}


def _batches(trained: Trained, source, total: int, batch_size: int) -> Iterator[tuple]:
    """(indices, records padded to one shape, score) of this process's share; by class where the score takes labels."""
    mine = np.arange(jax.process_index(), total, jax.process_count())
    labels = None if trained.score.label is None else source.rows(mine)[1]
    classes = [None] if labels is None else np.unique(labels)
    size = batch_for_devices(batch_size, len(mine))
    for label in classes:
        members = mine if label is None else mine[labels == label]
        score = trained.score if label is None else dataclasses.replace(trained.score, label=jnp.asarray(label))
        for first in range(0, len(members), size):
            index = members[first : first + size]
            yield index, padded(source.rows(index)[0], size), score


def _solve_batch(trained: Trained, score, values: np.ndarray, index: np.ndarray, k: int):
    root = jax.random.fold_in(jax.random.key(_ROOT), k)
    keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(spread(padded(index, len(values))))
    options = trained.config.likelihood
    solved = dequantized_log_likelihood(
        score.sde, score, spread(values), trained.dataset.encode, keys=keys,
        probes=options.probes or None, tolerance=options.tolerance,
    )  # fmt: skip
    return jax.tree.map(np.asarray, solved)


def _summary(trained: Trained, split: str, rows: dict) -> DataLikelihood:
    dataset, options = trained.dataset, trained.config.likelihood
    good = rows["ok"].all(axis=1)
    if not good.any():
        raise NumericError("the solver failed for every record; loosen likelihood.tolerance, or train longer")
    log_prob = rows["log_prob"].mean(axis=1, where=rows["ok"])
    dimensions, log_jacobian = math.prod(dataset.shape), dataset.log_jacobian()
    nats, nats_error = mean_and_error(log_prob[good])
    report = {
        "split": split, "num": len(good), "nats": nats, "nats_error": nats_error,
        "nfe": float(rows["nfe"].mean()), "nfe_largest": int(rows["nfe"].max()),
        "ok": int(rows["ok"].sum()), "solves": int(rows["ok"].size),
        "probes": options.probes, "dequantizations": rows["ok"].shape[1], "tolerance": options.tolerance,
        "t_min": float(trained.score.sde.t_min), "log_jacobian": log_jacobian, "dimensions": dimensions,
        "step": trained.step, "ema": trained.ema, "data": dataset.fingerprint,
    }  # fmt: skip
    bits = None
    if dataset.levels:
        bits = np.asarray(bits_per_dim(jnp.asarray(log_prob), log_jacobian, dimensions))
        report["bits_per_dim"], report["bits_per_dim_error"] = mean_and_error(bits[good])
    # One record has no spread, and JSON no NaN.
    report = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in report.items()}
    return DataLikelihood(np.arange(len(good)), **rows, bits_per_dim=bits, report=report)


def evaluate(trained: Trained, *, num: int, out: pathlib.Path) -> str:
    """Likelihood of the first `num` test records (-1: all) into OUT/evaluation.json; returns it as text.

    To be called on every process: they share the work, and the first one writes.
    """
    result = data_likelihood(trained, split="test", num=num, nats=True)
    if jax.process_index() == 0:
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.json").write_text(json.dumps(result.report, indent=1, allow_nan=False) + "\n")
    if not result.ok.all():
        raise NumericError(
            f"{result.text()}\nthe solver failed for {int((~result.ok).sum())} of {result.ok.size} solves, which are not in "
            "the mean; loosen likelihood.tolerance"
        )
    return result.text()
