"""Sampling from a trained score for the commands: seeds -> samples, in batches of one shape over the devices."""

import functools
import pathlib
import zlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scoresde.data.labels import MISSING, shares
from scoresde.data.picture import save_picture
from scoresde.errors import ConfigError
from scoresde.experiment.load import TrainedModel
from scoresde.runs.sample_store import SampleStore
from scoresde.runtime.progress import Progress
from scoresde.runtime.sharding import batch_for_devices, local_copy, pad, shard
from scoresde.runtime.streams import branch, fixed_stream
from scoresde.sample import AbstractSampler, Draw, denoised_draw
from scoresde.sde import AbstractSDE
from scoresde.types import Keys

NULL = MISSING  # the null class, which a score has until a class is set
UNTRAINED = (
    "sampling.labels = 'null': nothing trains the null class yet, so that its samples would be arbitrary; use uniform "
    "or data, or give --label"
)
_NUM_PICTURED = 64  # samples shown in OUT/grid.png


# Fields of sampling that do not affect samples, except that the batch size does if the sampler couples the images of a
# batch.
_IRRELEVANT_FIELDS = ("num", "batch_size")


def sampler_of(trained: TrainedModel) -> AbstractSampler:
    """Build the sampler of the run's configuration."""
    return trained.experiment.sampler(trained.score, trained.shape)


def has_null_class(trained: TrainedModel) -> bool:
    """Return whether the score accepts classes but has none set."""
    return trained.score.label is not None and int(trained.score.label) == NULL


def classes(trained: TrainedModel, keys: Keys) -> Int[Array, "num"] | None:
    """Sample the class of each key according to `sampling.labels`; return None if the score fixes the class or has no
    classes.

    Raises:
      ConfigError: `sampling.labels` is `null`, the null class.
      DataError: `sampling.labels` is `data`, and the training records have no labels.
    """
    if not has_null_class(trained):
        return None
    law = trained.experiment.sampling.labels
    if law == "null":
        raise ConfigError(UNTRAINED)
    own = jax.vmap(lambda key: branch(key, "class"))(keys)
    if law == "uniform":
        return jax.vmap(lambda key: jax.random.randint(key, (), 0, trained.experiment.num_classes))(own)
    ends = jnp.asarray(np.cumsum(shares(trained.dataset))[:-1], jnp.float32)
    return jax.vmap(lambda key: jnp.searchsorted(ends, jax.random.uniform(key), side="right"))(own).astype(jnp.int32)


def _by_shares(trained: TrainedModel) -> bool:
    return has_null_class(trained) and trained.experiment.sampling.labels == "data"


def by_shares(trained: TrainedModel) -> TrainedModel:
    """Return the run with classes sampled by their training frequencies, for samples that are compared with data."""
    return trained._replace(experiment=trained.experiment.changed("sampling.labels=data"))


def labels_of(trained: TrainedModel, seeds: np.ndarray) -> np.ndarray:
    """Return the class of each seed, int32 [N], for a score that accepts classes."""
    drawn = classes(trained, _keys(seeds))
    return np.full(len(seeds), trained.score.label, np.int32) if drawn is None else np.asarray(drawn, np.int32)


def label_arrays(trained: TrainedModel, num: int) -> dict[str, np.ndarray]:
    """Return the label arrays of a file of `num` rows that share one class; empty if there are no classes."""
    if trained.score.label is None:
        return {}
    return {"labels": np.full(num, trained.score.label, np.int32), "label_names": np.array(trained.classes)}


def _keys(seeds) -> Keys:
    """Return one key per seed: samples depend on their seeds alone, not on the seed of training."""
    root = fixed_stream("sample")
    return jax.vmap(lambda seed: jax.random.fold_in(root, seed))(seeds)


def draw(trained: TrainedModel, sampler: AbstractSampler, seeds: np.ndarray, size: int):
    """Generate one denoised sample per seed, in model coordinates, `size` seeds at once on this process's devices."""
    keys, score = _keys(shard(pad(seeds, size))), trained.score
    drawn = fields(score.sde, denoised_draw(sampler, score, trained.shape, keys=keys, labels=classes(trained, keys)))
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
    drawn = draw(trained, sampler_of(trained), np.arange(num, dtype=np.uint32), batch_for_devices(num, num))
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
        "label": None if trained.score.label is None else int(trained.score.label),
        "shape": list(trained.shape),
        "arrays": "samples, ok, nfe" if trained.score.label is None else "samples, ok, nfe, labels",
    } | ({"shares": shares(trained.dataset).tolist()} if _by_shares(trained) else {})


def draw_to(trained: TrainedModel, seeds: np.ndarray, out: pathlib.Path) -> list[int]:
    """Write one sample per seed to `out`, and return the seeds whose solver failed; their rows contain the record of
    0."""
    codec = trained.codec
    trained = trained._replace(score=local_copy(trained.score))
    size = batch_for_devices(trained.experiment.sampling.batch_size, len(seeds))
    dtype = np.asarray(codec.decode(np.zeros(1, np.float32))).dtype
    sampler = sampler_of(trained)
    labelled = {}
    if trained.score.label is not None:
        labelled = {"labels": labels_of(trained, seeds), "label_names": np.array(trained.classes)}
    with SampleStore(out, identity(trained, seeds), num=len(seeds), shape=trained.shape, dtype=dtype) as store:
        progress = Progress(store.done, len(seeds), items=1, unit="sample")
        if store.done:
            progress.say(f"continuing after {store.done} samples")
        calls, most = 0, 0
        first = store.done
        while store.done < len(seeds):
            drawn = draw(trained, sampler, seeds[store.done : store.done + size], size)
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
        path, ok = store.finish(seeds=seeds, **labelled)
    nfe = "unknown" if calls < 0 else f"{calls / max(len(seeds) - first, 1):.1f} (largest {most})"
    print(
        f"{len(seeds)} samples by {trained.experiment.sampler_name} at step {trained.step} (ema {trained.ema}): "
        f"{speed:.3g} images/s with compilation, NFE {nfe}, "
        f"solver ok for {int(ok.sum())} of {len(ok)}\nwrote {path}" + (f" and {out / 'grid.png'}" if pictured else "")
    )
    return [int(seed) for seed in seeds[~ok]]


def _leaves(score) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(score.network.params)]
