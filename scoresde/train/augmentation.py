"""Non-leaking augmentation (Karras et al. 2020; for diffusion Karras et al. 2022, appendix F.2): the network receives
the transformation as a label.

Each kind is applied with probability p, the left-right flip with 1/2. The order is flips, scaling, rotation,
anisotropic scaling, translation.

| kind          | parameters                        | entries of the label         |
|---------------|-----------------------------------|------------------------------|
| flip in x     | a in {0, 1}                       | a                            |
| flip in y     | a in {0, 1}                       | a                            |
| scaling       | by 2^(0.2 w), w ~ N(0, 1)         | w                            |
| rotation      | by r ~ U(-pi, pi)                 | cos r - 1, sin r             |
| anisotropic   | 2^(0.2 w) along r, inverse across | w cos 2r, w sin 2r           |
| translation   | by size / 8 times w ~ N(0, I)     | w along x, w along y         |

The label of an unmodified image is 0, which adds nothing to the conditioning: samples are generated without a label
and are not augmented. x runs along the width, y along the height.

Different transformations have different labels. For the anisotropic scaling EDM uses the angle r, so that (w, r) and
(-w, r + pi) share a label although they are inverse; with 2r the pairs that share a label, (w, r) and (-w, r + pi/2),
are the same transformation.

The interpolation differs from EDM's: Lanczos to twice the resolution, linear interpolation there, mirrored edges, and
Lanczos with antialiasing back to half of it. Images that are only flipped or unmodified are exact. EDM changes the
resolution with wavelet filters.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import AbstractVar
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float

from scoresde.sde.base import check_parameters
from scoresde.types import Key

LABELS = 9  # entries of the label
_OCTAVES, _SHIFT = 0.2, 1 / 8  # standard deviations: scalings (powers of 2), translation (image sizes)


class AbstractAugmentation(eqx.Module):
    """A random change of an image, whose label the network receives.

    Attributes:
      entries: length of the label; the label of an image that is not changed is 0.
    """

    entries: AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "h w c"], *, key: Key) -> tuple[Float[Array, "h w c"], Float[Array, " entries"]]:
        """Return the changed image and its label."""


class EDMAugmentation(AbstractAugmentation):
    """EDM's augmentation, see the top of this file.

    Args:
      probability: of each kind of change but the left-right flip, which has 1/2; at least 0 and below 1.
    """

    probability: float = eqx.field(static=True, default=0.12)
    entries: int = eqx.field(static=True, default=LABELS, init=False)

    def __call__(self, x, *, key):
        return augment(x, self.probability, key=key)

    def __check_init__(self):
        holds = 0 <= self.probability < 1
        check_parameters("augment", probability=(self.probability, holds, "at least 0 and less than 1"))


def augment(
    x: Float[Array, "h w c"], probability: float, *, key: Key
) -> tuple[Float[Array, "h w c"], Float[Array, "9"]]:
    """Return an augmented image and its label."""
    chance_key, flip_key, normal_key, angle_key = jax.random.split(key, 4)
    on = jax.random.bernoulli(chance_key, probability, (5,))
    flip_x, flip_y = jax.random.bernoulli(flip_key, shape=(2,)) & jnp.stack([jnp.array(True), on[0]])
    w = jax.random.normal(normal_key, (4,)) * on[jnp.array([1, 3, 4, 4])]
    turn, along = jax.random.uniform(angle_key, (2,), minval=-jnp.pi, maxval=jnp.pi) * on[2:4]
    x = jnp.where(flip_x, jnp.flip(x, 1), x)
    x = jnp.where(flip_y, jnp.flip(x, 0), x)
    stretch = _rotation(along) @ jnp.diag(2 ** (_OCTAVES * jnp.stack([-w[1], w[1]]))) @ _rotation(-along)
    back = 2 ** (-_OCTAVES * w[0]) * _rotation(-turn) @ stretch
    shift = _SHIFT * w[2:] * jnp.array([x.shape[1], x.shape[0]])
    x = jnp.where(jnp.any(on[1:]), warp(x, back, shift), x)
    flips = jnp.stack([flip_x, flip_y]).astype(float)
    moves = [w[0], jnp.cos(turn) - 1, jnp.sin(turn), w[1] * jnp.cos(2 * along), w[1] * jnp.sin(2 * along)]
    return x, jnp.concatenate([flips, jnp.stack(moves), w[2:]])


def warp(x: Float[Array, "h w c"], back: Float[Array, "2 2"], shift: Float[Array, "2"]) -> Float[Array, "h w c"]:
    """Return the image y(u) = x(back (u - shift)), where u = (along the width, along the height) in pixels from the
    centre."""
    height, width, channels = x.shape
    fine = (2 * height, 2 * width)
    rows, columns = jnp.meshgrid(*((jnp.arange(n) + 0.5 - n / 2) / 2 for n in fine), indexing="ij")
    along_x, along_y = jnp.tensordot(back, jnp.stack([columns, rows]) - shift[:, None, None], 1)
    places = [2 * along_y + height - 0.5, 2 * along_x + width - 0.5]
    doubled = jax.image.resize(x, (*fine, channels), "lanczos3")
    sampled = jax.vmap(lambda channel: map_coordinates(channel, places, order=1, mode="mirror"), -1, -1)(doubled)
    return jax.image.resize(sampled, x.shape, "lanczos3")


def _rotation(angle: Float[Array, ""]) -> Float[Array, "2 2"]:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.array([[cos, -sin], [sin, cos]])
