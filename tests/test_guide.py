"""Scores given an observation: exact posteriors of Gaussian data on every kind of process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scoresde.errors import ConfigError
from scoresde.guide import (
    JointPosterior,
    ModeCovariance,
    Observation,
    Posterior,
    Replacement,
    deblur,
    inpaint,
    low_pass,
    mode_covariance,
    mode_variances,
    replace,
    restore,
    super_resolution,
)
from scoresde.sample import DDIM, DPMSolverPP, PredictorCorrector, ProbabilityFlow, ReverseDiffusion, SDEDPMSolverPP
from scoresde.score import GaussianScore
from scoresde.sde import (
    DCT,
    VE,
    VP,
    Blur,
    Coloured,
    Cosine,
    Gram,
    Haar,
    Heat,
    Kernel,
    Pixel,
    PowerLaw,
    coloured_vp,
    exponential,
    inverse_heat,
)

N = 8
DOMAIN = DCT((N,))
MEAN = np.linspace(0.5, -0.5, N)[:, None] * DOMAIN.white
VARIANCES = 4 * np.geomspace(1.0, 1e-3, N)[:, None] * DOMAIN.white**2  # of the data, by mode of the DCT
NOISE = 0.2

PROCESSES = {
    "VP": lambda: VP(t_min=1e-4),
    "VE": lambda: VE(),
    "ColouredVP": lambda: coloured_vp(DOMAIN, PowerLaw(1.5, 9.0), t_min=1e-4),
    "Blur": lambda: Blur(DCT((N,), (float(N),)), Cosine(-10.0, 10.0), blur_max=3.0),
    "Heat": lambda: Heat(DOMAIN, t_min=1e-4),
}


class Case:
    """Gaussian data with independent modes of the DCT, blurred and noisy; everything known is in these modes."""

    def __init__(self, name: str, observation: Observation | None = None):
        self.sde = PROCESSES[name]()
        self.pixels = isinstance(self.sde.basis, Pixel)
        self.score = GaussianScore(self.sde, *(_in_pixels() if self.pixels else (MEAN, VARIANCES[:, 0])))
        self.observation = deblur((N,), 1.0, sigma_y=NOISE) if observation is None else observation
        truth = DOMAIN.from_modes(jnp.asarray(MEAN + np.sqrt(VARIANCES)))
        self.y = self.observation.observe(truth, key=jax.random.key(0))
        self.mean, self.variances = gaussian_posterior(self.observation, self.y)
        self.guided = Posterior(self.score, self.observation.given(self.y), VARIANCES)

    def at(self, t, e: float) -> np.ndarray:
        """x_t | y at e standard deviations from its mean."""
        alpha, sigma = (
            np.asarray(self.sde.alpha(t)),
            np.asarray(self.sde.sigma(t)) * (DOMAIN.white if self.pixels else 1),
        )
        return alpha * self.mean + np.sqrt(alpha**2 * self.variances + sigma**2) * e

    def state(self, modes):
        return DOMAIN.from_modes(jnp.asarray(modes)) if self.pixels else jnp.asarray(modes)

    def modes(self, x) -> np.ndarray:
        return np.asarray(jax.vmap(DOMAIN.to_modes)(x) if self.pixels else x)


def _in_pixels():
    columns = np.stack([np.asarray(DOMAIN.from_modes(jnp.asarray(unit))) for unit in np.eye(N)[..., None]], axis=-1)[
        :, 0
    ]
    return np.asarray(DOMAIN.from_modes(jnp.asarray(MEAN))), columns @ np.diag(VARIANCES[:, 0]) @ columns.T


def gaussian_posterior(observation: Observation, y) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of x_0 given y, mode by mode."""
    h, s2 = np.asarray(observation.h, np.float64), observation.deviation**2
    total = np.maximum(h**2 * VARIANCES + s2, 1e-300)  # 0: not seen, and no noise
    return MEAN + VARIANCES * h / total * (np.asarray(y) - h * MEAN), np.where(h > 0, VARIANCES * s2 / total, VARIANCES)


# Exact for Gaussian data


@pytest.mark.parametrize("name", PROCESSES)
def test_the_score_is_that_of_the_posterior(name, x64):
    """(alpha m_y - x) / ... in closed form: x_t | y ~ N(alpha m_y, alpha^2 v_y + sigma^2), at every t."""
    case = Case(name)
    for t in np.linspace(case.sde.t_min, case.sde.t_max, 5):
        deviation = case.at(t, 1.0) - case.at(t, 0.0)
        x = case.state(case.at(t, 1.5))
        expected = -1.5 / deviation
        found = np.asarray(case.guided(x, t))
        # In pixels a score is a gradient with respect to points: c = white * (orthogonal matrix) x.
        found = np.asarray(DOMAIN.to_modes(jnp.asarray(found))) / DOMAIN.white**2 if case.pixels else found
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        denoised = case.modes(case.guided.denoise(x, t)[None])[0]
        shrunk = np.asarray(case.sde.alpha(t)) * case.variances / deviation**2
        np.testing.assert_allclose(denoised, case.mean + shrunk * 1.5 * deviation, atol=1e-9)


@pytest.mark.parametrize("sampler, order", [(DDIM, 1), (DPMSolverPP, 2)], ids=["DDIM", "DPM++ 2M"])
@pytest.mark.parametrize("name", PROCESSES)
def test_flows_reach_the_posterior_with_their_order(name, sampler, order, x64):
    """From e standard deviations of x_T | y to e of x at t_min: the mean to rounding, the deviation with the order."""
    case = Case(name)
    starts = jnp.stack([case.state(case.at(case.sde.t_max, e)) for e in (0.0, 1.0)])
    goal = np.stack([case.at(case.sde.t_min, e) for e in (0.0, 1.0)])
    errors = []
    for steps in (64, 128):
        solve = jax.jit(jax.vmap(lambda x, s=steps: sampler(s)(case.guided, x, key=jax.random.key(0)).x))
        errors.append(abs(case.modes(solve(starts)) - goal).max(axis=(1, 2)) / DOMAIN.white)
    assert errors[1][0] < 1e-11
    assert errors[1][1] < 2e-2 and errors[0][1] / errors[1][1] > 0.85 * 2**order


@pytest.mark.parametrize("sampler", [DDIM(512, eta=1.0), SDEDPMSolverPP(64)], ids=["DDIM, eta 1", "SDE-DPM++"])
@pytest.mark.parametrize("name", ["VP", "ColouredVP", "Heat"])
def test_stochastic_samplers_draw_from_the_posterior(name, sampler, x64):
    """Means within 5 standard errors and variances within 6 % (2 % of it noise), from the prior without y."""
    case, num = Case(name), 4096
    y = jnp.broadcast_to(case.y, (num, N, 1))
    keys = jax.random.split(jax.random.key(1), num)
    x = case.modes(restore(sampler, case.score, case.observation, jnp.asarray(VARIANCES), y, keys=keys).x)
    assert np.all(abs(x.mean(0) - case.mean) < 5 * np.sqrt(case.variances / num) + 1e-3 * DOMAIN.white)
    np.testing.assert_allclose(x.var(0), case.variances, rtol=0.13)
    assert abs((x.var(0) / case.variances).mean() - 1) < 0.06


@pytest.mark.parametrize(
    "sampler",
    [ProbabilityFlow(), PredictorCorrector(200, predictor=ReverseDiffusion())],
    ids=["flow", "reverse diffusion"],
)
def test_any_sampler_takes_it(sampler):
    """In float32, through the score rather than the data prediction."""
    case, num = Case("VP"), 512
    y = jnp.broadcast_to(jnp.asarray(case.y, jnp.float32), (num, N, 1))
    drawn = restore(
        sampler, case.score, case.observation, jnp.asarray(VARIANCES), y, keys=jax.random.split(jax.random.key(2), num)
    )
    assert drawn.ok.all()
    x = case.modes(drawn.x)
    assert np.all(abs(x.mean(0) - case.mean) < 5 * np.sqrt(case.variances / num) + 0.02 * DOMAIN.white)


@pytest.mark.parametrize(
    "observation", [low_pass((N,), 2, sigma_y=NOISE), low_pass((N,), 4), deblur((N,), 0.0)], ids=["noisy", "x4", "all"]
)
def test_modes_that_are_seen_exactly_come_back(observation, x64):
    """Without noise they are y / h; those not seen keep the law of the data; with noise, the posterior."""
    case = Case("VP", observation)
    starts = jnp.stack([case.state(case.at(case.sde.t_max, e)) for e in (0.0, 1.0)])
    solve = jax.jit(jax.vmap(lambda x: DPMSolverPP(128)(case.guided, x, key=jax.random.key(0)).x))
    found = case.modes(jax.vmap(lambda x: case.guided.denoise(x, case.sde.t_min))(solve(starts)))
    np.testing.assert_allclose(found[0], case.mean, atol=1e-9)
    np.testing.assert_allclose(
        (found[1] - found[0])[case.variances > 0], np.sqrt(case.variances)[case.variances > 0], rtol=0.02
    )
    assert np.all(abs((found[1] - found[0])[case.variances == 0]) < 1e-6)


def test_the_baseline_is_worse(x64):
    """Replacement takes a noisy observation at its word: the modes it sees have no variance left, and y's noise for an
    error."""
    case = Case("VP", low_pass((N,), 2, sigma_y=1.0))
    num = 1024
    y, keys = jnp.broadcast_to(case.y, (num, N, 1)), jax.random.split(jax.random.key(1), num)
    ours = case.modes(restore(DPMSolverPP(32), case.score, case.observation, jnp.asarray(VARIANCES), y, keys=keys).x)
    theirs = case.modes(replace(DPMSolverPP(32), case.score, case.observation, y, keys=keys).x)
    seen = np.asarray(case.observation.h)[:, 0] > 0
    error = lambda x: np.max(abs(x.mean(0) - case.mean)[seen] / np.sqrt(case.variances)[seen])
    assert error(ours) < 0.2 < 1 < error(theirs)
    assert theirs.var(0)[seen].max() < 1e-12


def curve(noise: float = 0.1):
    """A rough curve with every second point hidden: its score, what is seen, and the exact posterior of all points."""
    points = np.arange(N) / N
    covariance, hidden = np.exp(-2 * abs(points[:, None] - points)), np.arange(N) % 2 == 1
    sde = VP(t_min=1e-4)
    observation = inpaint(~hidden, sigma_y=noise)
    y = observation.observe(jnp.sin(6 * points)[:, None], key=jax.random.key(0))
    gain = covariance[:, ~hidden] @ np.linalg.inv(covariance[np.ix_(~hidden, ~hidden)] + noise**2 * np.eye(N // 2))
    posterior = gain @ np.asarray(y)[~hidden, 0], covariance - gain @ covariance[~hidden]
    return GaussianScore(sde, np.zeros((N, 1)), covariance), covariance, observation, y, posterior, hidden


def test_points_that_depend_on_each_other_are_not_exact(x64):
    """One variance per point does not know of the neighbours. The hidden points follow through the score all the same:
    more than half of what can be known about them, not all."""
    score, _, observation, y, (exact, _), hidden = curve()
    num = 1024
    keys = jax.random.split(jax.random.key(1), num)
    drawn = restore(SDEDPMSolverPP(128), score, observation, 1.0, jnp.broadcast_to(y, (num, N, 1)), keys=keys)
    error = np.asarray(drawn.x).mean(0)[:, 0] - exact
    assert np.sqrt(np.mean(error[~hidden] ** 2)) < 0.02
    assert 0.2 < np.linalg.norm(error[hidden]) / np.linalg.norm(exact[hidden]) < 0.5


def test_the_joint_posterior_of_a_curve_is_exact(x64):
    """E[x_0 | x_t, y] of the Gaussian on all points, by conditioning on (x_t, y) at once; and the law of draws."""
    score, covariance, observation, y, (exact, of_posterior), hidden = curve()
    guided = JointPosterior(score, observation.given(y), ModeCovariance(covariance))
    sde, x, eye = score.sde, np.linspace(-1, 1, N), np.eye(N)
    for t in (sde.t_min, 0.1, 0.5, sde.t_max):
        alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
        to_both = np.concatenate([alpha * eye, eye[~hidden]])
        noise = np.concatenate([np.full(N, sigma**2), np.full(N // 2, 0.01)])
        both = np.concatenate([x, np.asarray(y)[~hidden, 0]])
        expected = covariance @ to_both.T @ np.linalg.solve(to_both @ covariance @ to_both.T + np.diag(noise), both)
        np.testing.assert_allclose(guided.denoise(jnp.asarray(x)[:, None], t)[:, 0], expected, atol=1e-7)
    num = 2048
    keys = jax.random.split(jax.random.key(1), num)
    many = jnp.broadcast_to(y, (num, N, 1))
    x = np.asarray(restore(SDEDPMSolverPP(64), score, observation, ModeCovariance(covariance), many, keys=keys).x)[
        ..., 0
    ]
    assert np.all(abs(x.mean(0) - exact) < 5 * np.sqrt(np.diag(of_posterior) / num))
    np.testing.assert_allclose(np.cov(x.T), of_posterior, atol=0.03)


def test_a_diagonal_covariance_is_a_variance_per_mode(x64):
    case = Case("VP")
    joint = JointPosterior(case.score, case.observation.given(case.y), ModeCovariance(np.diag(VARIANCES[:, 0])))
    x = case.state(case.at(0.3, 0.7))
    np.testing.assert_allclose(joint(x, 0.3), case.guided(x, 0.3), rtol=1e-9)


def test_a_measured_covariance():
    x = np.random.default_rng(0).multivariate_normal(
        np.zeros(N), np.exp(-abs(np.subtract.outer(range(N), range(N)))), 4000
    )
    found = mode_covariance(Pixel((N,)), jnp.asarray(x, jnp.float32)[..., None])
    np.testing.assert_allclose((found.axes * found.variances) @ found.axes.T, np.cov(x.T), atol=1e-5)


# Operators


def test_a_blur_is_that_of_inverse_heat():
    """exp(-lambda blur^2 / 2) is alpha of the heat equation at a scale of `blur` points."""
    heat = inverse_heat((4, 8), blur_min=1.5)
    np.testing.assert_allclose(deblur((4, 8), 1.5).h, heat.alpha(0.0), rtol=1e-6)


def test_super_resolution_sees_the_means_of_blocks():
    x = jax.random.normal(jax.random.key(0), (8, 4, 3))
    observation = super_resolution((8, 4), 2)
    picture = observation.picture(observation.observe(x, key=jax.random.key(1)))
    means = np.asarray(x).reshape(4, 2, 2, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(picture, means.repeat(2, axis=0).repeat(2, axis=1), atol=1e-6)


def test_inpainting_sees_the_points_of_its_mask():
    x = jax.random.normal(jax.random.key(0), (8, 8, 1))
    mask = np.arange(64).reshape(8, 8) % 3 > 0
    seen = inpaint(mask)
    np.testing.assert_array_equal(
        seen.picture(seen.observe(x, key=jax.random.key(1)))[..., 0], np.where(mask, x[..., 0], 0)
    )


def test_noise_has_its_deviation_at_a_point():
    for observation in (deblur((32, 32), 0.0, sigma_y=0.3), inpaint(np.ones((32, 32)), sigma_y=0.3)):
        field = observation.picture(observation.observe(jnp.zeros((32, 32, 1)), key=jax.random.key(0)))
        assert abs(jnp.std(field) - 0.3) < 0.03


def test_variances_of_modes():
    x = np.random.default_rng(0).normal(size=(2000, N, 2)) * 0.5 + 1.0
    for basis in (DOMAIN, Pixel((N,)), Haar((N,))):
        np.testing.assert_allclose(mode_variances(basis, jnp.asarray(x, jnp.float32)), 0.25 * basis.white**2, rtol=0.2)


KERNEL = Kernel(np.arange(N) / N, exponential(0.2))


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: inpaint(np.array([0.0, 0.5, 1.0])), "0 (hidden) and 1 (seen)"),
        (lambda: inpaint(np.array([0.0, np.nan])), "0 (hidden) and 1 (seen)"),
        (lambda: inpaint(np.zeros((4, 4))), "at least one point"),
        (lambda: super_resolution((8, 8), 3), "divides every size of the grid (8, 8), got 3"),
        (lambda: super_resolution((6, 6), 2), "powers of 2"),
        (lambda: low_pass((6,), 4), "divides every size"),
        (lambda: low_pass((6,), 1.5), "whole factor"),
        (lambda: deblur((6,), -1.0), "blur = -1.0"),
        (lambda: deblur((6,), 1.0, sigma_y=-0.1), "sigma_y = -0.1"),
        (lambda: Observation(Pixel(), jnp.ones((1,))), "expected a basis with a grid"),
        (lambda: Observation(DCT((6,)), jnp.ones((5, 1))), "expected h of shape (6, 1)"),
        (lambda: Observation(DCT((6,)), -jnp.ones((6, 1))), "at least 0"),
        (lambda: deblur((6,), 1.0).given(jnp.ones((5, 1))), "(6, 'channels')"),
        (lambda: Posterior(Case("VP").score, deblur((N,), 1.0), 1.0), "observation.given(y)"),
        (lambda: Case("Blur", inpaint(np.ones(N))), "Blur has one coefficient per mode of DCT(8,)"),
        (lambda: Case("Heat", super_resolution((N,), 2)), "got Haar(8,)"),
        (lambda: ModeCovariance(np.ones((2, 3))), "matrix [D, D]"),
        (lambda: ModeCovariance(np.array([[1.0, 2.0], [2.0, 1.0]])), "negative eigenvalue"),
        (lambda: ModeCovariance(np.array([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
        (lambda: mode_covariance(DOMAIN, jnp.ones((1, N, 1))), "at least 2"),
        (lambda: mode_variances(DOMAIN, jnp.ones((1, N, 1))), "at least 2"),
    ],
)
def test_mistakes_are_told(build, words):
    with pytest.raises(ConfigError) as raised:
        build()
    assert words in str(raised.value)


def test_mistakes_of_a_guide_are_told():
    case = Case("VP")
    for variances in (-1.0, np.nan):
        with pytest.raises(ConfigError, match="variances"):
            Posterior(case.score, case.observation.given(case.y), variances)
    heat = Case("Heat")
    for guide, words in ((heat, "one alpha and one sigma"), (case, "covariance of 8 values, got 2")):
        with pytest.raises(ConfigError, match=words):
            JointPosterior(guide.score, guide.observation.given(guide.y), ModeCovariance(np.eye(2)))
    with pytest.raises(ConfigError, match="shape of y"):
        Replacement(case.score, case.observation.given(case.y), jnp.zeros((N, 2)))
    with pytest.raises(ConfigError, match="one coefficient per mode"):
        restore(
            DDIM(2),
            heat.score,
            inpaint(np.ones(N)),
            1.0,
            jnp.ones((1, N, 1)),
            keys=jax.random.split(jax.random.key(0), 1),
        )


def test_points_of_a_kernel_must_be_the_same():
    other = Kernel(np.arange(N) / N + np.arange(N) ** 2 / 99, exponential(0.2))
    coloured, y = Coloured(KERNEL, Gram()), jnp.ones((N, 1))
    score = GaussianScore(coloured, np.zeros((N, 1)), np.ones(N))
    Posterior(score, Observation(KERNEL, jnp.ones((N, 1)), 0.1, y), 1.0)
    with pytest.raises(ConfigError, match="one coefficient per mode"):
        Posterior(score, Observation(other, jnp.ones((N, 1)), 0.1, y), 1.0)
