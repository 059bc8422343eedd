"""Divergence of the probability flow, exact or estimated by probes. The value of the flow comes from the same pass.

With J = ds/dx the flow v = f x - g^2 s / 2 has the divergence tr(dv/dx) = D f - g^2 tr(J) / 2.

| estimator      | estimate of the trace                                           | derivatives a call | source                |
|----------------|-----------------------------------------------------------------|--------------------|-----------------------|
| ExactTrace     | sum_i e_i . (dv/dx) e_i                                         | D                  |                       |
| Rademacher     | e . (dv/dx) e, entries +1 or -1                                 | K                  | Hutchinson 1990       |
| GaussianProbes | the same, entries N(0, 1)                                       | K                  | Girard 1989           |
| HutchPlusPlus  | exact on the range of a sketch, Rademacher on the rest          | K                  | Meyer et al. 2021     |

With A = (dv/dx + its transpose) / 2, a Rademacher probe has the variance 2 (|A|_F^2 - sum_i A_ii^2), and a Gaussian
probe 2 |A|_F^2, so Rademacher probes are exact on diagonal Jacobians. A probe is sampled once and kept along the
trajectory, because a new probe at each time would break the error control of the solver. Derivatives are computed in
forward mode: one probe costs 1.9 to 2.0 forward calls in all, where reverse mode costs 2.4 to 2.5, and two separate
calls of the network cost 3.3 to 3.5 (two U-Nets on a CPU; benchmarks/likelihood_cost.py).
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.score.base import AbstractScore
from scoresde.sde.base import check_parameters
from scoresde.types import Key, Scalar, State, Time

# Number of directional derivatives computed at once in the exact trace, which limits its memory to this multiple of one
# example.
_TRACE_CHUNK = 64
# Smallest number of probes of Hutch++: one for the sketch, one for its range, one for the rest.
_PARTS = 3


class AbstractTrace(eqx.Module):
    """Computation of the divergence by `count` independent estimates along one trajectory."""

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """Return the number of estimates."""

    @abc.abstractmethod
    def directions(self, x: State, *, key: Key) -> Float[Array, "K *x"] | None:
        """Sample the directions of the derivatives, which are fixed along a trajectory."""

    @abc.abstractmethod
    def flow(self, score: AbstractScore, x: State, t: Time, directions) -> tuple[State, Float[Array, " n"]]:
        """Return f x - g^2 s / 2 at (x, t) and `count` estimates of its divergence, computed in one pass."""

    @abc.abstractmethod
    def standard_error(self, integrals: Float[Array, " n"]) -> Scalar:
        """Return the standard error of the mean of the `count` integrals, in nats; NaN for a single estimate."""


class ExactTrace(AbstractTrace):
    """Exact trace: the sum of D directional derivatives, one per coordinate; it has no arguments.

    It has no error, and a cost proportional to D.
    """

    @property
    def count(self) -> int:
        return 1

    def directions(self, x: State, *, key: Key) -> None:
        return None

    def flow(self, score, x, t, directions):
        sde = score.sde
        f, g2 = sde.f(t), sde.g2(t)
        s, linear = jax.linearize(_at(score, x, t), x)
        rate = jnp.broadcast_to(f, x.shape), jnp.broadcast_to(g2, x.shape)

        def diagonal(i) -> Scalar:
            direction = jnp.zeros(x.size, x.dtype).at[i].set(1).reshape(x.shape)
            return (rate[0] * direction - 0.5 * rate[1] * linear(direction)).ravel()[i]

        terms = jax.lax.map(diagonal, jnp.arange(x.size), batch_size=min(_TRACE_CHUNK, x.size))
        return f * x - 0.5 * g2 * s, jnp.sum(terms)[None]

    def standard_error(self, integrals):
        return jnp.zeros((), integrals.dtype)


class AbstractProbes(AbstractTrace):
    """Estimates e . (dv/dx) e for K independent probes e with E[e e^T] = I; each is unbiased (Hutchinson 1990).

    One probe is one jvp, which returns value and derivative together; more probes share one linearization.
    """

    probes: eqx.AbstractVar[int]

    @property
    def count(self) -> int:
        return self.probes

    def flow(self, score, x, t, directions):
        sde = score.sde
        f, g2, score = sde.f(t), sde.g2(t), _at(score, x, t)
        if self.probes == 1:
            s, tangent = jax.jvp(score, (x,), (directions[0],))
            tangents = tangent[None]
        else:
            s, linear = jax.linearize(score, x)  # computes the value once, and the derivative for each probe
            tangents = jax.vmap(linear)(directions)
        # The two terms are added in each coordinate, because near t_max they almost cancel: separate sums over 3072
        # coordinates in float32 cost 1e-5 bits/dim.
        terms = directions * (f * directions - 0.5 * g2 * tangents)
        return f * x - 0.5 * g2 * s, jnp.sum(terms.reshape(self.probes, -1), axis=1)

    def standard_error(self, integrals):
        return _spread(integrals)

    def __check_init__(self):
        check_parameters(type(self).__name__, probes=(self.probes, self.probes >= 1, "at least 1"))


class Rademacher(AbstractProbes):
    """Hutchinson's estimator with probe entries +1 and -1; the diagonal of the Jacobian adds no variance.

    Args:
      probes: K, probes per trajectory, at least 1; 8 or more for standard errors, see `LogLikelihood`.

    Raises:
      ConfigError: probes < 1.
    """

    probes: int = 1

    def directions(self, x, *, key):
        return jax.random.rademacher(key, (self.probes, *x.shape), x.dtype)


class GaussianProbes(AbstractProbes):
    """Hutchinson's estimator with probe entries N(0, 1); its variance exceeds Rademacher's by 2 sum_i A_ii^2.

    Args:
      probes: K, probes per trajectory, at least 1; 8 or more for standard errors, see `LogLikelihood`.

    Raises:
      ConfigError: probes < 1.
    """

    probes: int = 1

    def directions(self, x, *, key):
        return jax.random.normal(key, (self.probes, *x.shape), x.dtype)


class HutchPlusPlus(AbstractTrace):
    """Hutch++ on the part of the Jacobian that depends on the data (Meyer, Musco, Musco and Woodruff 2021).

    J = -I / sigma^2 + B, and B = alpha^2 Cov[x_0 | x_t] / sigma^4 has low rank where the data lie near a surface. The
    first part is known. With R orthonormal directions S, Q R' = B S, weights d_k between 0 and 1 of the columns q_k
    of Q, the reflection N = I - sum_k (1 - (1 - d_k)^{1/2}) q_k q_k^T and probes e_j of random signs:

        tr J = -D / sigma^2 + sum_k d_k q_k . B q_k + mean_j N e_j . B N e_j

    because N^2 = I - sum_k d_k q_k q_k^T. With d = 1 this is the published estimate. Here d_k = R'_kk^2 / (R'_kk^2 +
    eps max R'^2): a column that depends on the previous ones, as when B has a rank below R, is only rounding error and
    jumps from one time to the next, which ends the solve. A column of this kind gets weight 0. If R reaches D, the
    trace is exact.

    S and e_j are fixed along a trajectory; Q follows J. Given S each j is an unbiased estimate, so their spread is a
    valid standard error. A third of the K derivatives is used for S, a third for Q and the rest for probes; a standard
    error needs two probes, K = 4.

    Use it for the trace at one time, at middle and high noise, if the data lie near a surface of few dimensions. On a
    Gaussian of 24 dimensions with three large variances, 9 derivatives at t = 0.2 have a sixth of the variance of 9
    Rademacher probes. It seldom pays for log p, the integral over all times: near t_min the Jacobian is nearly
    diagonal, where Rademacher probes are exact and the projection is not, and most of the variance comes from there.
    On the same Gaussian log p has 4 to 5 times the variance at 2.3 times the calls from VP's t_min = 1e-5, 1.8 times
    from 1e-3 and as much from 1e-2; on the digits U-Net (64 dimensions, dequantized; benchmarks/likelihood_cost.py)
    the trace with 12 derivatives has 0.4 of the variance at t = 0.3, but 15 times as much at t = 0.02. Use Rademacher,
    unless t_min is so large that the noise there hides the thickness of the surface.

    Args:
      probes: K, directional derivatives per evaluation, at least 3; at least 4 for a standard error.

    Raises:
      ConfigError: probes < 3.
    """

    probes: int = _PARTS

    @property
    def count(self) -> int:
        return self.probes - 2 * (self.probes // _PARTS)

    def directions(self, x, *, key):
        sketch_key, probe_key = jax.random.split(key)
        # The sketch is orthonormal and not of signs, because two sign vectors coincide up to sign once in 2^{D-1}, and
        # the sketch would then lack a direction.
        sketch = jnp.linalg.qr(jax.random.normal(sketch_key, (x.size, self._rank(x)), x.dtype))[0].T
        probes = jax.random.rademacher(probe_key, (self.count, x.size), x.dtype)
        return jnp.concatenate([sketch, probes]).reshape(-1, *x.shape)

    def flow(self, score, x, t, directions):
        sde = score.sde
        g2, sigma2 = sde.g2(t), sde.sigma(t) ** 2
        s, linear = jax.linearize(_at(score, x, t), x)

        def learned(rows):
            """Return B applied to each row, flattened."""
            return jax.vmap(lambda e: (linear(e) + e / sigma2).ravel())(rows.reshape(-1, *x.shape))

        rank = self._rank(x)
        sketch, probes = directions[:rank].reshape(rank, -1), directions[rank:].reshape(self.count, -1)
        basis, share = (sketch, jnp.ones(rank, x.dtype)) if rank == x.size else _range(learned(sketch))
        probes = probes - ((1 - jnp.sqrt(1 - share)) * (probes @ basis.T)) @ basis
        weight = -0.5 * jnp.broadcast_to(g2, x.shape).ravel()
        products = weight * learned(jnp.concatenate([basis, probes]))
        # D (f + g^2 / (2 sigma^2)): near t_max the two terms almost cancel, so they are added before the sum over
        # coordinates.
        known = jnp.sum(jnp.broadcast_to(sde.f(t) + 0.5 * g2 / sigma2, x.shape))
        inside = jnp.sum(share * jnp.sum(basis * products[:rank], axis=1))
        return sde.f(t) * x - 0.5 * g2 * s, known + inside + jnp.sum(probes * products[rank:], axis=1)

    def _rank(self, x: State) -> int:
        return min(self.probes // _PARTS, x.size)

    def standard_error(self, integrals):
        return _spread(integrals)

    def __check_init__(self):
        check_parameters("HutchPlusPlus", probes=(self.probes, self.probes >= _PARTS, f"at least {_PARTS}"))


def _range(rows: Float[Array, "R D"]) -> tuple[Float[Array, "R D"], Float[Array, " R"]]:
    """Return an orthonormal basis of the rows, and a weight from 0 (rounding error) to 1 for each of its vectors."""
    columns, triangle = jnp.linalg.qr(rows.T)
    squares = jnp.diagonal(triangle) ** 2
    floor = jnp.finfo(rows.dtype).eps * jnp.max(squares) + jnp.finfo(rows.dtype).tiny
    return columns.T, squares / (squares + floor)


def _at(score: AbstractScore, x: State, t: Time):
    # An exact score may be float64 while the data are float32.
    return lambda x: score(x, t).astype(x.dtype)


def _spread(integrals: Float[Array, " n"]) -> Scalar:
    count = len(integrals)
    return jnp.std(integrals, ddof=1) / jnp.sqrt(count) if count > 1 else jnp.asarray(jnp.nan, integrals.dtype)
