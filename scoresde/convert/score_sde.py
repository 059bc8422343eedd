"""NCSN++ and DDPM++ of score_sde (Song et al. 2021), whose modules are named by the order of the calls.

In PyTorch the modules are one list, all_modules.0, .1, ...; in Flax each class is numbered separately: Conv_0,
ResnetBlockBigGANpp_0, .... The conversion visits the modules in the order of the calls, and a function returns the next
name for the kind of each module.

A checkpoint contains the trained parameters and their exponential moving average. The published numbers are those of
the average, so the average is converted. In PyTorch the average is a list in the order of the trained parameters,
without names.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from scoresde.convert.copying import Arrays, Copy
from scoresde.errors import CheckpointError
from scoresde.runtime.reading import is_whole_number

_BLOCK = ("GroupNorm_0", "Conv_0", "Dense_0", "GroupNorm_1", "Conv_1", "Conv_2")
_FLAX = {
    "fourier": "GaussianFourierProjection", "dense": "Dense", "conv": "Conv", "norm": "GroupNorm",
    "block": "ResnetBlockBigGANpp",
    "attention": "AttnBlockpp", "down": "Downsample", "up": "Upsample", "combine": "Combine",
}  # fmt: skip
_LISTED = "all_modules."
_UNTRAINED = ("sigmas", "all_modules.0.W")  # buffers, and the Fourier frequencies


def in_a_list() -> Callable[[str], str]:
    """Return a function that returns the next name in PyTorch, for any kind of module."""
    numbers = itertools.count()
    return lambda kind: f"{_LISTED}{next(numbers)}"


def by_class() -> Callable[[str], str]:
    """Return a function that returns the next name in Flax for a kind of module."""
    numbers = Counter()

    def name(kind: str) -> str:
        numbers[kind] += 1
        return f"{_FLAX[kind]}_{numbers[kind] - 1}"

    return name


def from_score_sde(
    parameters: Arrays, model, height: int, name: Callable[[str], str], middle_attention: bool = True
) -> Copy:
    """Copy the parameters of NCSN++ or DDPM++.

    Args:
        parameters: their parameters.
        model: section `model` of the configuration.
        height: height of the images, which determines the levels with attention.
        name: `in_a_list()` or `by_class()`.
        middle_attention: whether the middle has attention, as in their published networks.
    """
    copy = Copy(parameters)
    if model.embedding == "fourier":
        copy.ours["conditioning/embedding/frequencies"] = copy.take(f"{name('fourier')}.W")
    copy.layer("conditioning/dense_1", name("dense"))
    copy.layer("conditioning/dense_2", name("dense"))
    copy.layer("conv_in", name("conv"))
    attends = [height // 2**i in tuple(model.attention) for i in range(len(model.multipliers))]
    for i, attend in enumerate(attends):
        _encoder_level(copy, f"encoder/{i}", model, name, attend, last=i == len(attends) - 1)
    _block(copy, "middle_1", name("block"))
    if middle_attention:
        _attention(copy, "middle_attention", name("attention"))
    _block(copy, "middle_2", name("block"))
    for i, attend in enumerate(attends[::-1]):
        _decoder_level(copy, f"decoder/{i}", model, name, attend, lowest=i == 0, first=i == len(attends) - 1)
    copy.norm("norm_out", name("norm"))
    copy.layer("conv_out", name("conv"))
    return copy


def _encoder_level(copy: Copy, ours: str, model, name, attend: bool, *, last: bool) -> None:
    for j in range(model.blocks):
        _block(copy, f"{ours}/blocks/{j}", name("block"))
        if attend:
            _attention(copy, f"{ours}/attention/{j}", name("attention"))
    if last:
        return
    _block(copy, f"{ours}/down", name("block"))
    if model.progressive_input == "input_skip":
        copy.layer(f"{ours}/pyramid/conv", f"{name('combine')}.Conv_0")
    elif model.progressive_input == "residual":
        _resampling(copy, f"{ours}/pyramid/down", name("down"))


def _decoder_level(copy: Copy, ours: str, model, name, attend: bool, *, lowest: bool, first: bool) -> None:
    for j in range(model.blocks + 1):
        _block(copy, f"{ours}/blocks/{j}", name("block"))
    if attend:
        _attention(copy, f"{ours}/attention", name("attention"))
    if model.progressive == "residual" and not lowest:
        _resampling(copy, f"{ours}/pyramid/up", name("up"))
    elif model.progressive == "residual" or (model.progressive == "output_skip" and not first):
        copy.norm(f"{ours}/pyramid/norm", name("norm"))
        copy.layer(f"{ours}/pyramid/conv", name("conv"))
    if not first:
        _block(copy, f"{ours}/up", name("block"))


def _block(copy: Copy, ours: str, theirs: str) -> None:
    if not copy.has(f"{theirs}.GroupNorm_0"):  # the convolutions of DDPM between levels
        return _resampling(copy, ours, theirs)
    copy.residual(ours, theirs, _BLOCK)
    if copy.has(f"{theirs}.NIN_0"):
        copy.ours[f"{ours}/skip/kernel"] = copy.take(f"{theirs}.NIN_0.W")[None, None]
        copy.ours[f"{ours}/skip/bias"] = copy.take(f"{theirs}.NIN_0.b")


def _attention(copy: Copy, ours: str, theirs: str) -> None:
    copy.norm(f"{ours}/norm", f"{theirs}.GroupNorm_0")
    for j, name in enumerate(("query", "key", "value", "out")):
        copy.ours[f"{ours}/{name}/kernel"] = copy.take(f"{theirs}.NIN_{j}.W")  # [in, out], as here
        copy.ours[f"{ours}/{name}/bias"] = copy.take(f"{theirs}.NIN_{j}.b")


def _resampling(copy: Copy, ours: str, theirs: str) -> None:
    """Copy a convolution with a filter, Conv2d_0, or without, Conv_0."""
    copy.layer(
        f"{ours}/conv",
        next(f"{theirs}.{n}" for n in ("Conv2d_0", "Conv_0") if copy.has(f"{theirs}.{n}") or n == "Conv_0"),
    )
    if ours.endswith("up"):
        copy.ours[f"{ours}/bias"] = copy.ours.pop(f"{ours}/conv/bias")


def average_of_torch(checkpoint: Mapping, arrays: Callable[[Mapping], Arrays]) -> Arrays:
    """Return the average of a checkpoint {"model": state dict, "ema": {"shadow_params": [tensor]}}.

    Args:
        checkpoint: content of the file.
        arrays: function that converts a state dict to arrays.

    Raises:
        CheckpointError: the checkpoint has another structure.
    """
    try:
        model, shadow = checkpoint["model"], list(checkpoint["ema"]["shadow_params"])
        model = {name.removeprefix("module."): tensor for name, tensor in model.items()}
        trained = [name for name in model if name not in _UNTRAINED]
        average = dict(zip(trained, shadow, strict=True))
        kept = {name: tensor for name, tensor in model.items() if name not in average and name.startswith(_LISTED)}
        found = arrays(average | kept)
        fits = all(found[name].shape == tuple(model[name].shape) for name in trained)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"expected a checkpoint of score_sde, with model and ema: {type(error).__name__} {error}"
        ) from None
    if not fits:
        raise CheckpointError("the averages of this checkpoint are not in the order of its parameters")
    return found


def average_of_flax(checkpoint: Mapping) -> Arrays:
    """Return the average `params_ema` of their State in the layout of PyTorch: kernels are transposed, and scales of
    normalization have one axis.

    Raises:
        CheckpointError: the checkpoint has another structure.
    """
    tree = checkpoint.get("params_ema") if isinstance(checkpoint, Mapping) else None
    if isinstance(tree, Mapping) and set(tree) == {"params"}:
        tree = tree["params"]
    if not isinstance(tree, Mapping):
        raise CheckpointError("expected a checkpoint of score_sde, with params_ema")
    return dict(_leaf(path, array) for path, array in _flat(tree, ""))


def _flat(tree: Mapping, above: str):
    """Yield (path, array) with the modules of each class numbered from 0; early versions number all modules of a level
    together."""
    seen = Counter()
    for name in sorted(tree, key=_number):
        kind, value = name.rpartition("_")[0], tree[name]
        path = f"{above}.{name}" if above else name
        if isinstance(value, Mapping):
            yield from _flat(value, path.removesuffix(name) + f"{kind}_{seen[kind]}")
            seen[kind] += 1
        else:
            yield path, np.asarray(value)


def _number(name: str) -> int:
    last = name.rpartition("_")[2]
    return int(last) if is_whole_number(last) else 0


def _leaf(path: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Return name and array in the layout of PyTorch. Scales of normalization are [C], or [1, 1, 1, C] in early
    versions; convolutions with a filter have w and b."""
    module, _, name = path.rpartition(".")
    if "NIN_" in module or "Fourier" in module:
        return path, array
    if name in ("scale", "bias", "b"):
        return f"{module}.{'weight' if name == 'scale' else 'bias'}", array.reshape(-1)
    return f"{module}.weight", array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
