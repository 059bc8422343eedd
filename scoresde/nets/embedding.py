"""Embeddings of the noise level and of the class label.

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

    temb = W_2 act(W_1 (emb(c) + A a) + b_1) + b_2  (+ one learned vector per class)

with a the label of an augmentation (Karras et al. 2022), 0 without one.

The embeddings are float32 for every compute dtype: bfloat16 has eight significant bits, so the labels 998 and 999 would
be the same number. They are one vector per example, so float32 costs nothing here.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from ..errors import ConfigError
from .blocks import default_init


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


class Conditioning(nnx.Module):
    """Conditioning vector temb = Dense(act(Dense(emb(c_noise)))) + class vector, used by every block; always float32.

    With classes, the table has one row more than there are classes. The last row is the null class of classifier-free
    guidance (Ho and Salimans 2022). Label -1 selects it for one example, `label=None` for all examples; training does
    not use it yet.

    Args:
        length: length of the noise embedding (twice that for Fourier features).
        features: length of the result.
        embedding: "positional", "sinusoidal" or "fourier".
        fourier_scale: standard deviation of the Fourier frequencies; the other embeddings do not use it.
        num_classes: number of classes; 0: the network takes no labels.
        augmentation: number of entries of the augmentation label; 0: the network takes no augmentation label.
        param_dtype: data type of the parameters.

    Raises:
        ConfigError: unknown embedding; on a call, a label for a network without classes.
    """

    def __init__(
        self,
        length: int,
        features: int,
        *,
        embedding: str,
        fourier_scale: float,
        num_classes: int,
        augmentation: int = 0,
        param_dtype,
        rngs,
    ):
        if embedding not in EMBEDDINGS:
            raise ConfigError(f"embedding: expected one of {', '.join(EMBEDDINGS)}, got {embedding!r}")
        if num_classes < 0:
            raise ConfigError(f"num_classes: expected 0 (no classes) or more, got {num_classes}")
        options = dict(kernel_init=default_init(), dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)
        self.num_classes = num_classes
        self.embedding = EMBEDDINGS[embedding](length, fourier_scale, rngs)
        self.dense_1 = nnx.Linear(self.embedding.features, features, **options)
        self.dense_2 = nnx.Linear(features, features, **options)
        self.augmentation = (
            nnx.Linear(augmentation, self.embedding.features, use_bias=False, **options) if augmentation else None
        )
        table = dict(dtype=jnp.float32, param_dtype=param_dtype, rngs=rngs)
        self.classes = nnx.Embed(num_classes + 1, features, **table) if num_classes else None

    def __call__(
        self,
        c_noise: Float[Array, "b"],
        label: Int[Array, "b"] | None,
        augmentation: Float[Array, "b entries"] | None = None,
    ) -> Float[Array, "b features"]:
        """Return temb; a label of num_classes or more gives NaN, because a compiled function cannot raise an error."""
        emb = self.embedding(c_noise)
        if augmentation is not None:
            if self.augmentation is None:
                raise ConfigError(
                    "augmentation: this network was built without labels of augmentations; build it with them, or call "
                    "it without"
                )
            emb = emb + self.augmentation(augmentation)
        temb = self.dense_2(nnx.swish(self.dense_1(emb)))
        if self.classes is None:
            if label is not None:
                raise ConfigError(
                    "label: this network has no classes (num_classes=0) but was called with labels; "
                    "build it with num_classes, or call it with label=None"
                )
            return temb
        if label is None:
            label = jnp.full(c_noise.shape, -1)
        return temb + self.classes(jnp.where(label < 0, self.num_classes, label))
