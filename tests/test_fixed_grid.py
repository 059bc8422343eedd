"""Samplers on a fixed grid: order of convergence, law on Gaussian data, cost, on every process."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from any_process import each_process
from inventory import FLOWS, LANGEVIN, NOISY, SDES, TWINS
from oracles import LEVEL, energy_p_value, mixture
from orders import ends, graded, law_error, smooth_flow
from test_sample import watch_calls

from scoresde.errors import ConfigError
from scoresde.sample import (
    DDIM,
    DEIS,
    IPNDM,
    SEEDS,
    Adaptive,
    Ancestral,
    AnnealedLangevin,
    DPMSolverPP,
    DPMSolverPPSinglestep,
    EulerEDM,
    GottaGoFast,
    HeunEDM,
    Langevin,
    LangevinDynamics,
    PredictorCorrector,
    ProbabilityFlow,
    ReverseSDE,
    SASolver,
    SDEDPMSolverPP,
    Times,
    UniPC,
    denoised_draw,
    draw,
    geometric,
    karras,
    optimised_times,
    uniform,
    uniform_log_snr,
)
from scoresde.score import AbstractScore
from scoresde.sde import VE, VP, AbstractSDE
from scoresde.sde.base import at_least, check_parameters

# One program serves all processes: compiling is most of the time here.
PROCESSES = each_process(SDES)
ALL = {**{k: (v[0], v[2]) for k, v in {**FLOWS, **NOISY}.items()}, **LANGEVIN}


def with_slow_twins(names) -> list:
    return [pytest.param(name, marks=pytest.mark.slow if name in TWINS else ()) for name in names]


@pytest.fixture(scope="module")
def smooth():
    """[(process, score, x_T, where the flow takes it)]."""
    with jax.enable_x64(True):
        return [(sde, *smooth_flow(sde, examples=8)) for sde in each_process(SDES).values()]


@pytest.mark.parametrize("name", with_slow_twins(FLOWS))
def test_order_of_the_flow(name, smooth, x64):
    """On every process, from the same x_T, against a solve at tolerance 1e-13."""
    build, order, _ = FLOWS[name]
    steps = (320, 640) if order < 4 else (1280, 2560)  # a high order shows late
    for _, score, x_T, exact in smooth:
        coarse, fine = (jnp.sqrt(jnp.mean((ends(build(n, graded), score, x_T) - exact) ** 2)) for n in steps)
        assert fine < 0.02
        assert np.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("name", with_slow_twins(NOISY))
def test_order_of_the_variance(name, x64):
    build, order, calls = NOISY[name]
    for sde in each_process(SDES).values():
        coarse, fine = (law_error(build(n, uniform_log_snr), sde, n * calls) for n in (160, 320))
        assert abs(fine) < 0.06
        assert np.log2(coarse / fine) == pytest.approx(order, abs=0.4)


@pytest.mark.parametrize("step", [0.05, 0.2])
def test_langevin_dynamics_has_the_known_bias(step, x64):
    """Unadjusted Langevin on N(0, v): the stationary variance is v / (1 - gamma / (2 v)) for x + gamma s + sqrt(2
    gamma) z."""
    sde = VE(sigma_min=1.0, sigma_max=1.001)  # one noise level
    excess = law_error(LangevinDynamics(1, repeats=300, step_size=step), sde, 300)
    gamma, variance = step / 2 * 1.0, 1.3
    assert excess == pytest.approx(1 / (1 - gamma / (2 * variance)) - 1, rel=1e-2)


def test_correctors_keep_the_law(x64):
    """With small steps a corrector leaves p_t as it is, and mends what a coarse predictor spoils."""
    sde, n = VP(), 20
    plain, mended = (
        law_error(PredictorCorrector(n, uniform_log_snr, Ancestral(), corrector), sde, n * 41)
        for corrector in (None, AnnealedLangevin(0.3, repeats=40))
    )
    assert abs(mended) < 0.25 * abs(plain)


@pytest.mark.parametrize("name", with_slow_twins(ALL))
def test_nfe_is_the_number_of_calls(name):
    build, calls = ALL[name]
    drawn, counted = watch_calls(build(7, uniform_log_snr), VP())
    assert drawn.ok and drawn.nfe == counted == 7 * calls


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_fewer_steps_than_the_order(name):
    build, calls = ALL[name]
    sde = VE()
    drawn = draw(build(2, uniform_log_snr), mixture(sde), (5,), keys=jax.random.split(jax.random.key(0), 2))
    assert drawn.ok.all() and np.all(drawn.nfe == 2 * calls)


# Laws that are not Gaussian


@pytest.mark.parametrize("sampler", [HeunEDM(40, churn=10.0), SASolver(40), SEEDS(40)], ids=["churn", "SA", "SEEDS"])
def test_samples_follow_the_density(sampler):
    keys = jax.random.split(jax.random.key(0), (2, 500))
    for name, sde in PROCESSES.items():
        score = mixture(sde)
        drawn = draw(sampler, score, (5,), keys=keys[0])
        truth = exact_draws(score, jnp.float32(sde.t_min), keys[1])
        assert drawn.ok.all() and energy_p_value(drawn.x, truth) > LEVEL, name


@eqx.filter_jit
def exact_draws(score, t, keys):
    return jax.vmap(lambda key: score.sample(t, key=key))(keys)


def test_the_adaptive_sde_solver_follows_the_density():
    """A step that is rejected goes on along its Brownian path. Other batches round otherwise and may accept other
    steps, so that an image is the same to the tolerance only."""
    sampler, keys = ReverseSDE(dfx.ShARK(), Adaptive(1e-2)), jax.random.split(jax.random.key(0), (2, 500))
    sde = VP()
    score = mixture(sde)
    drawn = draw(sampler, score, (5,), keys=keys[0])
    assert drawn.ok.all() and len(np.unique(drawn.nfe)) > 10
    assert energy_p_value(drawn.x, exact_draws(score, jnp.float32(sde.t_min), keys[1])) > LEVEL
    alone = draw(sampler, score, (5,), keys=keys[0][:1])
    np.testing.assert_allclose(alone.x[0], drawn.x[0], atol=5e-2)


# Grids


def test_optimised_times_beat_equal_steps():
    """The sum of local Euler errors is what they minimise; DDIM's error at t_min falls with it."""
    sde = VE()
    score, keys = mixture(sde), jax.random.split(jax.random.key(7), 256)
    times = optimised_times(score, (5,), steps=8, key=jax.random.key(8))
    assert len(times.t) == 9 and times.t[0] == sde.t_max
    exact, fitted, equal = (
        draw(sampler, score, (5,), keys=keys).x
        for sampler in (ProbabilityFlow(stepping=Adaptive(1e-5)), DDIM(8, times), DDIM(8))
    )
    assert jnp.sqrt(jnp.mean((fitted - exact) ** 2)) < 0.9 * jnp.sqrt(jnp.mean((equal - exact) ** 2))


@pytest.mark.parametrize("times", [(1.0, 0.5), (1.0, 1e-5, 0.5), (0.9, 0.5, 1e-5), (1.0, 1e-5)])
def test_wrong_times_are_refused(times):
    with pytest.raises(ConfigError, match="Times"):
        Times(times)(VP(), 2)


# What is refused


class PerMode(AbstractSDE):
    """Two modes noised at different rates."""

    rates: tuple[float, float] = (5.0, 20.0)
    t_min: float = 1e-3
    t_max: float = 1.0

    def log_alpha(self, t):
        return -0.5 * t * jnp.array(self.rates)

    def sigma(self, t):
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))


class ModesScore(AbstractScore):
    """Of independent modes with variances 0.5 and 0.1."""

    sde: AbstractSDE

    def __call__(self, x, t):
        return -x / (self.sde.alpha(t) ** 2 * jnp.array([0.5, 0.1]) + self.sde.sigma(t) ** 2)


@pytest.mark.parametrize(
    "sampler",
    [DEIS(4, uniform), IPNDM(4, uniform), HeunEDM(4, uniform), EulerEDM(4, uniform), LangevinDynamics(4, uniform)],
)
def test_what_divides_by_alpha_refuses_one_per_mode(sampler):
    with pytest.raises(ConfigError, match="one alpha"):
        sampler(ModesScore(PerMode()), jnp.ones(2), key=jax.random.key(0))


@pytest.mark.parametrize(
    "sampler", [DDIM(60, uniform, 1.0), DPMSolverPP(60, uniform, 3), UniPC(60, uniform), SASolver(60, uniform)]
)
def test_data_prediction_takes_a_log_snr_per_mode(sampler):
    """Modes are independent: each must end where it would if the other had its rate too, with the same noise."""
    x_T = jnp.array([1.0, -0.7])

    def end(*rates):
        sde = PerMode(rates)
        return sampler(ModesScore(sde), x_T, key=jax.random.key(0)).x

    both = end(5.0, 20.0)
    np.testing.assert_allclose(both, [end(5.0, 5.0)[0], end(20.0, 20.0)[1]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [uniform_log_snr, karras])
def test_grids_in_log_snr_go_by_the_first_mode(grid, x64):
    np.testing.assert_allclose(grid(PerMode((5.0, 20.0)), 5), grid(PerMode((5.0, 7.0)), 5), rtol=1e-9)


def test_a_grid_in_sigma_refuses_one_per_mode():
    with pytest.raises(ConfigError, match="uniform or log_snr"):
        geometric(PerMode(), 5)


WRONG = [
    (lambda: check_parameters("DDIM", steps=at_least(2.5, 1)), "steps = 2.5"),
    (lambda: HeunEDM(5, s_min=2.0, s_max=1.0), "s_max = 1.0"),
    (lambda: DDIM(0), "steps = 0"),
    (lambda: DDIM(5, eta=1.5), "eta = 1.5"),
    (lambda: DPMSolverPP(5, order=4), "order = 4"),
    (lambda: SDEDPMSolverPP(5, order=0), "order = 0"),
    (lambda: DPMSolverPPSinglestep(-1), "steps = -1"),
    (lambda: UniPC(5, variant="bh3"), "bh3"),
    (lambda: UniPC(5, order=4), "order = 4"),
    (lambda: DEIS(5, variable="x"), "variable"),
    (lambda: IPNDM(5, order=5), "order = 5"),
    (lambda: SASolver(5, tau=-1.0), "tau = -1.0"),
    (lambda: SASolver(5, tau_low=2.0, tau_high=1.0), "tau_high"),
    (lambda: SEEDS(0), "steps = 0"),
    (lambda: HeunEDM(5, churn=-1.0), "churn = -1.0"),
    (lambda: EulerEDM(5, s_noise=0.0), "s_noise = 0.0"),
    (lambda: PredictorCorrector(5, predictor=None), "neither"),
    (lambda: Ancestral("beta"), "beta"),
    (lambda: Langevin(snr=0.0), "snr = 0.0"),
    (lambda: Langevin(norm="all"), "all"),
    (lambda: AnnealedLangevin(repeats=0), "repeats = 0"),
    (lambda: LangevinDynamics(5, step_size=4.0), "step_size = 4.0"),
    (lambda: GottaGoFast(relative=0.0), "relative = 0.0"),
    (lambda: optimised_times(mixture(VP()), (5,), steps=200, key=jax.random.key(0)), "steps = 200"),
]


@pytest.mark.parametrize("build, words", WRONG, ids=[words for _, words in WRONG])
def test_wrong_arguments_are_refused(build, words):
    with pytest.raises(ConfigError) as caught:
        build()
    assert words in str(caught.value)


def test_gotta_go_fast_out_of_steps_is_not_ok():
    sde = VP()
    drawn = draw(GottaGoFast(max_steps=5), mixture(sde), (5,), keys=jax.random.split(jax.random.key(0), 2))
    assert not drawn.ok.any() and jnp.isnan(drawn.x).all()


def test_implicit_solvers_do_not_tell_their_calls():
    sde = VP(t_min=1e-2)
    sampler = ProbabilityFlow(dfx.Kvaerno3(), Adaptive(1e-2))
    drawn = denoised_draw(sampler, mixture(sde), (5,), keys=jax.random.split(jax.random.key(0), 2))
    assert drawn.ok.all() and np.all(drawn.nfe == -1)
