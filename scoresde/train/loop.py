"""`fit`: the loop, in one straight line.

    compile;  state = begin;  for each dispatch of n steps: batches(seed, step) -> devices -> steps -> after_step;  end
"""

import contextlib
import functools
from collections.abc import Callable

import jax
import optax
from jaxtyping import PyTree

from scoresde.devices import data_mesh, gathered, stored
from scoresde.errors import ConfigError
from scoresde.score.network import NetworkScore
from scoresde.train.feed import Feed, ahead
from scoresde.train.loss import Objective
from scoresde.train.program import compile_step, memory_advice
from scoresde.train.step import TrainState, average_name, init_state, make_step, with_params
from scoresde.types import State


def fit(
    score: NetworkScore,
    dataset,
    *,
    steps: int,
    batch_size: int,
    optimizer: optax.GradientTransformation | None = None,
    objective: Objective = Objective(),
    ema: tuple[float, ...] = (0.999,),
    accumulation: int = 1,
    remat: str = "none",
    fsdp: int = 1,
    steps_per_dispatch: int = 1,
    prepare: Callable[..., State] | None = None,
    augment: Callable[..., tuple[State, jax.Array]] | None = None,
    seed: int = 0,
    run=None,
) -> TrainState:
    """Train the network of `score` by denoising score matching, on every device of every process.

    Args:
      score: the score to train; its parameters are the start. `averaged_score(score, state)` is the result.
      dataset: `stream(seed, batch_size, start, rows=slice)` gives batches, `encode(value)` model coordinates.
      steps: in all, counting those a resumed run has done.
      batch_size: examples a step over all devices and processes.
      optimizer: optax; Adam with learning rate 2e-4 and gradients clipped at norm 1 by default.
      objective: weighting and law of t.
      ema: of the averages of the parameters: decays a step, below 1, or half-lives in images.
      accumulation: micro-batches a step.
      remat: what the backward pass computes again rather than keep: a name of `scoresde.nets.REMAT`.
      fsdp: devices over which parameters, optimizer and averages are split; 1: a copy on each, 0: all devices.
      steps_per_dispatch: steps in one call of the device. `run` hears of the last of them; its cadences are multiples of it.
      prepare: (value, key=key) -> x0 for one record: encoding with dequantization and augmentation.
      augment: (x0, key=key) -> (x0, label): an augmentation that the network is told of.
      seed: order of the data and all noise. The same seed gives the same run on any number of devices, to rounding.
      run: a `Run`, which restores, logs, saves and draws; None trains in memory, in silence.

    Raises:
      ConfigError: the batch or the devices cannot be split evenly. ResourceError: a step does not fit in the memory of a
        device; it says what would. Others: see `Run`.
    """
    check_devices(batch_size, accumulation, fsdp)
    optimizer = optimizer or optax.chain(optax.clip_by_global_norm(1.0), optax.adam(2e-4))
    prepare = prepare or (lambda value, *, key: dataset.encode(value))
    mesh = data_mesh(fsdp or jax.device_count())
    start = functools.partial(init_state, optimizer=optimizer, ema=ema, key=jax.random.key(seed))
    like = jax.eval_shape(start, score.network.params)
    parts = stored(mesh, like)
    how = dict(accumulation=accumulation, remat=remat)
    step = make_step(score, objective, optimizer, prepare=prepare, augment=augment, state=like, mesh=mesh, **how)
    feed = Feed(dataset, seed, batch_size, mesh)
    compiled = functools.cache(lambda n: compile_step(step, _placed(like, parts), feed.shapes(n), **how))
    if run is None or run.newest() < steps:
        with run.ledger.part("compile") if run is not None else contextlib.nullcontext():
            compiled(min(steps_per_dispatch, steps))  # before anything is allocated: it says what does not fit

    state = jax.jit(start, out_shardings=parts)(score.network.params)
    if run is not None:
        state = run.begin(state, steps=steps, batch_size=batch_size)
    ends = _ends(int(state.step), steps, steps_per_dispatch)
    batches = feed.read(int(state.step), ends)
    with memory_advice(batch_size, **how):
        for end, batch in zip(ends, ahead(batches if run is None else run.reading(batches), feed.put)):
            state, metrics = compiled(batch["label"].shape[0])(state, batch)
            if run is not None:
                run.after_step(end, state, metrics)
    if run is not None:
        run.end(state)
    return state


def _ends(start: int, steps: int, each: int) -> list[int]:
    """The number of steps done after each dispatch: multiples of `each`, and the last."""
    return [*range(start // each * each + each, steps, each), steps] if start < steps else []


def _placed(like: PyTree, parts: PyTree) -> PyTree:
    return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like, parts)


def averaged_score(score: NetworkScore, state: TrainState, decay: float | None = None) -> NetworkScore:
    """The score with the averaged parameters of one decay or half-life, which may be left out if there is only one.

    Raises:
      ConfigError: that decay was not tracked, or which of several is not said.
    """
    # Not "the first one": JAX sorts the keys of a dict.
    only = next(iter(state.ema)) if len(state.ema) == 1 else None
    wanted = only if decay is None else average_name(decay)
    if wanted not in state.ema:
        raise ConfigError(f"ema: no average with decay or half-life {wanted}; there are {', '.join(state.ema)}")
    return with_params(score, gathered(state.ema[wanted]))


def check_devices(batch_size: int, accumulation: int, fsdp: int = 1) -> None:
    """Every device must get the same number of examples in every micro-batch, and be in one group of `fsdp` devices.

    Raises:
      ConfigError: with the numbers and the nearest that fit.
    """
    if fsdp and jax.device_count() % fsdp:
        fitting = [n for n in range(1, jax.device_count() + 1) if jax.device_count() % n == 0]
        raise ConfigError(
            f"training.fsdp = {fsdp}: expected a divisor of the {jax.device_count()} devices, one of "
            f"{', '.join(map(str, fitting))}, or 0 for all of them"
        )
    unit = jax.device_count() * accumulation
    if batch_size < 1 or batch_size % unit:
        below, above = batch_size // unit * unit, (batch_size // unit + 1) * unit
        nearest = f"{below} or {above}" if below > 0 else f"{above}"
        raise ConfigError(
            f"training.batch_size = {batch_size} is not divisible by {jax.device_count()} devices x "
            f"{accumulation} accumulation steps = {unit}; nearest: {nearest}"
        )
