"""Samplers: what they draw, how fast they converge, what they cost, and that one example never touches another."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from any_process import each_process
from inventory import ALL_SDES, GRIDS, ODE_SOLVERS, SAMPLERS, SDE_SOLVERS, SDES
from oracles import LEVEL, energy_p_value, mixture

from scoresde.errors import ConfigError
from scoresde.sample import (
    Adaptive,
    FixedGrid,
    ProbabilityFlow,
    ReverseSDE,
    denoised_draw,
    draw,
    sample,
    uniform_log_snr,
)
from scoresde.score import AbstractScore, GaussianScore
from scoresde.sde import VE, VP, SubVP

every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


class Watched(AbstractScore):
    """A score that calls `trace` when it is traced and `run` when it is executed, and is then spoiled by `spoil`."""

    inner: AbstractScore
    trace: object = eqx.field(static=True, default=lambda: None)
    run: object = eqx.field(static=True, default=None)
    spoil: object = eqx.field(static=True, default=lambda score, x, t: score)

    @property
    def sde(self):
        return self.inner.sde

    def __call__(self, x, t):
        self.trace()
        if self.run is not None:
            jax.debug.callback(self.run)
        return self.spoil(self.inner(x, t), x, t)


# What is drawn


@every_sampler
def test_samples_follow_the_density_at_t_min(name):
    keys = jax.random.split(jax.random.key(0), (2, 500))
    for process, sde in each_process(SDES).items():  # one program for all
        drawn = draw(SAMPLERS[name], mixture(sde), (5,), keys=keys[0])
        assert drawn.ok.all()
        assert energy_p_value(drawn.x, exact_draws(sde, keys[1])) > LEVEL, process


def exact_draws(sde, keys) -> np.ndarray:
    return np.asarray(_exact_draws(mixture(sde), jnp.float32(sde.t_min), keys))


@eqx.filter_jit
def _exact_draws(score, t, keys):
    return jax.vmap(lambda key: score.sample(t, key=key))(keys)


def test_the_two_sample_test_has_power():
    """At the size used above it sees a shift by 0.4 standard deviations, and a spread 40 % too large."""
    x, truth = (exact_draws(VP(), keys) for keys in jax.random.split(jax.random.key(20), (2, 500)))
    centre, spread = truth.mean(0), truth.std(0)
    assert energy_p_value(x, truth) > LEVEL
    assert energy_p_value(x + 0.4 * spread, truth) <= LEVEL
    assert energy_p_value(centre + 1.4 * (x - centre), truth) <= LEVEL


def flow_map(sde, score: GaussianScore, x_T):
    """Where the probability flow of a Gaussian with a diagonal covariance takes x_T: each coordinate keeps its
    quantile."""
    ends = [(sde.alpha(t), sde.sigma(t)) for t in (jnp.asarray(sde.t_max), jnp.asarray(sde.t_min))]
    (alpha_T, std_T), (alpha_0, std_0) = [(a, jnp.sqrt(a**2 * score.variances + s**2)) for a, s in ends]
    return alpha_0 * score.mean + std_0 / std_T * (x_T - alpha_T * score.mean)


@every_sde
def test_probability_flow_keeps_quantiles(sde, x64):
    score = GaussianScore(sde, np.array([0.5, -1.0, 0.0]), np.array([0.01, 0.3, 1.0]))
    x_T = sde.sample_prior((3,), key=jax.random.key(1))
    drawn = ProbabilityFlow(stepping=Adaptive(1e-8))(score, x_T, key=jax.random.key(2))
    assert drawn.ok
    # Ten times the tolerance of a step, in units of the data (1): errors of single steps add up.
    np.testing.assert_allclose(drawn.x, flow_map(sde, score, x_T), atol=1e-7, rtol=0)


def test_sample_ends_with_the_denoising_step():
    sde, key = VP(t_min=1e-2), jax.random.key(3)
    score, sampler = mixture(sde), ReverseSDE(dfx.ShARK(), FixedGrid(16))
    keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(4))
    raw, denoised = (function(sampler, score, (5,), keys=keys) for function in (draw, denoised_draw))
    expected = jax.vmap(lambda x: score.denoise(x, jnp.float32(sde.t_min)))(raw.x)
    # One program against two: rounding, divided by sigma(t_min)^2 = 2e-3 inside the score.
    np.testing.assert_allclose(denoised.x, expected, atol=1e-4)
    np.testing.assert_allclose(sample(sampler, score, (5,), num=4, key=key), denoised.x, atol=1e-5)
    assert abs(raw.x - denoised.x).max() > 1e-2  # sigma(t_min) is 0.04
    np.testing.assert_array_equal(denoised.nfe, raw.nfe + 1)


# Order of convergence


def orders(errors) -> np.ndarray:
    return np.log2(np.asarray(errors[:-1]) / np.asarray(errors[1:]))


@every_sde
@pytest.mark.parametrize("name", ODE_SOLVERS)
def test_ode_order(sde, name, x64):
    solver, order = ODE_SOLVERS[name]
    score = GaussianScore(sde, np.array([0.5, -1.0]), np.array([0.05, 1.0]))
    x_T = sde.sample_prior((2,), key=jax.random.key(4))
    exact = flow_map(sde, score, x_T)

    def error(steps):
        drawn = ProbabilityFlow(solver, FixedGrid(steps, uniform_log_snr))(score, x_T, key=jax.random.key(0))
        return float(jnp.max(abs(drawn.x - exact)))

    # Equal steps in lambda, 0.1 and less wide, over which the flow of one Gaussian is smooth.
    assert orders([error(steps) for steps in (256, 512)])[-1] == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("name", SDE_SOLVERS)
def test_sde_weak_order_of_the_mean(name, x64):
    """E[x at t_min | x_T] is linear in x_T with slope (alpha_T / alpha_0) V_0 / V_T, V the variance of x_t.

    Two solves with one key share their noise, which is additive: their difference is free of it and gives the slope.
    """
    sde, (solver, order, _) = VP(), SDE_SOLVERS[name]
    score = GaussianScore(sde, np.zeros(1), np.array([0.25]))
    ends = [(sde.alpha(t), sde.sigma(t)) for t in (jnp.asarray(sde.t_max), jnp.asarray(sde.t_min))]
    (alpha_T, V_T), (alpha_0, V_0) = [(a, 0.25 * a**2 + s**2) for a, s in ends]
    exact = float(alpha_T / alpha_0 * V_0 / V_T)

    def error(steps):
        sampler = ReverseSDE(solver, FixedGrid(steps, uniform_log_snr))
        low, high = jax.vmap(lambda x: sampler(score, x, key=jax.random.key(6)).x)(jnp.array([[0.0], [1.0]]))
        return abs(float((high - low)[0]) / exact - 1)

    # Equal steps in lambda, 0.1 and less wide: past all transients.
    assert orders([error(steps) for steps in (256, 512)])[-1] == pytest.approx(order, abs=0.4)


# One solver of each order. SlowRK could not be told: its error is below the noise on every grid fine enough for an
# order.
@pytest.mark.parametrize("name", ["Euler", "ShARK"])
def test_sde_weak_order_of_the_variance(name):
    """The variance at t_min of one Gaussian coordinate, over 200 000 independent ones that share a solve."""
    solver, order, _ = SDE_SOLVERS[name]
    # A range of t over which the coefficients vary by 10, so that few steps resolve it: errors stay far above the
    # noise.
    sde, count = VP(t_min=0.1, t_max=0.6), 200_000
    score = GaussianScore(sde, np.zeros(count), np.full(count, 0.25))
    x_T = score.sample(jnp.float32(sde.t_max), key=jax.random.key(5))
    exact = float(sde.alpha(sde.t_min) ** 2 * 0.25 + sde.sigma(sde.t_min) ** 2)

    def error(steps):
        drawn = ReverseSDE(solver, FixedGrid(steps, uniform_log_snr))(score, x_T, key=jax.random.key(6))
        return abs(float(jnp.var(drawn.x)) / exact - 1)

    errors = [error(steps) for steps in ((8, 16) if order == 1 else (3, 6))]
    # The noise of a variance is sqrt(2 / 200 000) = 0.3 %, a twentieth of the error: 0.1 of an order.
    assert errors[-1] > 0.04
    assert orders(errors)[-1] == pytest.approx(order, abs=0.4)


@pytest.mark.parametrize("name", SDE_SOLVERS)
def test_the_spread_after_64_steps(name):
    """A solver whose noise is wrong, as some are when time runs down, is off by tens of per cent here."""
    sde, (solver, order, _) = SubVP(), SDE_SOLVERS[name]
    score = GaussianScore(sde, np.zeros(20_000), np.full(20_000, 0.25))
    x_T = sde.sample_prior((20_000,), key=jax.random.key(5))
    drawn = ReverseSDE(solver, FixedGrid(64, uniform_log_snr))(score, x_T, key=jax.random.key(6))
    exact = float(jnp.sqrt(sde.alpha(sde.t_min) ** 2 * 0.25 + sde.sigma(sde.t_min) ** 2))
    # Four standard errors of a spread, 4 / sqrt(40 000) = 2 %, and the error of steps h = 0.4 wide in lambda: h / 2 at
    # first
    # order, h^2 / 12 at second.
    assert float(jnp.std(drawn.x)) / exact == pytest.approx(1, abs=0.02 + (0.2 if order == 1 else 0.013))


# Cost


def watch_calls(sampler, sde):
    calls = []
    score = Watched(mixture(sde), run=lambda: calls.append(1))
    x_T = sde.sample_prior((5,), key=jax.random.key(7))
    drawn = sampler(score, x_T, key=jax.random.key(8))
    jax.block_until_ready(drawn)
    jax.effects_barrier()
    return drawn, len(calls)


@pytest.mark.parametrize(
    "solver", [dfx.Tsit5(), dfx.Dopri5(), dfx.Dopri8(), dfx.Bosh3(), dfx.Heun()], ids=lambda s: type(s).__name__
)
def test_nfe_of_adaptive_steps_is_the_number_of_calls(solver):
    drawn, calls = watch_calls(ProbabilityFlow(solver, Adaptive(1e-4)), VE())
    assert drawn.ok and drawn.nfe == calls > 20


@pytest.mark.parametrize("solver", [dfx.Euler(), dfx.Heun(), dfx.Bosh3(), dfx.Tsit5()], ids=lambda s: type(s).__name__)
def test_nfe_of_a_fixed_ode_grid_is_the_number_of_calls(solver):
    drawn, calls = watch_calls(ProbabilityFlow(solver, FixedGrid(17)), VP())
    assert drawn.ok and drawn.nfe == calls


@pytest.mark.parametrize("name", SDE_SOLVERS)
def test_nfe_of_a_stochastic_solver_is_the_number_of_calls(name):
    solver, _, per_step = SDE_SOLVERS[name]
    drawn, calls = watch_calls(ReverseSDE(solver, FixedGrid(17)), VP())
    assert drawn.ok and drawn.nfe == calls == 17 * per_step


@every_sampler
def test_a_second_call_compiles_nothing(name):
    traces = []
    sde = VP(t_min=1e-3)
    score = Watched(mixture(sde), trace=lambda: traces.append(1))
    keys = jax.random.split(jax.random.key(9), (2, 3))
    draw(SAMPLERS[name], score, (5,), keys=keys[0])
    first = len(traces)
    draw(SAMPLERS[name], Watched(mixture(sde, 1), score.trace), (5,), keys=keys[1])
    assert len(traces) == first > 0


# One example never touches another


@every_sampler
def test_an_example_depends_on_its_own_key_alone(name):
    sde = VP()
    score, keys, sampler = mixture(sde), jax.random.split(jax.random.key(10), 8), SAMPLERS[name]
    together = draw(sampler, score, (5,), keys=keys)
    order = np.array([3, 0, 7, 1, 6, 2, 5, 4])
    np.testing.assert_array_equal(draw(sampler, score, (5,), keys=keys[order]).x, together.x[order])
    alone = jnp.concatenate([draw(sampler, score, (5,), keys=keys[k : k + 1]).x for k in range(8)])
    # Another batch size sums in another order: rounding through the score next to t_min. Other noise would move x by 1.
    np.testing.assert_allclose(alone, together.x, atol=1e-3)
    assert len(np.unique(np.round(together.x[:, 0], 4))) == 8


class OfClass(AbstractScore):
    """Of N(label, 1) at every t."""

    label: object
    sde: VP = VP()

    def __call__(self, x, t):
        return self.label - x

    def given(self, condition):
        return OfClass(condition["class"]) if condition else self


def test_every_example_has_its_own_class():
    sampler, keys = ReverseSDE(stepping=FixedGrid(8)), jax.random.split(jax.random.key(11), 3)
    one = lambda label: denoised_draw(sampler, OfClass(jnp.asarray(label)), (2,), keys=keys).x  # noqa: E731
    together = denoised_draw(
        sampler, OfClass(jnp.asarray(-1)), (2,), keys=keys, conditions={"class": jnp.array([4, 0, 2])}
    ).x
    for k, label in enumerate((4, 0, 2)):
        np.testing.assert_allclose(together[k], one(label)[k], rtol=1e-5)
        assert np.abs(together[k] - one(-1)[k]).max() > 0.1


def test_the_first_samples_stay_when_more_are_drawn():
    sde, sampler = VP(), ReverseSDE(stepping=FixedGrid(32))
    few, more = (sample(sampler, mixture(sde), (5,), num=num, key=jax.random.key(11)) for num in (3, 8))
    np.testing.assert_allclose(few, more[:3], atol=1e-3)  # rounding, as above


@every_sampler
def test_a_failure_stays_in_its_row(name):
    sde = VP()
    keys, sampler = jax.random.split(jax.random.key(12), 8), SAMPLERS[name]

    clean = draw(sampler, Watched(mixture(sde)), (5,), keys=keys)
    middle = float(jnp.median(clean.x[:, 0]))

    def spoil(score, x, t):
        return jnp.where((t < 1e-3) & (x[0] > middle), jnp.nan, score)

    spoiled = draw(sampler, Watched(mixture(sde), spoil=spoil), (5,), keys=keys)
    assert clean.ok.all() and 0 < spoiled.ok.sum() < 8
    np.testing.assert_array_equal(jnp.isnan(spoiled.x).all(1), ~spoiled.ok)
    # One bad row must not hold the batch until the step limit.
    assert spoiled.nfe.max() < 10 * clean.nfe.max()
    # Two programs: rounding, as above.
    np.testing.assert_allclose(spoiled.x[spoiled.ok], clean.x[spoiled.ok], atol=1e-3)


def test_a_failure_of_the_denoising_step_is_told():
    sde = VP()
    score = Watched(
        mixture(sde), spoil=lambda score, x, t: jnp.where((t <= sde.t_min * 1.001) & (x[0] > 0), jnp.nan, score)
    )
    sampler, keys = ReverseSDE(stepping=FixedGrid(16)), jax.random.split(jax.random.key(13), 8)
    assert draw(sampler, score, (5,), keys=keys).ok.all()  # Euler never asks for the score at t_min
    denoised = denoised_draw(sampler, score, (5,), keys=keys)
    assert 0 < denoised.ok.sum() < 8
    np.testing.assert_array_equal(jnp.isfinite(denoised.x).all(1), denoised.ok)


def test_a_solver_out_of_steps_is_not_ok():
    sde = VP()
    drawn = draw(
        ProbabilityFlow(stepping=Adaptive(1e-6, max_steps=5)),
        mixture(sde),
        (5,),
        keys=jax.random.split(jax.random.key(0), 2),
    )
    assert not drawn.ok.any() and jnp.isnan(drawn.x).all()


# Grids


@pytest.mark.parametrize("sde", ALL_SDES.values(), ids=ALL_SDES)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_grids_fall_from_end_to_end(sde, grid):
    for steps in (1, 2, 10, 1000):
        t = np.asarray(grid(sde, steps))
        assert t.shape == (steps + 1,)
        assert t[0] == np.float32(sde.t_max) and t[-1] == np.float32(sde.t_min)
        assert np.all(np.diff(t) < 0)


@pytest.mark.parametrize("sde", ALL_SDES.values(), ids=ALL_SDES)
def test_grids_are_equal_steps_in_their_variable(sde, x64):
    lambdas = jax.vmap(sde.log_snr)(GRIDS["uniform_log_snr"](sde, 20))
    roots = jnp.exp(-jax.vmap(sde.log_snr)(GRIDS["karras"](sde, 20)) / 2) ** (1 / 7)
    square_roots, logs = jnp.sqrt(GRIDS["quadratic"](sde, 20)), jax.vmap(sde.log_sigma)(GRIDS["geometric"](sde, 20))
    for values in (GRIDS["uniform"](sde, 20), square_roots, logs, lambdas, roots):
        # The inverse of lambda is good to 1e-11, and dlambda/dt reaches 1e5 at t = 1e-5.
        np.testing.assert_allclose(np.diff(values), (values[-1] - values[0]) / 20, rtol=1e-6)


def test_karras_grid_is_equation_5(x64):
    """(s_max^(1/7) + i / N (s_min^(1/7) - s_max^(1/7)))^7: N = 17 gives the 18 levels of the paper."""
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    expected = (high + np.arange(18) / 17 * (low - high)) ** 7
    np.testing.assert_allclose(GRIDS["karras"](SDES["Karras"], 17), expected, rtol=1e-10)


@pytest.mark.parametrize("name", GRIDS)
def test_a_thousand_steps_in_float32(name):
    for sde in each_process(SDES).values():
        score, keys = GaussianScore(sde, np.zeros(200), np.ones(200)), jax.random.split(jax.random.key(14), 4)
        drawn = draw(ReverseSDE(dfx.Euler(), FixedGrid(1000, GRIDS[name])), score, (200,), keys=keys)
        assert drawn.ok.all() and np.all(drawn.nfe == 1000)
        # Unit data. On a uniform grid Euler's last steps are too long where sigma is small, on a geometric one its
        # first
        # where sigma saturates; x stays of the size of the data.
        assert 0.5 < jnp.std(drawn.x) < (40 if name in ("uniform", "geometric") else 1.15)


# What is refused


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: FixedGrid(0), "steps = 0"),
        (lambda: Adaptive(0.0), "tolerance > 0"),
        (lambda: Adaptive(float("nan")), "tolerance = nan"),
        (lambda: Adaptive(1e-5, max_steps=0), "max_steps = 0"),
    ],
)
def test_wrong_steppings_are_refused(build, words):
    with pytest.raises(ConfigError) as caught:
        build()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "sampler", [ReverseSDE(stepping=FixedGrid(4)), ProbabilityFlow(), ProbabilityFlow(stepping=FixedGrid(4))]
)
def test_float32_states_under_a_float64_score(x64, sampler):
    sde = VP()
    drawn = sampler(GaussianScore(sde, np.zeros(3), np.ones(3)), jnp.ones(3, jnp.float32), key=jax.random.key(0))
    assert drawn.ok and drawn.x.dtype == jnp.float32
