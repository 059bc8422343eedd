"""`fit`: the loop, in one straight line.

    state = begin;  for each step: batch(seed, step) -> devices -> step -> after_step;  end
"""

import itertools
from collections.abc import Callable

import jax
import optax

from scoresde.devices import data_mesh, shardings
from scoresde.errors import ConfigError
from scoresde.score.network import NetworkScore
from scoresde.train.average import average_name
from scoresde.train.loss import Objective
from scoresde.train.step import TrainState, init_state, make_step, with_params
from scoresde.types import State


def fit(
    score: NetworkScore,
    dataset,
    *,
    steps: int,
    batch_size: int,
    optimizer: optax.GradientTransformation | None = None,
    objective: Objective = Objective(),
    ema: tuple[float | str, ...] = (0.999,),
    accumulation: int = 1,
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
      ema: of the averages of the parameters: decays a step, below 1, half-lives in images, or "power:WIDTH"; see average.py.
      accumulation: micro-batches a step.
      prepare: (value, key=key) -> x0 for one record: encoding with dequantization and augmentation.
      augment: (x0, key=key) -> (x0, label): an augmentation that the network is told of.
      seed: order of the data and all noise. The same seed gives the same run on any number of devices, to rounding.
      run: a `Run`, which restores, logs, saves and draws; None trains in memory, in silence.

    Raises:
      ConfigError: the batch cannot be split evenly. Others: see `Run`.
    """
    check_batch(batch_size, accumulation)
    optimizer = optimizer or optax.chain(optax.clip_by_global_norm(1.0), optax.adam(2e-4))
    prepare = prepare or (lambda value, *, key: dataset.encode(value))
    mesh = data_mesh()
    replicated, split = shardings(mesh)

    start_state = jax.jit(lambda p: init_state(p, optimizer, ema, jax.random.key(seed)), out_shardings=replicated)
    state = start_state(score.network.params)
    if run is not None:
        state = run.begin(state, steps=steps, batch_size=batch_size)
    step_function = make_step(score, objective, optimizer, prepare=prepare, augment=augment, accumulation=accumulation, mesh=mesh)

    share = batch_size // jax.process_count()
    rows = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    start = int(state.step)
    stream = dataset.stream(seed, batch_size, start, rows=rows)
    batches = itertools.islice(stream, max(steps - start, 0))
    for step, batch in zip(range(start + 1, steps + 1), batches if run is None else run.reading(batches)):
        batch = {name: jax.make_array_from_process_local_data(split, array) for name, array in batch.items()}
        state, metrics = step_function(state, batch)
        if run is not None:
            run.after_step(step, state, metrics)
    stream.close()
    if run is not None:
        run.end(state)
    return state


def averaged_score(score: NetworkScore, state: TrainState, decay: float | str | None = None) -> NetworkScore:
    """The score with the averaged parameters of one decay, half-life or name, which may be left out if there is only one.

    Raises:
      ConfigError: that decay was not tracked, or which of several is not said.
    """
    # Not "the first one": JAX sorts the keys of a dict.
    only = next(iter(state.ema)) if len(state.ema) == 1 else None
    wanted = only if decay is None else average_name(decay)
    if wanted not in state.ema:
        raise ConfigError(f"ema: no average {wanted}; there are {', '.join(state.ema)}")
    return with_params(score, state.ema[wanted])


def check_batch(batch_size: int, accumulation: int) -> None:
    """Every device must get the same number of examples in every micro-batch.

    Raises:
      ConfigError: with the numbers and the nearest batch sizes that fit.
    """
    unit = jax.device_count() * accumulation
    if batch_size < 1 or batch_size % unit:
        below, above = batch_size // unit * unit, (batch_size // unit + 1) * unit
        nearest = f"{below} or {above}" if below > 0 else f"{above}"
        raise ConfigError(
            f"training.batch_size = {batch_size} is not divisible by {jax.device_count()} devices x "
            f"{accumulation} accumulation steps = {unit}; nearest: {nearest}"
        )
