r"""The bound of DDPM for a process on a grid of times t_1 < ... < t_T, reversed by a chain of Gaussian steps.

    -log p(data) <= L_T + sum_{i >= 2} KL(q(x_{t_{i-1}} | x_{t_i}, x_0) || p(x_{t_{i-1}} | x_{t_i})) + L_0
    L_T = KL(q(x_T | x_0) || prior at t_T),   L_0 = E[-log p(data | x_{t_1})]                (Ho et al. 2020, eq. 5)

Between times s < t let e = log-SNR(s) - log-SNR(t) >= 0, v the variance of p and rho = log(v / beta-tilde), in every
mode:

    beta-tilde = sigma_s^2 (1 - exp(-e)),   beta = sigma_t^2 (1 - exp(-e))
    KL = 1/2 sum [exp(-rho) - 1 + rho + exp(-rho) expm1(e) r^2],   r = z + sigma s(x_t, t)
    expm1(e) r^2 = (1 - exp(-e)) SNR(s) (D - x_0)^2,   D = E[x_0 | x_t]

Of the last two forms the first is accurate where SNR(t) > 1 and the second where SNR(t) < 1: the log-SNR of a mode of a
heat equation falls by hundreds of nats in one step, where r is only rounding error and expm1(e) is infinite in float32.
As e -> 0 the sum becomes the integral of `bounds`.

A step is sampled with probability proportional to its share of the reference log-SNR, like the times of `bounds`. If
the times are equally spaced in t, as for DDPM, the few steps near t_1 make up most of the sum; with uniform
probabilities they would occur in too few samples for an estimate of the error.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scoresde.errors import ConfigError
from scoresde.likelihood.bounds import Bound, BoundDraw, averaged, control, floating, keys_of, residual_at, share_of
from scoresde.likelihood.decode import AbstractDecoder, GaussianDecoder
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractSDE
from scoresde.sde.base import check_parameters
from scoresde.types import Coef, Conditions, Key, Keys, Scalar, State, Time


class AbstractVariance(eqx.Module):
    """Variance of a reverse step, interpolated in the logarithm from beta-tilde (weight 0) to beta (weight 1)."""

    @abc.abstractmethod
    def weight(self, x: State, t: Time) -> Coef:
        """Return w of log v = w log beta + (1 - w) log beta-tilde (Nichol and Dhariwal 2021, eq. 15)."""


class BetaVariance(AbstractVariance):
    """Variance v = beta, which is optimal for data N(0, I) (Ho et al. 2020, sec. 3.2); it has no arguments."""

    def weight(self, x, t):
        return jnp.ones((), x.dtype)


class BetaTildeVariance(AbstractVariance):
    """Variance v = beta-tilde, which is optimal for a single data point; it has no arguments.

    In the first step, where beta-tilde is 0, the value of the second step is used; if that is 0 as well, as in a mode
    that does not fade, beta is used.
    """

    def weight(self, x, t):
        return jnp.zeros((), x.dtype)


class InterpolatedVariance(AbstractVariance):
    """Variance with a predicted weight (Nichol and Dhariwal 2021, sec. 3.1).

    Args:
      predict: function (x_t, t) -> w from 0 to 1, one number or one per coordinate.
    """

    predict: Callable[[State, Time], Coef]

    def weight(self, x, t):
        return self.predict(x, t)


class Discretization(eqx.Module):
    """Process on the times t_1 < ... < t_T: the reverse chain of DDPM's variational bound.

    Any process is supported, with one log-SNR or one per mode, and any times. `Discretization(process, process.times)`
    of a `DiscreteVP` is DDPM itself.

    Args:
      sde: process in continuous time.
      times: increasing times [T], T >= 2; at the first one the decoder replaces the chain.
      variance: variance of the reverse steps: `BetaVariance()`, `BetaTildeVariance()` or `InterpolatedVariance(...)`.
        The first step also gives the variance of the decoder: beta_1 = sigma(t_1)^2, and beta-tilde_2 in place of
        beta-tilde_1, which is 0.

    Raises:
      ConfigError: fewer than two times, or times that do not increase.
    """

    sde: AbstractSDE
    times: Float[Array, " T"]
    variance: AbstractVariance = BetaVariance()

    def __check_init__(self):
        times = np.asarray(self.times)
        if len(times) < 2 or not (np.diff(times) > 0).all():
            raise ConfigError(f"Discretization: expected two or more increasing times, got {times.tolist()[:5]} ...")

    def diffusion_term(self, score: AbstractScore, x0: State, i: Int[Array, ""] | int, *, z: State) -> Scalar:
        """Return KL(q(x_s | x_t, x_0) || p(x_s | x_t)) in nats for t = times[i], s = times[i - 1] and i = 1 to T - 1,
        with noise z."""
        return self._term(score, x0, i, z).value

    def _term(self, score, x0, i, z) -> BoundDraw:
        s, t = self.times[i - 1], self.times[i]
        residual, x = residual_at(score, x0, t, z)
        before, after = self.sde.log_snr(s), self.sde.log_snr(t)
        rho_of_beta = 2 * (self.sde.log_sigma(t) - self.sde.log_sigma(s))
        rho = self.variance.weight(x, t) * rho_of_beta
        spread = jnp.broadcast_to(jnp.expm1(-rho) + rho, x0.shape)
        gap, noisy = before - after, after < 0
        of_score = jnp.expm1(jnp.where(noisy, 0, gap)) * residual**2
        of_data = -jnp.expm1(-gap) * jnp.exp(jnp.where(noisy, before, 0)) * (score.denoise(x, t) - x0) ** 2
        missed = jnp.where(noisy, of_data, of_score).astype(x0.dtype)
        value = 0.5 * jnp.sum(spread + jnp.exp(-rho) * missed)
        # For data of variance 1 the share SNR / (1 + SNR) of z remains in r. This gives the coefficient of z^2 in
        # `missed`, which is finite. The factor of beta is used, because that of a learned variance depends on z, and
        # the control variate would then not have mean 0.
        weight = -jnp.expm1(-gap) * jnp.exp(before - after + 2 * jax.nn.log_sigmoid(after) - rho_of_beta)
        return BoundDraw(value, control(z, weight), share_of(jnp.exp(-rho_of_beta) * missed, z, weight))

    def reconstruction_term(self, score: AbstractScore, x0: State, decoder: AbstractDecoder, *, z: State) -> Scalar:
        """Return L_0 = -log p(data | x_{t_1}) in nats, with noise z."""
        t, after = self.times[0], self.times[1]
        residual, x = residual_at(score, x0, t, z)
        gap = self.sde.log_snr(t) - self.sde.log_snr(after)
        weight = self.variance.weight(x, t)
        # log beta_1 = 2 log sigma_1 and log beta-tilde_2 = 2 log sigma_1 + log(1 - exp(-gap)). In a mode that does not
        # fade, where gap = 0, beta-tilde_2 is 0 like beta-tilde_1, and beta_1 is used.
        to_tilde = jnp.where(gap > 0, jnp.log(-jnp.expm1(-jnp.where(gap > 0, gap, 1.0))), 0.0)
        std = self.sde.sigma(t) * jnp.exp(0.5 * (1 - weight) * to_tilde)
        return -decoder.log_prob(x0, z=z, residual=residual, ratio=self.sde.sigma(t) / self.sde.alpha(t), std=std)


def vlb(
    discretization: Discretization,
    score: AbstractScore,
    x0: Float[Array, "N *x"],
    *,
    key: Key,
    samples: int | None = None,
    decoder: AbstractDecoder = GaussianDecoder(),
    conditions: Conditions | None = None,
) -> Bound:
    """Return the discrete-time bound of Ho et al. 2020 for every example, L_T + sum L_{t-1} + L_0.

    Args:
      discretization: process on the times of the chain.
      score: score of the data.
      x0: data, as in `elbo`.
      key: random key, as in `elbo`.
      samples: number of samples of the diffusion term, one in each of as many strata that are equal in log-SNR from t_1
        to t_T; None means T - 1, the number of steps. Each sample calls the score once.
      decoder: decoder, as in `elbo`.
      conditions: condition of each example, arrays with a leading axis N by name; None: the score as it is.

    Raises:
      ConfigError: samples < 1.
    """
    count = len(discretization.times) - 1 if samples is None else samples
    check_parameters("vlb", samples=(count, count >= 1, "at least 1, or None for every step"))
    given = dict(samples=count, decoder=decoder, conditions=conditions)
    return vlb_of_keys(discretization, score, x0, keys=keys_of(key, len(x0)), **given)


@eqx.filter_jit
def vlb_of_keys(
    discretization,
    score,
    x0,
    *,
    keys: Keys,
    samples: int,
    decoder: AbstractDecoder,
    conditions: Conditions | None = None,
) -> Bound:
    """Return the bound of `vlb`, with one key per example and the number of samples."""
    sde, times = discretization.sde, jnp.asarray(discretization.times)
    levels = jax.vmap(sde.reference_log_snr)(times)

    def one(x0, key, condition):
        own = score.given(condition)

        def diffusion(u, key):
            level = levels[-1] + u * (levels[0] - levels[-1])  # from t_T downwards, as in `elbo`
            i = jnp.clip(jnp.searchsorted(-levels, -level), 1, len(times) - 1)
            draw = discretization._term(own, x0, i, jax.random.normal(key, x0.shape, x0.dtype))
            share = ((levels[i - 1] - levels[i]) / (levels[0] - levels[-1])).astype(x0.dtype)
            return BoundDraw(draw.value / share, draw.control / share, draw.share)

        def reconstruction(key):
            z = jax.random.normal(key, x0.shape, x0.dtype)
            return discretization.reconstruction_term(own, x0, decoder, z=z)

        def prior(key):
            return sde.prior_kl(x0, times[-1], key=key)

        return averaged(prior, diffusion, reconstruction, x0.dtype, samples, key)

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(floating(x0), keys, conditions)
