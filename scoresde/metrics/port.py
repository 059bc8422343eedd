"""The weights of the 2015 Inception by their names in files, converted to kernels and biases in the order of the
network.

Files have one of two families of names: those of the TensorFlow graph (`net.layers.mixed_4.tower.conv_1.weight`, with
beta, mean, var), and those of the PyTorch port that pytorch-fid and torch-fidelity use
(`Mixed_6b.branch7x7_2.conv.weight`, with bn.weight, bn.bias, bn.running_mean, bn.running_var). Only the port has the
last layer, `fc.weight`, which the Inception Score needs.
"""

from collections.abc import Mapping

import numpy as np

from scoresde.errors import DataError
from scoresde.nets import inception


def _graph_names() -> list[str]:
    def several(prefix, count):
        return [prefix + (f"_{k}" if k else "") for k in range(count)]

    names = several("conv", 5)
    for block in several("mixed", 3):
        names += _within(block, ["conv", *several("tower.conv", 2), *several("tower_1.conv", 3), "tower_2.conv"])
    names += _within("mixed_3", ["conv", *several("tower.conv", 3)])
    for block in several("mixed", 8)[4:]:
        names += _within(block, ["conv", *several("tower.conv", 3), *several("tower_1.conv", 5), "tower_2.conv"])
    names += _within("mixed_8", [*several("tower.conv", 2), *several("tower_1.conv", 4)])
    for block in ("mixed_9", "mixed_10"):
        first = ["conv", "tower_conv", *several("tower_mixed_conv", 2)]
        names += _within(
            block, [*first, *several("tower_1_conv", 2), *several("tower_1_mixed_conv", 2), "tower_2_conv"]
        )
    return _within("net.layers", names)


def _port_names() -> list[str]:
    def several(prefix, count):
        return [f"{prefix}_{k + 1}" for k in range(count)]

    names = [f"Conv2d_{k}" for k in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")]
    for block in "bcd":
        names += _within(
            f"Mixed_5{block}", ["branch1x1", *several("branch5x5", 2), *several("branch3x3dbl", 3), "branch_pool"]
        )
    names += _within("Mixed_6a", ["branch3x3", *several("branch3x3dbl", 3)])
    for block in "bcde":
        names += _within(
            f"Mixed_6{block}", ["branch1x1", *several("branch7x7", 3), *several("branch7x7dbl", 5), "branch_pool"]
        )
    names += _within("Mixed_7a", [*several("branch3x3", 2), *several("branch7x7x3", 4)])
    for block in "bc":
        fork = [f"branch3x3_{k}" for k in ("1", "2a", "2b")] + [f"branch3x3dbl_{k}" for k in ("1", "2", "3a", "3b")]
        names += _within(f"Mixed_7{block}", ["branch1x1", *fork, "branch_pool"])
    return names


def _within(block: str, names: list[str]) -> list[str]:
    return [f"{block}.{name}" for name in names]


_GRAPH = {"kernel": "weight", "beta": "beta", "mean": "mean", "var": "var"}
_PORT = {
    "kernel": "conv.weight",
    "scale": "bn.weight",
    "beta": "bn.bias",
    "mean": "bn.running_mean",
    "var": "bn.running_var",
}


def weights(
    arrays: Mapping[str, np.ndarray], what: str
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray | None]:
    """Return kernels and biases, including batch normalisation, and the readout [2048, classes] if there is one.

    Args:
        arrays: arrays of the file by name.
        what: the file, for messages.

    Raises:
        DataError: a name is missing, a shape differs, or a value is not finite.
    """
    names, parts = (_graph_names(), _GRAPH) if "net.layers.conv.weight" in arrays else (_port_names(), _PORT)
    needed = [f"{name}.{part}" for name in names for part in parts.values()]
    if missing := [name for name in needed if name not in arrays]:
        raise DataError(
            f"{what}: expected the weights of the 2015 Inception under the names of its graph or of the PyTorch port, "
            "but "
            f"{len(missing)} of {len(needed)} are missing, the first '{missing[0]}'; see docs/evaluation.md for the "
            "files"
        )
    found = []
    for name, shape in zip(names, inception.shapes(), strict=True):
        of = {part: np.asarray(arrays[f"{name}.{key}"]) for part, key in parts.items()}
        scale = of.pop("scale", np.ones(shape[-1], np.float32))
        height, width, inputs, outputs = shape
        expected = {"kernel": (outputs, inputs, height, width)}
        for part, array in of.items():
            if array.shape != expected.get(part, (outputs,)) or not np.isfinite(array).all():
                raise DataError(
                    f"{what}: {name}: expected finite {part} of shape {expected.get(part, (outputs,))}, got "
                    f"{array.shape}; copy the file again"
                )
        found.append(inception.folded(of["kernel"], scale, of["beta"], of["mean"], of["var"]))
    readout = np.ascontiguousarray(np.asarray(arrays["fc.weight"]).T) if "fc.weight" in arrays else None
    return found, readout
