"""Scores: the exact ones against autodiff and NumPy, the conversions, and the preconditionings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inventory import PRECONDITIONINGS, SDES
from oracles import LEVEL, energy_p_value, mixture, mixture_log_prob, mixture_parameters

from scoresde.errors import ConfigError
from scoresde.score import (
    EDMPreconditioning,
    GaussianScore,
    MixtureScore,
    NetworkScore,
    eps_from_score,
    score_from_eps,
    score_from_v,
    score_from_x0,
    v_from_score,
    x0_from_score,
)
from scoresde.sde import VE, VP, Karras

every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
SHAPE = (2, 3, 1)


def distributions(sde) -> dict:
    means, covariances, weights = mixture_parameters()
    rng = np.random.default_rng(3)
    diagonal = rng.uniform(0.05, 1.0, size=(3, 5))
    factor = rng.normal(size=(6, 6))
    return {
        "gaussian-full": GaussianScore(sde, means[0], covariances[0]),
        "gaussian-diagonal": GaussianScore(sde, means[0], diagonal[0]),
        "gaussian-image": GaussianScore(sde, rng.normal(size=SHAPE), factor @ factor.T),
        "gaussian-point": GaussianScore(sde, means[0], np.zeros(5)),
        "mixture-full": MixtureScore(sde, means, covariances, weights),
        "mixture-diagonal": MixtureScore(sde, means, diagonal, weights),
        "mixture-image": MixtureScore(
            sde, rng.normal(size=(2, *SHAPE)), np.stack([factor @ factor.T, np.eye(6)]), [1, 3]
        ),
    }


every_distribution = pytest.mark.parametrize("name", distributions(VP()))


@every_sde
@every_distribution
def test_score_is_the_gradient_of_log_prob(sde, name, x64):
    score = distributions(sde)[name]
    for fraction in (0.0, 0.1, 1.0):
        t = jnp.asarray(sde.t_min + fraction * (sde.t_max - sde.t_min))
        x = score.sample(t, key=jax.random.key(2))
        gradient = jax.grad(score.log_prob)(x, t)
        # Rounding, next to 1 / sigma: at t_min a variance of 1e-12 is left of covariances of size 1.
        np.testing.assert_allclose(score(x, t), gradient, rtol=1e-9, atol=1e-9 / float(sde.sigma(t)))


@every_sde
def test_log_prob_is_the_formula(sde, x64):
    means, covariances, weights = mixture_parameters()
    score, single = mixture(sde), GaussianScore(sde, means[1], covariances[1])
    for t in np.linspace(sde.t_min, sde.t_max, 4):
        alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
        for x in 2 * max(sigma, 1.0) * np.random.default_rng(4).normal(size=(5, 5)):
            x = jnp.asarray(x)
            # Rounding of quadratic forms of size 1e3.
            expected = mixture_log_prob(means, covariances, weights, alpha, sigma, np.asarray(x))
            np.testing.assert_allclose(score.log_prob(x, t), expected, rtol=1e-11)
            expected = mixture_log_prob(means[1:2], covariances[1:2], [1.0], alpha, sigma, np.asarray(x))
            np.testing.assert_allclose(single.log_prob(x, t), expected, rtol=1e-11)


def test_a_mixture_of_one_is_a_gaussian(x64):
    sde = VP()
    means, covariances, _ = mixture_parameters()
    one, gaussian = MixtureScore(sde, means[:1], covariances[:1], [7.0]), GaussianScore(sde, means[0], covariances[0])
    x, t = jnp.asarray(means[1]), jnp.asarray(0.2)
    np.testing.assert_allclose(one(x, t), gaussian(x, t), rtol=1e-13)
    np.testing.assert_allclose(one.log_prob(x, t), gaussian.log_prob(x, t), rtol=1e-13)


def test_full_and_diagonal_covariance_agree_on_an_image(x64):
    sde, rng = VE(), np.random.default_rng(5)
    mean, variances = rng.normal(size=SHAPE), rng.uniform(0.1, 1, size=6)
    x, t = jnp.asarray(rng.normal(size=SHAPE)), jnp.asarray(0.3)
    full, diagonal = GaussianScore(sde, mean, np.diag(variances)), GaussianScore(sde, mean, variances)
    assert full(x, t).shape == SHAPE
    np.testing.assert_allclose(full(x, t), diagonal(x, t), rtol=1e-13)
    np.testing.assert_allclose(full.log_prob(x, t), diagonal.log_prob(x, t), rtol=1e-13)


@every_sde
def test_sample_draws_from_p_t(sde):
    score, n = mixture(sde), 400
    means, covariances, weights = mixture_parameters()
    rng = np.random.default_rng(6)
    component = rng.choice(len(weights), n, p=weights)
    x0 = np.stack([rng.multivariate_normal(means[k], covariances[k]) for k in component])
    for fraction in (0.0, 0.3):
        t = jnp.float32(sde.t_min + fraction * (sde.t_max - sde.t_min))
        x = float(sde.alpha(t)) * x0 + float(sde.sigma(t)) * rng.normal(size=x0.shape)
        drawn = jax.vmap(lambda key: score.sample(t, key=key))(jax.random.split(jax.random.key(7), n))
        assert energy_p_value(drawn, x) > LEVEL


@every_sde
def test_far_away_the_score_points_back(sde):
    score = mixture(sde)
    for scale in (1e2, 1e4, 1e6):
        for t in (sde.t_min, 0.5 * (sde.t_min + sde.t_max)):
            t, x = jnp.float32(t), scale * jnp.ones(5)
            value = score(x, t)
            assert np.isfinite(value).all() and np.isfinite(score.log_prob(x, t))
            assert np.vdot(value, x) < 0


@every_sde
def test_tweedie_is_the_posterior_mean(sde, x64):
    means, covariances, _ = mixture_parameters()
    mean, covariance = means[0], covariances[0]
    score = GaussianScore(sde, mean, covariance)
    for t in np.linspace(sde.t_min, sde.t_max, 5):
        alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
        x = alpha * mean + sigma * np.arange(5.0)
        gain = alpha * covariance @ np.linalg.inv(alpha**2 * covariance + sigma**2 * np.eye(5))
        # Division by alpha, down to 5e-4 of the Cosine: 1e-16 sigma / alpha, and the inverse here.
        np.testing.assert_allclose(
            score.denoise(jnp.asarray(x), t), mean + gain @ (x - alpha * mean), rtol=1e-9, atol=1e-9
        )


CONVERSIONS = {
    "x0": (x0_from_score, score_from_x0),
    "eps": (eps_from_score, score_from_eps),
    "v": (v_from_score, score_from_v),
}


@every_sde
@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions_agree_with_the_kernel_and_return(sde, name):
    """From x_t = alpha x_0 + sigma eps all four names of one thing are known."""
    from_score, to_score = CONVERSIONS[name]
    rng = np.random.default_rng(8)
    x0, eps = rng.normal(size=(2, 100))
    unit = np.finfo(np.float32).eps
    for t in np.float32(np.r_[sde.t_min, np.geomspace(max(sde.t_min, 1e-5), sde.t_max, 9)[1:-1], sde.t_max]):
        with jax.enable_x64(True):
            alpha, sigma = (float(c(np.float64(t))) for c in (sde.alpha, sde.sigma))
        x = alpha * x0 + sigma * eps
        score, v = -eps / sigma, alpha * eps - sigma * x0
        value = {"x0": x0, "eps": eps, "v": v}[name]
        x32, score32, value32 = (jnp.asarray(a, jnp.float32) for a in (x, score, value))
        # What the stored x_t and score leave open: their own rounding, times the derivative of the conversion.
        opened = {"x0": abs(x).max() / alpha, "eps": abs(eps).max(), "v": sigma / alpha * abs(x).max() + abs(v).max()}[
            name
        ]
        closed = {
            "x0": abs(x).max() / sigma**2,
            "eps": abs(score).max(),
            "v": abs(score).max() + abs(x).max() / (alpha**2 + sigma**2),
        }
        # 10 roundings in a row at most (alpha carries 10 of them where log alpha = -8).
        np.testing.assert_allclose(from_score(sde, x32, t, score32), value, atol=30 * unit * opened, rtol=0)
        np.testing.assert_allclose(to_score(sde, x32, t, value32), score, atol=30 * unit * closed[name], rtol=0)
        # A prediction survives the way through the score, at t_min as anywhere.
        back = from_score(sde, x32, t, to_score(sde, x32, t, value32))
        np.testing.assert_allclose(back, value, atol=10 * unit * opened, rtol=0)


# Preconditionings: `raw` is the network, a function of (x, c_noise) for one example.


def network_score(sde, preconditioning, raw) -> NetworkScore:
    def network(x, c_noise, label, *, key=None):
        return jax.vmap(raw)(x, c_noise)

    return NetworkScore(sde, network, preconditioning)


def affine(sde, preconditioning, x, t):
    """score = offset + slope F: (offset, slope) as the package has them, from F = 0 and F = 1."""
    zero, one = (network_score(sde, preconditioning, lambda x, c: jnp.full_like(x, v))(x, t) for v in (0.0, 1.0))
    return zero, one - zero


@every_sde
@pytest.mark.parametrize("name", PRECONDITIONINGS)
def test_the_best_network_gives_the_exact_score(sde, name, x64):
    """F_best in closed form, EDM by Karras et al. 2022, eqs. 7 and 8 in the coordinates x / alpha, sigma / alpha."""
    exact = mixture(sde)
    for t in np.linspace(sde.t_min, sde.t_max, 4):
        t = jnp.asarray(t)
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        x = exact.sample(t, key=jax.random.key(9))
        if name == "EDM":
            s, d = sigma / alpha, PRECONDITIONINGS["EDM"].spectrum.sigma_data
            denoised = (x + sigma**2 * exact(x, t)) / alpha
            best = (denoised - d**2 / (s**2 + d**2) * x / alpha) / (s * d / jnp.sqrt(s**2 + d**2))
        elif name == "v":  # of the point with alpha^2 + sigma^2 = 1 that the network sees
            r, z = jnp.sqrt(alpha**2 + sigma**2), -sigma * exact(x, t)
            best = (alpha * z - sigma * (x - sigma * z) / alpha) / r
        else:
            best = {"eps": -1, "score": 1}[name] * sigma * exact(x, t)
        score = network_score(sde, PRECONDITIONINGS[name], lambda x, c: best)(x, t)
        # Rounding of x / alpha (1e-16) over sigma / alpha (down to 1e-6).
        np.testing.assert_allclose(score, exact(x, t), rtol=1e-8, atol=1e-9 / float(sigma))


@pytest.mark.parametrize("sigma", [0.002, 0.1, 0.5, 3.0, 80.0])
def test_edm_is_table_1_of_karras(sigma, x64):
    sde, d, fed = Karras(), 0.5, []
    x = jnp.array([0.7, -1.3])

    def raw(x, c_noise):
        jax.debug.callback(lambda x, c: fed.append((np.asarray(x), float(c))), x, c_noise)
        return jnp.ones_like(x)

    denoised = network_score(sde, EDMPreconditioning(d), raw).denoise(x, jnp.asarray(sigma))
    jax.effects_barrier()
    c_skip, c_out = d**2 / (sigma**2 + d**2), sigma * d / np.sqrt(sigma**2 + d**2)
    # Rounding; x + sigma^2 s cancels 1e-5 at sigma = 80.
    np.testing.assert_allclose(denoised, c_skip * x + c_out, rtol=1e-10)
    [(c_in_x, c_noise)] = fed
    np.testing.assert_allclose(c_in_x, x / np.sqrt(sigma**2 + d**2), rtol=1e-13)
    np.testing.assert_allclose(c_noise, np.log(sigma) / 4, rtol=1e-12)


@every_sde
def test_edm_has_unit_variance_in_and_out(sde, x64):
    """x_0 ~ N(0, sigma_data^2): the input and the target, (score of the kernel - offset) / slope, are linear in (x_0,
    z)."""
    d = 0.7
    for t in np.linspace(sde.t_min, sde.t_max, 5):
        t = jnp.asarray(t)
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        inputs, targets = [], []
        for x0, z in ((d, 0.0), (0.0, 1.0)):  # one standard deviation of each
            x = jnp.full((1,), alpha * x0 + sigma * z)
            offset, slope = affine(sde, EDMPreconditioning(d), x, t)
            identity = network_score(sde, EDMPreconditioning(d), lambda x, c: x)(x, t)
            inputs.append(float(((identity - offset) / slope)[0]))
            targets.append(float(((-z / sigma - offset) / slope)[0]))
        # Differences of terms of size 1 / sigma^2 and 1 / sigma: rounding over sigma.
        np.testing.assert_allclose([np.sum(np.square(inputs)), np.sum(np.square(targets))], 1, rtol=1e-8)


def test_labels_of_the_older_preconditionings():
    seen = []

    def raw(x, c_noise):
        jax.debug.callback(lambda c: seen.append(float(c)), c_noise)
        return x

    vp, ve, t = VP(), VE(), jnp.float32(0.25)
    network_score(vp, PRECONDITIONINGS["eps"], raw)(jnp.ones(2), t)
    network_score(ve, PRECONDITIONINGS["score"], raw)(jnp.ones(2), t)
    jax.effects_barrier()
    # Song et al. 2021: 999 t for VP, log sigma(t) for VE.
    np.testing.assert_allclose(seen, [999 * 0.25, np.log(0.01 * 5000**0.25)], rtol=1e-6)


def test_network_sees_a_batch_of_one_its_label_and_its_key():
    seen = {}

    def network(x, c_noise, condition, *, key=None):
        seen.update(x=x.shape, c=c_noise.shape, label=condition["class"].shape, key=key)
        return x

    key = jax.random.key(0)
    score = NetworkScore(VP(), network, condition={"class": jnp.asarray(3)}, key=key)
    assert score(jnp.ones((4, 4, 2)), 0.5).shape == (4, 4, 2)
    assert seen["x"] == (1, 4, 4, 2) and seen["c"] == (1,) and seen["label"] == (1,) and seen["key"] is key


# What is refused

MEANS, COVARIANCES, WEIGHTS = mixture_parameters()
gaussian, mixed = functools.partial(GaussianScore, VP()), functools.partial(MixtureScore, VP())

BAD = {
    "shape": (gaussian, (MEANS[0], np.eye(4)), "expected shape (5, 5) or (5,)"),
    "not-symmetric": (gaussian, (np.zeros(2), [[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
    "negative": (gaussian, (np.zeros(2), [1.0, -0.1]), "negative"),
    "indefinite": (gaussian, (np.zeros(2), [[1.0, 2.0], [2.0, 1.0]]), "negative"),
    "nan": (gaussian, (np.zeros(2), [1.0, np.nan]), "NaN"),
    "nan-mean": (gaussian, ([0.0, np.nan], [1.0, 1.0]), "NaN"),
    "counts": (mixed, (MEANS, COVARIANCES[:2], WEIGHTS), "(2, 5, 5)"),
    "zero-weight": (mixed, (MEANS, COVARIANCES, [1.0, 0.0, 1.0]), "positive"),
    "nan-weight": (mixed, (MEANS, COVARIANCES, [1.0, np.nan, 1.0]), "positive"),
    "scalar-weight": (mixed, (MEANS, COVARIANCES, 1.0), "weights [K]"),
    "empty": (mixed, (MEANS[:0], COVARIANCES[:0], []), "expected"),
    "sigma-data": (EDMPreconditioning, (0.0,), "sigma_data > 0"),
    "sigma-data-nan": (EDMPreconditioning, (float("nan"),), "sigma_data = nan"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_distributions_are_refused(name):
    build, arguments, words = BAD[name]
    with pytest.raises(ConfigError) as caught:
        build(*arguments)
    assert words in str(caught.value)


def test_weights_are_normalised_and_a_semi_definite_covariance_is_taken(x64):
    sde, t, x = VP(), jnp.asarray(0.5), jnp.asarray(MEANS[0])
    once, twice = mixed(MEANS, COVARIANCES, WEIGHTS), mixed(MEANS, COVARIANCES, 2 * WEIGHTS)
    np.testing.assert_allclose(once.log_prob(x, t), twice.log_prob(x, t), rtol=1e-14)
    flat = GaussianScore(sde, np.zeros(2), np.ones((2, 2)))  # rank one
    expected = mixture_log_prob(
        [np.zeros(2)], [np.ones((2, 2))], [1.0], float(sde.alpha(t)), float(sde.sigma(t)), [0.1, 0.4]
    )
    np.testing.assert_allclose(flat.log_prob(jnp.array([0.1, 0.4]), t), expected, rtol=1e-12)
