"""A U-shaped Fourier neural operator (after Rahman et al. 2022): the blocks of `fno` on grids of fewer and fewer
points.

    v = Dense([x, coordinates])
    encoder, for each level:   v on the grid of this level, blocks times block, push v except at the last level
    decoder, the others reversed:   v on the grid of this level, concat(v, pop), blocks times block
    out = Dense_0(act(Dense(v)))

The first level has the grid of the input. Those below have grids of their own, from the shape of training, and v gets
there and back by its modes. So they always see the same projection of v at the same points: what happens below the
first level does not know the grid of the input, as long as that one holds the modes of the second.

A ratio of the grid of the input would not do: then the modes that survive a level are others on every grid.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .fno import FNOBlock, Frame, check_arguments
from .spectral import per_axis, resample


def check_levels(name: str, space: tuple[int, ...], levels: int) -> list[str]:
    """What is wrong with so many levels for functions on the grid `space`: one line, none if valid. `name` begins
    it."""
    if not space or min(space) >= 2**levels:
        return []
    return [
        f"{name}: expected at least {2**levels} points per axis for {levels} levels, got {space}; use fewer levels or "
        "a finer grid"
    ]


class UFNO(nnx.Module):
    """U-shaped Fourier neural operator (after Rahman et al. 2022); the architecture is at the top of the file.

    Level i has `width * multipliers[i]` channels and max(modes / 2^i, 1) modes per axis. The first level has the grid
    of the input, level i > 0 has 1 / 2^i of the points of `shape` per axis, rounded up, whatever the grid of the input.

    Args:
        shape: (*points per axis, C) of the grid of training: it fixes the grids of the lower levels. A call takes any.
        width: channels of the first level.
        multipliers: channels of each level, in units of `width`. Their number is the number of levels.
        blocks: blocks per level of the encoder, and of the decoder.
        modes: lowest modes of the spectral convolutions of the first level, one number or one per axis.
        boundary, coordinates, embedding, fourier_scale, num_classes, dropout, dtype, param_dtype: as for FNO.
    Raises:
        ConfigError: more modes than the grid of training holds, or more levels than it can be halved, an argument out
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
        num_classes: int = 0,
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
        frame = dict(coordinates=coordinates, embedding=embedding, fourier_scale=fourier_scale, num_classes=num_classes)
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

    def __call__(
        self,
        x: Float[Array, "b *x"],
        c_noise: Float[Array, "b"],
        label: Int[Array, "b"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b *x"]:
        """As every module of this room, see `network`, on any grid."""
        h, temb = self.frame.lift(x, c_noise, label)
        keys = iter([None] * self.num_keys if key is None else jax.random.split(key, self.num_keys))
        spaces = (x.shape[1:-1], *self.spaces[1:])
        hs = []
        for level, space in zip(self.encoder, spaces, strict=True):
            h = resample(h, space, self.boundary)
            for block in level:
                h = block(h, temb, key=next(keys))
            hs.append(h)
        hs.pop()  # the last level has no way around itself
        for level, space in zip(self.decoder, spaces[-2::-1], strict=True):
            h = jnp.concatenate([resample(h, space, self.boundary), hs.pop()], axis=-1)
            for block in level:
                h = block(h, temb, key=next(keys))
        return self.frame.project(h)
