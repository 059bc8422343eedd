"""The task `restore`: records -> degraded -> restored by the score of a run.

    OUT/samples.npz     restored, degraded, originals [N, *shape] in the values of the data, ok [N]; baseline if
                        requested; with classes, labels [N] and label_names
    OUT/grid.png        a row each: originals, degraded, restored, baseline

PSNR = 10 log10(range^2 / mean squared error) over all records and points, in model coordinates. The range is 2 or 1
for grey levels, and for continuous values the largest original minus the smallest.
"""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from scoresde.data.picture import save_picture
from scoresde.errors import ConfigError
from scoresde.experiment.load import TrainedModel
from scoresde.guide import (
    Observation,
    continued,
    deblur,
    guide_of,
    inpaint,
    low_pass,
    mode_covariance,
    mode_variances,
    replace,
    restore_by,
    super_resolution,
)
from scoresde.guide.joint import LARGEST
from scoresde.guide.posterior import check_coordinates, isotropic
from scoresde.runtime.sharding import local_copy
from scoresde.runtime.streams import branch, fixed_stream, host_generator
from scoresde.sample import Draw
from scoresde.sde import AbstractSDE
from scoresde.workflows.batches import format_solver_status, in_batches, records_of, write
from scoresde.workflows.conditions import condition_arrays, rows_for
from scoresde.workflows.generate import fields, sampler_of
from scoresde.workflows.operators import START

# Defaults of --strength.
_STRENGTHS = {"blur": 1.0, "downsample": 2.0, "inpaint": 0.5}
NOISE = 0.05  # default standard deviation of the noise of an observation
_KNOWN = 1000  # training records from which variances are computed
_RECORDS_PER_VALUE = 8  # smallest number of records per value for a covariance
_SHOWN = 12  # records in OUT/grid.png


def restore_to(
    trained: TrainedModel,
    *,
    operator: str,
    strength: float | None,
    noise: float | None,
    baseline: bool,
    joint: bool,
    source: str | None,
    split: str,
    num: int,
    out: pathlib.Path,
) -> np.ndarray:
    """Degrade records, restore them into OUT/samples.npz and OUT/grid.png, and print PSNRs.

    Returns:
      Whether the solver succeeded, for each record.
    """
    _check(trained, operator, strength, noise, baseline, joint)
    originals, _ = records_of(trained, source, split, num)
    out.mkdir(parents=True, exist_ok=True)
    trained = trained._replace(score=local_copy(trained.score))
    x0 = np.asarray(trained.codec.encode(originals, 0.5), np.float32)
    if operator == START:
        name, degraded, found = _from_start(trained, x0)
    else:
        observation = observation_of(
            trained.score.sde, x0.shape[1:-1], operator, strength, NOISE if noise is None else noise
        )
        name, degraded, found = _from_observation(trained, observation, x0, baseline, joint)
        name = f"{operator} with noise {observation.sigma_y:g} {name}"
    return _report(trained, name, originals, x0, degraded, found, out)


def observation_of(
    sde: AbstractSDE, grid: tuple[int, ...], operator: str, strength: float | None, noise: float
) -> Observation:
    """Build an operator by name on a grid, in a basis that the process accepts.

    Raises:
      ConfigError: the operator refuses its parameters, records are vectors, or the process has one coefficient per mode
        in another basis.
    """
    if not grid:
        raise ConfigError("--task restore: expected images or curves; vectors have no neighbours to be restored from")
    strength = _STRENGTHS[operator] if strength is None else strength
    if operator == "blur":
        observation = deblur(grid, strength, sigma_y=noise)
    elif operator == "downsample":
        coarse = low_pass if sde.basis.cuts_off or any(n & (n - 1) for n in grid) else super_resolution
        observation = coarse(grid, int(strength) if strength == int(strength) else strength, sigma_y=noise)
    else:
        observation = inpaint(_mask(grid, strength), sigma_y=noise)
    check_coordinates("--operator", sde, observation.basis)
    return observation


def _mask(grid: tuple[int, ...], hidden: float) -> np.ndarray:
    """Choose random hidden points, the same for all records; `hidden` is the fraction of these points."""
    if not 0 < hidden < 1:
        raise ConfigError(f"--strength: expected the share of points hidden, between 0 and 1, got {hidden:g}")
    count = int(np.prod(grid))
    return host_generator("mask").permutation(np.arange(count) >= round(hidden * count)).reshape(grid)


def _check(trained: TrainedModel, operator: str, strength, noise, baseline: bool, joint: bool) -> None:
    process, starts = trained.experiment.process_name, trained.score.sde.needs_data
    if starts and operator != START:
        raise ConfigError(
            f"--operator: sde.name = '{process}' starts from degraded data, which hold another record; expected start, "
            f"which degrades by the process itself, got {operator}"
        )
    if operator == START:
        problems = [] if starts else [
            f"--operator: sde.name = '{process}' starts from noise, and would restore nothing; expected blur, "
            "downsample or inpaint"
        ]  # fmt: skip
        given = {
            "--strength": strength is not None,
            "--observation-noise": noise is not None,
            "--baseline": baseline,
            "--joint": joint,
        }
        problems += [
            f"{flag}: --operator start has no such thing; leave it out" for flag, there in given.items() if there
        ]
        if problems:
            raise ConfigError(*problems)


def _from_observation(
    trained: TrainedModel, observation: Observation, x0: np.ndarray, baseline: bool, joint: bool
) -> tuple[str, np.ndarray, dict[str, Draw]]:
    score, sampler, index = trained.score, sampler_of(trained), np.arange(len(x0), dtype=np.uint32)
    of_data = _spread(trained, observation, joint)
    y = np.asarray(jax.jit(jax.vmap(lambda x, key: observation.observe(x, key=key)))(x0, _keys("observation", index)))
    posterior = guide_of(score, observation, of_data, jnp.asarray(y[:1]))
    guides = {"restored": lambda y, keys, given: restore_by(sampler, posterior, y, keys=keys, conditions=given)}
    if baseline:
        guides["baseline"] = lambda y, keys, given: replace(sampler, score, observation, y, keys=keys, conditions=given)
    found = {name: _drawn(trained, guide, y, index) for name, guide in guides.items()}
    where = f"(in {type(observation.basis).__name__} modes)"
    return where, np.asarray(jax.jit(jax.vmap(observation.picture))(y)), found


def _spread(trained: TrainedModel, observation: Observation, joint: bool):
    """Return the variances of the modes of training records, or their covariance, which needs more records.

    With classes, only records of the class of the score are used.
    """
    if joint and not isotropic(trained.score.sde):
        raise ConfigError(
            "--joint: expected a process with one coefficient for all points, such as vp, got "
            f"{trained.experiment.process_name}; leave it out"
        )
    size = int(np.prod(trained.codec.shape))
    if joint and size > LARGEST:
        raise ConfigError(f"--joint: expected records of up to {LARGEST} values, got {size}; leave it out")
    wanted = max(_KNOWN, _RECORDS_PER_VALUE * size) if joint else _KNOWN
    known = jnp.asarray(trained.codec.encode(records_of(trained, None, "train", wanted)[0], 0.5), jnp.float32)
    return (mode_covariance if joint else mode_variances)(observation.basis, known)


def _from_start(trained: TrainedModel, x0: np.ndarray) -> tuple[str, np.ndarray, dict[str, Draw]]:
    """Restore from x_T, which is the record degraded to t_max by the process, with its noise."""
    score, sampler = trained.score, sampler_of(trained)
    index = np.arange(len(x0), dtype=np.uint32)
    sde = score.sde
    x_T = jax.jit(jax.vmap(lambda x, key: sde.perturb(sde.basis.to_modes(x), jnp.float32(sde.t_max), key=key)[0]))(
        x0, _keys("observation", index)
    )
    found = _drawn(
        trained,
        lambda x, keys, given: continued(sampler, score, x, keys=keys, conditions=given),
        np.asarray(x_T),
        index,
    )
    name = f"the process itself, {trained.experiment.process_name} to t = {sde.t_max:g}"
    return name, np.asarray(jax.jit(jax.vmap(sde.basis.from_modes))(x_T)), {"restored": found}


def _drawn(trained: TrainedModel, guide: Callable, states: np.ndarray, index: np.ndarray) -> Draw:
    """Sample in batches; sample k depends on state k and on k, not on the size of a batch."""
    sde = trained.score.sde

    def restored(rows):
        return fields(sde, guide(rows[0], _keys("restoration", rows[1]), rows[2] or None))

    return in_batches(trained, restored, (states, index, rows_for(trained, len(index))))


def _keys(purpose: str, index):
    root = branch(fixed_stream("restore"), purpose)
    return jax.vmap(lambda k: jax.random.fold_in(root, k))(jnp.asarray(index))


def _report(
    trained: TrainedModel, name: str, originals, x0, degraded, found: dict[str, Draw], out: pathlib.Path
) -> np.ndarray:
    codec = trained.codec
    ok = np.all([drawn.ok for drawn in found.values()], axis=0)
    values = lambda x: np.asarray(codec.decode(np.nan_to_num(x)))
    arrays = {part: values(drawn.x) for part, drawn in found.items()}
    arrays |= {"degraded": values(degraded), "originals": originals, "ok": ok}
    arrays |= condition_arrays(trained, len(ok), rows_for(trained, len(ok)))
    path = write(out / "samples.npz", **arrays)
    shown = [x0, degraded, *(drawn.x for drawn in found.values())]
    columns = min(len(x0), _SHOWN)
    pictured = save_picture(
        codec, np.concatenate([part[:columns] for part in shown]), out / "grid.png", columns=columns
    )
    psnr = {
        part: _psnr(codec, x[ok], x0[ok]) for part, x in [("degraded", degraded), *((p, d.x) for p, d in found.items())]
    }
    print(
        f"{len(x0)} records restored from {name} by {trained.experiment.sampler_name} at step {trained.step}: "
        f"{format_solver_status(found['restored'])}\nPSNR in dB, 10 log10(range^2 / mean squared error): "
        f"{', '.join(f'{part} {value:.2f}' for part, value in psnr.items())}\n"
        f"wrote {path}" + (f" and {out / 'grid.png'}" if pictured else "")
    )
    return ok


def _psnr(codec, x: np.ndarray, x0: np.ndarray) -> float:
    if not len(x0):
        return float("nan")
    span = (2.0 if codec.centered else 1.0) if codec.levels else float(x0.max() - x0.min())
    return float(10 * np.log10(span**2 / max(float(np.mean((x - x0) ** 2)), np.finfo(np.float32).tiny)))
