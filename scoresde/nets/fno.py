"""A Fourier neural operator (Li et al. 2021) as a score of functions (Lim et al. 2023): one network for every grid.

The noise level enters by FiLM (Perez et al. 2018):

    v = Dense([x, coordinates])                                             pointwise
    v = dropout(act((1 + s) y + t)),    y = K v + Dense(v),   [s, t] = Dense(temb)      depth times
    out = Dense_0(act(Dense(v)))                                            pointwise

K is the spectral convolution of `spectral`, `temb` the embedding of noise level and class as in `embedding`, `act` is
swish, and a subscript 0 is initialization near zero, so that the network starts as the zero function like the others.

Three properties make the network the same operator on every grid:

- Every parameter is pointwise or belongs to a mode. A pointwise map is the same on any grid; a spectral map agrees up
  to aliasing: `act` creates modes that the grid does not resolve, which vanish as the grid is refined (Bartolucci et
  al. 2023).
- There is no normalization: its statistics would be quadratures over the grid, and with preconditioning the input
  already has unit variance.
- Dropout drops a channel on the whole domain. Dropping points would add noise that is rougher on a finer grid.

The input must be a function as well: white noise at the points of the grid has coefficients of size 1/sqrt(n), so a
network that was trained with it on one grid gets another distribution on a finer grid. Noise of a Gaussian process
converges.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ConfigError
from .blocks import linear
from .conditions import EMPTY, Condition, Conditions
from .embedding import Conditioned, Conditioning
from .remat import rematerialise
from .spectral import SpectralConv, check_modes, first_modes, per_axis


def check_arguments(name, shape, modes, boundary, dropout, *problems) -> None:
    """Raise a ConfigError that lists every problem of the arguments."""
    if len(shape) < 2 or min(shape) < 1:
        raise ConfigError(f"{name}: expected a shape (*points per axis, channels), got {tuple(shape)}")
    problems = [*problems, *check_modes(name, boundary, tuple(shape[:-1]), modes)]
    if not 0 <= dropout < 1:
        problems.append(f"{name}: expected 0 <= dropout < 1, got {dropout}")
    if problems:
        raise ConfigError(*problems)


def check_function(shape: tuple[int, ...], x: Array, c_noise: Array) -> None:
    """Raise a ConfigError unless x is [B, *points, C] for the axes and channels of `shape`, and c_noise is [B]."""
    if x.ndim != len(shape) + 1 or x.shape[-1] != shape[-1] or 0 in x.shape[1:] or c_noise.shape != x.shape[:1]:
        raise ConfigError(
            f"network: expected x of shape [B, {'n, ' * (len(shape) - 1)}{shape[-1]}] with any n >= 1 and c_noise of "
            f"shape [B], got {list(x.shape)} and {list(c_noise.shape)}; "
            "for one example call network(x[None], c_noise[None])[0]"
        )


class FNOBlock(nnx.Module):
    """Fourier block dropout(act((1 + s) (K h + Dense(h)) + t)), [s, t] = Dense(temb); temb already includes `act`.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        temb_features: length of the conditioning vector.
        modes: number of modes of K along each axis.
        boundary: "periodic" or "even".
        dropout: probability of dropping a channel.
        dtype: data type of the computation.
        param_dtype: data type of the parameters.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        temb_features: int,
        modes: tuple[int, ...],
        boundary: str,
        dropout: float,
        dtype,
        param_dtype,
        rngs: nnx.Rngs,
    ):
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.spectral = SpectralConv(
            in_features, out_features, modes, boundary=boundary, param_dtype=param_dtype, rngs=rngs
        )
        self.dense = linear(in_features, out_features, **options)
        self.dense_temb = linear(temb_features, 2 * out_features, **options)
        space = tuple(range(1, len(modes) + 1))
        self.dropout = nnx.Dropout(dropout, broadcast_dims=space)  # no rngs: the key comes with the call

    @rematerialise
    def __call__(
        self, h: Float[Array, "b *space c"], temb: Float[Array, "b features"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "b *space o"]:
        y = self.spectral(h) + self.dense(h)
        film = self.dense_temb(temb)
        scale, shift = jnp.split(film.reshape(film.shape[0], *[1] * (h.ndim - 2), -1), 2, axis=-1)
        return self.dropout(nnx.swish((1 + scale) * y + shift), deterministic=key is None, rngs=key)


class Frame(nnx.Module):
    """Layers before and after the blocks: the embeddings, the lifting with coordinates, and the projection."""

    def __init__(
        self, shape, width, *, coordinates, boundary, embedding, fourier_scale, conditions, dtype, param_dtype, rngs
    ):
        options = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.shape, self.coordinates, self.boundary, self.dtype = tuple(shape), coordinates, boundary, dtype
        self.conditioning = Conditioning(
            width,
            width,
            embedding=embedding,
            fourier_scale=fourier_scale,
            conditions=conditions,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        extra = (len(shape) - 1) * (2 if boundary == "periodic" else 1) if coordinates else 0
        self.dense_in = linear(shape[-1] + extra, width, **options)
        channels = self.conditioning.num_channels
        self.dense_condition = linear(channels, width, scale=0.0, **options) if channels else None
        self.dense_1 = linear(width, width, **options)
        self.dense_out = linear(width, shape[-1], scale=0.0, **options)

    def lift(self, x, c_noise, condition) -> tuple[Array, Array]:
        """Return the lifted input and temb after `act`, in the data type of the computation."""
        check_function(self.shape, x, c_noise)
        condition = self.conditioning.complete(condition, len(x))
        temb = nnx.swish(self.conditioning(c_noise, condition)).astype(self.dtype)
        h = x.astype(self.dtype)
        if self.coordinates:
            where = jnp.asarray(first_modes(self.boundary, x.shape[1:-1]), self.dtype)
            h = jnp.concatenate([h, jnp.broadcast_to(where, (x.shape[0], *where.shape))], axis=-1)
        h = self.dense_in(h)
        if self.dense_condition is not None:
            h = h + self.dense_condition(self.conditioning.channels(condition, x.shape[1:-1]).astype(self.dtype))
        return h, temb

    def project(self, h: Array) -> Array:
        return self.dense_out(nnx.swish(self.dense_1(h))).astype(jnp.float32)


class FNO(Conditioned, nnx.Module):
    """Fourier neural operator for curves and fields (Li et al. 2021); the architecture is at the top of the file.

    Most parameters are those of `depth` spectral convolutions, width^2 times the modes each (see SpectralConv): 64
    channels, 4 blocks and 16 modes in one dimension have 325 thousand parameters, or 587 thousand for "periodic".

    Args:
        shape: (*points per axis, C) on the training grid. The points are used for checks only: a call accepts any grid.
        width: channels of every hidden layer, at least 2.
        depth: number of blocks, at least 1.
        modes: lowest modes kept by the spectral convolutions along each axis, one number or one per axis; at least 1.
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
        ConfigError: more modes than the training grid resolves, or an argument out of range.
    """

    any_grid = True  # it is the same function on every grid

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: int = 64,
        depth: int = 4,
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
        if width < 2 or depth < 1:
            problems.append(f"fno: expected width >= 2 and depth >= 1, got width {width} and depth {depth}")
        check_arguments("fno", shape, modes, boundary, dropout, *problems)
        options = dict(boundary=boundary, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        frame = dict(coordinates=coordinates, embedding=embedding, fourier_scale=fourier_scale, conditions=conditions)
        self.frame = Frame(shape, width, **frame, **options)
        block = dict(temb_features=width, modes=modes, dropout=dropout)
        self.blocks = nnx.List([FNOBlock(width, width, **block, **options) for _ in range(depth)])

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
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))
        for block, key in zip(self.blocks, keys, strict=True):
            h = block(h, temb, key=key)
        return self.frame.project(h)
