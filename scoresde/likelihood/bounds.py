r"""Lower bounds on log p of the model that runs the reverse process: prior, reverse steps, decoder.

    -log p(data) <= KL(q(x_T | x_0) || N(0, sigma(t_max)^2 I))  +  diffusion  +  E[-log p(data | x_{t_min})]

    diffusion, continuous time  = 1/2 int E|r|^2 d lambda,  r = z + sigma s(x_t, t)     (Kingma et al. 2021, eq. 15;
                                  lambda from log-SNR(t_max) to log-SNR(t_min)           Song et al. 2021b, theorem 3)
    diffusion, discrete time    = sum_{i >= 2} KL(q(x_{t_{i-1}} | x_{t_i}, x_0) || p(x_{t_{i-1}} | x_{t_i}))
                                                                                         (Ho et al. 2020, eq. 5)

The last term is a decoder's, see `decode`, and decides what is bounded: log p(x_0) of continuous data at time 0 under a
Gaussian decoder (not the density at t_min that the probability flow gives), log P(v) of integers under the other two, from
x_0 at the centres of their bins. All are for a process with one alpha and sigma for all coordinates.

Between s < t, with e = log-SNR(s) - log-SNR(t) > 0 and rho = log(v / beta-tilde), v the variance of p:

    beta-tilde = sigma_s^2 (1 - exp(-e)),   beta = sigma_t^2 (1 - exp(-e)),   KL = 1/2 sum [exp(-rho) - 1 + rho + exp(-rho) expm1(e) r^2]

so that nothing is subtracted that float32 could lose. As e -> 0 the sum becomes the integral.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.likelihood.decode import AbstractDecoder, GaussianDecoder
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractSDE
from scoresde.sde.base import as_time, check_parameters
from scoresde.types import Coef, Key, Keys, Scalar, State, Time

# A draw of the decoder's term for so many of the diffusion: it has far less variance and needs a call of its own.
_DIFFUSION_DRAWS_PER_DECODER_DRAW = 8


class Bound(eqx.Module):
    """Per example, N in all: log_prob <= log p, up to the error of the draws.

    standard_error is that of the mean over the draws: from differences of neighbouring strata for the diffusion, which a
    smooth trend over the strata hardly enters, so it is honest or a little too large; NaN for one draw. As an estimate
    from few values it is honest from 8 draws on.
    """

    log_prob: Float[Array, "*N"]  # nats: -(prior + diffusion + reconstruction)
    standard_error: Float[Array, "*N"]  # nats
    prior: Float[Array, "*N"]  # nats, as the next two
    diffusion: Float[Array, "*N"]
    reconstruction: Float[Array, "*N"]


def elbo(
    sde: AbstractSDE,
    score: AbstractScore,
    x0: Float[Array, "N *x"],
    *,
    key: Key,
    samples: int = 128,
    decoder: AbstractDecoder = GaussianDecoder(),
) -> Bound:
    """The continuous-time bound for every example of a batch, by importance sampling uniform in log-SNR.

    One draw in each of `samples` equal strata of the log-SNR: low discrepancy, and every draw has an error of its own.

    Args:
      x0: [N, *x], in model coordinates; centres of bins for a decoder of integers.
      key: example k draws from `fold_in(key, k)`.
      samples: calls of the score an example; 1/8 more for the decoder.
      decoder: decides what is bounded. The default bounds log p(x_0) with deviation sigma / alpha at t_min.

    Raises:
      ConfigError: samples < 1.
    """
    check_parameters("elbo", samples=(samples, samples >= 1, "at least 1"))
    return elbo_of_keys(sde, score, x0, keys=_keys(key, len(x0)), samples=samples, decoder=decoder)


@eqx.filter_jit
def elbo_of_keys(sde, score, x0, *, keys: Keys, samples: int, decoder: AbstractDecoder) -> Bound:
    """As `elbo`, with one key per example."""

    def one(x0, key):
        def diffusion(u, key):
            return diffusion_draw(sde, score, x0, u, key=key)

        def reconstruction(key):
            return reconstruction_draw(sde, score, x0, decoder, key=key)

        return _bound(prior_mismatch(sde, x0), diffusion, reconstruction, x0.dtype, samples, key)

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(_floating(x0), keys)


def prior_mismatch(sde: AbstractSDE, x0: State) -> Scalar:
    """KL(N(alpha x_0, sigma^2 I) || N(0, sigma^2 I)) = |alpha x_0 / sigma|^2 / 2 at t_max, in nats."""
    return 0.5 * jnp.sum((jnp.exp(sde.log_snr(as_time(sde.t_max)) / 2) * x0) ** 2)


def diffusion_draw(sde: AbstractSDE, score: AbstractScore, x0: State, u: Scalar, *, key: Key) -> Scalar:
    """One draw of 1/2 int E|r|^2 d lambda, at the share u in [0, 1) of the range of lambda. In nats."""
    first, last = sde.log_snr(sde.t_max), sde.log_snr(sde.t_min)
    t = sde.time_of_log_snr(first + u * (last - first)).astype(x0.dtype)
    residual, _ = _residual(sde, score, x0, t, key)
    return 0.5 * (last - first) * jnp.sum(residual**2)


def reconstruction_draw(sde: AbstractSDE, score: AbstractScore, x0: State, decoder: AbstractDecoder, *, key: Key) -> Scalar:
    """One draw of -log p(data | x_{t_min}), with deviation sigma / alpha. In nats."""
    t = jnp.asarray(sde.t_min, x0.dtype)
    residual, z = _residual(sde, score, x0, t, key)
    ratio = sde.sigma(t) / sde.alpha(t)
    return -decoder.log_prob(x0, z=z, residual=residual, ratio=ratio, std=ratio)


class AbstractVariance(eqx.Module):
    """The variance of a reverse step, between beta-tilde (weight 0) and beta (weight 1) in the logarithm."""

    @abc.abstractmethod
    def weight(self, x: State, t: Time) -> Coef:
        """log v = w log beta + (1 - w) log beta-tilde (Nichol and Dhariwal 2021, eq. 15)."""


class Beta(AbstractVariance):
    """v = beta: optimal for data N(0, I) (Ho et al. 2020, sec. 3.2)."""

    def weight(self, x, t):
        return jnp.ones((), x.dtype)


class BetaTilde(AbstractVariance):
    """v = beta-tilde: optimal for a single data point. At the first step, where it is 0, that of the second is taken."""

    def weight(self, x, t):
        return jnp.zeros((), x.dtype)


class Interpolated(AbstractVariance):
    """v as `predict(x_t, t)` says: the weight, one number or one per coordinate (Nichol and Dhariwal 2021, sec. 3.1)."""

    predict: Callable[[State, Time], Coef]

    def weight(self, x, t):
        return self.predict(x, t)


class Discretization(eqx.Module):
    """A process on the times t_1 < ... < t_T: the reverse chain whose variational bound DDPM takes.

    Any process, any times. `Discretization(process, process.times)` of a `DiscreteVP` is DDPM itself.

    Args:
      times: [T], increasing, T >= 2; the first is where the decoder takes over.
      variance: of the reverse steps, `Beta()`, `BetaTilde()` or `Interpolated(predict)`. The first of them also gives
        the decoder its variance: beta_1 = sigma(t_1)^2, and beta-tilde_2 for beta-tilde_1, which is 0.

    Raises:
      ConfigError: fewer than two times, or times that do not increase.
    """

    sde: AbstractSDE
    times: Float[Array, " T"]
    variance: AbstractVariance = Beta()

    def __check_init__(self):
        times = np.asarray(self.times)
        if len(times) < 2 or not (np.diff(times) > 0).all():
            raise ConfigError(f"Discretization: expected two or more increasing times, got {times.tolist()[:5]} ...")

    def diffusion_term(self, score: AbstractScore, x0: State, i: Scalar | int, *, z: State) -> Scalar:
        """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) in nats for t = times[i], s = times[i - 1], i = 1 to T - 1, with noise z."""
        s, t = self.times[i - 1], self.times[i]
        residual, x = _residual_of_noise(self.sde, score, x0, t, z)
        gap = self.sde.log_snr(s) - self.sde.log_snr(t)
        rho = self.variance.weight(x, t) * 2 * (self.sde.log_sigma(t) - self.sde.log_sigma(s))
        spread = jnp.broadcast_to(jnp.expm1(-rho) + rho, x0.shape)
        return 0.5 * jnp.sum(spread + jnp.exp(-rho) * jnp.expm1(gap) * residual**2)

    def reconstruction_term(self, score: AbstractScore, x0: State, decoder: AbstractDecoder, *, z: State) -> Scalar:
        """L_0 = -log p(data | x_{t_1}) in nats, with noise z."""
        t, after = self.times[0], self.times[1]
        residual, x = _residual_of_noise(self.sde, score, x0, t, z)
        gap = self.sde.log_snr(t) - self.sde.log_snr(after)
        weight = self.variance.weight(x, t)
        # log beta_1 = 2 log sigma_1, log beta-tilde_2 = 2 log sigma_1 + log(1 - exp(-gap)).
        std = self.sde.sigma(t) * jnp.exp(0.5 * (1 - weight) * jnp.log(-jnp.expm1(-gap)))
        return -decoder.log_prob(x0, z=z, residual=residual, ratio=self.sde.sigma(t) / self.sde.alpha(t), std=std)


def vlb(
    discretization: Discretization,
    score: AbstractScore,
    x0: Float[Array, "N *x"],
    *,
    key: Key,
    samples: int | None = None,
    decoder: AbstractDecoder = GaussianDecoder(),
) -> Bound:
    """The discrete-time bound of Ho et al. 2020 for every example: L_T + sum L_{t-1} + L_0.

    Args:
      samples: calls of the score, one in each of so many equal strata of the T - 1 steps; None: every step once.
      x0, key, decoder: as in `elbo`.

    Raises:
      ConfigError: samples < 1.
    """
    count = len(discretization.times) - 1 if samples is None else samples
    check_parameters("vlb", samples=(count, count >= 1, "at least 1, or None for every step"))
    return vlb_of_keys(discretization, score, x0, keys=_keys(key, len(x0)), samples=count, decoder=decoder)


@eqx.filter_jit
def vlb_of_keys(discretization, score, x0, *, keys: Keys, samples: int, decoder: AbstractDecoder) -> Bound:
    """As `vlb`, with one key per example and the number of draws."""
    steps = len(discretization.times) - 1

    def one(x0, key):
        def diffusion(u, key):
            i = 1 + jnp.minimum(jnp.floor(u * steps).astype(int), steps - 1)
            return steps * discretization.diffusion_term(score, x0, i, z=jax.random.normal(key, x0.shape, x0.dtype))

        def reconstruction(key):
            z = jax.random.normal(key, x0.shape, x0.dtype)
            return discretization.reconstruction_term(score, x0, decoder, z=z)

        last = discretization.times[-1]
        prior = 0.5 * jnp.sum((jnp.exp(discretization.sde.log_snr(last) / 2) * x0) ** 2)
        return _bound(prior, diffusion, reconstruction, x0.dtype, samples, key)

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(_floating(x0), keys)


def _bound(prior: Scalar, diffusion, reconstruction, dtype, samples: int, key: Key) -> Bound:
    place_key, noise_key, decoder_key = jax.random.split(key, 3)
    u = ((jnp.arange(samples) + jax.random.uniform(place_key, (samples,))) / samples).astype(dtype)
    terms = jax.lax.map(lambda arguments: diffusion(*arguments), (u, jax.random.split(noise_key, samples)))
    count = -(-samples // _DIFFUSION_DRAWS_PER_DECODER_DRAW)
    last = jax.lax.map(reconstruction, jax.random.split(decoder_key, max(count, min(samples, 2))))
    total, end = jnp.mean(terms), jnp.mean(last)
    if samples > 1:  # half the mean square of neighbours' differences is the variance within the strata
        variance = jnp.mean(jnp.diff(terms) ** 2) / (2 * samples) + jnp.var(last, ddof=1) / len(last)
    else:
        variance = jnp.asarray(jnp.nan, dtype)
    return Bound(-(prior + total + end), jnp.sqrt(variance), prior, total, end)


def _residual(sde, score, x0: State, t: Scalar, key: Key) -> tuple[State, State]:
    """r and the noise z it was taken at."""
    z = jax.random.normal(key, x0.shape, x0.dtype)
    return _residual_of_noise(sde, score, x0, t, z)[0], z


def _residual_of_noise(sde, score, x0: State, t: Scalar, z: State) -> tuple[State, State]:
    """r = z + sigma s(x_t, t) and x_t."""
    x = (sde.alpha(t) * x0 + sde.sigma(t) * z).astype(x0.dtype)
    return z + sde.sigma(t) * score(x, t), x


def _keys(key: Key, count: int) -> Keys:
    return jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(count))


def _floating(x0):
    x0 = jnp.asarray(x0)
    return x0.astype(jnp.result_type(x0.dtype, jnp.float32))
