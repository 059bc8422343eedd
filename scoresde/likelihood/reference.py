r"""Densities of functions: relative to a Gaussian measure, where there is one.

A function has no Lebesgue density. log p of its values at n points, and bits/dim, grow or fall with n without a limit.
What may have one is the density relative to a reference N(0, Q), here the prior of the process:

    log dmu/dN(0, Q)(x) = log p(c) - log N(c; 0, diag q),      c the coefficients of x,

and it has a limit on ever finer grids if and only if mu and N(0, Q) are equivalent. For mu = N(0, C) with C and Q
diagonal in one basis that is sum (v_k/q_k - 1)^2 < infinity (Feldman and Hajek), and then the KL divergence below has
one too. Otherwise compare the density of the first K coefficients: that of `sde.at(K)`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.sde import AbstractSDE
from scoresde.types import Coef, Scalar, State


def relative_log_prob(sde: AbstractSDE, log_prob: Scalar, x0: State) -> Scalar:
    """log dmu/dN(0, Sigma)(x_0) in nats, Sigma the covariance of the prior, from log p of the coefficients x_0."""
    return log_prob - AbstractSDE.log_prior(sde, x0)


def gaussian_kl(variances: Coef, reference: Coef) -> Float[Array, ""]:
    """KL(N(0, diag v) || N(0, diag q)) = 1/2 sum_k [v_k/q_k - 1 - log(v_k/q_k)], in nats."""
    ratio = variances / reference
    return 0.5 * jnp.sum(ratio - 1 - jnp.log(ratio))
