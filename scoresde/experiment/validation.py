"""Validation of a configuration: each field alone (`ranges`), and combinations of fields. All problems are reported
together, one line each."""

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from scoresde import sde
from scoresde.errors import ConfigError
from scoresde.experiment.build import build_objective, build_preconditioning, flatten, image_shape
from scoresde.experiment.methods import validate_likelihood, validate_sampling, with_sampler
from scoresde.experiment.processes import PROCESSES, build_sde, out_of_range
from scoresde.experiment.ranges import BEST, check_field
from scoresde.likelihood.flow import check_tolerance
from scoresde.nets import (
    check_fourier,
    check_heads,
    check_image_size,
    check_levels,
    check_modes,
    check_patches,
    check_transformer,
    per_axis,
)
from scoresde.train.average import check_averages

_CADENCES = ("log_every", "checkpoint_every", "sample_every", "snapshot_every")

# Fields that decide whether a network accepts the images.
_SHAPE_FIELDS = (
    "name",
    "multipliers",
    "channels",
    "attention",
    "head_channels",
    "progressive",
    "progressive_input",
    "patch",
    "width",
    "positions",
)


def validate(config: ConfigDict) -> list[str]:
    """Return all problems with the values, one line each."""
    problems = [problem for name, value in flatten(config).items() if (problem := check_field(name, value))]
    return problems + _validate_together(config, broken={problem.split(" = ")[0] for problem in problems})


def _validate_together(config: ConfigDict, broken: set[str]) -> list[str]:
    """Check the rules between fields; a rule is skipped if one of its fields is invalid by itself."""

    def sound(*names: str) -> bool:
        return not broken & set(names)

    problems = _validate_sde(config, broken) if not any(name.startswith("sde.") for name in broken) else []
    shape = image_shape(config)
    size, c = "data.image_size", config
    if sound(size, *(f"model.{name}" for name in _SHAPE_FIELDS)):
        problems += _validate_network(config, shape)
    if sound(size, *(f"model.{name}" for name in ("name", "modes", "boundary", "multipliers"))) and c.model.name in (
        "fno",
        "ufno",
    ):
        problems += _validate_operator(config, shape[:-1])
    if c.data.random_flip and len(shape) != 3:
        problems.append(f"data.random_flip = True: expected images, but {size} = {c.data.image_size}")
    if c.data.augment and (c.model.name != "unet" or len(shape) != 3):
        problems.append(
            f"data.augment = {c.data.augment}: expected images and model.name = 'unet', which is told of it, got "
            f"'{c.model.name}'"
        )
    if c.data.augment and c.data.random_flip:
        problems.append(
            f"data.random_flip = True: expected False with data.augment = {c.data.augment}, which flips and says so to "
            "the network"
        )
    if c.seed >= 2**32:
        problems.append(f"seed = {c.seed}: expected less than 2^32")
    if isinstance(c.data.image_size, tuple) and 0 in c.data.image_size:
        problems.append(f"{size} = {c.data.image_size}: expected sizes above 0, or 0 for vectors")
    if c.data.levels == 1:
        problems.append("data.levels = 1: expected at least 2 grey levels, or 0 for continuous values")
    if c.data.uniform_dequantization and not c.data.levels:
        problems.append("data.uniform_dequantization = True: expected integer data, but data.levels = 0")
    problems += _validate_training(config, sound)
    if c.optim.optimizer == "adam" and c.optim.weight_decay:
        problems.append("optim.weight_decay: adam has none; use optim.optimizer = 'adamw'")
    if not any(name.startswith("sampling.") for name in broken):
        problems += validate_sampling(config)
        if sound("training.watch_sampler") and (name := c.training.watch_sampler):
            problems += [
                f"training.watch_sampler = '{name}': {text}" for text in validate_sampling(with_sampler(config, name))
            ]
    if not any(name.startswith("likelihood.") for name in broken):
        problems += validate_likelihood(config)
    return problems


def _validate_training(config: ConfigDict, sound: Callable[..., bool]) -> list[str]:
    """Check the rules between the fields of training and of the optimizer."""
    c, problems = config, []
    batch, parts = c.training.batch_size, c.training.accumulation
    if sound("training.batch_size", "training.accumulation") and batch % parts:
        problems.append(
            f"training.batch_size = {batch}: expected a multiple of training.accumulation = {parts}; "
            f"nearest: {_nearest(batch, parts)}"
        )
    if sound(*(f"training.{name}" for name in ("steps_per_dispatch", *_CADENCES))):
        problems += _validate_cadences(c.training)
    if sound("training.ema", "training.power_ema", "training.batch_size"):
        problems += [f"training.{text}" for text in check_averages(c.training.ema, c.training.power_ema, batch)]
    if sound("optim.decay_steps", "optim.warmup") and 0 < c.optim.decay_steps <= c.optim.warmup:
        problems.append(
            f"optim.decay_steps = {c.optim.decay_steps}: expected 0 or more than optim.warmup = {c.optim.warmup}"
        )
    if sound("training.watch", "training.keep_best") and (best := c.training.keep_best):
        needed = next(name for name, figures in BEST.items() if best in figures)
        if needed not in c.training.watch:
            problems.append(
                f"training.keep_best = '{best}': expected '{needed}' in training.watch, got {c.training.watch}"
            )
    return problems


def _validate_network(config: ConfigDict, shape: tuple[int, ...]) -> list[str]:
    """Check networks for images: the image size, and the attention heads."""
    c, size = config.model, "data.image_size"
    if c.name not in ("unet", "edm2", "dit"):
        return []
    if len(shape) != 3:
        kind, other = {1: ("vectors", "mlp"), 2: ("curves", "fno"), 4: ("volumes", "mlp")}[len(shape)]
        return [
            f"model.name = '{c.name}': expected images, but {size} = {config.data.image_size} says {kind}; use "
            f"model.name = '{other}'"
        ]
    if c.name == "dit":
        problems = [f"model.{text}" for text in check_transformer(c.width, c.head_channels, c.positions)]
        return problems + [f"{size}: {text}" for text in check_patches(shape[:2], c.patch)]
    problems = [f"{size}: {text}" for text in check_image_size(shape[:2], len(c.multipliers))]
    if not problems:
        problems += [
            f"model.{text}" for text in check_heads(shape[0], c.channels, c.multipliers, c.attention, c.head_channels)
        ]
    if c.name == "unet":
        problems += [f"model.{text}" for text in check_fourier(c.input_fourier)]
    if c.name == "unet" and len(c.multipliers) == 1 and (c.progressive, c.progressive_input) != ("none", "none"):
        problems.append(
            "model.progressive, model.progressive_input: they join levels, and model.multipliers has one; expected "
            "'none'"
        )
    return problems


def _validate_operator(config: ConfigDict, grid: tuple[int, ...]) -> list[str]:
    """Check networks for functions: whether the grid holds the modes and the levels."""
    c = config.model
    if not grid:
        return [f"model.name = '{c.name}': expected curves or fields, but data.image_size = 0; use model.name = 'mlp'"]
    problems = check_modes(f"model.modes = {c.modes}", c.boundary, grid, per_axis(c.modes, len(grid)))
    if c.name == "ufno":
        problems += check_levels(f"model.multipliers = {tuple(c.multipliers)}", grid, len(c.multipliers))
    return problems


def _validate_cadences(training: ConfigDict) -> list[str]:
    """Check that the intervals are multiples of a dispatch, because the host sees the state only between dispatches."""
    each = training.steps_per_dispatch
    return [
        f"training.{name} = {training[name]}: expected a multiple of training.steps_per_dispatch = {each}; nearest: "
        f"{_nearest(training[name], each)}"
        for name in _CADENCES
        if training[name] % each and (name != "snapshot_every" or training.power_ema)  # else there are none
    ]


def _validate_sde(config: ConfigDict, broken: set[str]) -> list[str]:
    """Check the process with its training and its solver."""
    try:  # the process itself knows what it takes
        process = build_sde(config, image_shape(config)[:-1])
    except ConfigError as error:
        return [f"sde: {problem}" for problem in error.problems]
    if (problem := out_of_range(process)) is not None:
        return [f"sde: expected coefficients within float32 at both ends, got {problem}"]
    if config.model.data_index and not PROCESSES[config.sde.name].spectral:
        return [
            f"model.data_index = {config.model.data_index}: expected 0 for sde.name = '{config.sde.name}', which has "
            "no modes"
        ]
    if config.model.data_index and config.sde.basis == "kernel":
        return [
            f"model.data_index = {config.model.data_index}: expected 0 for sde.basis = 'kernel', where data are taken "
            "to vary as the noise"
        ]
    square, tiny, largest = (
        config.model.sigma_data**2,
        *map(float, (np.finfo(np.float32).tiny, np.finfo(np.float32).max)),
    )
    if config.model.preconditioning == "edm" and not tiny <= square <= largest:
        return [
            f"model.sigma_data = {config.model.sigma_data:g}: expected a square within float32, got sigma_data^2 = "
            f"{square:.3g}"
        ]
    try:
        build_preconditioning(config).check(process)
    except ConfigError as error:
        return [f"model.preconditioning: {problem}" for problem in error.problems]
    return _validate_objective(config, process, broken) + _validate_tolerance(config, process, broken)


def _validate_objective(config: ConfigDict, process: sde.AbstractSDE, broken: set[str]) -> list[str]:
    if broken & {f"training.{name}" for name in ("weighting", "time_law", "log_normal_mean", "log_normal_std")}:
        return []
    try:
        build_objective(config).check(process)
    except ConfigError as error:
        return [f"training.time_law = '{config.training.time_law}': {problem}" for problem in error.problems]
    return []


def _validate_tolerance(config: ConfigDict, process: sde.AbstractSDE, broken: set[str]) -> list[str]:
    if broken & {"likelihood.method", "likelihood.tolerance"} or config.likelihood.method != "flow":
        return []
    try:
        check_tolerance(process, config.likelihood.tolerance)
    except ConfigError as error:
        return [f"likelihood.{problem}" for problem in error.problems]
    return []


def _nearest(value: int, unit: int) -> str:
    below = value // unit * unit
    return f"{below} or {below + unit}" if below else f"{unit}"
