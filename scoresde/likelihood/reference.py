r"""Densities of functions, relative to a Gaussian measure, where such a density exists.

A function has no Lebesgue density: log p of its values at n points, and bits/dim, grow or fall with n without a limit.
The density relative to a reference N(0, Q), here the prior of the process, may exist:

    log dmu/dN(0, Q)(x) = log p(c) - log N(c; 0, diag q),      c the coefficients of x,

It has a limit on ever finer grids if and only if mu and N(0, Q) are equivalent. For mu = N(0, C) with C and Q diagonal
in one basis, the condition is sum (v_k/q_k - 1)^2 < infinity (Feldman and Hajek), and the KL divergence below then has
a limit too. Otherwise compare the density of the first K coefficients, that of `sde.at(K)`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.sde import AbstractSDE
from scoresde.types import Coef, Scalar, State


def relative_log_prob(sde: AbstractSDE, log_prob: Scalar, x0: State) -> Scalar:
    """Return log dmu/dN(0, Sigma)(x_0) in nats from log p of the coefficients x_0; Sigma is the covariance of the
    prior."""
    return log_prob - AbstractSDE.log_prior(sde, x0)


def gaussian_kl(variances: Coef, reference: Coef) -> Float[Array, ""]:
    """Return KL(N(0, diag v) || N(0, diag q)) = 1/2 sum_k [v_k/q_k - 1 - log(v_k/q_k)], in nats."""
    ratio = variances / reference
    return 0.5 * jnp.sum(ratio - 1 - jnp.log(ratio))
