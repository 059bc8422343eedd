"""Training: the objective and its weightings against quadrature and exact scores; the step against its formulas."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from inventory import ALL_SDES, SDES
from oracles import mixture

from scoresde.data import ArraySource, Dataset, load
from scoresde.errors import ConfigError, NumericError
from scoresde.nets import MLP, Network
from scoresde.runs import Intervals, Run
from scoresde.score import (
    AbstractScore,
    DataSpectrum,
    EDMPreconditioning,
    GaussianScore,
    MixtureScore,
    NetworkScore,
)
from scoresde.sde import VP, Cosine, Karras, SubVP
from scoresde.train import (
    EDMWeighting,
    LikelihoodWeighting,
    LogNormalSigma,
    Objective,
    Parallelism,
    SigmaSquared,
    StratifiedTime,
    UniformLogSigma,
    UniformLogSNR,
    UniformTime,
    averaged_score,
    fit,
    half_sum,
)
from scoresde.train.average import update
from scoresde.train.law import effective_share
from scoresde.train.step import MAX_SKIPPED, init_state

LAWS = {
    "uniform": UniformTime(),
    "low discrepancy": StratifiedTime(),
    "log-SNR": UniformLogSNR(),
    "log-sigma": UniformLogSigma(),
    "log-normal": LogNormalSigma(),
}
every_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)


# The law of t


def _times(sde, count=20_001):
    """Times equally spaced in log-SNR: dense where the densities are large."""
    ends = jnp.linspace(sde.log_snr(sde.t_min), sde.log_snr(sde.t_max), count)
    return jax.vmap(sde.time_of_log_snr)(ends)


@every_law
@every_sde
def test_the_density_is_that_of_the_quantile_function(law, sde, x64):
    t = np.asarray(_times(sde))
    p = np.asarray(jax.vmap(lambda t: law.density(sde, t))(t))
    mass = np.concatenate([[0], np.cumsum((p[1:] + p[:-1]) / 2 * np.diff(t))])
    np.testing.assert_allclose(mass[-1], 1, rtol=1e-5)  # of the trapezoidal rule
    u = jnp.linspace(0.001, 0.999, 101)
    below = np.interp(np.asarray(jax.vmap(lambda u: law.quantile(sde, u))(u)), t, mass)
    np.testing.assert_allclose(below, u if abs(below[0] - u[0]) < 0.5 else 1 - u, atol=1e-5)


@every_law
@pytest.mark.parametrize("sde", ALL_SDES.values(), ids=ALL_SDES)
def test_times_stay_where_the_process_is_defined(law, sde):
    """In float32, also for the least and the largest u there is."""
    u = jnp.concatenate([jnp.linspace(0, 1, 1000, endpoint=False), jnp.array([2.0**-24, 1 - 2.0**-24])])
    t = np.asarray(jax.vmap(lambda u: law.quantile(sde, u))(u))
    assert np.all((np.float32(sde.t_min) <= t) & (t <= np.float32(sde.t_max)))
    assert np.isfinite(jax.vmap(lambda t: law.density(sde, t))(t)).all()


@pytest.mark.parametrize("name", ["low discrepancy", "log-SNR", "log-sigma", "log-normal"])
def test_stratified_uniforms_cover_the_unit_interval_evenly(name):
    count, key = 64, jax.random.key(3)
    keys = jax.random.split(key, count)
    uniform = lambda key, rank: LAWS[name].uniform(batch_key=jax.random.key(5), key=key, rank=rank)  # noqa: E731
    u = np.sort(jax.vmap(uniform)(keys, jnp.arange(count) / count))
    np.testing.assert_allclose(np.diff(u), 1 / count, atol=1e-6)
    assert 0 <= u[0] < 1 / count and u[-1] < 1
    other = LAWS[name].uniform(batch_key=jax.random.key(6), key=keys[0], rank=jnp.float32(0))
    assert abs(other - u[0]) > 1e-4  # another batch, another offset


def test_log_normal_is_cut_off():
    """All mass between the ends, in the proportions of the normal law (Karras et al. 2022: mean -1.2, std 1.2)."""
    sde, law = Karras(sigma_min=0.2, sigma_max=0.4), LogNormalSigma(-1.2, 1.2)
    u = (jnp.arange(1000) + 0.5) / 1000
    sigma = np.asarray(jax.vmap(lambda u: law.quantile(sde, u))(u))
    z = (np.log(np.array([0.2, 0.3, 0.4])) + 1.2) / 1.2
    cdf = [0.5 * math.erfc(-v / math.sqrt(2)) for v in z]
    assert 0.2 <= sigma.min() < 0.201 and 0.399 < sigma.max() <= 0.4
    np.testing.assert_allclose(np.mean(sigma < 0.3), (cdf[1] - cdf[0]) / (cdf[2] - cdf[0]), atol=1.5e-3)


# Weightings


class Wrong(AbstractScore):
    """A score that is off by a known amount: s = exact + 0.3 / sigma^(1/2)."""

    exact: GaussianScore

    @property
    def sde(self):
        return self.exact.sde

    def __call__(self, x, t):
        return self.exact(x, t) + 0.3 / jnp.sqrt(self.exact.sde.sigma(t))


def _losses(objective, score, sde, x0, seed=0, repeats=1):
    """[repeats, N] losses of examples, each repeat a batch of its own."""
    count = len(x0)

    def batch(key):
        batch_key, key = jax.random.split(key)
        one = lambda x0, key, rank: objective(score, x0, batch_key=batch_key, key=key, rank=rank)  # noqa: E731
        return jax.vmap(one)(x0, jax.random.split(key, count), jnp.arange(count) / count)

    return np.asarray(jax.jit(jax.vmap(batch))(jax.random.split(jax.random.key(seed), repeats)))


def test_the_likelihood_weighting_makes_every_law_of_t_equal():
    sde = VP(t_min=1e-3)
    score = Wrong(GaussianScore(sde, np.zeros(2), np.ones(2)))
    x0 = jax.random.normal(jax.random.key(1), (256, 2))
    # |sigma s + z|^2 = |sigma s_exact + z|^2 + 0.09 sigma D; for unit data of VP the first is D alpha^2.
    t = np.asarray(_times(sde))
    values = np.asarray(
        jax.vmap(lambda t: sde.g2(t) / sde.sigma(t) ** 2 * (sde.alpha(t) ** 2 + 0.09 * sde.sigma(t)))(t)
    )
    exact = np.sum((values[1:] + values[:-1]) / 2 * np.diff(t))
    for name, law in LAWS.items():
        means = _losses(Objective(LikelihoodWeighting(), law), score, sde, x0, repeats=36).mean(axis=1)
        error = means.std() / 6
        assert abs(means.mean() - exact) < 4 * error, (name, means.mean(), exact, error)
        assert error < 0.1 * exact


def test_the_effective_share_is_that_of_the_draws():
    """1 / E[w^2] of the normalised weights of 20,000 draws of the law, which see the integrand of data N(0, I) under
    VP."""
    sde = VP(t_min=1e-3)
    for name, law in LAWS.items():
        t = jax.vmap(lambda u, law=law: law.quantile(sde, u))((jnp.arange(20_000) + 0.5) / 20_000)
        w = np.asarray(
            jax.vmap(lambda t, law=law: sde.g2(t) / sde.sigma(t) ** 2 * sde.alpha(t) ** 2 / law.density(sde, t))(t),
            np.float64,
        )
        # The weights have long tails: their mean square is told to some per cent.
        assert effective_share(law, sde) == pytest.approx(w.mean() ** 2 / np.mean(w**2), rel=0.05), name


@pytest.mark.parametrize("sde", [SubVP(), Cosine(), VP(t_min=1e-7)], ids=["sub-VP", "Cosine", "VP"])
def test_likelihood_weighting_refuses_a_law_without_mass_where_the_integral_needs_it(sde):
    """Sub-VP under the log-normal law had a loss of 45.9 where the integral is 103.5, and an honest-looking error bar
    (z = -12.5): float32 uniforms never reach the times that are missing."""
    objective = Objective(LikelihoodWeighting(), LogNormalSigma())
    with pytest.raises(ConfigError, match="LogNormalSigma .* UniformLogSNR"):
        objective.check(sde)
    for law in (UniformLogSNR(), UniformLogSigma()):
        Objective(LikelihoodWeighting(), law).check(sde)
    Objective(SigmaSquared(), LogNormalSigma()).check(sde)  # which asks for no such integral
    with pytest.raises(ConfigError, match="effective share"):
        fit(
            NetworkScore(sde, Network.init(lambda rngs: MLP((2,), width=4, depth=1, rngs=rngs), key=jax.random.key(0))),
            None,
            steps=1,
            batch_size=8,
            objective=objective,
        )


@every_sde
def test_published_laws_go_with_the_likelihood_weighting(sde):
    """Uniform t at the published t_min, and both laws of importance sampling."""
    for law in (StratifiedTime(), UniformLogSNR(), UniformLogSigma()):
        Objective(LikelihoodWeighting(), law).check(sde)


def test_unit_data_under_edm_preconditioning_is_the_velocity_of_i_dode():
    """sigma_data = 1, alpha^2 + sigma^2 = 1: F is minus v = alpha z - sigma x_0, and the law log-sigma makes its weight
    one number.

    Zheng et al. 2023 (i-DODE): loss = Z / 2 |v - v_hat|^2 with Z = log((1 + e^13.3) / (1 + e^-5)); Cosine has these
    log-SNRs.
    """
    sde = Cosine(log_snr_min=-5.0, log_snr_max=13.3)
    raw = lambda x, c, label, key=None: 0.3 * x**2 + 0.1 * c[:, None]  # noqa: E731
    score = NetworkScore(sde, raw, EDMPreconditioning(1.0))
    objective = Objective(LikelihoodWeighting(), UniformLogSigma(), half_sum)
    x0, key = jnp.array([0.5, -0.7]), jax.random.key(0)
    Z = math.log((1 + math.exp(13.3)) / (1 + math.exp(-5.0)))
    for u in np.linspace(0.01, 0.99, 9):
        t = objective.time_law.quantile(sde, jnp.float32(u))
        np.testing.assert_allclose(2 * np.log(sde.sigma(t)), -math.log(1 + math.exp(13.3)) + u * Z, atol=1e-4)
        x, z = sde.perturb(x0, t, key=key)
        v = sde.alpha(t) * z - sde.sigma(t) * x0
        v_hat = -raw(x[None], -sde.log_snr(t)[None] / 8, None)[0]
        np.testing.assert_allclose(objective.at(score, x0, t, key=key), Z / 2 * jnp.sum((v - v_hat) ** 2), rtol=1e-3)


class Shifted(AbstractScore):
    """The exact score, off by shift / sigma."""

    exact: AbstractScore
    sde: VP
    shift: jax.Array

    def __call__(self, x, t):
        return self.exact(x, t) + self.shift / self.sde.sigma(t)


def test_the_exact_score_has_the_least_loss():
    """E|sigma s + z|^2 = E|sigma s* + z|^2 + sigma^2 E|s - s*|^2, at every time."""
    sde = VP()
    exact = mixture(sde, dimension=2)
    x0 = jax.vmap(lambda key: exact.sample(jnp.float32(sde.t_min), key=key))(jax.random.split(jax.random.key(0), 2000))

    @jax.jit
    def losses(shift, time):
        def one(x0, key):
            score = Shifted(exact, sde, shift)
            return Objective(SigmaSquared()).at(score, x0, time, key=key)

        return jax.vmap(one)(x0, jax.random.split(jax.random.key(1), len(x0)))

    for time in jnp.array([0.01, 0.3, 0.9]):
        for shift in jnp.array([-0.5, 0.5]):
            excess = np.asarray(losses(shift, time) - losses(jnp.zeros(()), time))
            assert abs(excess.mean() - shift**2) < 4 * excess.std() / math.sqrt(len(excess))


def test_edm_weighting_is_that_of_karras(x64):
    """w |sigma s + z|^2 = (sigma^2 + c^2) / (sigma c)^2 |D(x) - x0|^2 (Karras et al. 2022, table 1, loss weighting)."""
    sde, c = Karras(), 0.7
    score = mixture(sde, dimension=3)
    x0, key = jnp.array([0.3, -1.0, 0.5]), jax.random.key(2)
    for sigma in (0.002, 0.3, 5.0, 80.0):
        t = jnp.asarray(sigma)
        x_t, z = sde.perturb(x0, t, key=key)
        loss = jnp.sum(EDMWeighting(DataSpectrum(c)).error(score, x0, x_t, z, t, jnp.asarray(jnp.nan)))
        denoised, weight = score.denoise(x_t, t), (sigma**2 + c**2) / (sigma * c) ** 2
        np.testing.assert_allclose(loss, weight * jnp.sum((denoised - x0) ** 2), rtol=1e-8)
        noise = Objective(SigmaSquared(), reduce=jnp.sum).at(score, x0, t, key=key)
        np.testing.assert_allclose(loss, weight * sigma**2 * noise, rtol=1e-8)


# The step


class Points:
    """A data set in memory whose batches at some steps are spoiled."""

    def __init__(self, spoiled=()):
        self.spoiled = set(spoiled)
        self.values = np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32)

    def encode(self, value):
        return value

    def stream(self, seed, batch_size, start, *, rows):
        def batches():
            step = start
            while True:
                value = np.roll(self.values, step * batch_size, axis=0)[:batch_size][rows].copy()
                if step + 1 in self.spoiled:
                    value[0, 0] = np.nan
                yield {"value": value, "condition": {}}
                step += 1

        return batches()


def _score(width=16, dropout=0.0):
    network = Network.init(
        lambda rngs: MLP((2,), width=width, depth=1, dropout=dropout, rngs=rngs), key=jax.random.key(0)
    )
    return NetworkScore(VP(), network, EDMPreconditioning(1.0))


class Recorder:
    """In the place of a `Run`: keeps what `fit` passes on."""

    def __init__(self, start=None):
        self.start, self.states, self.metrics = start, {}, {}

    def begin(self, like, start, *, steps, batch_size):
        state = start()
        self.states[0] = jax.tree.map(np.array, state)
        return state

    def reading(self, batches):
        return batches

    def after_step(self, step, state, metrics):
        self.states[step] = jax.tree.map(np.array, state)
        self.metrics[step] = {name: float(value) for name, value in metrics.items()}

    def end(self, state):
        self.ended = int(state.step)


@functools.cache
def _whole():
    """Six steps, with dropout and two averages."""
    return _fit(dropout=0.2, ema=(0.9, 0.15, 40.0))


def _fit(dataset=None, **options):
    recorder = Recorder()
    defaults = dict(steps=6, batch_size=32, optimizer=optax.adam(1e-2), ema=(0.9,))
    fit(
        _score(options.pop("width", 16), options.pop("dropout", 0.0)),
        dataset or Points(),
        run=recorder,
        **defaults | options,
    )
    return recorder


def _equal(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_a_step_that_is_not_finite_changes_nothing_but_the_counters():
    recorder = _fit(Points(spoiled=[3]), layout=Parallelism(accumulation=2))
    before, after = recorder.states[2], recorder.states[3]
    for part in ("params", "ema", "opt_state", "key"):
        assert _equal(getattr(before, part), getattr(after, part))
    assert (int(after.step), int(after.skipped), int(after.skipped_in_a_row)) == (3, 1, 1)
    assert math.isnan(recorder.metrics[3]["loss"]) and recorder.metrics[3]["skipped"] == 1
    last = recorder.states[6]
    assert (int(last.step), int(last.skipped), int(last.skipped_in_a_row)) == (6, 1, 0)
    assert not _equal(last.params, after.params) and np.isfinite(recorder.metrics[6]["loss"])


def test_after_many_such_steps_the_state_stays_the_last_good_one():
    """Even where the host has not looked yet and a good batch follows."""
    recorder = _fit(Points(spoiled=range(2, 2 + MAX_SKIPPED)), steps=MAX_SKIPPED + 3)
    first, last = recorder.states[1], recorder.states[MAX_SKIPPED + 3]
    assert _equal(first.params, last.params) and _equal(first.opt_state, last.opt_state) and _equal(first.ema, last.ema)
    assert int(last.skipped_in_a_row) == MAX_SKIPPED + 2


def test_a_run_gives_up_and_keeps_the_last_good_checkpoint(tmp_path):
    def attempt(spoiled, steps=30):
        options = dict(meta={"config": {}}, accept=lambda meta: None, watch=lambda state, path: {})
        with Run(tmp_path, cadence=Intervals(log=1, checkpoint=2, sample=1000), **options) as run:
            return fit(_score(), Points(spoiled), steps=steps, batch_size=32, optimizer=optax.adam(1e-2), run=run)

    with pytest.raises(
        NumericError, match=f"not finite {MAX_SKIPPED} times in a row, at step 15; the checkpoint at step 14"
    ):
        attempt(spoiled=range(6, 31))
    # Checkpoints of skipped steps hold the parameters of step 5; with good data the run goes on from there.
    state = attempt(spoiled=[])
    assert int(state.step) == 30 and int(state.skipped_in_a_row) == 0 and int(state.skipped) == 9
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_accumulation_changes_nothing_but_rounding():
    one, four = _whole(), _fit(layout=Parallelism(accumulation=4), dropout=0.2, ema=(0.9, 0.15, 40.0))
    assert len(one.metrics) == len(four.metrics) == 6
    for step in one.metrics:
        np.testing.assert_allclose(four.metrics[step]["loss"], one.metrics[step]["loss"], rtol=1e-5)
        np.testing.assert_allclose(four.metrics[step]["grad_norm"], one.metrics[step]["grad_norm"], rtol=1e-4)


def test_averages_follow_their_formula():
    """a <- a + (1 - min(d, (1 + n)/(10 + n))) (p - a), where n counts the steps before."""
    states = _whole().states
    for decay in ("0.9", "0.15"):
        average = states[0].params
        for n in range(6):
            rate = 1 - min(float(decay), (1 + n) / (10 + n))
            average = jax.tree.map(lambda a, p: a + rate * (p - a), average, states[n + 1].params)
        for a, b in zip(jax.tree.leaves(average), jax.tree.leaves(states[6].ema[decay]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_run_averages_by_half_life():
    states = _whole().states
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, states[1].ema["40.0"], states[1].params)  # and not the parameters of the start
    half, params = states[5].ema["40.0"], states[6].params
    kept = 0.5 ** (32 / min(40, 0.05 * 5 * 32))
    for a, b, p in zip(*map(jax.tree.leaves, (half, states[6].ema["40.0"], params)), strict=True):
        close(b, kept * a + (1 - kept) * p)


def test_which_average_must_be_said_where_there_are_several():
    score = _score()
    state = fit(score, Points(), steps=2, batch_size=32, ema=(0.9, 0.15), optimizer=optax.adam(1e-1))
    assert _equal(averaged_score(score, state, 0.9).network.params, state.ema["0.9"])
    assert not _equal(state.ema["0.9"], state.ema["0.15"])
    with pytest.raises(ConfigError, match="there are"):
        averaged_score(score, state)
    with pytest.raises(ConfigError, match="no average 0.7"):
        averaged_score(score, state, 0.7)


def test_the_seed_matters_and_the_caller_keeps_the_parameters():
    score = _score()
    before = jax.tree.map(np.array, score.network.params)
    runs = [fit(score, Points(), steps=3, batch_size=32, seed=seed) for seed in (0, 1)]
    assert not _equal(runs[0].params, runs[1].params)
    assert _equal(score.network.params, before)


@pytest.mark.parametrize("remat", ["none", "block"])
def test_parameters_may_be_drawn_where_they_are_kept(remat):
    """From a score that has their shapes alone."""
    score, options = _score(), dict(steps=2, batch_size=32, layout=Parallelism(remat=remat))
    shapes = eqx.tree_at(lambda s: s.network, score, jax.eval_shape(lambda: _score().network))
    drawn = fit(shapes, Points(), params=lambda: _score().network.params, **options)
    for one, other in zip(
        jax.tree.leaves(drawn.params), jax.tree.leaves(fit(score, Points(), **options).params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_resuming_goes_on_with_the_noise_of_its_step(tmp_path):
    """In one process: 3 + 3 steps equal 6, to the bit."""
    options = dict(meta={"config": {}}, accept=lambda meta: None, watch=lambda state, path: {})
    for steps in (3, 6):
        with Run(tmp_path, cadence=Intervals(log=1, checkpoint=100, sample=100), **options) as run:
            state = fit(
                _score(dropout=0.2),
                Points(),
                steps=steps,
                batch_size=32,
                optimizer=optax.adam(1e-2),
                ema=(0.9, 0.15, 40.0),
                run=run,
            )
    assert _equal(state, _whole().states[6])


# Learning


def test_a_network_learns_the_score_of_a_mixture():
    """A few seconds bring most of the gain there is: from the loss of the start towards that of the exact score.

    Three neighbours of the ring of eight: the whole ring has no direction, so that a linear denoiser, the start, is a
    saddle which some runs take a thousand steps to leave.
    """
    sde, ring = VP(), load("gaussian_mixture", shape=(2,), levels=0, centered=True)
    train, test = (
        ArraySource(part.values[part.labels < 3], part.labels[part.labels < 3]) for part in (ring.train, ring.test)
    )
    data, points, labels = Dataset("three", train, test, 0, True, "three"), test.values, test.labels
    means = np.stack([points[labels == k].mean(axis=0) for k in range(3)])
    spread = np.concatenate([points[labels == k] - means[k] for k in range(3)]).var()
    exact = MixtureScore(sde, means, np.stack([spread * np.eye(2)] * 3), np.full(3, 1 / 3))

    network = Network.init(lambda rngs: MLP((2,), width=64, depth=2, rngs=rngs), key=jax.random.key(0))
    score = NetworkScore(sde, network, EDMPreconditioning(1.0))
    rate = optax.warmup_cosine_decay_schedule(0, 1e-2, 50, 400)
    state = fit(score, data, steps=400, batch_size=256, optimizer=optax.adam(rate), ema=(0.99,))
    held_out = lambda score: _losses(Objective(), score, sde, jnp.asarray(points), repeats=4).mean()  # noqa: E731
    start, end, least = (held_out(s) for s in (score, averaged_score(score, state), exact))
    assert least < end < start
    assert end - least < 0.4 * (start - least), (start, end, least)


def test_reduction_by_half_the_sum():
    from scoresde.train import half_sum

    sde, x0 = VP(), jnp.ones((4, 3))
    score = GaussianScore(sde, np.zeros(3), np.ones(3))
    mean, half = (
        _losses(Objective(SigmaSquared(), UniformTime(), reduce), score, sde, x0) for reduce in (jnp.mean, half_sum)
    )
    np.testing.assert_allclose(half, 1.5 * mean, rtol=1e-5)


def test_the_key_of_a_step_is_not_that_of_the_next():
    """The same batch again: the losses differ, as t and z are drawn afresh."""
    same = Points()
    same.values[:] = 1.0
    recorder = _fit(same, optimizer=optax.sgd(0.0))
    assert len({metrics["loss"] for metrics in recorder.metrics.values()}) == 6
    assert eqx.tree_equal(recorder.states[0].key, recorder.states[6].key)


def test_moments_of_bfloat16_parameters_fall():
    """Adam's second moment after one gradient of 1 and 300 of 0: (1 - b2) b2^300. In bfloat16, b2 v rounds to v and it
    stays."""
    optimizer = optax.adam(1e-3)
    state = init_state({"w": jnp.ones(4, jnp.bfloat16)}, optimizer, (0.9,), jax.random.key(0))
    opt_state, params = state.opt_state, state.params
    for gradient in [1.0] + 300 * [0.0]:
        grads = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
        opt_state = optimizer.update(grads, opt_state, params)[1]
    assert params["w"].dtype == opt_state[0].nu["w"].dtype == jnp.float32
    np.testing.assert_allclose(opt_state[0].nu["w"], 1e-3 * 0.999**300, rtol=1e-4)  # 300 roundings of float32


def test_averages_of_bfloat16_parameters_move():
    """With decay 0.9999 one step moves an average by less than bfloat16 resolves."""
    params = {"w": jnp.ones(4, jnp.bfloat16)}
    state = init_state(params, optax.sgd(0.0), (0.9999,), jax.random.key(0))
    average = state.ema["0.9999"]["w"]
    for _ in range(10):
        average = update({"0.9999": average}, jnp.full(4, 2.0, jnp.bfloat16), jnp.asarray(10**6), 1)["0.9999"]
    np.testing.assert_allclose(average, 2 - 0.9999**10, rtol=1e-6)
