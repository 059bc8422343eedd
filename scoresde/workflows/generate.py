"""Sampling from a trained score for the commands: seeds -> samples, in batches of one shape over the devices."""

import functools
import pathlib
import zlib

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from scoresde.data.conditions import LABEL
from scoresde.data.labels import MISSING, shares
from scoresde.data.picture import save_picture
from scoresde.experiment.load import TrainedModel
from scoresde.runs.sample_store import SampleStore
from scoresde.runtime.progress import Progress
from scoresde.runtime.sharding import batch_for_devices, local_copy, pad, shard
from scoresde.sample import AbstractSampler, Draw, denoised_draw
from scoresde.sde import AbstractSDE
from scoresde.types import Conditions
from scoresde.workflows.conditions import (
    condition_arrays,
    keys_of,
    open_entries,
    rows_for,
    sampled_conditions,
)

_NUM_PICTURED = 64  # samples shown in OUT/grid.png


# Fields of sampling that do not affect samples, except that the batch size does if the sampler couples the images of a
# batch.
_IRRELEVANT_FIELDS = ("num", "batch_size")


def sampler_of(trained: TrainedModel) -> AbstractSampler:
    """Build the sampler of the run's configuration."""
    return trained.experiment.sampler(trained.score, trained.shape)


def draw(trained: TrainedModel, sampler: AbstractSampler, seeds: np.ndarray, size: int, conditions: Conditions) -> Draw:
    """Generate one denoised sample per seed, in model coordinates, `size` seeds at once on this process's devices.

    Args:
      trained: run with its score.
      sampler: sampler of the reverse process.
      seeds: at most `size` seeds.
      size: number of seeds of the compiled program.
      conditions: condition of each seed, see `sampled_conditions`; {} for none.
    """
    keys, score = keys_of(shard(pad(seeds, size))), trained.score
    rows = shard({name: pad(np.asarray(part), size) for name, part in conditions.items()}) or None
    drawn = fields(score.sde, denoised_draw(sampler, score, trained.shape, keys=keys, conditions=rows))
    return jax.tree.map(lambda part: np.asarray(part)[: len(seeds)], drawn)


@eqx.filter_jit
def fields(sde: AbstractSDE, drawn: Draw) -> Draw:
    """Convert samples from the coordinates of the process to fields."""
    leading = drawn.ok.shape
    flat = drawn.x.reshape(-1, *drawn.x.shape[len(leading) :])
    return eqx.tree_at(lambda drawn: drawn.x, drawn, jax.vmap(sde.basis.from_modes)(flat).reshape(drawn.x.shape))


@eqx.filter_jit
def to_modes(sde: AbstractSDE, x: Float[Array, "N *x"]) -> Float[Array, "N *x"]:
    """Convert fields to the coordinates of the process."""
    return jax.vmap(sde.basis.to_modes)(x)


def draw_picture(trained: TrainedModel, path: pathlib.Path) -> None:
    """Save a picture of the samples of seeds 0, 1, ..., with the same keys each time, so that pictures can be
    compared."""
    num = trained.experiment.sampling.num
    trained = trained._replace(score=local_copy(trained.score))
    seeds = np.arange(num, dtype=np.uint32)
    drawn = draw(trained, sampler_of(trained), seeds, batch_for_devices(num, num), sampled_conditions(trained, seeds))
    save_picture(trained.codec, drawn.x, path)


def identity(trained: TrainedModel, seeds: np.ndarray) -> dict:
    """Return a JSON object that identifies the samples of these seeds."""
    coupled = sampler_of(trained).couples_batch
    return {
        "seeds": f"{len(seeds)} with CRC-32 {zlib.crc32(seeds.tobytes())}",
        "sampling": {
            k: v
            for k, v in trained.experiment.config["sampling"].items()
            if k not in _IRRELEVANT_FIELDS or coupled and k == "batch_size"
        },
        "step": trained.step,
        "ema": trained.ema,
        "parameters": functools.reduce(lambda crc, a: zlib.crc32(a.tobytes(), crc), _leaves(trained.score), 0),
        "shape": list(trained.shape),
    } | _condition_identity(trained)


def _condition_identity(trained: TrainedModel) -> dict:
    """Return the part of `identity` that states the conditions; that of a class is as in earlier versions."""
    names = [name for name, kind in trained.score.conditions.items() if kind.droppable]
    label = trained.fixed.get(LABEL, MISSING)
    found = {
        "label": int(label) if LABEL in names else None,
        "arrays": "samples, ok, nfe, labels" if LABEL in names else "samples, ok, nfe",
    }
    if open_entries(trained) == [LABEL] and trained.experiment.sampling.labels == "data":
        found["shares"] = shares(trained.dataset).tolist()
    others = {name: trained.rows.get(name, trained.fixed.get(name)) for name in names if name != LABEL or trained.rows}
    if given := {name: value for name, value in others.items() if value is not None}:
        found["conditions"] = {name: zlib.crc32(np.asarray(value).tobytes()) for name, value in given.items()}
    return found


def draw_to(trained: TrainedModel, seeds: np.ndarray, out: pathlib.Path) -> list[int]:
    """Write one sample per seed to `out`, and return the seeds whose solver failed; their rows contain the record of
    0."""
    codec = trained.codec
    trained = trained._replace(score=local_copy(trained.score))
    size = batch_for_devices(trained.experiment.sampling.batch_size, len(seeds))
    dtype = np.asarray(codec.decode(np.zeros(1, np.float32))).dtype
    sampler = sampler_of(trained)
    conditions = rows_for(trained, len(seeds)) | sampled_conditions(trained, seeds)
    with SampleStore(out, identity(trained, seeds), num=len(seeds), shape=trained.shape, dtype=dtype) as store:
        progress = Progress(store.done, len(seeds), items=1, unit="sample")
        if store.done:
            progress.say(f"continuing after {store.done} samples")
        calls, most = 0, 0
        first = store.done
        while store.done < len(seeds):
            part = slice(store.done, store.done + size)
            drawn = draw(trained, sampler, seeds[part], size, {name: rows[part] for name, rows in conditions.items()})
            store.append(
                np.asarray(codec.decode(np.where(drawn.ok.reshape(-1, *[1] * (drawn.x.ndim - 1)), drawn.x, 0))),
                drawn.ok,
                drawn.nfe,
            )
            calls, most = calls + int(drawn.nfe.sum()), max(most, int(drawn.nfe.max()))
            progress.show(store.done, f"NFE {drawn.nfe.mean():.1f}" if drawn.nfe.min() >= 0 else "")
        speed = progress.rate(len(seeds))
        progress.close()
        pictured = save_picture(codec, np.asarray(codec.encode(store.first(_NUM_PICTURED))), out / "grid.png")
        path, ok = store.finish(seeds=seeds, **condition_arrays(trained, len(seeds), conditions))
    nfe = "unknown" if calls < 0 else f"{calls / max(len(seeds) - first, 1):.1f} (largest {most})"
    print(
        f"{len(seeds)} samples by {trained.experiment.sampler_name} at step {trained.step} (ema {trained.ema}): "
        f"{speed:.3g} images/s with compilation, NFE {nfe}, "
        f"solver ok for {int(ok.sum())} of {len(ok)}\nwrote {path}" + (f" and {out / 'grid.png'}" if pictured else "")
    )
    return [int(seed) for seed in seeds[~ok]]


def _leaves(score) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(score.network.params)]
