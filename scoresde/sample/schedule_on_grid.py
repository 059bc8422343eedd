"""The schedule of a process on a time grid, and the weights of exponential integrators on it.

With l = lambda / 2 = log(alpha / sigma) and the data prediction D = E[x_0 | x_t], every process obeys

    x_t = (sigma_t / sigma_s) x_s + sigma_t int_{l_s}^{l_t} e^l D dl                (Lu et al. 2022b, prop. 4.1)

and, with noise of strength tau (tau = 0: probability flow, tau = 1: reverse SDE), c = 1 + tau^2, h = l_t - l_s,

    x_t = (sigma_t / sigma_s) e^{-tau^2 h} x_s + alpha_t int_0^h c e^{-c (h - u)} D(l_s + u) du
          + sigma_t sqrt(1 - e^{-2 tau^2 h}) z                                      (Xue et al. 2023, prop. 4.1)

The update depends on the process only through alpha and sigma, so it applies to VP, sub-VP, VE, Cosine and Karras, and
mode by mode to processes with one coefficient per mode.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.sample.grid import Grid
from scoresde.sde import AbstractSDE

# Points and weights that are exact to rounding for the products of a polynomial and an exponential within one step.
_QUADRATURE = np.polynomial.legendre.leggauss(16)
# Ends of the panels, in decay lengths: the quadrature is exact to rounding on the first panel, and on the second panel
# to the rounding of the whole integral.
_PANELS = (8.0, 40.0)


class ScheduleOnGrid(eqx.Module):
    """Values of alpha, sigma and l = log(alpha / sigma) at the points of a grid, each [points, *coef]."""

    t: Grid
    log_alpha: Float[Array, "points *coef"]
    sigma: Float[Array, "points *coef"]
    half_log_snr: Float[Array, "points *coef"]

    def __init__(self, sde: AbstractSDE, t: Grid):
        self.t = t
        # All three get one shape: behind the axis of points, one number would not broadcast against one per mode.
        self.log_alpha, self.sigma, self.half_log_snr = jax.vmap(
            lambda t: jnp.broadcast_arrays(sde.log_alpha(t), sde.sigma(t), sde.log_snr(t) / 2)
        )(t)

    def __getitem__(self, index) -> "ScheduleOnGrid":
        return jax.tree.map(lambda part: part[index], self)

    @property
    def alpha(self) -> Float[Array, "..."]:
        return jnp.exp(self.log_alpha)

    @property
    def h(self) -> Float[Array, "steps *coef"]:
        """Return the step sizes in l, which are positive."""
        return self.half_log_snr[1:] - self.half_log_snr[:-1]


def schedule_on_grid(sde: AbstractSDE, grid: Callable, steps: int, dtype) -> ScheduleOnGrid:
    """Return the schedule on `grid(sde, steps)`, in the type of x but never below float32."""
    return ScheduleOnGrid(sde, grid(sde, steps).astype(jnp.result_type(dtype, jnp.float32)))


def one_log_snr(sde: AbstractSDE, name: str, reason: str) -> None:
    """Refuse a process with one coefficient per mode.

    Raises:
      ConfigError: lambda is not one number; the message includes `reason`, why the sampler needs one.
    """
    if shape := jnp.shape(sde.log_snr(sde.t_max)):
        raise ConfigError(f"{name}: expected a process with one log-SNR, got one of shape {shape}; {reason}")


def one_alpha(sde: AbstractSDE, name: str, reason: str) -> None:
    """Refuse a process whose alpha differs between modes; one whose modes differ only in the noise is accepted.

    Raises:
      ConfigError: alpha is not one number; the message includes `reason`, why the sampler needs one.
    """
    if shape := jnp.shape(sde.log_alpha(sde.t_max)):
        raise ConfigError(
            f"{name}: expected a process with one alpha, got {type(sde).__name__} with shape {shape}; {reason}"
        )


def history_nodes(levels: ScheduleOnGrid, rows: slice, points: int) -> list[Float[Array, "rows *coef"]]:
    """Return l_{i-j} - l_i for j = 0, 1, ..., the positions of past predictions in the steps `rows`.

    A mode with constant log-SNR does not change, whatever its nodes are; its nodes are separated to avoid 0/0.
    """
    steps = len(levels.t) - 1
    here = levels.half_log_snr[:-1]
    past = [here[max(rows.start - j, 0) : min(rows.stop, steps) - j] for j in range(points)]
    return [p - past[0] if j == 0 else jnp.where(p == past[j - 1], -float(j), p - past[0]) for j, p in enumerate(past)]


def quadrature(low: Float[Array, "..."], high: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return points and weights of Gauss-Legendre quadrature between arrays of bounds, on a new last axis."""
    points, weights = (jnp.asarray(part, low.dtype) for part in _QUADRATURE)
    half = (high - low)[..., None] / 2
    return low[..., None] + half * (1 + points), half * weights


def lagrange(nodes: list[Float[Array, "..."]], points: Float[Array, "... q"]) -> list[Float[Array, "... q"]]:
    """Return the Lagrange polynomials of `nodes` at `points`: L_j is 1 at node j and 0 at the other nodes.

    The values are finite where nodes coincide, as in a mode with constant log-SNR.
    """
    polynomials = []
    for j, own in enumerate(nodes):
        value = jnp.ones_like(points)
        for k, other in enumerate(nodes):
            if k != j:
                value *= (points - other[..., None]) / jnp.where(own == other, 1, own - other)[..., None]
        polynomials.append(value)
    return polynomials


def exponential_weights(h, nodes: list[Float[Array, "..."]], rate=1.0) -> list[Float[Array, "..."]]:
    """Return W_j = int_0^h c e^{-c (h - u)} L_j(u) du for the polynomial through `nodes`, with c = `rate`.

    The weights sum to 1 - e^{-c h}. Nodes lie at u = l - l_s: 0 is the start of the step, h its end. The integrals are
    computed by quadrature with positive weights, because the recursion for phi-functions cancels in float32. The
    quadrature has two panels near the end of the step, because a step of a high mode of a heat equation may be hundreds
    of decay lengths long; the integral before the panels is below rounding.
    """
    rate = jnp.broadcast_to(jnp.asarray(rate, h.dtype), h.shape)
    cuts = [jnp.zeros_like(h), *(jnp.minimum(h, panel / rate) for panel in _PANELS)]
    points, weights = (
        jnp.concatenate(part, -1) for part in zip(*(quadrature(h - b, h - a) for a, b in zip(cuts, cuts[1:])))
    )
    kernel = weights * rate[..., None] * jnp.exp(-rate[..., None] * (h[..., None] - points))
    later = [jnp.sum(kernel * part, axis=-1) for part in lagrange(nodes, points)[1:]]
    return [-jnp.expm1(-rate * h) - sum(later), *later]
