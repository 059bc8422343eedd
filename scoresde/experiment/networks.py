"""Networks of a configuration, with parameters or with only their shapes."""

import inspect
import json
from collections.abc import Callable

import jax

from scoresde import nets
from scoresde.experiment import kinds
from scoresde.experiment.component import build, resolve
from scoresde.experiment.values import with_tuples
from scoresde.nets.foreign import as_module
from scoresde.runtime.streams import stream


def network_constructor(spec: dict) -> Callable:
    return resolve(kinds.NETWORK, spec["name"], "model.name")


def make_network(spec: dict, shape: tuple[int, ...], entries: int, seed: int) -> nets.Network:
    """Return a network with newly initialised parameters.

    Args:
      spec: component of the network.
      shape: shape of a record.
      entries: length of the label of an augmentation, 0 for none.
      seed: seed of the run.

    Raises:
      ConfigError: the network refuses its arguments.
    """
    given = {"shape": shape, "augmentation": entries}
    spec = with_tuples(spec)

    def make(rngs):
        own = {"rngs": rngs} if _takes(spec, "rngs") else {"key": rngs.params()} if _takes(spec, "key") else {}
        return as_module(build(kinds.NETWORK, spec, "model", given | own), rngs)

    return nets.Network.init(make, key=stream(seed, "init"))


def _takes(spec: dict, name: str) -> bool:
    made = network_constructor(spec)
    return name in inspect.signature(made.__init__ if inspect.isclass(made) else made).parameters


_kept: dict[str, nets.Network] = {}  # cached by arguments, because tracing a large network takes seconds


def abstract_network(spec: dict, shape: tuple[int, ...], entries: int) -> nets.Network:
    """Return a network with only the shapes of its parameters, without computing anything."""
    key = json.dumps([spec, shape, entries], sort_keys=True)
    if key not in _kept:
        _kept[key] = jax.eval_shape(lambda: make_network(spec, shape, entries, 0))
    return _kept[key]
