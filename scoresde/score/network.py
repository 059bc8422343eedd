"""A network with preconditioning is a score.

A preconditioning says what the raw network F predicts and what it is fed. All are written for any alpha, sigma:

| class                 | score                                                         | input       | noise label   |
|-----------------------|---------------------------------------------------------------|-------------|---------------|
| EDMPreconditioning    | -x / V + alpha sigma_data / (sigma sqrt V) F                  | x / sqrt V  | -lambda / 8   |
| EpsPreconditioning    | -F / sigma                                                    | x           | 999 t / t_max |
| ScorePreconditioning  | F / sigma                                                     | x           | log sigma     |

V = alpha^2 sigma_data^2 + sigma^2 is the variance of x_t. EDM's denoiser (Karras et al. 2022, eq. 7) is
D = c_skip x + c_out F with, for alpha other than 1,

    c_skip = alpha sigma_data^2 / V,  c_out = sigma sigma_data / sqrt V,  c_in = 1 / sqrt V,  c_noise = log(sigma / alpha) / 4.

The score (alpha D - x) / sigma^2 is simplified by hand to the form in the table: alpha c_skip - 1 = -sigma^2 / V, so
that nothing cancels in float32 and nothing is divided by sigma^2. The other two are Song et al. 2021, appendix C.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractSDE
from scoresde.sde.base import check_parameters
from scoresde.types import Key, State, Time

# Song et al. 2021 label the times of a continuous model like the 1000 steps of DDPM.
_LAST_LABEL = 999.0


class AbstractPreconditioning(eqx.Module):
    """How a raw network F(x, c_noise) becomes a score."""

    @abc.abstractmethod
    def __call__(self, network: Callable, sde: AbstractSDE, x: State, t: Time) -> State:
        """The score at (x, t), where `network` maps one example and one noise label to the shape of x."""


class EDMPreconditioning(AbstractPreconditioning):
    """Unit variance in, unit variance out at every noise level (Karras et al. 2022, table 1, generalised to alpha)."""

    sigma_data: float = 0.5

    def __call__(self, network, sde, x, t):
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        variance = (alpha * self.sigma_data) ** 2 + sigma**2
        output = network(x / jnp.sqrt(variance), -sde.log_snr(t) / 8)
        return -x / variance + alpha * self.sigma_data / (sigma * jnp.sqrt(variance)) * output

    def __check_init__(self):
        check_parameters("EDMPreconditioning", sigma_data=(self.sigma_data, self.sigma_data > 0, "sigma_data > 0"))


class EpsPreconditioning(AbstractPreconditioning):
    """The network predicts the noise: s = -F / sigma (Song et al. 2021, VP and sub-VP)."""

    def __call__(self, network, sde, x, t):
        return -network(x, _LAST_LABEL * t / sde.t_max) / sde.sigma(t)


class ScorePreconditioning(AbstractPreconditioning):
    """The network predicts sigma times the score and is told log sigma (Song et al. 2021, VE with scale_by_sigma)."""

    def __call__(self, network, sde, x, t):
        return network(x, sde.log_sigma(t)) / sde.sigma(t)


class NetworkScore(AbstractScore):
    """s(x, t) from a network inside a preconditioning.

    Args:
      sde: the process whose score this is.
      network: a callable `(x[B, *x], c_noise[B], label[B] or None, key=None) -> [B, *x]`, such as `scoresde.nets.Network`.
        It is called with B = 1: Flax takes the first axis for a batch. `jax.vmap` makes it one batched call.
      preconditioning: how its output becomes a score.
      label: the class of this example, if the network takes one.
      key: switches dropout on; for training only.
    """

    sde: AbstractSDE
    network: Callable
    preconditioning: AbstractPreconditioning = EDMPreconditioning()
    label: Int[Array, ""] | None = None
    key: Key | None = None

    def __call__(self, x: State, t: Time) -> State:
        label = None if self.label is None else self.label[None]

        def network(x, c_noise):
            return self.network(x[None], jnp.asarray(c_noise)[None], label, key=self.key)[0]

        return self.preconditioning(network, self.sde, x, t)
