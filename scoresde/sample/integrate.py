"""The reverse SDE and the probability-flow ODE, integrated by diffrax.

    reverse SDE         dx = [f x - g^2 s(x, t)] dt + g dw        (Song et al. 2021, eq. 6, time running down)
    probability flow    dx = [f x - g^2 s(x, t) / 2] dt           (Song et al. 2021, eq. 13)

Both are solved forward in r = -t, from -t_max up to -t_min: some of diffrax's SDE solvers are wrong, without an
error, when time decreases. Unlike t_max - t, this r keeps the relative precision of t near t_min in float32.
Encoding, from t_min to t_max, runs forward in r = t. Adaptive solves of the flow to t_min step in log t where that is
better, see `time_change`.

Each example is a separate solve, so an adaptive solver chooses its steps per example and a failure affects only its
row.
"""

import abc
from collections.abc import Callable
from typing import ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from equinox import AbstractVar

from scoresde.sample.base import AbstractSampler, Draw
from scoresde.sample.grid import uniform_log_snr
from scoresde.sample.time_change import TimeChange, log_time_if_smoother
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractSDE
from scoresde.sde.base import at_least, check_parameters
from scoresde.types import Scalar, State

# A trained network needs tens of steps; more than this means that the solver is stuck.
MAX_STEPS = 4096
# Fraction of the range of the solve at which the solver gives up: NaN shortens every step, and the batch would wait.
_MIN_STEP = 1e-10
# Fraction of the range of t below which a Brownian path is a straight line.
_FINEST_NOISE = 1e-7


class Resolved(dfx.AbstractAdaptiveStepSizeController):
    """Step controller that wraps another one and gives up once the same step is rejected twice.

    Within 100 roundings of the end diffrax tries half of the remaining interval, whatever the controller asks for, and
    would try a rejected half again up to the limit of steps. Implicit solvers use the tolerances and the norm.
    """

    inner: dfx.AbstractAdaptiveStepSizeController

    @property
    def rtol(self):
        return self.inner.rtol

    @property
    def atol(self):
        return self.inner.atol

    @property
    def norm(self):
        return self.inner.norm

    def wrap(self, direction):
        return Resolved(self.inner.wrap(direction))

    def init(self, terms, t0, t1, *args, **options):
        first, state = self.inner.init(terms, t0, t1, *args, **options)
        none = jnp.full_like(first, jnp.nan)
        return first, (state, none, none)

    def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state):
        state, *rejected = controller_state
        inner = self.inner.adapt_step_size(t0, t1, y0, y1_candidate, args, y_error, error_order, state)
        keep, next_t0, next_t1, jump, state, result = inner
        again = ~keep & (t0 == rejected[0]) & (t1 == rejected[1])
        failed = dfx.RESULTS.where(again & (result == dfx.RESULTS.successful), dfx.RESULTS.dt_min_reached, result)
        rejected = (jnp.where(keep, jnp.nan, t).astype(t.dtype) for t in (t0, t1))
        return keep, next_t0, next_t1, jump, (state, *rejected), failed


def adaptive_controller(span: Scalar, tolerance: float, norm: Callable) -> dfx.AbstractStepSizeController:
    """Return a controller that keeps the error, in `norm`, below tolerance (1 + |y|); NaN ends the solve."""

    def finite_norm(error):
        size = norm(error)
        return jnp.where(jnp.isnan(size), jnp.inf, size)  # NaN would make the next step NaN, infinity makes it shorter

    return Resolved(
        dfx.PIDController(
            rtol=tolerance,
            atol=tolerance,
            norm=finite_norm,
            dtmin=_MIN_STEP * span,
            force_dtmin=False,
        )
    )


def field_norm(sde: AbstractSDE, error) -> Scalar:
    """Return the root mean square over the points of the field with coefficients `error`."""
    return jnp.sqrt(sde.basis.field_variance(error**2))


class AbstractStepping(eqx.Module):
    """Steps of a solver: on a given grid, or chosen by the error."""

    max_steps: AbstractVar[int]
    adaptive: ClassVar[bool] = False  # whether the error chooses the steps

    @abc.abstractmethod
    def controller(self, sde: AbstractSDE, sign: int, span: Scalar) -> dfx.AbstractStepSizeController:
        """Return the controller of steps in r = sign u, over an interval of length `span`."""

    @abc.abstractmethod
    def brownian(self, sde: AbstractSDE, **of) -> dfx.AbstractBrownianPath:
        """Return the noise of r = -t; `of` has its shape, key and Levy area."""

    @abc.abstractmethod
    def first_step(self, span: Scalar) -> Scalar | None:
        """Return the size of the first step to try; None if the grid sets it."""


class FixedGrid(AbstractStepping):
    """Steps to the times of a grid.

    Args:
      steps: number of steps, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
    """

    steps: int
    grid: Callable = uniform_log_snr

    @property
    def max_steps(self) -> int:
        return self.steps

    def controller(self, sde: AbstractSDE, sign: int, span: Scalar) -> dfx.AbstractStepSizeController:
        t = self.grid(sde, self.steps).astype(span.dtype)
        return dfx.StepTo(ts=-t if sign < 0 else t[::-1])

    def brownian(self, sde: AbstractSDE, **of) -> dfx.AbstractBrownianPath:
        return dfx.UnsafeBrownianPath(**of)  # independent noise for each step; a tree costs several times as much

    def first_step(self, span: Scalar) -> None:
        return None

    def __check_init__(self):
        check_parameters("FixedGrid", steps=at_least(self.steps, 1))


class Adaptive(AbstractStepping):
    """Adaptive steps that keep the error of each step below tolerance (1 + |x|).

    The error is the root mean square over the points of the example. The solver must estimate its error: ODE solvers of
    order 2 and up; ShARK, SRA1, SlowRK. With noise, rounding may decide whether a step is accepted, so images from
    batches of different sizes agree only to the tolerance.

    Args:
      tolerance: absolute and relative tolerance of a step, above 0, in units of the data.
      max_steps: number of steps, rejected ones included, after which the solve fails; at least 1.
    """

    adaptive: ClassVar[bool] = True
    tolerance: float = 1e-5
    max_steps: int = MAX_STEPS

    def controller(self, sde: AbstractSDE, sign: int, span: Scalar) -> dfx.AbstractStepSizeController:
        return adaptive_controller(span, self.tolerance, lambda error: field_norm(sde, error))

    def brownian(self, sde: AbstractSDE, **of) -> dfx.AbstractBrownianPath:
        # After a rejection the solver continues along the same path, so that rejections cause no bias.
        return dfx.VirtualBrownianTree(-sde.t_max, -sde.t_min, tol=_FINEST_NOISE * (sde.t_max - sde.t_min), **of)

    def first_step(self, span: Scalar) -> Scalar:
        return 0.01 * span

    def __check_init__(self):
        check_parameters(
            "Adaptive",
            tolerance=(self.tolerance, self.tolerance > 0, "tolerance > 0"),
            max_steps=at_least(self.max_steps, 1),
        )


class ProbabilityFlow(AbstractSampler):
    """Sampler that solves the probability-flow ODE from t_max to t_min.

    Args:
      solver: diffrax ODE solver, such as Tsit5, Dopri5, Dopri8 or Kvaerno5. An implicit solver needs O(D^2) memory and
        does not report its NFE.
      stepping: `Adaptive(tolerance)` or `FixedGrid(steps, grid)`.
    """

    solver: dfx.AbstractSolver = dfx.Tsit5()
    stepping: AbstractStepping = Adaptive()

    def __call__(self, score, x_T, *, key):
        del key  # deterministic
        return self._solve(score, x_T, sign=-1)

    def encode(self, score: AbstractScore, x0: State) -> Draw:
        """Integrate the flow from x at t_min to t_max."""
        return self._solve(score, x0, sign=1)

    def _solve(self, score, x, *, sign: int) -> Draw:
        own_steps = self.stepping.adaptive and sign < 0
        clock = log_time_if_smoother(score.sde) if own_steps else TimeChange(jnp.asarray(False))
        return _solve(dfx.ODETerm(_probability_flow), self, score, x, sign=sign, clock=clock)


class ReverseSDE(AbstractSampler):
    """Sampler that solves the reverse SDE from t_max to t_min.

    Args:
      solver: diffrax SDE solver that is valid for additive noise: Euler (Euler-Maruyama), Heun, SEA, ShARK, SRA1,
        SlowRK.
      stepping: `FixedGrid(steps, grid)` or `Adaptive(tolerance)`.
    """

    solver: dfx.AbstractSolver = dfx.Euler()
    stepping: AbstractStepping = FixedGrid(1000)

    def __call__(self, score, x_T, *, key):
        sde = score.sde
        inner = getattr(self.solver, "solver", self.solver)  # of a HalfSolver
        path = self.stepping.brownian(
            sde,
            shape=jax.ShapeDtypeStruct(x_T.shape, x_T.dtype),
            key=key,
            levy_area=dfx.SpaceTimeLevyArea if hasattr(inner, "minimal_levy_area") else dfx.BrownianIncrement,
        )
        terms = dfx.MultiTerm(dfx.ODETerm(_reverse_drift), dfx.ControlTerm(_diffusion, path))
        return _solve(terms, self, score, x_T, sign=-1, clock=TimeChange(jnp.asarray(False)))


def _probability_flow(r, x, args):
    """Return dx/dr of the probability flow, r = sign u(t)."""
    score, sign, clock = args
    sde = score.sde
    t = clock.time(sign * r)
    return (sign * clock.rate(t) * (sde.f(t) * x - 0.5 * sde.g2(t) * score(x, t))).astype(x.dtype)


def _reverse_drift(r, x, args):
    score, *_ = args
    sde = score.sde
    return (sde.g2(-r) * score(x, -r) - sde.f(-r) * x).astype(x.dtype)


def _diffusion(r, x, args):
    score, *_ = args
    sde = score.sde
    return lx.DiagonalLinearOperator(jnp.broadcast_to(jnp.sqrt(sde.g2(-r)), x.shape).astype(x.dtype))


def _solve(terms, sampler, score: AbstractScore, x, *, sign: int, clock: TimeChange) -> Draw:
    """Solve from t_max to t_min in r = -u, or from t_min to t_max in r = u, where `clock` maps t to u."""
    sde = score.sde
    time_type = jnp.result_type(x.dtype, jnp.float32)  # never below float32
    low, high = (clock.reading(jnp.asarray(t, time_type)) for t in (sde.t_min, sde.t_max))
    start, end = (high, low) if sign < 0 else (low, high)
    solution = dfx.diffeqsolve(
        terms,
        sampler.solver,
        t0=sign * start,
        t1=sign * end,
        dt0=sampler.stepping.first_step(high - low),
        y0=x,
        args=(score, sign, clock),
        stepsize_controller=sampler.stepping.controller(sde, sign, high - low),
        adjoint=dfx.ForwardMode(),
        max_steps=sampler.stepping.max_steps,
        throw=False,  # throwing gathers the whole batch on one device
    )
    x = solution.ys[-1]
    # A fixed grid reports success with NaN, and adaptive steps report NaN as too many steps, so x is checked as well.
    ok = (solution.result == dfx.RESULTS.successful) & jnp.all(jnp.isfinite(x))
    return Draw(jnp.where(ok, x, jnp.nan), score_calls(sampler.solver, solution.stats["num_steps"]), ok)


def score_calls(solver: dfx.AbstractSolver, num_steps):
    """Return the number of calls of the vector field in `num_steps` steps, rejected steps included.

    It is -1 for implicit solvers, which do not report it. A Runge-Kutta method makes one call per stage; a method whose
    last stage is the first of the next step ("FSAL") saves one call per step after the first. Euler, which has no
    tableau, makes one call. A HalfSolver makes each step once as a whole and once as two halves.
    """
    if isinstance(solver, dfx.AbstractImplicitSolver):
        return jnp.full_like(num_steps, -1)
    if isinstance(solver, dfx.HalfSolver):
        return score_calls(solver.solver, 3 * num_steps)
    tableau = getattr(solver, "tableau", None)
    if tableau is None:
        return num_steps
    skipped = getattr(tableau, "ignore_stage_f", None)  # stages of a stochastic method that need no drift
    stages = len(tableau.b_sol) - (0 if skipped is None else int(sum(skipped)))
    if getattr(tableau, "fsal", False):
        return (stages - 1) * num_steps + 1
    return stages * num_steps
