"""A U-shaped Fourier neural operator (after Rahman et al. 2022): the blocks of `fno` on successively coarser grids.

    v = Dense([x, coordinates])
    encoder, for each level:   v on the grid of this level, blocks times block, push v except at the last level
    decoder, for the other levels, reversed:   v on the grid of this level, concat(v, pop), blocks times block
    out = Dense_0(act(Dense(v)))

The first level has the grid of the input. The grids of the lower levels are fixed by the shape of training, and v is
resampled to them and back by its modes. The lower levels therefore always get the same projection of v at the same
points, and do not depend on the grid of the input, provided that it resolves the modes of the second level.

With grids at a fixed ratio to the grid of the input, other modes would survive a level on every grid.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from .conditions import EMPTY, Condition, Conditions
from .embedding import Conditioned, Conditioning
from .fno import FNOBlock, Frame, check_arguments
from .spectral import per_axis, resample


def check_levels(name: str, space: tuple[int, ...], levels: int) -> list[str]:
    """Return the problem of this number of levels for functions on the grid `space`, as a list of one line or none.
    The line starts with `name`."""
    if not space or min(space) >= 2**levels:
        return []
    return [
        f"{name}: expected at least {2**levels} points per axis for {levels} levels, got {space}; use fewer levels or "
        "a finer grid"
    ]


class UFNO(Conditioned, nnx.Module):
    """U-shaped Fourier neural operator for curves and fields (after Rahman et al. 2022), see the top of the file.

    Level i has `width * multipliers[i]` channels and max(modes / 2^i, 1) modes per axis. The first level has the grid
    of the input; level i > 0 has 1 / 2^i of the points of `shape` per axis, rounded up, for every grid of the input.

    Args:
        shape: (*points per axis, C) on the training grid, which fixes the grids of the lower levels. A call accepts any
            grid.
        width: channels of the first level, at least 2.
        multipliers: channels of each level, in units of `width`, each at least 1; one per level.
        blocks: blocks per level of the encoder, and of the decoder, at least 1.
        modes: lowest modes kept on the first level along each axis, one number or one per axis; at least 1.
        boundary: domain of the functions: "even" for an interval or a box, "periodic" for a circle or a torus.
        coordinates: append the first modes of the basis to the input. Without them a "periodic" network commutes with
            translations, and an "even" network with reflections.
        embedding: embedding of the noise label: "positional", "sinusoidal" (ADM, DiT) or "fourier".
        fourier_scale: standard deviation of the Fourier frequencies, in cycles per unit of the noise label; above 0.
        conditions: kind of each entry of the condition, see `conditions`; {}: the network takes no condition.
        dropout: probability of dropping a channel after a block; at least 0 and below 1.
        dtype: data type of the computation, float32 or bfloat16. Embeddings, spectral convolutions and output are
            float32 in any case.
        param_dtype: data type of the parameters.

    Raises:
        ConfigError: more modes than the training grid resolves, more levels than it can be halved, or an argument out
            of range.
    """

    any_grid = True  # it is the same function on every grid

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: int = 64,
        multipliers: tuple[int, ...] = (1, 2, 2),
        blocks: int = 1,
        modes: int | tuple[int, ...] = 16,
        boundary: str = "even",
        coordinates: bool = True,
        embedding: str = "positional",
        fourier_scale: float = 16.0,
        conditions: Conditions = EMPTY,
        dropout: float = 0.0,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        modes = per_axis(modes, len(shape) - 1)
        problems = []
        if width < 2 or blocks < 1:
            problems.append(f"ufno: expected width >= 2 and blocks >= 1, got width {width} and blocks {blocks}")
        if not multipliers or min(multipliers) < 1:
            problems.append(f"ufno: expected one positive multiplier per level, got {tuple(multipliers)}")
        else:
            problems += check_levels("ufno", tuple(shape[:-1]), len(multipliers))
        check_arguments("ufno", shape, modes, boundary, dropout, *problems)
        options = dict(boundary=boundary, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        frame = dict(coordinates=coordinates, embedding=embedding, fourier_scale=fourier_scale, conditions=conditions)
        self.frame = Frame(shape, width, **frame, **options)
        self.boundary = boundary
        self.spaces = tuple(tuple(-(-n // 2**i) for n in shape[:-1]) for i in range(len(multipliers)))
        widths = [width * m for m in multipliers]

        def level(i, in_features):
            block = dict(temb_features=width, modes=tuple(max(k // 2**i, 1) for k in modes), dropout=dropout)
            ins = [in_features] + [widths[i]] * (blocks - 1)
            return nnx.List([FNOBlock(n, widths[i], **block, **options) for n in ins])

        self.encoder = nnx.List([level(i, n) for i, n in enumerate([width, *widths[:-1]])])
        self.decoder = nnx.List([level(i, widths[i + 1] + n) for i, n in reversed(list(enumerate(widths[:-1])))])
        self.num_keys = blocks * (2 * len(widths) - 1)

    @property
    def conditioning(self) -> Conditioning:
        return self.frame.conditioning

    def __call__(
        self,
        x: Float[Array, "b *x"],
        c_noise: Float[Array, "b"],
        condition: Condition | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b *x"]:
        """Return the output of the network on any grid, see `network`."""
        h, temb = self.frame.lift(x, c_noise, condition)
        keys = iter([None] * self.num_keys if key is None else jax.random.split(key, self.num_keys))
        spaces = (x.shape[1:-1], *self.spaces[1:])
        hs = []
        for level, space in zip(self.encoder, spaces, strict=True):
            h = resample(h, space, self.boundary)
            for block in level:
                h = block(h, temb, key=next(keys))
            hs.append(h)
        hs.pop()  # the last level has no skip connection
        for level, space in zip(self.decoder, spaces[-2::-1], strict=True):
            h = jnp.concatenate([resample(h, space, self.boundary), hs.pop()], axis=-1)
            for block in level:
                h = block(h, temb, key=next(keys))
        return self.frame.project(h)
