"""The real training step of a configuration with nothing in memory: shapes in, a compiled program out.

`scoresde.train.step.make_step` is traced for the devices of a mesh, which may be those of a machine that is not there.
"""

from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from scoresde.data import ArraySource, Dataset
from scoresde.experiment import Experiment
from scoresde.runtime.sharding import data_mesh, state_sharding
from scoresde.train.batch_iterator import BatchIterator
from scoresde.train.step import init_state, make_step


class AbstractStep(NamedTuple):
    """A step that was traced for a mesh. `state`, `batch`: shapes, types and shardings of its arguments."""

    traced: jax.stages.Traced
    state: object
    batch: dict

    @property
    def params(self) -> list:
        return jax.tree.leaves(self.state.params)


def abstract_step(config: ConfigDict, devices: list) -> AbstractStep:
    """The training step of `config` on `devices`, in the layout of `training.fsdp`."""
    shape = Experiment.from_config(config).shape
    score = Experiment.from_config(config).score(
        Experiment.from_config(config).network
    )  # its parameters come from the state
    optimizer = Experiment.from_config(config).optimizer
    values = np.zeros((1, *shape), np.uint8 if config.data.levels else np.float32)
    records = ArraySource(values, np.zeros(1, np.int32))
    dataset = Dataset(
        "shapes", records, records, levels=config.data.levels, centered=config.data.centered, fingerprint=""
    )
    mesh = data_mesh(config.training.fsdp or len(devices), devices)
    key = jax.random.key(config.seed)
    state = jax.eval_shape(lambda p: init_state(p, optimizer, tuple(config.training.ema), key), score.network.params)
    step = make_step(
        score,
        Experiment.from_config(config).objective,
        optimizer,
        prepare=Experiment.from_config(config).prepare_augmented(dataset),
        accumulation=config.training.accumulation,
        remat=config.training.remat,
        state=state,
        mesh=mesh,
    )
    place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)  # noqa: E731
    state = jax.tree.map(place, state, state_sharding(mesh, state))
    batch = BatchIterator(dataset, config.seed, config.training.batch_size, mesh).shapes(1)
    return AbstractStep(step.trace(state, batch), state, batch)
