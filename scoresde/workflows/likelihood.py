"""Likelihoods of a data set under a trained score, in nats and bits/dim per record.

Records are divided among the processes, and each process evaluates batches of one shape over its devices.
"""

import json
import math
import pathlib
import sys
import zlib
from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from scoresde import likelihood
from scoresde.errors import ConfigError, DataError, NumericError
from scoresde.experiment.building import DEGRADED
from scoresde.experiment.load import TrainedModel
from scoresde.likelihood.bounds import elbo_of_keys
from scoresde.likelihood.chain import vlb_of_keys
from scoresde.likelihood.flow import log_likelihood_of_keys
from scoresde.likelihood.report import SIGNS, DataLikelihood, meaning, without_nan, write
from scoresde.runs.checkpoint import manifest
from scoresde.runtime.progress import Progress
from scoresde.runtime.sharding import batch_for_devices, local_copy, pad, shard
from scoresde.runtime.streams import FIXED_STREAMS, fixed_stream
from scoresde.runtime.versions import versions
from scoresde.sde import AbstractSDE
from scoresde.workflows.conditions import of_records
from scoresde.workflows.generate import to_modes

# Description of the random keys in the report.
_KEYS = f"fold_in(fold_in(key({FIXED_STREAMS['likelihood']}), dequantization), index)"


def data_likelihood(trained: TrainedModel, *, split: str, num: int, nats: bool, folder: pathlib.Path) -> DataLikelihood:
    """Compute the likelihood of the first `num` records of a split (-1: all) by `likelihood.method`.

    Args:
      trained: run with its score.
      split: name of the split.
      num: number of records; -1: all.
      nats: whether to accept continuous data, for which bits/dim are not defined.
      folder: run folder, which stores variational dequantizations; a missing one is trained first.

    Raises:
      DataError: the data are continuous, and bits/dim are requested.
      NumericError: no record has a finite likelihood.
    """
    experiment, dataset = trained.experiment, trained.dataset
    source, options = {"train": dataset.train, "test": dataset.test}[split], experiment.likelihood
    if not dataset.levels and not nats:
        raise DataError(
            f"{dataset.name}: bits/dim needs integer data in a declared range, and data.levels = 0 (continuous "
            "values); pass --nats for log p in nats"
        )
    if trained.score.sde.needs_data and options.method == "flow":
        raise ConfigError(f"likelihood.method = 'flow': {DEGRADED.format(experiment.process_name)}; use --method elbo")
    total = len(source) if num < 0 else min(num, len(source))
    draws = options.dequantizations if dataset.levels else 1
    rows = {name: np.zeros((total, draws), kind) for name, kind in _ROWS.items()}
    trained = trained._replace(score=local_copy(trained.score))
    crc = parameters_crc32(trained)
    points = _points(trained, folder, crc)
    solve = {"flow": _flow, "elbo": _elbo, "vlb": _vlb}[options.method](trained)
    progress = Progress(0, -(-total // jax.process_count()) * draws, items=1, unit="likelihood")
    done = 0
    for index, values, conditions in _batches(trained, source, total, options.batch_size):
        for k in range(draws):
            # The likelihood of a record depends on the index of the record, not on the seed of training.
            root = jax.random.fold_in(fixed_stream("likelihood"), k)
            keys = jax.vmap(lambda i, root=root: jax.random.fold_in(root, i))(shard(pad(index, len(values))))
            x, log_q, keys = points(shard(values), keys)
            found = solve(x, keys, shard(conditions) or None) | {"log_q": log_q}
            # This converts densities of coefficients into densities of the field at its points.
            pixels = trained.score.sde.basis.pixel_logdet(dataset.shape)
            found |= {
                "log_prob": found["log_prob"] + pixels,
                "log_reference": _log_reference(trained.score.sde, x) + pixels,
            }
            for name, part in found.items():
                rows[name][index, k] = np.asarray(part)[: len(index)]
            done += len(index)
            progress.show(done, f"NFE {rows['nfe'][index, k].mean():.1f}")
    progress.close()
    if jax.process_count() > 1:  # each process filled its own rows, and the rest are 0
        rows = {name: multihost_utils.process_allgather(part).sum(axis=0) for name, part in rows.items()}
        rows["ok"] = rows["ok"].astype(bool)
    return _summary(trained, split, rows, crc)


_ROWS = {
    "log_prob": np.float32, "log_q": np.float32, "log_reference": np.float32, "standard_error": np.float32,
    "nfe": np.int32, "ok": np.bool_,
}  # fmt: skip


@eqx.filter_jit
def _log_reference(sde: AbstractSDE, x):
    """Return log N(x; 0, covariance of the prior), the reference for densities of functions."""
    return jax.vmap(lambda x: AbstractSDE.log_prior(sde, x))(x)


def parameters_crc32(trained: TrainedModel) -> str:
    """Return the CRC-32 of all parameters of the score, in hexadecimal."""
    return f"{zlib.crc32(json.dumps(manifest(trained.score.network.params), sort_keys=True).encode()):08x}"


def _points(trained: TrainedModel, folder: pathlib.Path, crc: str):
    """Return a function (values, keys) -> (x, log q, remaining keys) that gives the points of evaluation.

    Integers are dequantized, and x is in the coordinates of the process.
    """
    dataset, sde = trained.dataset, trained.score.sde
    if not dataset.levels:
        return lambda values, keys: (to_modes(sde, dataset.encode(values)), jnp.zeros(len(values)), _halves(keys)[1])
    chosen, bins = trained.experiment.dequantization, trained.codec.bins
    if note := chosen.note(sde, bins):
        print(f"note: {note}", file=sys.stderr)
    dequantization = chosen.fitted(
        trained.score, dataset, bins, seed=trained.experiment.seed, folder=folder / "dequantizer", parameters=crc
    )

    def points(values, keys):
        first, second = _halves(keys)
        x, log_q = likelihood.dequantize(sde, values, dequantization, bins, keys=first)
        return to_modes(sde, x), log_q, second

    return points


def _halves(keys) -> tuple:
    both = jax.vmap(jax.random.split)(keys)
    return both[:, 0], both[:, 1]


def _decoder(trained: TrainedModel, of_integers) -> likelihood.AbstractDecoder:
    return likelihood.GaussianDecoder() if _is_density(trained) else of_integers(trained.codec.bins)


def _is_density(trained: TrainedModel) -> bool:
    """Return whether the result is a density of x, rather than the probability of integers."""
    return not trained.dataset.levels or trained.experiment.dequantization.is_density


# One function per method, which maps a run to a function (x, keys, conditions) -> the rows of a batch.


def _flow(trained: TrainedModel):
    tolerance, trace = trained.experiment.likelihood.tolerance, trained.experiment.trace

    def solve(x, keys, conditions):
        given = dict(keys=keys, trace=trace, tolerance=tolerance, conditions=conditions)
        solved = log_likelihood_of_keys(trained.score, x, **given)
        return {name: getattr(solved, name) for name in ("log_prob", "standard_error", "nfe", "ok")}

    return solve


def _elbo(trained: TrainedModel):
    samples, decoder = trained.experiment.likelihood.samples, _decoder(trained, likelihood.CategoricalDecoder)

    def solve(x0, keys, conditions):
        given = dict(keys=keys, samples=samples, decoder=decoder, conditions=conditions)
        return _bound_rows(elbo_of_keys(trained.score, x0, **given), samples)

    return solve


def _vlb(trained: TrainedModel):
    samples, decoder = trained.experiment.likelihood.samples, _decoder(trained, likelihood.DiscretizedGaussian)
    chain = trained.experiment.chain(trained.score.sde)

    def solve(x0, keys, conditions):
        given = dict(keys=keys, samples=samples, decoder=decoder, conditions=conditions)
        return _bound_rows(vlb_of_keys(chain, trained.score, x0, **given), samples)

    return solve


def _bound_rows(bound: likelihood.Bound, samples: int) -> dict:
    calls = samples + likelihood.decoder_draws(samples)
    ok = jnp.isfinite(bound.log_prob)
    return {
        "log_prob": jnp.where(ok, bound.log_prob, jnp.nan), "ok": ok,
        "standard_error": bound.standard_error, "nfe": np.full(len(ok), calls),
    }  # fmt: skip


def _batches(trained: TrainedModel, source, total: int, batch_size: int) -> Iterator[tuple]:
    """Yield (indices, records, conditions) of this process's share, with records and conditions padded to one shape."""
    mine = np.arange(jax.process_index(), total, jax.process_count())
    conditions = of_records(trained, source, mine, "records")
    size = batch_for_devices(batch_size, len(mine))
    for first in range(0, len(mine), size):
        index = mine[first : first + size]
        rows = {name: pad(part[first : first + size], size) for name, part in conditions.items()}
        yield index, pad(source.rows(index)[0], size), rows


def _summary(trained: TrainedModel, split: str, rows: dict, crc: str) -> DataLikelihood:
    dataset, options = trained.dataset, trained.experiment.likelihood
    good = rows["ok"].all(axis=1)
    if not good.any():
        raise NumericError("the solver failed for every record; loosen likelihood.tolerance, or train longer")
    log_prob = rows["log_prob"].mean(axis=1, where=rows["ok"])
    dimensions = math.prod(dataset.shape)
    nats, nats_error = likelihood.mean_and_error(log_prob[good])
    flow, integers = options.method == "flow", bool(dataset.levels)
    report = {
        "split": split, "num": len(good), "nats": nats, "nats_error": nats_error,
        "nfe": float(rows["nfe"].mean()), "nfe_largest": int(rows["nfe"].max()),
        "ok": int(rows["ok"].sum()), "solves": int(rows["ok"].size), "solver": "Tsit5, adaptive" if flow else None,
        "method": options.method, "quantity": meaning(options.method, density=_is_density(trained)), "signs": SIGNS,
        "t_min": float(trained.score.sde.t_min), "tolerance": options.tolerance if flow else None,
        "probes": options.probes if flow else None, "estimator": _estimator(options) if flow else None,
        "samples": None if flow else options.samples,
        "vlb_steps": options.vlb_steps if options.method == "vlb" else None,
        "vlb_variance": options.vlb_variance if options.method == "vlb" else None,
        "dequantization": options.dequantization["name"] if integers else None,
        "dequantizations": rows["ok"].shape[1], "log_jacobian": dataset.log_jacobian(), "dimensions": dimensions,
        "pixel_logdet": trained.score.sde.basis.pixel_logdet(dataset.shape),
        "step": trained.step, "ema": trained.ema, "data": dataset.fingerprint, "parameters_crc32": crc,
        "keys": _KEYS, "indices": f"0 to {len(good) - 1}",
        "config": trained.experiment.config, "versions": versions(), "command": " ".join(sys.argv),
        "devices": f"{jax.process_count()} x {jax.local_device_count()} {jax.devices()[0].device_kind}",
    }  # fmt: skip
    if not integers and trained.score.sde.has_function_prior:  # the prior is a Gaussian measure on functions
        relative = (rows["log_prob"] - rows["log_reference"]).mean(axis=1, where=rows["ok"])
        report["nats_relative_to_prior"], report["nats_relative_to_prior_error"] = likelihood.mean_and_error(
            relative[good]
        )
    bits = None
    if integers:
        bound = (rows["log_prob"] - rows["log_q"]).mean(axis=1, where=rows["ok"])
        bits = np.asarray(likelihood.bits_per_dim(jnp.asarray(bound), 0.0, dimensions))
        report["bits_per_dim"], report["bits_per_dim_error"] = likelihood.mean_and_error(bits[good])
    rows.pop("log_reference")
    return DataLikelihood(np.arange(len(good)), **rows, bits_per_dim=bits, report=without_nan(report))


def _estimator(options) -> str:
    return options.estimator["name"] if options.probes else "exact"


def evaluate_batches(trained: TrainedModel, *, num: int, out: pathlib.Path, folder: pathlib.Path) -> DataLikelihood:
    """Compute the likelihood of the first `num` test records (-1: all), and write it to OUT/evaluation.json.

    Call this on every process: they share the work, and the first one writes. `folder` is the run folder.
    """
    main_process = jax.process_index() == 0
    if main_process:
        out.mkdir(parents=True, exist_ok=True)  # before the work, so that a bad path causes no loss
    result = data_likelihood(trained, split="test", num=num, nats=True, folder=folder)
    if main_process:
        write(result.report, out / "evaluation.json")
        result.save(out / "evaluation.npz")
    if not result.ok.all():
        raise NumericError(
            f"{result.text()}\nthe solver failed for {int((~result.ok).sum())} of {result.ok.size} solves, which are "
            "not in the mean; loosen likelihood.tolerance"
        )
    return result
