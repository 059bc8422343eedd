"""How far a sampler is from exact answers, without sampling: what its order of convergence is read from.

The flow against a solve at tolerance 1e-13; the noise by the variance on Gaussian data.
"""

import contextlib
from unittest import mock

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from scoresde.sample import Adaptive, ProbabilityFlow, edm, multistep, predictor_corrector, seeds
from scoresde.score import GaussianScore, MixtureScore


def graded(sde, steps: int):
    """Steps in lambda that grow from the square of a step: the low orders that a multistep method starts with cost
    nothing."""
    first, last = sde.log_snr(sde.t_max), sde.log_snr(sde.t_min)
    t = jax.vmap(sde.time_of_log_snr)(first + (last - first) * jnp.linspace(0.0, 1.0, steps + 1) ** 2)
    return t.at[0].set(sde.t_max).at[-1].set(sde.t_min)


@eqx.filter_jit
def ends(sampler, score, x_T):
    return jax.vmap(lambda x: sampler(score, x, key=jax.random.key(0)).x)(x_T)


def smooth_flow(sde, examples: int):
    """The score of a smooth mixture, x_T, and where the flow takes it."""
    random = np.random.default_rng(0)
    score = MixtureScore(sde, random.normal(size=(3, 5)), 0.2 + 0.3 * random.uniform(size=(3, 5)), [0.5, 0.3, 0.2])
    x_T = jax.vmap(lambda key: sde.sample_prior((5,), key=key))(jax.random.split(jax.random.key(1), examples))
    return score, x_T, ends(ProbabilityFlow(dfx.Dopri8(), Adaptive(1e-13)), score, x_T)


@eqx.filter_jit
def _law_end(sampler, score, x_T):
    """Apart from `ends`, for it is traced with other noise."""
    return sampler(score, x_T, key=jax.random.key(0)).x


def law_error(sampler, sde, calls: int) -> float:
    """Relative error of the variance at t_min for data N(0, 0.3). x_T is exact.

    The score is linear, so x at t_min is a sum over x_T and the normals. Each of them is given a coordinate of its own;
    the squares of the coordinates of x then add up to its variance.
    """
    size = 2 * calls + 2
    score = GaussianScore(sde, np.zeros(size), np.full(size, 0.3))
    start, end = (float(sde.alpha(t) ** 2 * 0.3 + sde.sigma(t) ** 2) for t in (sde.t_max, sde.t_min))
    with contextlib.ExitStack() as patches:
        for module in (multistep, seeds, edm, predictor_corrector):
            patches.enter_context(
                mock.patch.object(module, "noise", lambda key, i, x: jax.nn.one_hot(i + 1, size, dtype=x.dtype))
            )
        x = _law_end(sampler, score, jnp.zeros(size).at[0].set(np.sqrt(start)))
    return float(jnp.sum(x**2)) / end - 1
