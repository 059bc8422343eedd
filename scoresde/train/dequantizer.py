"""Training the flow of a variational dequantization, the score being fixed (Ho et al. 2019; Song et al. 2021b, app. C).

    minimise over the flow   E_v E_q [log q(x | v) + prior + diffusion],   q = q(x | v)

on the training split. The terms are those of `bounds` for -log p(x), with one sample of the diffusion integral per
example, uniform in log-SNR and stratified over the batch. The decoder's term is left out, because at t_min it hardly
depends on x. The bound holds for every flow; the training only makes it tighter.
"""

import dataclasses
import json
import math
import pathlib
import zlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from scoresde.errors import CheckpointError, ConfigError, NumericError
from scoresde.likelihood import AbstractDequantization, Bins, VariationalDequantization
from scoresde.likelihood.bounds import diffusion_draw
from scoresde.nets import CouplingFlow, Network
from scoresde.runtime.arrays import read_npz
from scoresde.runtime.files import UnreadableError, replacing
from scoresde.runtime.progress import Progress
from scoresde.runtime.streams import stream
from scoresde.score import AbstractScore
from scoresde.sde.base import as_time
from scoresde.train.step import finite


class TrainedDequantization(AbstractDequantization):
    """Variational dequantization, whose flow is trained on the training split when it is first used (Ho et al. 2019).

    The run folder keeps one flow for each combination of parameters of the score and arguments.

    Args:
      steps: number of training steps of the flow.
      batch_size: batch size of its training.
      rate: learning rate.
      width: width of its networks.
      depth: number of coupling layers.
    """

    steps: int = eqx.field(static=True, default=1000)
    batch_size: int = eqx.field(static=True, default=64)
    rate: float = eqx.field(static=True, default=1e-3)
    width: int = eqx.field(static=True, default=32)
    depth: int = eqx.field(static=True, default=4)

    def __check_init__(self):
        problems = [
            f"{name} = {value}: expected at least 1"
            for name, value in vars(self).items()
            if name != "rate" and value < 1
        ]
        if not (self.rate > 0 and math.isfinite(self.rate)):
            problems.append(f"rate = {self.rate}: expected a number above 0")
        if problems:
            raise ConfigError(*problems)

    def draw(self, sde, bins, v, *, key):
        raise ConfigError("variational dequantization: expected a trained flow; call `fitted`, which trains one")

    def fitted(self, score, dataset, bins, *, seed, folder, parameters):
        """Load the flow stored in the folder for these parameters and arguments, or train and store one."""
        options = {f"variational_{name}": value for name, value in vars(self).items()}
        about = {"parameters_crc32": parameters, "seed": seed, "data": dataset.fingerprint, **options}
        network = dequantizer_network(dataset.shape, width=self.width, depth=self.depth, seed=seed)
        path = folder / f"{zlib.crc32(json.dumps(about, sort_keys=True).encode()):08x}.npz"
        if path.is_file():
            return VariationalDequantization(load_network(network, path))
        trained_network = fit_dequantizer(
            network, score, dataset, bins, steps=self.steps, batch_size=min(self.batch_size, len(dataset.train)),
            learning_rate=self.rate, seed=seed,
        )  # fmt: skip
        if jax.process_index() == 0:  # all processes trained the same flow
            save_network(trained_network, path, about)
        return VariationalDequantization(trained_network)


def dequantizer_network(shape: tuple[int, ...], *, width: int, depth: int, seed: int) -> Network:
    """Return an untrained flow: u ~ U[0, 1)^D."""
    build = lambda rngs: CouplingFlow(shape, width=width, depth=depth, rngs=rngs)  # noqa: E731
    return Network.init(build, key=stream(seed, "dequantizer_init"))


def fit_dequantizer(
    network: Network,
    score: AbstractScore,
    dataset,
    bins: Bins,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> Network:
    """Train the flow for `steps` steps of Adam; the learning rate falls to 0 along a cosine.

    Args:
      dataset: `stream(seed, batch_size)` gives batches of integers, with the conditions that the score takes.

    Raises:
      NumericError: the loss is not finite.
    """
    sde = score.sde
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    root = stream(seed, "dequantizer_train")
    arrays, rest = eqx.partition(score, eqx.is_array)  # arguments of the compiled step, not constants in it

    def example_loss(params, arrays, v, condition, rank, key):
        place_key, prior_key, noise_key = jax.random.split(key, 3)
        dequantization = VariationalDequantization(dataclasses.replace(network, params=params))
        x, log_q = dequantization.draw(sde, bins, v, key=place_key)
        x = sde.basis.to_modes(x)  # its log-determinant is a constant
        model = eqx.combine(arrays, rest).given(condition)
        prior = sde.prior_kl(x, as_time(sde.t_max), key=prior_key)
        return log_q + prior + diffusion_draw(model, x, rank, key=noise_key)

    def loss(params, arrays, batch, key):
        shift_key, example_key = jax.random.split(key)
        count = len(batch["value"])
        condition = {name: rows for name, rows in batch.get("condition", {}).items() if name in score.conditions}
        ranks = (jnp.arange(count) + jax.random.uniform(shift_key)) / count
        parts = batch["value"], condition, ranks, jax.random.split(example_key, count)
        return jnp.mean(jax.vmap(example_loss, in_axes=(None, None, 0, 0, 0, 0))(params, arrays, *parts))

    def step(params, state, arrays, batch, i):
        value, gradient = jax.value_and_grad(loss)(params, arrays, batch, jax.random.fold_in(root, i))
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    on_cpu = jax.default_backend() == "cpu"
    step = jax.jit(step, compiler_options={"xla_backend_optimization_level": 1} if on_cpu else None)
    params, state = network.params, optimizer.init(network.params)
    progress = Progress(0, steps, items=batch_size, unit="dequantizer")
    for i, batch in zip(range(steps), dataset.stream(seed, batch_size), strict=False):
        params, state, value = step(params, state, arrays, batch, i)
        if i % 50 == 49 or i == steps - 1:
            _check_finite(i + 1, value, (params, state))
            progress.show(i + 1, f"-log P <= {float(value):.5g} nats")
    progress.close()
    return dataclasses.replace(network, params=params)


def _check_finite(step: int, value: Array, state) -> None:
    if not (np.isfinite(value) and finite(state)):
        raise NumericError(f"the dequantization flow diverged at step {step}; lower likelihood.dequantization.rate")


def save_network(network: Network, path: pathlib.Path, about: dict) -> None:
    """Write the parameters atomically as NPZ, whose entries each have a CRC-32; `about` is JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        np.savez(scratch, about=json.dumps(about), **_named(network.params))


def load_network(network: Network, path: pathlib.Path) -> Network:
    """Load the parameters of `path` into `network`.

    Raises:
      CheckpointError: the file is damaged, or belongs to another network.
    """
    try:
        arrays = {name: array for name, array in read_npz(path).items() if name != "about"}
    except UnreadableError as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it, and the same command trains it anew") from None
    wanted = _named(network.params)
    if {name: a.shape for name, a in arrays.items()} != {name: a.shape for name, a in wanted.items()}:
        raise CheckpointError(f"{path} does not hold this flow; delete it, and the same command trains it anew")
    leaves, tree = jax.tree_util.tree_flatten_with_path(network.params)
    values = [jnp.asarray(arrays[_name(place)]) for place, _ in leaves]
    return dataclasses.replace(network, params=jax.tree.unflatten(tree, values))


def _named(params) -> dict[str, np.ndarray]:
    return {_name(place): np.asarray(leaf) for place, leaf in jax.tree_util.tree_leaves_with_path(params)}


def _name(place) -> str:
    return jax.tree_util.keystr(place, simple=True, separator="/")
