"""The tasks of the probability flow: records -> latents -> images, and interpolation between records.

    OUT/latents.npz     latents [N, *shape] (x at t_max, in the coordinates of the process), index [N], ok [N]
    encode OUT/samples.npz     samples [N, *shape], ok [N]                                  decode
    OUT/samples.npz     samples [pairs, points, *shape], weights [points], ok        interpolate

`index` holds the indices of the records in their split. With classes each file has `labels`, the class of every row,
and `label_names`, the names of the classes in the data.
"""

import pathlib

import jax.numpy as jnp
import numpy as np

from scoresde.data.picture import save_picture
from scoresde.errors import ConfigError, DataError
from scoresde.experiment.load import TrainedModel
from scoresde.runtime.sharding import local_copy
from scoresde.sample import decode, encode, interpolate
from scoresde.workflows.batches import (
    PICTURE,
    data_values,
    format_solver_status,
    in_batches,
    read_array,
    records_of,
    write,
)
from scoresde.workflows.conditions import condition_arrays, rows_for
from scoresde.workflows.generate import fields, sampler_of, to_modes


def encode_to(trained: TrainedModel, *, source: str | None, split: str, num: int, out: pathlib.Path) -> np.ndarray:
    """Encode records into OUT/latents.npz, and return for each record whether the solver succeeded."""
    records, numbers = records_of(trained, source, split, num)
    out.mkdir(parents=True, exist_ok=True)  # before the work, so that a bad path causes no loss
    score, sampler = local_copy(trained.score), sampler_of(trained)
    conditions = rows_for(trained, len(records))
    drawn = in_batches(
        trained,
        lambda rows: encode(score, rows[0], sampler=sampler, conditions=rows[1] or None),
        (_states(trained, records), conditions),
    )
    given = condition_arrays(trained, len(records), conditions)
    path = write(out / "latents.npz", latents=drawn.x, index=numbers, ok=drawn.ok, **given)
    good = drawn.x[drawn.ok]
    ratio = float((good / trained.score.sde.sigma(trained.score.sde.t_max)).std()) if len(good) else None
    spread_told = "" if ratio is None else f"; spread of the latents {ratio:.3f} of the prior's"
    print(f"{len(records)} records encoded: {format_solver_status(drawn)}{spread_told}\nwrote {path}")
    return drawn.ok


def decode_to(trained: TrainedModel, *, source: str | None, out: pathlib.Path) -> np.ndarray:
    """Decode the latents of an NPZ file into OUT/samples.npz and OUT/grid.png, and return for each latent whether the
    solver succeeded.

    Rows whose encoding failed remain failed.
    """
    if source is None:
        raise ConfigError(
            "--task decode: expected --input FILE.npz with an array `latents`, as --task encode writes it"
        )
    latents, shape = read_array(source, "latents"), trained.codec.shape
    if latents.shape[1:] != shape or latents.dtype.kind != "f" or not np.isfinite(latents).any():
        expected = f"finite floating-point latents [N, {', '.join(map(str, shape))}]"
        raise DataError(f"{source}: expected {expected}, got {latents.dtype} {list(latents.shape)}; encode again")
    out.mkdir(parents=True, exist_ok=True)
    score, sampler = local_copy(trained.score), sampler_of(trained)
    conditions = rows_for(trained, len(latents))

    def decoded(rows):
        return fields(score.sde, decode(score, rows[0], sampler=sampler, conditions=rows[1] or None))

    drawn = in_batches(trained, decoded, (latents.astype(np.float32), conditions))
    samples = data_values(trained, drawn)
    given = condition_arrays(trained, len(samples), conditions)
    path = write(out / "samples.npz", samples=samples, ok=drawn.ok, **given)
    pictured = save_picture(trained.codec, drawn.x[:PICTURE], out / "grid.png")
    print(
        f"{len(latents)} latents decoded: {format_solver_status(drawn)}\nwrote {path}"
        + (f" and {out / 'grid.png'}" if pictured else "")
    )
    return drawn.ok


def interpolate_to(
    trained: TrainedModel, *, source: str | None, split: str, num: int, points: int, out: pathlib.Path
) -> np.ndarray:
    """Interpolate between records 0 and 1, 2 and 3, and so on, with `points` images each, ends included.

    OUT/grid.png has one row per pair.
    """
    records, _ = records_of(trained, source, split, num)
    if len(records) < 2 or len(records) % 2:
        raise ConfigError(
            f"--task interpolate: expected an even number of records from 2, got {len(records)}; change --num"
        )
    if points < 2:
        raise ConfigError(f"--points: expected at least 2, got {points}")
    out.mkdir(parents=True, exist_ok=True)
    weights = jnp.linspace(0.0, 1.0, points)
    score, sampler = local_copy(trained.score), sampler_of(trained)
    values = _states(trained, records)
    pairs = values.reshape(len(values) // 2, 2, *values.shape[1:])

    conditions = rows_for(trained, len(pairs))

    def between(rows):
        first, last, given = rows[0][:, 0], rows[0][:, 1], rows[1] or None
        return fields(score.sde, interpolate(score, first, last, weights, sampler=sampler, conditions=given))

    drawn = in_batches(trained, between, (pairs, conditions), each=points)
    given = condition_arrays(trained, len(pairs), conditions)
    about = dict(weights=np.asarray(weights), ok=drawn.ok, **given)
    path = write(out / "samples.npz", samples=data_values(trained, drawn), **about)
    shown = drawn.x[: max(1, PICTURE // points)].reshape(-1, *trained.codec.shape)
    pictured = save_picture(trained.codec, shown, out / "grid.png", columns=points)
    print(
        f"{len(pairs)} pairs, {points} points each: {format_solver_status(drawn)}\nwrote {path}"
        + (f" and {out / 'grid.png'}" if pictured else "")
    )
    return drawn.ok


def _states(trained: TrainedModel, records: np.ndarray) -> np.ndarray:
    """Convert records to the coordinates of the process."""
    fields = np.asarray(trained.codec.encode(records, 0.5), np.float32)
    return np.asarray(to_modes(trained.score.sde, fields))
