"""Embeddings of the noise level and of the condition.

Positional (Ho et al. 2020), with `half = features // 2` frequencies:

    w_i = exp(-i ln(1e4) / (half - 1)),    emb(c) = [sin(w c), cos(w c)]

Sinusoidal (Vaswani et al. 2017, as in ADM and DiT): w_i = exp(-i ln(1e4) / half), emb(c) = [cos(w c), sin(w c)].

Fourier (Tancik et al. 2020; Song et al. 2021, appendix H), with fixed `W ~ N(0, scale^2)`:

    emb(c) = [sin(2 pi W c), cos(2 pi W c)]

Fourier features of the image itself (Kingma et al. 2021, appendix; their code), for n from `first` to below `stop`:

    features(x) = [x, sin(2 pi 2^n x), cos(2 pi 2^n x)]

The period is 2^-n: for 256 grey levels in [-1, 1], one level at n = 7. With these features a network can resolve single
grey levels.

`c` is the noise label `c_noise` that the preconditioning chooses: `999 t` for the positional embedding of a VP process,
`log sigma` for the Fourier embedding of a VE process. Conditioning maps it to the vector that every block uses:

    temb = W_2 act(W_1 (emb(c) + A a) + b_1) + b_2  + sum of the vectors of a condition

with a the label of an augmentation (Karras et al. 2022), 0 without one. `conditions` has the kinds of conditions, of
which a class adds one learned vector.

The embeddings are float32 for every compute dtype: bfloat16 has eight significant bits, so the labels 998 and 999 would
be the same number. They are one vector per example, so float32 costs nothing here.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ..errors import ConfigError
from .blocks import default_init
from .conditions import AbstractCondition, Place


class PositionalEmbedding(nnx.Module):
    """Positional embedding [sin(w c), cos(w c)] with w_i = exp(-i ln(1e4) / (half - 1)) (Ho et al. 2020).

    It has no parameters. An odd number of features is padded with one zero, as in DDPM.

    Args:
        features: length of the embedding, at least 2.
        max_period: ratio of the highest to the lowest frequency.
    Raises:
        ConfigError: fewer than two features.
    """

    def __init__(self, features: int, *, max_period: float = 1e4):
        if features < 2:
            raise ConfigError(f"positional embedding: expected at least 2 features (channels, width), got {features}")
        self.features = features
        self.max_period = max_period

    def __call__(self, c_noise: Float[Array, "b"]) -> Float[Array, "b features"]:
        half = self.features // 2
        w = jnp.exp(-math.log(self.max_period) / max(half - 1, 1) * jnp.arange(half, dtype=jnp.float32))
        angle = c_noise.astype(jnp.float32)[:, None] * w
        emb = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
        return jnp.pad(emb, ((0, 0), (0, self.features - 2 * half)))


class SinusoidalEmbedding(nnx.Module):
    """Sinusoidal embedding [cos(w c), sin(w c)] with w_i = exp(-i ln(1e4) / half) (Vaswani et al. 2017; ADM, DiT).

    It has no parameters.

    Args:
        features: length of the embedding, an even number.
        max_period: the lowest frequency is close to 1 / max_period.
    Raises:
        ConfigError: an odd number of features, or none.
    """

    def __init__(self, features: int, *, max_period: float = 1e4):
        if features < 2 or features % 2:
            raise ConfigError(
                f"sinusoidal embedding: expected an even number of features (channels, width), got {features}"
            )
        self.features = features
        self.max_period = max_period

    def __call__(self, c_noise: Float[Array, "b"]) -> Float[Array, "b features"]:
        half = self.features // 2
        w = jnp.exp(-math.log(self.max_period) / half * jnp.arange(half, dtype=jnp.float32))
        angle = c_noise.astype(jnp.float32)[:, None] * w
        return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class FourierEmbedding(nnx.Module):
    """Fourier embedding [sin(2 pi W c), cos(2 pi W c)] with a fixed W ~ N(0, scale^2) (Song et al. 2021).

    It has 2 length features. W is a parameter, so that published weights can be loaded, but its gradient is stopped.
    Weight decay in the optimizer would still shrink W: leave the path `.../frequencies` out of the decay.

    The angle is 2 pi W c, about 1e3 for scale 16 and c = log 1e4, so float32 resolves it to about 1e-4.

    Args:
        length: number of frequencies.
        scale: standard deviation of W, in cycles per unit of c_noise.
    """

    def __init__(self, length: int, *, scale: float = 16.0, rngs: nnx.Rngs):
        self.features = 2 * length
        self.frequencies = nnx.Param(scale * jax.random.normal(rngs.params(), (length,), jnp.float32))

    def __call__(self, c_noise: Float[Array, "b"]) -> Float[Array, "b features"]:
        w = jax.lax.stop_gradient(self.frequencies[...]).astype(jnp.float32)
        angle = 2 * math.pi * c_noise.astype(jnp.float32)[:, None] * w
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


LARGEST_EXPONENT = 12  # float32 resolves the phase of x = 4 to 1/500 of a period


def check_fourier(exponents: tuple[int, ...]) -> list[str]:
    """Return the problem of the exponents of `fourier_features`, as a list of one line or none."""
    if len(exponents) == 2 and 0 <= exponents[0] <= exponents[1] <= LARGEST_EXPONENT + 1:
        return []
    return [
        "input_fourier: expected (first, stop), the first exponent and the one after the last, 0 <= first <= stop <= "
        f"{LARGEST_EXPONENT + 1}, "
        f"got {tuple(exponents)}; (6, 8) is VDM's, (0, 0) is none"
    ]


def fourier_features(x: Float[Array, "b *space c"], exponents: tuple[int, int]) -> Float[Array, "b *space _"]:
    """Return [x, sin(2 pi 2^n x), cos(2 pi 2^n x)] along the channels, for n from the first exponent to below the
    second, in float32 at least.

    Whole periods are subtracted first, which is exact in binary, so that the angles of sin and cos are at most pi.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    phases = [2.0**n * x for n in range(*exponents)]
    angles = [2 * math.pi * (phase - jnp.round(phase)) for phase in phases]
    return jnp.concatenate([x, *map(jnp.sin, angles), *map(jnp.cos, angles)], axis=-1)


# Builders (length, scale, rngs) -> embedding by their name in a configuration.
EMBEDDINGS = {
    "positional": lambda length, scale, rngs: PositionalEmbedding(length),
    "sinusoidal": lambda length, scale, rngs: SinusoidalEmbedding(length),
    "fourier": lambda length, scale, rngs: FourierEmbedding(length, scale=scale, rngs=rngs),
}


# Attributes of entries that have other names in run folders of earlier versions.
_ATTRIBUTES = {"class": "classes", "augmentation": "augmentation"}
PREFIX = "condition_"  # first part of the attributes of all other entries


class Entries(nnx.Module):
    """The embeddings of the entries of a condition, and the sums of their contributions.

    Args:
        conditions: kind of each entry, see `conditions`.
        place: where they enter the network.
        options: param_dtype, rngs.
    """

    def __init__(self, conditions: Mapping[str, AbstractCondition], place: Place, **options):
        self.kinds = tuple(dict(conditions).items())
        for name, kind in self.kinds:
            setattr(self, _ATTRIBUTES.get(name, PREFIX + name), kind.embedding(place, **options))
        self.num_channels = sum(self._embedding(name).num_channels for name, _ in self.kinds)
        self.has_tokens = any(self._embedding(name).has_tokens for name, _ in self.kinds)
        if self.has_tokens:  # always there, so that an empty sequence has a softmax to take part in
            shape = (place.features,)
            self.null_token = nnx.Param(jax.random.normal(options["rngs"].params(), shape, options["param_dtype"]))

    def _embedding(self, name: str) -> nnx.Module:
        return getattr(self, _ATTRIBUTES.get(name, PREFIX + name))

    def complete(self, condition: Mapping[str, Array] | None, size: int) -> dict[str, Array]:
        """Return the values of all entries for `size` examples, with the null of each kind where none is given.

        Raises:
            ConfigError: an entry that the network does not have.
        """
        condition = dict(condition or {})
        if unknown := sorted(set(condition) - {name for name, _ in self.kinds}):
            names = ", ".join(name for name, _ in self.kinds) or "none"
            raise ConfigError(f"condition: unknown entry '{unknown[0]}'; the network takes: {names}")
        nulls = {name: jnp.asarray(kind.null()) for name, kind in self.kinds if name not in condition}
        return condition | {name: jnp.broadcast_to(null, (size, *null.shape)) for name, null in nulls.items()}

    def channels(self, condition: dict[str, Array], grid: tuple[int, ...]) -> Array | None:
        """Return the channels that are appended to the input, float32 [b, *grid, num_channels]; None if there are
        none."""
        parts = [self._embedding(name).to_channels(condition[name], tuple(grid)) for name, _ in self.kinds]
        parts = [part for part in parts if part is not None]
        return jnp.concatenate(parts, axis=-1) if parts else None

    def tokens(self, condition: dict[str, Array]) -> tuple[Array, Array] | None:
        """Return the rows for cross-attention [b, n, features] and whether each is present [b, n]; None if there are
        none."""
        parts = [self._embedding(name).to_tokens(condition[name]) for name, _ in self.kinds]
        parts = [part for part in parts if part is not None]
        if not parts:
            return None
        size = len(parts[0][0])
        null = jnp.broadcast_to(self.null_token[...], (size, 1, *self.null_token.shape))
        rows = jnp.concatenate([null, *(rows for rows, _ in parts)], axis=1)
        return rows, jnp.concatenate([jnp.ones((size, 1), bool), *(mask for _, mask in parts)], axis=1)

    def add_noise(self, emb: Array, condition: dict[str, Array]) -> Array:
        """Return the embedding of the noise level plus the contributions to it."""
        for name, _ in self.kinds:
            added = self._embedding(name).to_noise(condition[name])
            emb = emb if added is None else emb + added
        return emb

    def vectors(self, condition: dict[str, Array]) -> list[Array]:
        """Return the contributions to the vector of every block, [b, features] each."""
        parts = [self._embedding(name).to_vector(condition[name]) for name, _ in self.kinds]
        return [part for part in parts if part is not None]


class Conditioning(Entries):
    """Conditioning vector temb = Dense(act(Dense(emb(c_noise) + A a))) + the vectors of a condition, used by every
    block; always float32.

    Args:
        length: length of the noise embedding (twice that for Fourier features).
        features: length of the result.
        embedding: "positional", "sinusoidal" or "fourier".
        fourier_scale: standard deviation of the Fourier frequencies; the other embeddings do not use it.
        conditions: kind of each entry of the condition; {}: the network takes no condition.
        attends: whether the network has attention to which a sequence can be added.
        param_dtype: data type of the parameters.

    Raises:
        ConfigError: unknown embedding; on a call, an entry that the network does not have.
    """

    def __init__(
        self,
        length: int,
        features: int,
        *,
        embedding: str,
        fourier_scale: float,
        conditions: Mapping[str, AbstractCondition],
        attends: bool = False,
        param_dtype,
        rngs,
    ):
        if embedding not in EMBEDDINGS:
            raise ConfigError(f"embedding: expected one of {', '.join(EMBEDDINGS)}, got {embedding!r}")
        options = dict(kernel_init=default_init(), dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)
        self.embedding = EMBEDDINGS[embedding](length, fourier_scale, rngs)
        self.dense_1 = nnx.Linear(self.embedding.features, features, **options)
        self.dense_2 = nnx.Linear(features, features, **options)
        place = Place(features, self.embedding.features, attends)
        super().__init__(conditions, place, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, c_noise: Float[Array, "b"], condition: dict[str, Array]) -> Float[Array, "b features"]:
        """Return temb for a condition that `complete` returned."""
        emb = self.add_noise(self.embedding(c_noise), condition)
        return sum(self.vectors(condition), self.dense_2(nnx.swish(self.dense_1(emb))))


class Conditioned:
    """A network with an attribute `conditioning`, whose entries are those that it takes."""

    @property
    def conditions(self) -> dict[str, AbstractCondition]:
        """Return the kind of each entry of the condition, by name."""
        return dict(self.conditioning.kinds)
