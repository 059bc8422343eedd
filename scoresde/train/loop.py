"""The training loop `fit`.

state = begin;  for each dispatch of n steps: batches(seed, step) -> devices -> steps -> after_step;  end
"""

import functools
from collections.abc import Callable, Mapping

import jax
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree

from scoresde.errors import ConfigError
from scoresde.nets.network import CPU_INIT_OPTIONS
from scoresde.runtime.sharding import all_gather, state_sharding
from scoresde.runtime.streams import stream
from scoresde.score.network import NetworkScore
from scoresde.train.average import average_name
from scoresde.train.batch_iterator import BatchIterator, prefetch
from scoresde.train.loss import Objective
from scoresde.train.parallelism import Parallelism
from scoresde.train.program import compile_step, memory_advice
from scoresde.train.step import TrainState, init_state, make_step, with_params
from scoresde.types import State


def fit(
    score: NetworkScore,
    dataset,
    *,
    steps: int,
    batch_size: int,
    params: Callable[[], PyTree] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    objective: Objective = Objective(),
    ema: tuple[float | str, ...] = (0.999,),
    layout: Parallelism = Parallelism(),
    prepare: Callable[..., tuple[State, dict]] | None = None,
    condition_dropout: float | Mapping[str, float] = 0.0,
    seed: int = 0,
    run=None,
) -> TrainState:
    """Train the network of `score` by denoising score matching, on every device of every process.

    Args:
      score: the score to train. `averaged_score(score, state)` is the result.
      dataset: `stream(seed, batch_size, start, rows=slice)` gives batches {"value": [B, ...], "condition": {name:
        [B, ...]}}, `encode(value)` model coordinates. The score takes those conditions that it has entries for.
      steps: total number of steps, including those that a resumed run has done.
      batch_size: examples per step over all devices and processes.
      params: initialises the parameters, each device its part; `score` then holds their shapes. None: those of
        `score`.
      optimizer: optax; by default Adam with learning rate 2e-4 and gradients clipped at norm 1.
      objective: weighting and distribution of t.
      ema: averages of the parameters: decays per step, below 1, half-lives in images, or "power:WIDTH"; see
        average.py.
      layout: the division over devices, micro-batches and dispatches.
      prepare: (value, condition, key=key) -> (x0, condition) for one record: encoding with dequantization and
        augmentation.
      condition_dropout: probability that a condition is replaced by its null; see `scoresde.train.step`.
      seed: order of the data and all noise. The same seed gives the same run on any number of devices, to rounding.
      run: a `Run`, which restores, logs, saves and samples; None trains in memory without output.

    Raises:
      ConfigError: an uneven split, or a distribution of t that does not suit the weighting. ResourceError: out of
        memory; the message states what would fit. See also `Run`.
    """
    layout.check(batch_size)
    optimizer, mesh = optimizer or optax.chain(optax.clip_by_global_norm(1.0), optax.adam(2e-4)), layout.mesh()
    prepare = prepare or (lambda value, condition, *, key: (dataset.encode(value), condition))
    init = functools.partial(init_state, optimizer=optimizer, ema=ema, key=stream(seed, "train"))
    like = _place(jax.eval_shape(init, score.network.params), mesh)
    options = dict(accumulation=layout.accumulation, remat=layout.remat, condition_dropout=condition_dropout)
    step = make_step(score, objective, optimizer, prepare=prepare, state=like, mesh=mesh, **options)
    feed = BatchIterator(dataset, seed, batch_size, mesh)
    compiled = functools.cache(lambda n: compile_step(step, like, feed.shapes(n), layout))

    def start() -> TrainState:  # compiled before anything is allocated, to find out whether it fits
        compiled(min(layout.steps_per_dispatch, steps))
        return _first_state(init, score.network.params, params, like, mesh)

    state = start() if run is None else run.begin(like, start, steps=steps, batch_size=batch_size)
    state = _all_steps(state, compiled, feed, layout, run, steps=steps, batch_size=batch_size)
    if run is not None:
        run.end(state)
    return state


def _all_steps(
    state: TrainState, compiled: Callable, feed: BatchIterator, layout: Parallelism, run, *, steps: int, batch_size: int
) -> TrainState:
    """Return the state after a total of `steps` steps."""
    ends = layout.ends(int(state.step), steps)
    batches = feed.read(int(state.step), ends)
    for end, batch in zip(ends, prefetch(batches if run is None else run.reading(batches), feed.put)):
        state, metrics = _step(compiled, state, batch, layout, batch_size, wait=end == ends[0])
        if run is not None:
            run.after_step(end, state, metrics)
    return state


def _first_state(
    init: Callable, given: PyTree, params: Callable[[], PyTree] | None, like: TrainState, mesh: Mesh
) -> TrainState:
    """Return the state at step 0 from the parameters `given`, or from those that `params` initialises in place."""
    make, arguments = (init, (given,)) if params is None else (lambda: init(params()), ())
    options = CPU_INIT_OPTIONS if mesh.devices.flat[0].platform == "cpu" else None
    return jax.jit(make, out_shardings=state_sharding(mesh, like), compiler_options=options)(*arguments)


def _step(compiled: Callable, state: TrainState, batch: dict, layout: Parallelism, batch_size: int, *, wait: bool):
    """Run one dispatch. `wait` for the first, so that running out of memory is reported for the step itself."""
    with memory_advice(batch_size, layout):
        state, metrics = compiled(batch["value"].shape[0])(state, batch)
        if wait:
            jax.block_until_ready(metrics)
    return state, metrics


def _place(like: PyTree, mesh: Mesh) -> PyTree:
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), like, state_sharding(mesh, like)
    )


def averaged_score(score: NetworkScore, state: TrainState, decay: float | str | None = None) -> NetworkScore:
    """Return the score with the averaged parameters of one decay, half-life or name, which may be omitted if there is
    only one.

    Raises:
      ConfigError: that average was not tracked, or there are several and none is named.
    """
    # Not "the first one": JAX sorts the keys of a dict.
    only = next(iter(state.ema)) if len(state.ema) == 1 else None
    wanted = only if decay is None else average_name(decay)
    if wanted not in state.ema:
        raise ConfigError(f"ema: no average {wanted}; there are {', '.join(state.ema)}")
    return with_params(score, all_gather(state.ema[wanted]))
