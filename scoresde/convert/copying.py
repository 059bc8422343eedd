"""Copies of the parameters of other networks, {name: array}, under the names of `scoresde.nets`, {path: array}.

A convolution is [out, in, h, w] in PyTorch and [h, w, in, out] here, a dense layer is [out, in] and [in, out].
"""

import numpy as np

Arrays = dict[str, np.ndarray]


class Copy:
    """Copy of parameters from names of another package to names of `scoresde.nets`.

    Its methods raise a KeyError if a parameter does not exist.

    Attributes:
        theirs: parameters of the other package.
        ours: copied parameters.
        used: names in `theirs` that were copied.
    """

    def __init__(self, parameters: Arrays, ours: Arrays | None = None):
        self.theirs = parameters
        self.ours: Arrays = {} if ours is None else ours
        self.used: set[str] = set()

    def has(self, name: str) -> bool:
        return any(path.startswith(name + ".") for path in self.theirs)

    def take(self, name: str) -> np.ndarray:
        self.used.add(name)
        return self.theirs[name]

    def layer(self, ours: str, theirs: str) -> None:
        """Copy a convolution or a dense layer."""
        w = self.take(f"{theirs}.weight")
        self.ours[f"{ours}/kernel"] = w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T
        self.ours[f"{ours}/bias"] = self.take(f"{theirs}.bias")

    def norm(self, ours: str, theirs: str) -> None:
        self.ours[f"{ours}/scale"] = self.take(f"{theirs}.weight")
        self.ours[f"{ours}/bias"] = self.take(f"{theirs}.bias")

    def residual(self, ours: str, theirs: str, names: tuple[str, ...]) -> None:
        """Copy a residual block; `names` are their names of norm_1, conv_1, dense, norm_2, conv_2 and skip."""
        norm_1, conv_1, dense, norm_2, conv_2, skip = (f"{theirs}.{name}" for name in names)
        self.norm(f"{ours}/norm_1", norm_1)
        self.norm(f"{ours}/norm_2", norm_2)
        for name, path in (("conv_1", conv_1), ("dense", dense), ("conv_2", conv_2)):
            self.layer(f"{ours}/{name}", path)
        if self.has(skip):
            self.layer(f"{ours}/skip", skip)

    def classes(self, theirs: str) -> None:
        """Copy a table of classes, and append a row of zeros for the null class."""
        table = self.take(theirs)
        self.ours["conditioning/classes/embedding"] = np.concatenate([table, np.zeros_like(table[:1])])
