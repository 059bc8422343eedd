"""One training step as one compiled program over a mesh of devices.

    step_key = fold_in(root, step);  example i of the global batch uses fold_in(., i)
    loss = mean_i objective(x0_i);  gradient;  optimizer;  averages

Randomness depends only on (seed, step, index in the batch). More devices, processes or micro-batches change only the
order of a sum.

A step changes parameters, optimizer and averages only if its loss, its gradient and the new values of all three are
finite. A finite gradient is not enough: a division by the square root of a moment can overflow float32. Other steps
are counted, and after `MAX_SKIPPED` in a row every further step is skipped as well, so that the state stays the last
good one until the host checks it. optax.apply_if_finite lets the bad update through in that case.
"""

import dataclasses
from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, PyTree, UInt32

from scoresde.nets import AbstractCondition
from scoresde.runtime.sharding import shardings, state_sharding
from scoresde.runtime.streams import branch, stream
from scoresde.score.network import NetworkScore
from scoresde.train.average import average_name, update
from scoresde.train.batch_iterator import batches_sharding
from scoresde.train.loss import Objective
from scoresde.types import Key, State, stored_key

MAX_SKIPPED = 10


class TrainState(eqx.Module):
    """The state that a run needs to continue."""

    step: Int[Array, ""]
    params: PyTree[Array]
    ema: dict[str, PyTree[Array]]  # by name, see average.py
    opt_state: PyTree
    key: UInt32[Array, " words"]  # the root key's data; never advanced
    skipped: Int[Array, ""]  # steps skipped so far
    skipped_in_a_row: Int[Array, ""]


def init_state(
    params: PyTree, optimizer: optax.GradientTransformation, ema: tuple[float | str, ...], key: Key
) -> TrainState:
    """Return the state at step 0. Every leaf is a separate buffer, because donated buffers may not be shared.

    Parameters, averages and the moments of the optimizer are float32 or wider whatever the dtype of `params`: an
    average with decay 0.9999 moves by less than bfloat16 resolves, and so does Adam's second moment, which would never
    fall.
    """
    zero = jnp.zeros((), jnp.int32)

    def fine() -> PyTree:
        return jax.tree.map(lambda p: jnp.array(p, jnp.promote_types(p.dtype, jnp.float32), copy=True), params)

    return TrainState(
        step=zero,
        params=fine(),
        ema={average_name(memory): fine() for memory in ema},
        opt_state=optimizer.init(fine()),
        key=jnp.copy(jax.random.key_data(key)),
        skipped=jnp.copy(zero),
        skipped_in_a_row=jnp.copy(zero),
    )


def average_alone(params: PyTree, name: str) -> TrainState:
    """Return the shapes of a state of which one average is wanted and nothing else: every other leaf is None.

    Args:
      params: the parameters, arrays or their shapes. name: of the average, see average.py.
    """
    like = jax.eval_shape(lambda p: init_state(p, optax.identity(), (name,), stream(0, "train")), params)
    parts, outline = jax.tree.flatten(like, is_leaf=lambda part: part is not like)  # one for each field
    names = (field.name for field in dataclasses.fields(like))
    return outline.unflatten([part if name == "ema" else None for name, part in zip(names, parts, strict=True)])


def with_params(score: NetworkScore, params: PyTree) -> NetworkScore:
    """Return the score with other parameters in its network."""
    return dataclasses.replace(score, network=dataclasses.replace(score.network, params=params))


def make_step(
    score: NetworkScore,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    prepare: Callable[..., tuple[State, dict]],
    condition_dropout: float | Mapping[str, float] = 0.0,
    accumulation: int = 1,
    remat: str = "none",
    state: TrainState,
    mesh: Mesh,
) -> Callable[[TrainState, dict], tuple[TrainState, dict]]:
    """Return the compiled (state, batches) -> (state, metrics of the last step); it reuses the old state's buffers.

    `batches` holds [n, B, ...]: n steps in one dispatch, which need the activations of one. Parameters are gathered
    once per step, in the compute dtype, and gradients return as shards (see `scoresde.runtime.sharding`).

    Args:
      score: its process, preconditioning and network; the parameters come from the state.
      objective: weighting and distribution of t.
      optimizer: optax.
      prepare: (value, condition, key=key) -> (x0, condition) for one record, with its augmentation.
      condition_dropout: see `drop_conditions`.
      accumulation: micro-batches per step; the gradient is their mean.
      remat: a name in `scoresde.nets.REMAT`, what the backward pass recomputes instead of storing.
      state: arrays, or their shapes and dtypes.
      mesh: the result of `data_mesh`.
    """
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    everywhere, _ = shardings(mesh)
    parts = state_sharding(mesh, state)
    if remat != "none":
        score = dataclasses.replace(score, network=dataclasses.replace(score.network, remat=remat))
    gradient = jax.value_and_grad(_batch_loss(score, objective, prepare, condition_dropout))

    def loop(body, carry, xs):
        """Return the last carry and output. The CPU uses no loop, not even of one iteration: XLA computes weight
        gradients 20 to 50 times slower inside a loop."""
        count = jax.tree.leaves(xs)[0].shape[0]
        if not on_cpu and count > 1:
            carry, outs = jax.lax.scan(body, carry, xs)
            return carry, jax.tree.map(lambda x: x[-1], outs)
        for i in range(count):
            carry, out = body(carry, jax.tree.map(lambda x: x[i], xs))
        return carry, out

    def one_step(state: TrainState, batch):
        # Pinned as shards first, because the partitioner would otherwise gather before the conversion.
        params = jax.lax.with_sharding_constraint(_entering(score, state.params), parts.params)
        params = jax.lax.with_sharding_constraint(params, everywhere)
        loss, grads = _gradient(gradient, params, state, batch, accumulation, loop, parts.params)
        return _update(optimizer, state, loss, grads, batch["value"].shape[0])

    return jax.jit(
        lambda state, batches: loop(one_step, state, batches),
        in_shardings=(parts, batches_sharding(mesh)),
        out_shardings=(parts, everywhere),
        donate_argnums=0,
        compiler_options=_compiler_options(mesh.devices.flat[0].platform, mesh.shape["data"], remat),
    )


def _compiler_options(platform: str, copies: int, remat: str) -> dict | None:
    """Return compiler options for a step with `copies` of the state, whose gradients are summed."""
    if platform == "cpu":  # level 1 compiles several times faster and runs as fast
        return {"xla_backend_optimization_level": 1}
    if platform == "gpu" and remat != "none" and copies > 1:
        # To hide sums over devices, XLA delays the gradients of kernels and keeps their operands until then. Those are
        # most of what is computed again to save memory (docs/performance.md). With one copy, split over all GPUs, it
        # does not.
        return {"xla_gpu_enable_latency_hiding_scheduler": False}
    return None


def _batch_loss(score: NetworkScore, objective: Objective, prepare, condition_dropout):
    """Return (params, records with ranks and keys, key of the batch) -> the mean loss."""
    objective.check(score.sde)
    kinds = score.conditions

    def example_loss(params, record, rank, key, batch_key):
        data_key, dropout_key, loss_key = jax.random.split(key, 3)
        x0, condition = prepare(record["value"], record.get("condition", {}), key=data_key)
        model = with_params(score, params).given({name: y for name, y in condition.items() if name in kinds})
        dropped = drop_conditions(kinds, model.condition, condition_dropout, key=branch(key, "condition"))
        model = dataclasses.replace(model, condition=dropped, key=dropout_key)
        return objective(model, x0, batch_key=batch_key, key=loss_key, rank=rank)

    def batch_loss(params, part, batch_key):
        return jnp.mean(jax.vmap(example_loss, in_axes=(None, 0, 0, 0, None))(params, *part, batch_key))

    return batch_loss


def drop_conditions(
    kinds: Mapping[str, AbstractCondition],
    condition: dict[str, Array],
    dropout: float | Mapping[str, float],
    *,
    key: Key,
) -> dict[str, Array]:
    """Return the condition of one example with entries replaced by their null at random (Ho and Salimans 2022).

    Every example has random numbers of its own, so that the null branch learns the marginal law of the data, whatever
    the order of a batch.

    Args:
      kinds: kinds of the entries.
      condition: values of the entries.
      dropout: probability with which all entries are dropped together; or one probability for each entry by name, which
        are dropped independently.
      key: random key.
    """
    names = sorted(name for name in condition if kinds[name].droppable)
    if isinstance(dropout, Mapping):
        drops = {name: jax.random.bernoulli(jax.random.fold_in(key, i), dropout.get(name, 0.0)) for i, name in
                 enumerate(names)}  # fmt: skip
    elif dropout:
        drops = dict.fromkeys(names, jax.random.bernoulli(key, dropout))
    else:
        return condition
    return condition | {name: jnp.where(drop, kinds[name].null(), condition[name]) for name, drop in drops.items()}


def _entering(score: NetworkScore, params: PyTree) -> PyTree:
    """Cast the parameters to the compute dtype of their layers, if the network provides that."""
    entering = getattr(with_params(score, params).network, "entering", None)
    return params if entering is None else entering().params


def _gradient(gradient, params, state: TrainState, batch, accumulation: int, loop, parts):
    """Return loss and gradient averaged over micro-batches, which are processed one at a time."""
    size = batch["value"].shape[0]
    batch_key, example_key = jax.random.split(jax.random.fold_in(stored_key(state.key), state.step))
    index = jnp.arange(size)
    keys = jax.vmap(lambda i: jax.random.fold_in(example_key, i))(index)
    micro = (batch, index / size, keys)
    # Micro-batch a takes examples a, a + A, ...: each device keeps its own examples.
    micro = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, accumulation, *x.shape[1:]), 0, 1), micro)

    def part_gradient(part):
        loss, grads = gradient(params, part, batch_key)
        grads = jax.lax.with_sharding_constraint(grads, parts)
        return loss, jax.tree.map(lambda g, p: g.astype(p.dtype), grads, state.params)

    def add(total, part):
        return jax.tree.map(jnp.add, total, part_gradient(part)), None

    total = part_gradient(jax.tree.map(lambda x: x[0], micro))
    if accumulation > 1:
        total, _ = loop(add, total, jax.tree.map(lambda x: x[1:], micro))
    return jax.tree.map(lambda x: x / accumulation, total)


def finite(tree: PyTree) -> Bool[Array, ""]:
    """Return whether every floating-point value of every array is finite."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats])) if floats else jnp.asarray(True)


def _update(optimizer, state: TrainState, loss, grads, batch_size: int) -> tuple[TrainState, dict]:
    """Return the next state and the metrics; if any value is not finite, only the counters change."""
    norm = optax.tree.norm(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = update(state.ema, params, state.step, batch_size)
    # Behind a conditional the new values are buffers. Without one, XLA on a CPU computes them again for the check,
    # which took ten times as long to compile.
    plausible = jnp.isfinite(loss) & jnp.isfinite(norm) & (state.skipped_in_a_row < MAX_SKIPPED)
    good = jax.lax.cond(plausible, finite, lambda _: jnp.asarray(False), (params, opt_state, ema))
    keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)  # noqa: E731
    in_a_row = jnp.where(good, 0, state.skipped_in_a_row + 1)
    new = TrainState(
        step=state.step + 1,
        params=keep(params, state.params),
        ema=keep(ema, state.ema),
        opt_state=keep(opt_state, state.opt_state),
        key=state.key,
        skipped=state.skipped + jnp.where(good, 0, 1),
        skipped_in_a_row=in_a_row,
    )
    return new, {"loss": loss, "grad_norm": norm, "skipped": new.skipped, "skipped_in_a_row": in_a_row}
