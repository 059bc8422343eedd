"""DEIS and iPNDM (Zhang and Chen 2023): exponential Adams-Bashforth methods in the noise prediction.

In the coordinates y = x / alpha, rho = sigma / alpha the probability flow is dy = eps(y, rho) drho. Both extrapolate
eps from past calls. They divide by alpha and therefore do not support processes whose alpha differs between modes.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.errors import ConfigError
from scoresde.sample.grid import uniform_log_snr
from scoresde.sample.multistep import AbstractMultistep, MultistepCoefficients, StepCoefficients, warm_up_orders
from scoresde.sample.schedule_on_grid import ScheduleOnGrid, lagrange, one_alpha, one_log_snr, quadrature
from scoresde.sde.base import at_least, check_parameters

_REASON = "extrapolated noise is unstable where alpha differs by mode; use DDIM, DPMSolverPP or UniPC"

# Adams-Bashforth weights of 1 to 4 points, newest first.
_ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


class DEIS(AbstractMultistep):
    """DEIS, an exponential Adams-Bashforth method for the noise prediction (Zhang and Chen 2023, eq. 15).

        x' = (alpha'/alpha) x + alpha' sum_j C_ij eps_{i-j},   C_ij = int L_j(v) drho

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      order: number of points of the polynomial, 1 (DDIM) to 4; the first steps use fewer.
      variable: variable of the polynomial for eps. "log_rho": -l, as in diffusers; the most accurate on the mixtures of
        docs/samplers.md. "rho": the paper's rhoAB. "t": the paper's tAB; in float32 it needs a grid whose times are
        well separated, and on Cosine with equal steps in lambda the first times are not.

    Raises:
      ConfigError: a parameter is out of range, or a process whose alpha differs between modes.
    """

    steps: int = eqx.field(static=True, default=15)
    grid: Callable = uniform_log_snr
    order: int = eqx.field(static=True, default=3)
    variable: str = eqx.field(static=True, default="log_rho")

    def __check_init__(self):
        _check("DEIS", self)
        if self.variable not in ("t", "rho", "log_rho"):
            raise ConfigError(f"DEIS: variable = {self.variable!r}, expected t, rho or log_rho")

    def predict(self, score, level, x):
        return -level.sigma * score(x, level.t)

    def table(self, sde, levels):
        one_alpha(sde, "DEIS", _REASON)
        if self.variable == "t":
            one_log_snr(sde, "DEIS", "variable = t needs one time for a noise level; use log_rho")
        here, there = levels[:-1], levels[1:]
        # drho = -rho dl; the integral runs in l = log(alpha / sigma), along which rho is smooth on any grid.
        ell, weights = quadrature(here.half_log_snr, there.half_log_snr)
        variable = {
            "t": lambda ell: jax.vmap(jax.vmap(sde.time_of_log_snr))(2 * ell),
            "rho": lambda ell: jnp.exp(-ell),
            "log_rho": lambda ell: -ell,
        }[self.variable]
        at_nodes = levels.t if self.variable == "t" else variable(levels.half_log_snr)
        at_points = variable(ell)

        def integrals(rows: slice, points: int) -> list:
            last = min(rows.stop, self.steps)
            nodes = [at_nodes[rows.start - j : last - j] for j in range(points)]
            kernel = (-weights * jnp.exp(-ell))[rows]
            later = [jnp.sum(kernel * part, axis=-1) for part in lagrange(nodes, at_points[rows])[1:]]
            first = _rho_step(levels)[rows] - sum(later)
            return [there.alpha[rows] * part for part in (first, *later)]

        return MultistepCoefficients(
            StepCoefficients(there.alpha / here.alpha, warm_up_orders(self.steps, self.order, integrals))
        )


class IPNDM(AbstractMultistep):
    """iPNDM: Adams-Bashforth of up to 4 points in rho with the weights of equal steps (Zhang and Chen 2023, app. H.2).

        x' = (alpha'/alpha) x + alpha' (rho' - rho) (55 eps_i - 59 eps_{i-1} + 37 eps_{i-2} - 9 eps_{i-3}) / 24

    Its order is 4 on a grid with equal steps in rho and 2 on any other smooth grid.

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      order: number of points, 1 to 4; the first steps use fewer.

    Raises:
      ConfigError: a parameter is out of range, or a process whose alpha differs between modes.
    """

    steps: int = eqx.field(static=True)
    grid: Callable = uniform_log_snr
    order: int = eqx.field(static=True, default=4)

    def __check_init__(self):
        _check("IPNDM", self)

    def predict(self, score, level, x):
        return -level.sigma * score(x, level.t)

    def table(self, sde, levels):
        one_alpha(sde, "IPNDM", _REASON)
        here, there = levels[:-1], levels[1:]
        slope = there.alpha * _rho_step(levels)
        weights = warm_up_orders(
            self.steps, self.order, lambda rows, n: [w * slope[rows] for w in _ADAMS_BASHFORTH[n - 1]]
        )
        return MultistepCoefficients(StepCoefficients(there.alpha / here.alpha, weights))


def _rho_step(levels: ScheduleOnGrid):
    """Return rho' - rho of each step, computed without cancellation on fine grids."""
    return levels.sigma[:-1] / levels.alpha[:-1] * jnp.expm1(-levels.h)


def _check(name: str, sampler) -> None:
    check_parameters(
        name,
        steps=at_least(sampler.steps, 1),
        order=(sampler.order, sampler.order in (1, 2, 3, 4), "1, 2, 3 or 4"),
    )
