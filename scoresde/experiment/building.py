"""Construction of all parts of a complete configuration, with the rules between parts. All problems are collected."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from scoresde import likelihood, nets, sample, score, sde, train
from scoresde.data.codec import Codec
from scoresde.errors import ConfigError
from scoresde.experiment import kinds
from scoresde.experiment.component import build, resolve
from scoresde.experiment.inference_settings import Likelihood
from scoresde.experiment.limits import Settings
from scoresde.experiment.networks import abstract_network, dropout_problems
from scoresde.experiment.parts.processes import out_of_range
from scoresde.experiment.sections import SECTIONS, complete
from scoresde.experiment.settings import WATCHES, Data, Training, short_name
from scoresde.experiment.values import with_tuples
from scoresde.likelihood.flow import check_tolerance
from scoresde.runtime.streams import fixed_stream

AUGMENTATION = "augmentation"  # name of the entry that holds the label of an augmentation
# Reason why the probability flow gives no likelihood of the data.
DEGRADED = "the density of {0} at t_min is that of degraded data"


class _Builder:
    """Collection of the parts built so far, and of the problems."""

    def __init__(self, config: dict):
        self.config, self.problems = config, []

    def attempt(self, make: Callable, *arguments, prefix: str = "", **options) -> Any:
        """Return the result of a function, or record its problems and return None."""
        try:
            return make(*arguments, **options)
        except ConfigError as error:
            self.problems += [prefix + problem for problem in error.problems]
            return None

    def settings(self, name: str) -> Settings:
        section = SECTIONS[name]
        found = section.settings(**{field: self.config[name][field] for field in section.fields()})
        self.problems += found.problems()
        return found

    def part(self, kind: kinds.Kind, section: str, field: str = "", **given) -> Any:
        """Build the component of a section, or of one of its fields."""
        spec, plain = self.config[section], SECTIONS[section].fields()
        spec = spec[field] if field else {name: value for name, value in spec.items() if name not in plain}
        return self.attempt(build, kind, spec, f"{section}.{field}" if field else section, given)


def parts(config: dict) -> tuple[dict[str, Any], list[str]]:
    """Return the parts of a complete configuration by the names of `Experiment`, and all problems."""
    b = _Builder(config)
    found = {name: b.settings(name) for name, section in SECTIONS.items() if section.settings}
    found["seed"] = config["seed"]
    if any(problem.startswith("data.") for problem in b.problems):
        return found, b.problems
    shape, found["codec"] = found["data"].shape, _codec(b, found["data"])
    process = found["sde"] = b.part(kinds.PROCESS, "sde", grid=shape[:-1])
    if process is not None and (problem := out_of_range(process)):
        b.problems.append(f"sde: expected coefficients within float32 at both ends, got {problem}")
        process = None
    augmentation = b.attempt(_augmentation, found["data"].augment)
    conditions = found["conditions"] = _conditions(b, shape, augmentation)
    found |= {"augmentation": augmentation, "network": _network(b, shape, conditions)}
    b.problems += dropout_problems(found["training"].condition_dropout, conditions)
    found |= _training(b, found["training"], process)
    found |= _optimizer(b, found["optim"])
    found["trace"], found["dequantization"] = _trace(b, found), _dequantization(b, found["likelihood"])
    own = [entry for entry in found["training"].watch if entry not in WATCHES]
    found["metrics"] = _listed(b, kinds.METRIC, "watch", own, others=WATCHES)
    found["trackers"] = _listed(b, kinds.TRACKER, "trackers", found["training"].trackers)
    if process is not None:
        _check_likelihood(b, found, process)
        _check_sampling(b, found["training"], process, shape)
    return found, b.problems


def value_problems(config: dict) -> list[str]:
    """Return the problems of plain fields and of the optimizer, which depend on no other part."""
    b = _Builder(config)
    found = {name: b.settings(name) for name, section in SECTIONS.items() if section.settings}
    if not any(problem.startswith("optim.") for problem in b.problems):
        _optimizer(b, found["optim"])
    return b.problems


def _codec(b: _Builder, c: Data) -> Codec | None:
    """Build the codec of plain records; None stands for the default one."""
    if c.codec == complete({})[0]["data"]["codec"]:
        return None
    if not isinstance(c.source, dict):
        b.problems.append(
            f"data.codec = '{c.codec['name']}': expected standard without arguments, because data.source = "
            f"'{c.source}' has a codec of its own"
        )
    return b.part(kinds.CODEC, "data", "codec", shape=c.shape, levels=c.levels, centered=c.centered)


def _augmentation(spec: dict | float) -> train.AbstractAugmentation | None:
    return build(kinds.AUGMENTATION, with_tuples(spec), "data.augment", {}) if spec else None


def _conditions(
    b: _Builder, shape: tuple[int, ...], augmentation: train.AbstractAugmentation | None
) -> dict[str, nets.AbstractCondition]:
    """Build the kinds of the entries of the condition, with the label of the augmentation as the first one."""
    found = {} if augmentation is None else {AUGMENTATION: nets.AugmentationCondition(augmentation.entries)}
    for name, spec in sorted(b.config["conditions"].items()):
        if not name.isidentifier() or name == AUGMENTATION:
            b.problems.append(f"conditions.{name}: expected a name of letters, digits and _, other than {AUGMENTATION}")
            continue
        found[name] = b.attempt(build, kinds.CONDITION, with_tuples(spec), f"conditions.{name}", {"grid": shape[:-1]})
    return {name: kind for name, kind in found.items() if kind is not None}


def _network(b: _Builder, shape: tuple[int, ...], conditions: dict) -> nets.Network | None:
    spec = b.config["model"]
    network = b.attempt(abstract_network, spec, shape, conditions)
    if network is not None and spec["name"] not in kinds.NETWORK.names:
        b.attempt(_check_output, network, shape, spec["name"])
    return network


def _check_output(network: nets.Network, shape: tuple[int, ...], name: str) -> None:
    """Trace a call of a network from outside."""
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        c_noise = jax.ShapeDtypeStruct((1,), jnp.float32)
        nulls = {name: kind.null() for name, kind in network.conditions.items()}
        given = {name: jax.ShapeDtypeStruct((1, *null.shape), null.dtype) for name, null in nulls.items()} or None
        found = eqx.filter_eval_shape(lambda network, *inputs: network(*inputs), network, x, c_noise, given).shape
    except ConfigError:
        raise
    except Exception as error:  # any exception of the user's network
        text = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"model: {name} cannot be called with x of shape {x.shape}: {type(error).__name__}: {text}"
        ) from error
    if found != x.shape:
        raise ConfigError(f"model: {name} returns the shape {found} for x of shape {x.shape}; expected the same shape")


def _training(b: _Builder, training: Training, process: sde.AbstractSDE | None) -> dict[str, Any]:
    """Build preconditioning and objective, which need the process."""
    if process is None:
        return {"preconditioning": None, "objective": None}
    preconditioning = b.part(kinds.PRECONDITIONING, "preconditioning", sde=process)
    if preconditioning is None:
        return {"preconditioning": None, "objective": None}
    b.attempt(preconditioning.check, process, prefix="preconditioning: ")
    weighting = b.part(kinds.WEIGHTING, "training", "weighting", sde=process, preconditioning=preconditioning)
    law = b.part(kinds.TIME_LAW, "training", "time_law", sde=process)
    if weighting is None or law is None:
        return {"preconditioning": preconditioning, "objective": None}
    given = {"weighting": weighting, "time_law": law, "sde": process, "preconditioning": preconditioning}
    given["reduce"] = jnp.mean if training.reduce_mean else train.half_sum
    objective = b.part(kinds.OBJECTIVE, "training", "objective", **given)
    if objective is None:
        return {"preconditioning": preconditioning, "objective": None}
    b.attempt(objective.check, process, prefix="training.time_law: ")
    return {"preconditioning": preconditioning, "objective": objective}


def _optimizer(b: _Builder, optim) -> dict[str, Any]:
    """Build the schedule, and the optimizer after clipping by the global norm."""
    given = {"learning_rate": optim.learning_rate, "warmup": optim.warmup, "decay_steps": optim.decay_steps}
    schedule = b.part(kinds.SCHEDULE, "optim", "schedule", **given)
    optimizer = None if schedule is None else b.part(kinds.OPTIMIZER, "optim", learning_rate=schedule)
    if optimizer is None:
        return {"learning_rate": schedule, "optimizer": None}
    clip = optax.clip_by_global_norm(optim.grad_clip) if optim.grad_clip else optax.identity()
    project = getattr(resolve(kinds.NETWORK, b.config["model"]["name"], "model.name"), "project_parameters", None)
    after = [] if project is None else [optax.stateless(_onto(project))]
    return {"learning_rate": schedule, "optimizer": optax.chain(clip, optimizer, *after)}


def _onto(project: Callable) -> Callable:
    """Return the update after which `project` is applied to the parameters."""

    def move(updates, params):
        return jax.tree.map(jnp.subtract, project(optax.apply_updates(params, updates)), params)

    return move


def _trace(b: _Builder, found: dict[str, Any]) -> likelihood.AbstractTrace | None:
    probes = found["likelihood"].probes
    if not probes:
        return likelihood.ExactTrace()
    return b.part(kinds.TRACE, "likelihood", "estimator", probes=probes)


def _dequantization(b: _Builder, c: Likelihood) -> likelihood.AbstractDequantization | None:
    """Build the dequantization, and check whether the method accepts it."""
    made, name = b.part(kinds.DEQUANTIZATION, "likelihood", "dequantization"), c.dequantization["name"]
    if made is None or any(problem.startswith("likelihood.") for problem in b.problems):
        return made
    where = f"likelihood.dequantization = '{name}'"
    if not made.is_density and c.method == "flow":
        b.problems.append(f"{where}: flow has no decoder of integers; use uniform, or method elbo or vlb")
    elif not made.is_density and c.dequantizations > 1:
        b.problems.append(
            f"likelihood.dequantizations = {c.dequantizations}: nothing to draw if dequantization is {name}"
        )
    elif made.at_t_min and c.method != "flow":
        b.problems.append(f"{where}: its x is at t_min, and {c.method} bounds p at 0; use uniform")
    return made


def _listed(b: _Builder, kind: kinds.Kind, field: str, entries, others: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the functions or classes of a tuple of names and components, which are called later."""
    found, where = {}, f"training.{field}"
    for entry in entries:
        short = short_name(entry)
        if short in found:
            b.problems.append(f"{where} = {tuple(entries)}: {short} stands for two parts; name one of them anew")
        made = None
        if isinstance(entry, str):
            made = b.attempt(resolve, kind, entry, where, others=others)
            entry = {"name": entry} if inspect.isclass(made) and not kind.base else None
        found[short] = made if entry is None else b.attempt(build, kind, entry, f"{where}.{short}", {})
    return found


def _check_likelihood(b: _Builder, found: dict[str, Any], process: sde.AbstractSDE) -> None:
    """Check the likelihood with the process and the data."""
    c, name = found["likelihood"], b.config["sde"]["name"]
    dequantization = found["dequantization"]
    if process.per_mode and found["data"].levels and dequantization is not None and dequantization.needs_pixels:
        b.problems.append(
            f"likelihood.dequantization = '{c.dequantization['name']}': needs pixels for the coordinates of the "
            f"process, and sde.name = '{name}' has modes; use uniform or variational"
        )
    elif process.needs_data and c.method == "flow" and found["evaluate"].num:
        b.problems.append(f"likelihood.method = 'flow': {DEGRADED.format(name)}; use elbo, or evaluate.num = 0")
    elif c.method == "flow" and not process.needs_data and 0 < c.tolerance < 1:
        b.attempt(check_tolerance, process, c.tolerance, prefix="likelihood.")


def _check_sampling(b: _Builder, training: Training, process: sde.AbstractSDE, shape: tuple[int, ...]) -> None:
    """Build the samplers of the run, and trace them if the process is of a kind that some samplers refuse."""
    sampler = b.attempt(make_sampler, b.config["sampling"], process, None, shape)
    if sampler is not None:
        b.attempt(_check_sampler, sampler, process, shape, prefix="sampling: ")
    if name := training.watch_sampler:
        where = f"training.watch_sampler = '{name}': "
        watched = b.attempt(default_sampler, name, process, shape, prefix=where)
        if watched is not None:
            b.attempt(_check_sampler, watched, process, shape, prefix=where)


def default_sampler(name: str, process: sde.AbstractSDE, shape: tuple[int, ...], **options) -> sample.AbstractSampler:
    """Return a sampler with its default arguments, except for those options that are not 0."""
    options = {option: value for option, value in options.items() if value}
    full, problems = complete({"sampling": {"name": name, **options}})
    if problems:
        raise ConfigError(*problems)
    return make_sampler(full["sampling"], process, None, shape)


def make_sampler(spec: dict, process: sde.AbstractSDE, model: score.AbstractScore | None, shape: tuple[int, ...]):
    """Return the sampler of a section `sampling`.

    Raises:
      ConfigError: the sampler refuses its arguments.
    """
    plain = SECTIONS["sampling"].fields()
    spec = with_tuples({name: value for name, value in spec.items() if name not in plain})
    return build(kinds.SAMPLER, spec, "sampling", {"sde": process, "score": model, "shape": shape})


def _check_sampler(sampler: sample.AbstractSampler, process: sde.AbstractSDE, shape: tuple[int, ...]) -> None:
    """Raise a ConfigError if the sampler refuses the process."""
    if not process.per_mode:
        return
    if process.needs_data:
        process = process.started_from(jnp.zeros((1, *shape)))
    model = score.NetworkScore(process, lambda x, c_noise, condition=None, *, key=None: x, score.EDMPreconditioning())
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    jax.eval_shape(lambda x: sampler(model, x, key=fixed_stream("sample")).x, x)
