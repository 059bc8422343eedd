"""Networks of a configuration, with parameters or with only their shapes."""

import inspect
import json
from collections.abc import Callable
from typing import Any

import jax

from scoresde import nets
from scoresde.experiment import kinds
from scoresde.experiment.component import build, resolve
from scoresde.experiment.values import with_tuples
from scoresde.nets.conditions import Conditions
from scoresde.nets.foreign import as_module
from scoresde.runtime.streams import stream


def network_constructor(spec: dict) -> Callable:
    return resolve(kinds.NETWORK, spec["name"], "model.name")


def make_network(spec: dict, shape: tuple[int, ...], conditions: Conditions, seed: int) -> nets.Network:
    """Return a network with newly initialised parameters.

    Args:
      spec: component of the network.
      shape: shape of a record.
      conditions: kind of each entry of the condition.
      seed: seed of the run.

    Raises:
      ConfigError: the network refuses its arguments.
    """
    given = {"shape": shape, "conditions": conditions}
    spec = with_tuples(spec)

    def make(rngs):
        own = {"rngs": rngs} if _takes(spec, "rngs") else {"key": rngs.params()} if _takes(spec, "key") else {}
        return as_module(build(kinds.NETWORK, spec, "model", given | own), rngs)

    return nets.Network.init(make, conditions=conditions, key=stream(seed, "init"))


def _takes(spec: dict, name: str) -> bool:
    made = network_constructor(spec)
    return name in inspect.signature(made.__init__ if inspect.isclass(made) else made).parameters


_kept: dict[str, nets.Network] = {}  # cached by arguments, because tracing a large network takes seconds


def abstract_network(spec: dict, shape: tuple[int, ...], conditions: Conditions) -> nets.Network:
    """Return a network with only the shapes of its parameters, without computing anything."""
    key = json.dumps([spec, shape], sort_keys=True) + repr(sorted(conditions.items()))
    if key not in _kept:
        _kept[key] = jax.eval_shape(lambda: make_network(spec, shape, conditions, 0))
    return _kept[key]


def dropout_problems(dropout: Any, conditions: dict[str, nets.AbstractCondition]) -> list[str]:
    """Return the problems of `training.condition_dropout`."""
    where = f"training.condition_dropout = {dropout!r}"
    names = [name for name, kind in conditions.items() if kind.droppable]
    each = dropout.values() if isinstance(dropout, dict) else [dropout]
    if not all(isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p < 1 for p in each):
        return [f"{where}: expected a probability, at least 0 and below 1, or one for each entry of conditions by name"]
    if isinstance(dropout, dict) and (unknown := sorted(set(dropout) - set(names))):
        return [f"{where}: there is no condition {unknown[0]}; there are: {', '.join(names) or 'none'}"]
    if not isinstance(dropout, dict) and dropout and not names:
        return [f"{where}: there are no conditions to drop; expected 0"]
    return []
