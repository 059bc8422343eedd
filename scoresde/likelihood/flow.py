"""Log-density log p_0 by the probability flow: one ODE for the point and its log-density.

    d x / dt = f x - g^2 s(x, t) / 2
    log p_{t_min}(x) = log p_T(x_T) + int_{t_min}^{t_max} div(f x - g^2 s / 2) dt           (Song et al. 2021, eq. 39)

The divergence is exact or estimated by probes, see `trace`; value and derivative come from one forward-mode pass.

Steps are taken in t, not in log t as for sampling (`scoresde.sample.time_change`): where sigma(t_min) is below the
tolerance, as for integers under sub-VP, the small first steps preserve the position of x within its noise.

The result is the log-density of the model at t_min, not at 0, so t_min must be reported with it. The prior replaces
p_T.
"""

from collections.abc import Callable

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from scoresde.errors import ConfigError
from scoresde.likelihood.trace import AbstractTrace, ExactTrace, Rademacher
from scoresde.sample.integrate import MAX_STEPS, adaptive_controller, field_norm, score_calls
from scoresde.score.base import AbstractScore
from scoresde.sde import AbstractSDE
from scoresde.sde.base import as_time, check_parameters, derivative
from scoresde.types import Conditions, Key, Keys, Scalar, State

_SOLVER = dfx.Tsit5()
# The weight of the error of the log-density relative to that of x. Errors of single steps accumulate: for a
# 3072-dimensional Gaussian under Karras at a tolerance of 1e-5 the result is off by 2.1e-5 bits/dim with weight 1, and
# by 7e-6 with weight 4, which needs a fifth more steps.
_LOG_DENSITY_WEIGHT = 4.0
# The length of the shortest last step, in rounding errors of t: within 100 of the end, diffrax repeats a rejected step
# with half of the remaining interval. Of 64 rows of a mixture in five dimensions under Cosine(-30, 30), 46 fail at a
# tolerance of 1e-7, 8 at 3e-7 and none at 1e-5; at 1e-6 the number of failures depends on the mixture, from 0 to 28.
_LAST_STEP = 50.0


class LogLikelihood(eqx.Module):
    """Log-likelihoods of N examples. Rows with ok = False have NaN in `log_prob` and must be left out of means.

    The standard error is the standard deviation of the estimates of the trace, divided by the square root of their
    number. Because it is estimated from few values, it is reliable from 8 probes on: with 2 probes, plus or minus 1.96
    standard errors cover the truth 70 % of the time, with 8 about 91 %, with 24 about 94 %.

    Attributes:
      log_prob: log-density at t_min, in nats.
      latent: x at t_max, [*N, *x].
      standard_error: standard error of `log_prob`, in nats; 0 for the exact trace and NaN for one probe.
      nfe: evaluations of the score with its derivative.
      ok: True if the solver reached t_max.
    """

    log_prob: Float[Array, "*N"]
    latent: Float[Array, "..."]
    standard_error: Float[Array, "*N"]
    nfe: Int[Array, "*N"]
    ok: Bool[Array, "*N"]


def log_likelihood(
    score: AbstractScore,
    x0: Float[Array, "N *x"],
    *,
    key: Key,
    probes: int | None = 1,
    tolerance: float = 1e-5,
    estimator: Callable[[int], AbstractTrace] = Rademacher,
    conditions: Conditions | None = None,
) -> LogLikelihood:
    """Return log p(x) in nats for every example of a batch, by the probability flow.

    Args:
      score: score of the data.
      x0: data [N, *x], in model coordinates.
      key: random key; example k samples its probes from `fold_in(key, k)`.
      probes: number K of probes per example; None uses the exact trace, whose cost grows with the dimension D.
      tolerance: relative and absolute tolerance of the adaptive solver, per example; use float64 below 1e-6. It must be
        at least `least_tolerance`.
      estimator: function K -> estimator of the trace: `Rademacher`, `GaussianProbes` or `HutchPlusPlus` of
        `scoresde.likelihood`.
      conditions: condition of each example, arrays with a leading axis N by name; None: the score as it is.

    Raises:
      ConfigError: there are too few probes, or tolerance is not positive or smaller than the type of x0 supports.
    """
    sde = score.sde
    trace = ExactTrace() if probes is None else estimator(probes)
    check_parameters("log_likelihood", tolerance=(tolerance, tolerance > 0, "tolerance > 0"))
    check_tolerance(sde, tolerance, jnp.result_type(x0.dtype, jnp.float32))
    keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(len(x0)))
    return log_likelihood_of_keys(score, x0, keys=keys, trace=trace, tolerance=tolerance, conditions=conditions)


def least_tolerance(sde: AbstractSDE, dtype) -> float:
    """Return the smallest tolerance that a floating type supports for a process, given how finely the type resolves
    time.

    The last step is at least 50 rounding errors of t long, and changes the log-SNR by 50 eps t |d lambda/dt|. Near
    t_max the terms f x and g^2 s / 2, which have the same size, almost cancel. A relative error eps of them remains,
    which no shorter step removes.

    In float32 the smallest tolerance is below 1e-8 for VP, sub-VP, VE, Karras, Heat and Cosine at their defaults. For
    Cosine it is 5e-8 down to log-SNR -20, 6e-7 to -25 and 7e-6 to -30.
    """
    eps = float(jnp.finfo(dtype).eps)
    ends = [as_time(t) for t in (sde.t_min, sde.t_max)]
    return _LAST_STEP * eps * max(eps * float(t * -derivative(sde.reference_log_snr, t)) for t in ends)


def check_tolerance(sde: AbstractSDE, tolerance: float, dtype=jnp.float32) -> None:
    """Raise a ConfigError for a tolerance that the type does not support."""
    if tolerance < (least := least_tolerance(sde, dtype)):
        raise ConfigError(
            f"tolerance = {tolerance:g}: {jnp.dtype(dtype).name} carries {least:.1g} for {type(sde).__name__} from t = "
            f"{sde.t_min:g} to "
            f"{sde.t_max:g}, whose log-SNR moves by {least / _LAST_STEP / float(jnp.finfo(dtype).eps):.1g} within one "
            "rounding of t; take "
            "a larger tolerance, a narrower range of log-SNR, or float64"
        )


@eqx.filter_jit
def log_likelihood_of_keys(
    score, x0, *, keys: Keys, trace: AbstractTrace, tolerance: float, conditions: Conditions | None = None
) -> LogLikelihood:
    """Return the likelihoods of `log_likelihood`, with one key per example."""

    def one(x: State, key: Key, condition) -> LogLikelihood:
        return _log_likelihood(score.given(condition), x, key, trace, tolerance)

    # TensorFloat-32 products, the default on some accelerators, cause larger errors than the tolerance of the solver.
    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(x0, keys, conditions)


def _log_likelihood(score, x: State, key: Key, trace: AbstractTrace, tolerance: float) -> LogLikelihood:
    sde = score.sde
    dtype = jnp.result_type(x.dtype, jnp.float32)
    x = x.astype(dtype)

    def flow(t, state, args):
        return trace.flow(args[0], state[0], t, args[1])

    t_min, t_max = jnp.asarray(sde.t_min, dtype), jnp.asarray(sde.t_max, dtype)
    solution = dfx.diffeqsolve(
        dfx.ODETerm(flow),
        _SOLVER,
        t0=t_min,
        t1=t_max,
        dt0=1e-3 * (t_max - t_min),
        y0=(x, jnp.zeros(trace.count, dtype)),
        args=(score, trace.directions(x, key=key)),
        stepsize_controller=adaptive_controller(t_max - t_min, tolerance, lambda error: _norm(sde, error)),
        adjoint=dfx.ForwardMode(),
        max_steps=MAX_STEPS,
        throw=False,
    )
    latent, integrals = solution.ys[0][-1], solution.ys[1][-1]
    log_prob = sde.log_prior(latent).astype(dtype) + jnp.mean(integrals)
    ok = (solution.result == dfx.RESULTS.successful) & jnp.isfinite(log_prob) & jnp.all(jnp.isfinite(latent))
    return LogLikelihood(
        log_prob=jnp.where(ok, log_prob, jnp.nan),
        latent=latent,
        standard_error=trace.standard_error(integrals),
        nfe=score_calls(_SOLVER, solution.stats["num_steps"]),
        ok=ok,
    )


def _norm(sde: AbstractSDE, error) -> Scalar:
    """Return the larger of the errors of x and of the log-density: in a joint mean, x would dominate the
    log-density."""
    x, log_density = error
    return jnp.maximum(field_norm(sde, x), _LOG_DENSITY_WEIGHT * jnp.sqrt(jnp.mean(log_density**2)))
