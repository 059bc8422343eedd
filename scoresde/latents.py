"""The tasks of the probability flow, as the command runs them: records -> latents -> images, and what lies between two.

    OUT/latents.npz     latents [N, *shape] (x at t_max, in the coordinates of the process), index [N], ok [N]     encode
    OUT/samples.npz     samples [N, *shape], ok [N]                                  decode
    OUT/samples.npz     samples [pairs, points, *shape], weights [points], ok        interpolate
"""

import os
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from scoresde.data import npz
from scoresde.data.picture import save_picture
from scoresde.devices import batch_for_devices, local_copy, padded, spread
from scoresde.draws import fields, sampler_of, to_modes
from scoresde.errors import ConfigError, DataError
from scoresde.progress import Progress
from scoresde.sample import Draw, decode, encode, interpolate
from scoresde.trained import Trained

_PICTURE = 64  # images shown in OUT/grid.png


def encode_to(trained: Trained, *, source: str | None, split: str, num: int, out: pathlib.Path) -> np.ndarray:
    """Encode records into OUT/latents.npz. Returns which of them the solver managed."""
    records = _records(trained, source, split, num)
    out.mkdir(parents=True, exist_ok=True)  # before the work, so that a bad path loses none
    score, sampler = local_copy(trained.score), sampler_of(trained)
    drawn = _in_batches(trained, lambda x: encode(score.sde, score, x, sampler=sampler), _states(trained, records))
    path = _write(out / "latents.npz", latents=drawn.x, index=np.arange(len(records)), ok=drawn.ok)
    good = drawn.x[drawn.ok]
    ratio = float((good / trained.score.sde.sigma(trained.score.sde.t_max)).std()) if len(good) else None
    spread_told = "" if ratio is None else f"; spread of the latents {ratio:.3f} of the prior's"
    print(f"{len(records)} records encoded: {_told(drawn)}{spread_told}\nwrote {path}")
    return drawn.ok


def decode_to(trained: Trained, *, source: str | None, out: pathlib.Path) -> np.ndarray:
    """Decode the latents of an NPZ file into OUT/samples.npz and OUT/grid.png. Rows that were not encoded stay failed."""
    if source is None:
        raise ConfigError("--task decode: expected --input FILE.npz with an array `latents`, as --task encode writes it")
    latents, shape = _read(source, "latents"), trained.dataset.shape
    if latents.shape[1:] != shape or latents.dtype.kind != "f" or not np.isfinite(latents).any():
        expected = f"finite floating-point latents [N, {', '.join(map(str, shape))}]"
        raise DataError(f"{source}: expected {expected}, got {latents.dtype} {list(latents.shape)}; encode again")
    out.mkdir(parents=True, exist_ok=True)
    score, sampler = local_copy(trained.score), sampler_of(trained)
    drawn = _in_batches(trained, lambda x: fields(score.sde, decode(score.sde, score, x, sampler=sampler)), latents.astype(np.float32))
    samples = _data_values(trained, drawn)
    path = _write(out / "samples.npz", samples=samples, ok=drawn.ok)
    pictured = save_picture(trained.dataset, drawn.x[:_PICTURE], out / "grid.png")
    print(f"{len(latents)} latents decoded: {_told(drawn)}\nwrote {path}" + (f" and {out / 'grid.png'}" if pictured else ""))
    return drawn.ok


def interpolate_to(
    trained: Trained, *, source: str | None, split: str, num: int, points: int, out: pathlib.Path
) -> np.ndarray:
    """Between records 0 and 1, 2 and 3, and so on: `points` images each, ends included, a row of OUT/grid.png a pair."""
    records = _records(trained, source, split, num)
    if len(records) < 2 or len(records) % 2:
        raise ConfigError(f"--task interpolate: expected an even number of records from 2, got {len(records)}; change --num")
    if points < 2:
        raise ConfigError(f"--points: expected at least 2, got {points}")
    out.mkdir(parents=True, exist_ok=True)
    weights = jnp.linspace(0.0, 1.0, points)
    score, sampler = local_copy(trained.score), sampler_of(trained)
    values = _states(trained, records)
    pairs = values.reshape(len(values) // 2, 2, *values.shape[1:])

    def between(p):
        return fields(score.sde, interpolate(score.sde, score, p[:, 0], p[:, 1], weights, sampler=sampler))

    drawn = _in_batches(trained, between, pairs, each=points)
    path = _write(out / "samples.npz", samples=_data_values(trained, drawn), weights=np.asarray(weights), ok=drawn.ok)
    shown = drawn.x[: max(1, _PICTURE // points)].reshape(-1, *trained.dataset.shape)
    pictured = save_picture(trained.dataset, shown, out / "grid.png", columns=points)
    print(f"{len(pairs)} pairs, {points} points each: {_told(drawn)}\nwrote {path}" + (f" and {out / 'grid.png'}" if pictured else ""))
    return drawn.ok


def _records(trained: Trained, source: str | None, split: str, num: int) -> np.ndarray:
    """Records of the run's data set, or the array `samples` of a file, of the same kind."""
    if source is None:
        chosen = {"train": trained.dataset.train, "test": trained.dataset.test}[split]
        return chosen.rows(np.arange(min(num, len(chosen))))[0]
    dataset = trained.dataset
    return npz.records(_read(source, "samples"), f"{source}: samples", dataset.shape, dataset.levels)[:num]


def _read(source: str, name: str) -> np.ndarray:
    file = pathlib.Path(source).expanduser()
    with npz.opened(file) as archive:
        return npz.member(archive, name, file)


def _states(trained: Trained, records: np.ndarray) -> np.ndarray:
    """In the coordinates of the process."""
    fields = np.asarray(trained.dataset.encode(records, 0.5), np.float32)
    return np.asarray(to_modes(trained.score.sde, fields))


def _data_values(trained: Trained, drawn: Draw) -> np.ndarray:
    return np.asarray(trained.dataset.decode(np.nan_to_num(drawn.x)))


def _in_batches(trained: Trained, function: Callable, rows: np.ndarray, each: int = 1) -> Draw:
    """`function` of the rows in batches of one shape on the devices of this process; each row stands for `each` solves."""
    size = batch_for_devices(max(1, trained.config.sampling.batch_size // each), len(rows))
    progress, parts = Progress(0, len(rows), items=1, unit="record"), []
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        drawn = function(spread(padded(part, size)))
        parts.append(jax.tree.map(lambda a: np.asarray(a)[: len(part)], drawn))
        progress.show(first + len(part), f"ok {int(parts[-1].ok.sum())} of {parts[-1].ok.size}")
    progress.close()
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _told(drawn: Draw) -> str:
    nfe = f"{drawn.nfe.mean():.1f} (largest {drawn.nfe.max()})" if drawn.nfe.min() >= 0 else "unknown"
    return f"NFE {nfe}, solver ok for {int(drawn.ok.sum())} of {drawn.ok.size}"


def _write(path: pathlib.Path, **arrays) -> pathlib.Path:
    scratch = path.with_suffix(".tmp.npz")
    np.savez(scratch, **arrays)
    os.replace(scratch, path)  # a kill in the middle leaves an older file as it was
    return path
