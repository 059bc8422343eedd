"""Processes with one coefficient per mode: bases, formulas, samplers and likelihoods against exact answers in
float64."""

import math

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from any_process import each_process
from inventory import ALL_SDES
from spectral_oracles import (
    MATERN,
    HDMCosine,
    Responses,
    ancestral,
    data_variances,
    gaussian,
    linear_end,
    noisy_end,
    processes,
    variance_at,
)

from scoresde.errors import ConfigError
from scoresde.likelihood import elbo, elbo_per_mode, gaussian_kl, log_likelihood, relative_log_prob
from scoresde.sample import (
    DDIM,
    SEEDS,
    DPMSolverPP,
    DPMSolverPPSinglestep,
    FixedGrid,
    GottaGoFast,
    Langevin,
    PredictorCorrector,
    ProbabilityFlow,
    ReverseDiffusion,
    ReverseSDE,
    SASolver,
    SDEDPMSolverPP,
    UniPC,
    denoised_draw,
    draw,
    geometric,
    sample,
    uniform,
    uniform_log_snr,
)
from scoresde.score import EDMPreconditioning, EpsPreconditioning, GaussianScore, NetworkScore, ScorePreconditioning
from scoresde.sde import (
    DCT,
    VP,
    Blur,
    Cold,
    Coloured,
    Fourier,
    Gram,
    Haar,
    Heat,
    Karras,
    Kernel,
    Pixel,
    PowerLaw,
    basis,
    coloured_vp,
    exponential,
    fade,
    inverse_heat,
    mask,
    matern,
    pixelate,
    rbf,
    resample,
)
from scoresde.train import EDMWeighting, NoiseField


def slow_if(names, *slow: str) -> list:
    """Names as parameters; the slow ones are relatives of the others and left to `pytest -m slow`."""
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in names]


PROCESSES = list(processes())
every_process = pytest.mark.parametrize("name", PROCESSES)
BASES = {
    "DCT": DCT(24), "DCT of fields": DCT((6, 10), (2.0, 5.0)), "Fourier": Fourier(9), "Fourier, even": Fourier((4, 6)),
    "Haar": Haar((8, 4)), "Kernel": None, "Pixel": Pixel((5,)),
}  # fmt: skip


def kernel_basis() -> Kernel:
    """In the precision of the test."""
    return Kernel(np.random.default_rng(0).uniform(size=(12, 2)), matern(1.5, 0.3))


# Bases


@pytest.mark.parametrize("name", BASES)
def test_a_basis_is_orthonormal(name, x64):
    b = BASES[name] or kernel_basis()
    x, y = jax.random.normal(jax.random.key(0), (2, *b.shape, 3))
    c, d = b.to_modes(x), b.to_modes(y)
    np.testing.assert_allclose(b.from_modes(c), x, atol=1e-12)
    # With the mean over the points for inner product; Pixel has their sum.
    np.testing.assert_allclose(jnp.sum(c * d), jnp.sum(x * y) * b.white**2, rtol=1e-12)
    jacobian = jax.jacfwd(lambda x: b.to_modes(x).ravel())(x).reshape(x.size, x.size)
    np.testing.assert_allclose(b.pixel_logdet(x.shape), jnp.linalg.slogdet(jacobian)[1], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(b.field_variance(jnp.full((*b.shape, 1), 0.3 * b.white**2)), 0.3, rtol=1e-12)


@pytest.mark.parametrize("b", [DCT(40, (3.0,)), Fourier(41, (3.0,))], ids=["DCT", "Fourier"])
def test_modes_are_eigenfunctions_of_the_laplacian(b, x64):
    """-phi'' = lambda phi, by second differences of the mode on a grid so fine that they are derivatives."""
    n, h = 4001, 3.0 / 4001
    fine = b.at(n)
    for k in (0, 1, 2, 5):
        phi = fine.from_modes(jnp.zeros((n, 1)).at[k].set(1.0))[:, 0]
        second = (phi[2:] - 2 * phi[1:-1] + phi[:-2]) / h**2
        np.testing.assert_allclose(
            -second, b.eigenvalues[k, 0] * phi[1:-1], atol=2e-3 * (1 + float(b.eigenvalues[k, 0])) ** 2
        )


@pytest.mark.parametrize(
    "b", [DCT(12), Fourier(13), DCT((4, 6), (1.0, 2.0)), Haar(16)], ids=["DCT", "Fourier", "fields", "Haar"]
)
def test_a_function_has_the_same_coefficients_on_every_grid_that_resolves_it(b, x64):
    finer = b.at(tuple(2 * n for n in b.shape) if not isinstance(b, Fourier) else 25)
    c = jax.random.normal(jax.random.key(1), (*b.shape, 2))
    there = resample(c, b, finer)
    np.testing.assert_allclose(resample(there, finer, b), c)
    if isinstance(b, DCT):  # points differ: the coarse value at s is the fine series at s
        field = finer.from_modes(there)
        np.testing.assert_allclose(finer.to_modes(field), there, atol=1e-12)
        np.testing.assert_allclose(jnp.mean(field**2), jnp.mean(b.from_modes(c) ** 2), rtol=1e-12)
    if isinstance(b, Haar):
        np.testing.assert_allclose(finer.from_modes(there)[::2], b.from_modes(c), atol=1e-12)
    assert b.at(finer.shape).lengths == b.lengths


def test_long_axes_take_the_fast_transform(x64, monkeypatch):
    b = DCT((20, 6))
    x = jax.random.normal(jax.random.key(0), (20, 6, 2))
    by_matrix = b.to_modes(x)
    monkeypatch.setattr(basis, "LARGEST_MATRIX", 10)
    np.testing.assert_allclose(b.to_modes(x), by_matrix, atol=1e-13)
    np.testing.assert_allclose(b.from_modes(by_matrix), x, atol=1e-12)


@pytest.mark.parametrize(
    "kernel, at_1",
    [(rbf(2.0), math.exp(-1 / 8)), (exponential(2.0), math.exp(-0.5)), (matern(0.5, 2.0), math.exp(-0.5))],
)
def test_kernels_keep_their_convention_of_length(kernel, at_1):
    assert kernel(np.array([0.0, 1.0])) == pytest.approx([1.0, at_1])
    root = math.sqrt(3) / 2
    assert matern(1.5, 2.0)(np.array([1.0])) == pytest.approx([(1 + root) * math.exp(-root)])


def test_a_kernel_basis_diagonalises_its_gram_matrix(x64):
    b = kernel_basis()
    points = np.asarray(b.points)
    gram = matern(1.5, 0.3)(np.linalg.norm(points[:, None] - points[None], axis=-1))
    modes = jax.vmap(lambda c: b.from_modes(c[:, None])[:, 0])(jnp.diag(jnp.sqrt(b.variances[:, 0])))
    np.testing.assert_allclose(modes.T @ modes, gram, atol=1e-12)


# Noise


@pytest.mark.parametrize("n", [32, 128])
def test_coloured_noise_has_the_pointwise_variance_of_its_modes(n):
    """On every grid, and for a kernel k(0) at each point: 1, not the 4.93 of draws through K without its square
    root."""
    count = 20_000
    kernel = Kernel(np.linspace(0, 1, n), exponential(0.3))
    for sde, expected in ((coloured_vp(DCT(n), MATERN), None), (Coloured(kernel, Gram()), 1.0)):
        x = jax.vmap(lambda key, sde=sde: sde.basis.from_modes(sde.sample_prior((n, 1), key=key)))(
            jax.random.split(jax.random.key(0), count)
        )
        total = jnp.sum(sde.sigma(sde.t_max) ** 2)
        np.testing.assert_allclose(jnp.mean(x**2), total if expected is None else expected, rtol=0.02)
        assert sde.basis.field_variance(sde.sigma(sde.t_max) ** 2) == pytest.approx(float(total), rel=1e-5)
        if expected is not None:
            np.testing.assert_allclose(jnp.var(x, axis=0), 1.0, rtol=0.05)


def test_noise_on_two_grids_has_the_same_law():
    """Modes that both have carry the same variance."""
    sde = coloured_vp(DCT(32), MATERN)
    np.testing.assert_allclose(sde.at(128).sigma(0.4)[:32], sde.sigma(0.4), rtol=1e-6)
    white = Blur(DCT(32), blur_max=0.0)
    assert float(white.at(128).sigma(0.4) / white.sigma(0.4)) == pytest.approx(0.5)


def test_noise_through_a_kernel_without_its_root_is_five_times_too_large():
    """K z has the covariance K K: its variance is 4.93 on the 100 points of HDM's quadratic curves, in place of k(0) =
    1."""
    points = np.linspace(-10, 10, 100)
    gram = rbf(0.8 / math.sqrt(2))(abs(points[:, None] - points))  # exp(-d^2 / 0.8^2)
    assert np.mean(np.diag(gram @ gram)) == pytest.approx(4.93, rel=0.02)
    b = Kernel(points, rbf(0.8 / math.sqrt(2)), jitter=1e-6)
    np.testing.assert_allclose(jnp.sum(b.variances), 1.0, rtol=1e-5)  # the mean variance of a field


# Formulas


def test_the_drift_of_blur_has_no_factor_of_the_blur_itself(x64):
    """f = d log alpha/dt holds -lambda tau' d(exp)/exp, not -lambda tau' exp(-lambda tau): that one is off by up to
    970."""
    n, t = 32, 0.3
    sde = Blur(DCT(n, (float(n),)), blur_max=20.0, min_scale=1e-12)
    lam = np.asarray(sde.basis.eigenvalues)
    s, c = math.sin(math.pi * t / 2), math.cos(math.pi * t / 2)
    tau, slope = 0.5 * (20 * s**2) ** 2, 400 * s**3 * c * math.pi
    inside = sde.process.f(t)
    exact = inside - lam * slope / (1 + 1e-12 * np.exp(lam * tau))
    np.testing.assert_allclose(sde.f(t), exact, rtol=1e-6)
    wrong = inside - lam * slope * np.exp(-lam * tau)
    assert np.max(abs(wrong - (inside - lam * slope))) == pytest.approx(970, rel=0.01)


@pytest.mark.parametrize("index", [0.0, 0.5, 1.0])
def test_heat_has_the_moments_of_its_equation(index, x64):
    """d mean = -beta d/2 mean, d var = beta (q - d var) with d = s + lambda, q = d^-index, by Runge-Kutta (A1)."""
    n = 32
    sde = Heat(DCT(n, (float(n),)), index=index)
    d = 1 + (np.pi * np.arange(n) / n) ** 2
    q = d**-index

    def beta(t):
        return np.pi / 1.008 * np.tan((t + 0.008) / 1.008 * np.pi / 2)

    def slope(t, y):
        return np.stack([-0.5 * beta(t) * d * y[0], beta(t) * (q - d * y[1])])

    y, times = np.stack([np.ones(n), np.zeros(n)]), np.linspace(0, 0.9, 10_001)
    for a, b in zip(times, times[1:]):
        h = b - a
        k1 = slope(a, y)
        k2 = slope(a + h / 2, y + h / 2 * k1)
        k3 = slope(a + h / 2, y + h / 2 * k2)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(b, y + h * k3))
    np.testing.assert_allclose(sde.alpha(0.9)[:, 0], y[0], atol=1e-12)
    np.testing.assert_allclose(sde.sigma(0.9)[:, 0] ** 2, y[1], atol=1e-12)


@every_process
def test_noise_only_grows(name, x64):
    """g^2 >= 0 in every mode, and lambda falls, or stands still (A2)."""
    sde = processes()[name]
    for t in np.linspace(sde.t_min, sde.t_max, 21)[1:-1]:
        assert bool(jnp.all(sde.g2(t) >= 0))
        np.testing.assert_allclose(sde.time_of_log_snr(sde.reference_log_snr(t)), t, rtol=1e-9)
        h = 1e-6
        variance = (sde.sigma(t + h) ** 2 - sde.sigma(t - h) ** 2) / (2 * h)
        np.testing.assert_allclose(sde.g2(t), variance - 2 * sde.f(t) * sde.sigma(t) ** 2, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ALL_SDES)
def test_a_process_with_one_coefficient_goes_by_it(name):
    sde = ALL_SDES[name]
    t = 0.5 * (sde.t_min + sde.t_max)
    assert float(sde.reference_log_snr(t)) == float(sde.log_snr(t))
    x = jnp.arange(3.0)
    assert sde.basis.to_modes(x) is x and sde.basis.pixel_logdet((3,)) == 0


def test_blur_keeps_a_scale_in_every_mode():
    """Also at t = 1 with 20 pixels of blur, where the factor of the highest mode would be e^-1974."""
    sde = Blur(DCT(32, (32.0,)))
    ratio = jnp.exp(sde.log_alpha(1.0) - sde.process.log_alpha(1.0))
    assert float(ratio[-1, 0]) == pytest.approx(1e-3, rel=1e-4) and float(ratio[0, 0]) == pytest.approx(1)


# Samplers on Gaussian data: exact laws, no sampling (A3, A4)

A3 = {  # steps -> Euler-Maruyama, ancestral, DDIM, Heun
    25: (0.01785, 0.05721, 0.03314, 1.6e-4),
    50: (0.00850, 0.03087, 0.01678, 4e-5),
    100: (0.00415, 0.01623, 0.00845, 1e-5),
}


def matern_data(n: int):
    """(process, data variances, variances of the prior) of A3: coefficients on [0, 1], trace-class noise."""
    sde = Coloured(DCT(n), MATERN, HDMCosine())
    return sde, 30 * (9 + np.asarray(sde.basis.eigenvalues)) ** -2.0, MATERN(sde.basis)


def wasserstein(found, exact) -> float:
    return float(jnp.sqrt(jnp.sum((jnp.sqrt(found) - jnp.sqrt(exact)) ** 2)))


def euler_maruyama(sde, variances, start, steps: int):
    """ReverseSDE(Euler) with a channel for each increment."""
    shape = (*sde.basis.shape, steps + 1)
    x_T = jnp.broadcast_to(jnp.sqrt(start), shape) * jax.nn.one_hot(0, steps + 1, dtype=float)

    class Known(FixedGrid):
        def brownian(self, sde, **of):
            return Responses(-self.grid(sde, self.steps), shape)

    x = ReverseSDE(dfx.Euler(), Known(steps, uniform))(
        gaussian(sde, variances, steps + 1), x_T, key=jax.random.key(0)
    ).x
    return jnp.sum(x**2, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    "steps", [pytest.param(25, marks=pytest.mark.slow), 50, pytest.param(100, marks=pytest.mark.slow)]
)
def test_sampler_errors_on_functions_are_the_known_ones(steps, x64, monkeypatch):
    sde, v, q = matern_data(512)
    found = (
        wasserstein(euler_maruyama(sde, v, q, steps), v),
        wasserstein(noisy_end(ancestral(steps, uniform), sde, v, q, steps, monkeypatch), v),
        wasserstein(linear_end(DDIM(steps, uniform), sde, v, q), v),
        wasserstein(linear_end(ProbabilityFlow(dfx.Heun(), FixedGrid(steps, uniform)), sde, v, q), v),
    )
    np.testing.assert_allclose(found[:3], A3[steps][:3], rtol=0.02)
    assert found[3] == pytest.approx(A3[steps][3], rel=0.1, abs=5e-6)  # to the digits that are known


def test_sampler_errors_do_not_depend_on_the_grid(x64):
    """Trace-class noise: the error of n = 32 is that of n = 2048. White noise: it is not (A4)."""
    errors = []
    for n in (32, 128, 512, 2048):
        sde, v, q = matern_data(n)
        errors.append(wasserstein(linear_end(DDIM(100, uniform), sde, v, q), v))
    assert max(errors) / min(errors) - 1 < 1e-3
    white = []
    for n in (32, 512):
        sde = Blur(DCT(n), HDMCosine(), blur_max=0.0)
        v = 30 * (9 + np.asarray(sde.basis.eigenvalues)) ** -2.0
        white.append(wasserstein(linear_end(DDIM(100, uniform), sde, v, jnp.full_like(v, 1 / n)), v))
    assert white[1] / white[0] > 2


@pytest.mark.parametrize("steps", [20, 100])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_heat_is_sampled_through_alphas_below_float32(steps, precision):
    """DDIM in x_0 on the two-dimensional heat equation, whose alpha falls to e^-93, against the recursion of its
    variance in NumPy; it falls short of the data by some 0.16 (20 steps) and 0.035 (100) in relative W2."""
    n = 32
    with jax.enable_x64(precision == "float64"):
        sde = Heat(DCT((n, n), (n, n)), index=0.1)
        start = sde.sigma(sde.t_max) ** 2
        assert float(jnp.min(sde.log_alpha(sde.t_max))) < -90
        f = np.pi * np.arange(n) / n
        lam = (f[:, None] ** 2 + f**2)[..., None]
        v = 1 / (lam + (np.pi / n) ** 2) / 20
        end = np.asarray(linear_end(DDIM(steps, uniform), sde, v, start), np.float64)
        times = np.asarray(uniform(sde, steps), np.float64)

    def log_a(t):
        return np.log(np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) * (1 + lam)

    def noise(t):
        return np.sqrt(-np.expm1(2 * log_a(t)) * (1 + lam) ** -1.1)

    by_hand = noise(times[0]) ** 2
    for t, after in zip(times, times[1:]):
        posterior = np.exp(log_a(t)) * v / (np.exp(2 * log_a(t)) * v + noise(t) ** 2)
        kept = noise(after) / noise(t)
        by_hand *= (kept + (np.exp(log_a(after)) - np.exp(log_a(t)) * kept) * posterior) ** 2
    np.testing.assert_allclose(end, by_hand, rtol=1e-9 if precision == "float64" else 1e-3)
    relative = np.sqrt(np.sum((np.sqrt(end) - np.sqrt(v)) ** 2) / np.sum(v))
    assert relative == pytest.approx({20: 0.16, 100: 0.035}[steps], rel=0.1)


DETERMINISTIC = {
    "DDIM": DDIM, "DPM++ 2S": DPMSolverPPSinglestep, "DPM++ 2M": DPMSolverPP, "DPM++ 3M": lambda n: DPMSolverPP(n,
    order=3), "UniPC": UniPC,
    "UniPC-1": lambda n: UniPC(n, order=1), "SA-Solver, tau 0": lambda n: SASolver(n, tau=0.0),
    "Heun": lambda n: ProbabilityFlow(dfx.Heun(), FixedGrid(n, uniform)),
}  # fmt: skip
STOCHASTIC = {  # how it is built, normals a step, order of the variance
    "DDIM, eta 1": (lambda n: DDIM(n, eta=1.0), 1, 1), "SDE-DPM++ 2M": (SDEDPMSolverPP, 1, 2), "SEEDS": (SEEDS, 2, 2),
    "ancestral": (lambda n: ancestral(n, uniform_log_snr), 1, 1),
    "SA-Solver": (lambda n: SASolver(n, tau_low=0.0, tau_high=1e9), 1, 2),
}  # fmt: skip


def relative_error(found, exact) -> float:
    return wasserstein(found, exact) / float(jnp.sqrt(jnp.sum(exact)))


def targets():
    """{process: (object that differs in a number alone, data variances, the variances of p_T, those at t_min)}."""
    together, found = each_process(processes()), {}
    for name, sde in processes().items():
        v = data_variances(sde) * sde.basis.field_variance(sde.sigma(sde.t_max) ** 2 + 0.1)
        ends = (jnp.broadcast_to(variance_at(sde, v, t), v.shape) for t in (sde.t_max, sde.t_min))
        found[name] = together[name], v, *ends
    return found


@pytest.mark.parametrize("label", slow_if(DETERMINISTIC, "DPM++ 2S", "DPM++ 3M", "UniPC-1", "SA-Solver, tau 0"))
def test_the_flow_reaches_the_law_in_every_mode(label, x64):
    """From the exact p_T, without sampling; the error halves at least when the steps double twice."""
    for name, (sde, v, start, exact) in targets().items():
        coarse, fine = (relative_error(linear_end(DETERMINISTIC[label](n), sde, v, start), exact) for n in (60, 240))
        assert fine < max(0.5 * coarse, 1e-7) and fine < 0.06, name


@pytest.mark.parametrize("label", slow_if(STOCHASTIC, "ancestral", "SA-Solver"))
def test_noise_reaches_the_law_in_every_mode(label, x64, monkeypatch):
    """No sampling: the error is the discretisation alone. At 120 steps it is at most 0.107 for first order (Pixelate;
    elsewhere 0.053) and 0.0083 for second order (SA-Solver on Pixelate). From 60 to 120 steps it falls at least by 1.77
    and 3.2, where the orders give 2 and 4 in the limit."""
    build, normals, order = STOCHASTIC[label]
    largest, least_fall = {1: (0.11, 1.7), 2: (0.009, 3.0)}[order]
    for name, (sde, v, start, exact) in targets().items():
        coarse, fine = (
            relative_error(noisy_end(build(n), sde, v, start, n * normals, monkeypatch), exact) for n in (60, 120)
        )
        assert fine < largest and coarse > least_fall * fine, name


def test_cold_diffusion_is_ddim(x64):
    """Algorithm 2 of Bansal et al. 2023, x <- x - D(R, s) + D(R, s'), is DDIM at constant sigma (A7)."""
    sde = inverse_heat(32, blur_min=0.5, blur_max=16.0)
    score, x = (
        gaussian(sde, 1 / (1 + 50 * np.asarray(sde.basis.eigenvalues))),
        jax.random.normal(jax.random.key(0), (32, 1)),
    )
    times = uniform(sde, 12)
    by_hand = x
    for t, after in zip(times, times[1:]):
        restored = score.denoise(by_hand, t)
        by_hand = by_hand - sde.alpha(t) * restored + sde.alpha(after) * restored
    np.testing.assert_allclose(DDIM(12, uniform)(score, x, key=jax.random.key(0)).x, by_hand, rtol=1e-14)


def test_inverse_heat_needs_no_calibration_of_its_noise(x64):
    """With exact regressors the flow keeps the deviation of every mode above 0.93 of the truth; published sampling at
    delta = 1.25 sigma falls to 0.79."""
    sde = inverse_heat(32, blur_min=0.05, blur_max=16.0)
    v = 1 / (1 + 50 * np.asarray(sde.basis.eigenvalues)) / 32
    end = linear_end(DDIM(200, uniform), sde, v, variance_at(sde, v, sde.t_max))
    score = gaussian(sde, v)
    final = score.denoise(jnp.sqrt(end), sde.t_min) / jnp.sqrt(v)
    assert float(jnp.min(final)) > 0.93 and float(jnp.max(final)) < 1.001


# The denoiser and the grid (A9)


@pytest.mark.parametrize("noise, difference", [("trace class", 0.0), ("white", 0.32)])
def test_the_denoiser_of_a_function_on_two_grids(noise, difference, x64):
    coefficients = np.random.default_rng(0).normal(size=64)
    found = []
    for n in (64, 256):
        sde = (
            Coloured(DCT(n), MATERN, HDMCosine()) if noise == "trace class" else Blur(DCT(n), HDMCosine(), blur_max=0.0)
        )
        v = 30 * (9 + np.asarray(sde.basis.eigenvalues)) ** -2.0
        x = np.zeros((n, 1))
        x[:64, 0] = coefficients * np.sqrt(v[:64, 0])
        found.append(gaussian(sde, v).denoise(jnp.asarray(x), 0.6)[:64])
    relative = float(jnp.linalg.norm(found[0] - found[1]) / jnp.linalg.norm(found[0]))
    if noise == "trace class":
        assert relative < 1e-12
    else:
        assert relative == pytest.approx(difference, abs=0.1)


# Networks


def in_modes(sde, preconditioning):
    """A score whose network is the same smooth function on every grid: a cosine of the field, and of the label."""
    return NetworkScore(sde, lambda x, c, label, key=None: jnp.sin(2 * x + c[:, None, None]), preconditioning)


@pytest.mark.parametrize("preconditioning", ["EDM", "eps", "score"])
def test_denoiser_and_score_of_a_network_agree(preconditioning, x64):
    """D = (x + sigma^2 s) / alpha in every mode, where alpha is not next to 0."""
    for sde in (
        coloured_vp(DCT(12), MATERN),
        Blur(DCT(12, (12.0,)), blur_max=1.0),
        Coloured(Kernel(np.linspace(0, 1, 12), exponential(0.2)), Gram()),
    ):
        of = {"EDM": EDMPreconditioning(0.7), "eps": EpsPreconditioning(), "score": ScorePreconditioning()}[
            preconditioning
        ]
        of.check(sde)
        score, x, t = in_modes(sde, of), jax.random.normal(jax.random.key(0), (12, 3)), jnp.asarray(0.3)
        np.testing.assert_allclose(
            score.denoise(x, t), (x + sde.sigma(t) ** 2 * score(x, t)) / sde.alpha(t), rtol=1e-9, atol=1e-12
        )


def test_a_network_denoises_a_function_alike_on_two_grids(x64):
    """Trace-class noise and shares of the data that are fixed on one grid: the same denoiser on 64 and 256 points. Even
    shares, of all modes that there are, change with the grid."""
    coarse = coloured_vp(DCT(64), MATERN)
    x = jnp.zeros((64, 1)).at[:12, 0].set(jax.random.normal(jax.random.key(0), (12,)) / (1 + jnp.arange(12)) ** 2)
    fixed, even = PowerLaw.normalised(coarse.basis, 2.0, 10.0), None
    for covariance, alike in ((fixed, True), (even, False)):
        found = []
        for sde in (coarse, coarse.at(256)):
            score = in_modes(sde, EDMPreconditioning(1.0, covariance))
            found.append(score.denoise(resample(x, coarse.basis, sde.basis), jnp.asarray(0.4))[:12])
        relative = float(jnp.linalg.norm(found[1] - found[0]) / jnp.linalg.norm(found[0]))
        assert (relative < 2e-3) == alike, relative


def test_losses_per_mode(x64):
    """NoiseField is the L2 error of the noise as a field; EDMWeighting that of what the network learns."""
    sde, t = coloured_vp(DCT(8), MATERN), jnp.asarray(0.4)
    of = EDMPreconditioning(0.7, PowerLaw.normalised(sde.basis, 1.0, 2.0))
    score, x0 = in_modes(sde, of), jax.random.normal(jax.random.key(0), (8, 2)) * 0.2
    x_t, z = sde.perturb(x0, t, key=jax.random.key(1))
    field = sde.basis.from_modes
    missed = field(sde.sigma(t) * z) + field(sde.sigma(t) ** 2 * score(x_t, t))
    expected = jnp.mean(missed**2) / sde.basis.field_variance(sde.sigma(t) ** 2)
    np.testing.assert_allclose(jnp.mean(NoiseField().error(score, x0, x_t, z, t, None)), expected, rtol=1e-9)
    off = field(score.denoise(x_t, t) - x0) / of.spectrum.remainder(sde, t)
    np.testing.assert_allclose(
        jnp.mean(EDMWeighting(of.spectrum).error(score, x0, x_t, z, t, None)), jnp.mean(off**2), rtol=1e-9
    )


def test_blur_without_blur_is_the_process_inside(x64):
    """In its reference log-SNR, and in the density of a field at its points."""
    sde = Blur(DCT(8, (8.0,)), blur_max=0.0)
    inside = sde.process
    assert float(sde.reference_log_snr(0.3)) == float(inside.log_snr(0.3))
    v = np.full((8, 1), 0.4)
    x = jax.random.normal(jax.random.key(0), (8, 1))
    in_pixels = GaussianScore(inside, np.zeros((8, 1)), v.ravel()).log_prob(x, 0.2)
    modal = gaussian(sde, v / 8).log_prob(sde.basis.to_modes(x), 0.2) + sde.basis.pixel_logdet((8, 1))
    np.testing.assert_allclose(modal, in_pixels, rtol=1e-12)


# Likelihood (A5, A6)


@pytest.mark.parametrize(
    "name", slow_if(PROCESSES[:-2], "ColouredVE", "Coloured by a kernel", "Blur")
)  # the last two start from data
def test_the_flow_gives_the_density_of_the_coefficients(name, x64):
    """The prior stands for p_T: their difference is taken from the answer, as in the tests of other processes."""
    sde = processes()[name]
    score = gaussian(sde, data_variances(sde) * 0.3)
    x = jax.vmap(lambda key: score.sample(sde.t_min, key=key))(jax.random.split(jax.random.key(0), 3))
    solved = log_likelihood(score, x, key=jax.random.key(1), probes=None, tolerance=1e-8)
    latent = jax.vmap(lambda x: score.log_prob(x, sde.t_max) - sde.log_prior(x))(solved.latent)
    np.testing.assert_allclose(solved.log_prob + latent, jax.vmap(lambda x: score.log_prob(x, sde.t_min))(x), atol=2e-5)


def test_likelihood_of_a_gaussian_process(x64):
    sde, v, q = matern_data(64)
    score = gaussian(sde, v)
    y = jnp.sqrt(v) * jax.random.normal(jax.random.key(0), (4, 64, 1))
    solved = log_likelihood(score, y, key=jax.random.key(1), probes=None, tolerance=1e-7)
    exact = -0.5 * jnp.sum(y**2 / v + jnp.log(2 * math.pi * v), axis=(1, 2))
    np.testing.assert_allclose(solved.log_prob, exact, atol=1e-3)  # 8.8e-4 of it are t_min = 1e-5


@pytest.mark.parametrize("name", slow_if(["ColouredVP", "ColouredVE", "Heat", "Blur"], "ColouredVP", "Blur"))
def test_the_bound_is_exact_in_every_mode(name, x64, monkeypatch):
    """E[-ELBO] = entropy of x_e / alpha_e + KL(p_T || prior), mode by mode, for the exact score (A6), less what
    denoising x_e
    gains: 1/2 E[|x_0 - x_e/alpha_e|^2 - |x_0 - D|^2] alpha^2/sigma^2. The bound is quadratic in x_0 and z: +-1
    deviations give its mean."""
    sde = processes()[name]
    v = data_variances(sde) * 0.3
    monkeypatch.setattr(jax.random, "normal", lambda key, shape, dtype=float: jnp.ones(shape, dtype))
    x0 = jnp.sqrt(v) * jnp.array([1.0, -1.0]).reshape(2, *[1] * np.ndim(v))
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, 0.5))  # the middle of each stratum
    jax.clear_caches()  # nothing traced with other noise
    terms = elbo_per_mode(gaussian(sde, v), x0, key=jax.random.key(0), samples=4000).mean(0)
    whole = elbo(gaussian(sde, v), x0, key=jax.random.key(0), samples=64)
    jax.clear_caches()
    start, end = sde.t_min, sde.t_max
    entropy = 0.5 * jnp.log(2 * math.pi * math.e * (v + sde.sigma(start) ** 2 / sde.alpha(start) ** 2))
    ratio = variance_at(sde, v, end) / sde.sigma(end) ** 2
    gain = 0.5 / (1 + v * sde.alpha(start) ** 2 / sde.sigma(start) ** 2)
    exact = entropy + 0.5 * (ratio - 1 - jnp.log(ratio)) - gain
    np.testing.assert_allclose(terms, exact, atol=1e-3 / v.size * 4)
    assert float(abs(jnp.sum(terms - exact))) < 1e-3
    assert float(-whole.log_prob.mean()) == pytest.approx(float(jnp.sum(exact)), abs=0.5)


def test_the_relative_density_has_a_limit_where_measures_are_equivalent(x64):
    """KL(N(0, C) || N(0, Q)) for n = 64 to 4096: with C = Q (I + Hilbert-Schmidt) it settles, else it grows (A10)."""
    known = {
        "equivalent": (lambda k, lam: 10 * (lam + 9) ** -1.5 * (1 + 1 / (1.0 + k)), (0.285, 0.288, 0.288, 0.289)),
        "singular": (lambda k, lam: 30 * (lam + 9) ** -2.0, (72.841, 462.287, 2551.444, 13036.468)),
    }
    for variances, expected in known.values():
        found = []
        for n in (64, 256, 1024, 4096):
            b = DCT(n)
            found.append(gaussian_kl(variances(jnp.arange(n)[:, None], b.eigenvalues), MATERN(b)))
        np.testing.assert_allclose(found, expected, atol=1e-2)


def test_the_relative_density_is_that_of_both_measures(x64):
    sde, v, q = matern_data(16)
    y = jnp.sqrt(v) * jax.random.normal(jax.random.key(0), (16, 1))
    log_p = -0.5 * jnp.sum(y**2 / v + jnp.log(2 * math.pi * v))
    relative = relative_log_prob(sde, log_p, y)
    sigma2 = sde.sigma(sde.t_max) ** 2
    np.testing.assert_allclose(relative, 0.5 * jnp.sum(y**2 / sigma2 - y**2 / v + jnp.log(sigma2 / v)), rtol=1e-9)


# A prior of degraded data


def test_a_prior_of_data_draws_degraded_data(x64):
    data = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    sde = inverse_heat((8, 8), blur_max=4.0, sigma=0.05).started_from(data)
    x = jax.vmap(lambda key: sde.basis.from_modes(sde.sample_prior((8, 8, 1), key=key)))(
        jax.random.split(jax.random.key(1), 3000)
    )
    degraded = jax.vmap(lambda x: sde.basis.from_modes(sde.alpha(1.0) * sde.basis.to_modes(x)))(data)
    nearest = jnp.min(jnp.mean((x[:, None] - degraded[None]) ** 2, axis=(2, 3, 4)), axis=1)
    np.testing.assert_allclose(jnp.mean(nearest), 0.05**2, rtol=0.02)
    means = sde.basis.to_modes(data[0])
    log_prior = sde.log_prior(sde.alpha(1.0) * means)
    mixture = jax.nn.logsumexp(
        jnp.array(
            [-0.5 * jnp.sum((sde.alpha(1.0) * (means - sde.basis.to_modes(d)) / sde.sigma(1.0)) ** 2) for d in data]
        )
    )
    np.testing.assert_allclose(
        log_prior, mixture - math.log(3) - 64 * math.log(sde.sigma(1.0) * math.sqrt(2 * math.pi)), rtol=1e-10
    )
    assert bool(
        jnp.all(
            jnp.isfinite(
                draw(DDIM(5, uniform), gaussian(sde), (8, 8, 1), keys=jax.random.split(jax.random.key(2), 2)).x
            )
        )
    )


def test_degradations_are_what_they_say():
    assert float(fade((4, 4)).alpha(1.0).max()) < 1e-3
    hidden = jnp.zeros((4, 4)).at[1:3, 1:3].set(1.0)
    alpha = mask(hidden).alpha(1.0)[..., 0]
    assert float(alpha[1, 1]) < 1e-3 and float(alpha[0, 0]) == 1
    sde, x = pixelate((8, 8)), jax.random.normal(jax.random.key(0), (8, 8, 1))
    end = sde.basis.from_modes(sde.alpha(1.0) * sde.basis.to_modes(x))
    np.testing.assert_allclose(end, jnp.full_like(x, x.mean()), atol=2e-3)


# Whatever samples, samples functions


@pytest.mark.parametrize(
    "sampler",
    [
        GottaGoFast(0.05, 0.02),
        ProbabilityFlow(),
        PredictorCorrector(150, uniform_log_snr, ReverseDiffusion(), Langevin(0.1)),
        ReverseSDE(dfx.ShARK(), FixedGrid(60, uniform_log_snr)),
    ],
    ids=["gotta go fast", "flow", "predictor-corrector", "ShARK"],
)
def test_other_samplers_draw_functions(sampler):
    """Variances of the field and of its roughest half, from 4000 channels."""
    sde = coloured_vp(DCT(8), MATERN)
    v = np.asarray(MATERN(sde.basis)) * 0.5
    score = gaussian(sde, v, channels=4000)
    x = denoised_draw(sampler, score, (8, 4000), keys=jax.random.split(jax.random.key(0), 1)).x[0]
    np.testing.assert_allclose(jnp.mean(x**2, axis=1, keepdims=True), v, rtol=0.2)


def test_samples_on_another_grid_are_the_same_functions(x64):
    """Noise that agrees in the modes of both grids gives samples that do."""
    coarse = coloured_vp(DCT(16), MATERN)
    fine = coarse.at(48)
    v = 30 * (9 + np.asarray(fine.basis.eigenvalues)) ** -2.0
    x_T = fine.sigma(fine.t_max) * jax.random.normal(jax.random.key(0), (48, 1))
    ends = [
        DPMSolverPP(20)(gaussian(sde, v[: sde.basis.shape[0]]), x_T[: sde.basis.shape[0]], key=jax.random.key(1)).x
        for sde in (coarse, fine)
    ]
    np.testing.assert_allclose(ends[1][:16], ends[0], rtol=1e-9)
    assert sample(DDIM(4), gaussian(fine, v), (48, 1), num=2, key=jax.random.key(0)).shape == (2, 48, 1)


# What is refused

WRONG = [
    (lambda: coloured_vp(DCT((8, 8)), PowerLaw(1.0)), "not trace class.*index above 2/2"),
    (lambda: Heat(DCT((8, 8)), index=0.0), "not trace class"),
    (lambda: Heat(DCT(8), screening=0.0), "screening = 0.0"),
    (lambda: Heat(DCT(8), t_max=1.0), "t_max < 1"),
    (lambda: Heat(DCT(256), index=12.0), "positive variance in every mode"),
    (lambda: Blur(DCT(8), Karras()), "t_max <= 1"),
    (lambda: ScorePreconditioning().check(fade(4)), "stands still"),
    (lambda: EpsPreconditioning().check(Heat(DCT(64, (64.0,)))), "predicts x_0"),
    (lambda: geometric(fade(4), 3), "stands still"),
    (lambda: PowerLaw(1.5, gain=0.0), "gain = 0.0"),
    (lambda: Kernel(np.linspace(0, 1, 100), rbf(0.5)), "too smooth for so fine a grid; take jitter"),
    (lambda: Kernel(np.zeros((2, 2, 2)), rbf(0.5)), r"points \[n\]"),
    (lambda: Coloured(DCT(4), Gram()), "Kernel basis"),
    (lambda: Blur(Pixel((4,))), "no eigenvalues"),
    (lambda: Blur(DCT(4), min_scale=0.0), "min_scale = 0.0"),
    (lambda: Cold(DCT(4), -jnp.ones((4, 1))), "rates of at least 0"),
    (lambda: inverse_heat(4, sigma=0.0), "sigma_noise = 0.0"),
    (lambda: inverse_heat(4).sample_prior((4, 1), key=jax.random.key(0)), "started_from"),
    (lambda: mask(jnp.ones(4)).at(8), "of one grid"),
    (lambda: Haar(6), "powers of 2"),
    (lambda: DCT(0), "at least one point"),
    (lambda: DCT((2, 3), (1.0,)), "length for each"),
    (lambda: DCT(4).to_modes(jnp.ones((5, 1))), r"field of shape \(4, 'channels'\)"),
    (lambda: resample(jnp.ones((4, 1)), DCT(4), Fourier(4)), "two grids of one basis"),
    (lambda: matern(2.0, 1.0), "0.5, 1.5 or 2.5"),
    (lambda: rbf(0.0), "length scale = 0.0"),
    (lambda: gaussian(coloured_vp(DCT(4), MATERN)).__class__(coloured_vp(DCT(4), MATERN), np.zeros((4, 1)), np.eye(4)),
    "expected the diagonal"),
]  # fmt: skip


@pytest.mark.parametrize("build, match", WRONG)
def test_bad_arguments_are_told_with_the_remedy(build, match):
    with pytest.raises(ConfigError, match=match):
        build()
    assert issubclass(ConfigError, ValueError)


def test_bases_are_static_arguments():
    assert DCT(4) == DCT(4) and hash(DCT(4)) == hash(DCT(4))
    assert rbf(1.0) == rbf(1.0) != rbf(2.0) and VP().basis == Pixel()
    assert eqx.tree_equal(coloured_vp(DCT(4), MATERN), coloured_vp(DCT(4), MATERN))
