"""Hutch++: unbiased and finite where its sketch is rank deficient, and what it is worth, of one trace and of log p."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scoresde.likelihood import ExactTrace, HutchPlusPlus, Rademacher, log_likelihood, mean_and_error
from scoresde.score import GaussianScore
from scoresde.sde import VP


def near_a_plane(sde) -> GaussianScore:
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0]
    return GaussianScore(sde, np.zeros(24), axes @ np.diag(np.r_[2.0, 1.0, 0.5, 0.02 * 0.8 ** np.arange(21)]) @ axes.T)


@pytest.fixture(scope="module")
def curved():
    """Rademacher and Hutch++ with 9 derivatives at 400 keys, along no trajectory: the trace alone, at one point and
    time.

    D = 24, data with three large variances: the rest of the Jacobian decays.
    """
    sde = VP(t_min=1e-2)
    score = near_a_plane(sde)
    x, t = score.sample(jnp.float32(sde.t_min), key=jax.random.key(0)), jnp.float32(0.2)

    @functools.partial(jax.jit, static_argnums=0)
    def estimates(trace):
        one = lambda key: trace.flow(score, x, t, trace.directions(x, key=key))[1]  # noqa: E731
        return jax.vmap(one)(jax.random.split(jax.random.key(2), 400))

    exact = float(ExactTrace().flow(score, x, t, None)[1][0])
    return exact, {
        name: np.asarray(estimates(kind(9)))
        for name, kind in {"Rademacher": Rademacher, "Hutch++": HutchPlusPlus}.items()
    }


def test_hutch_plus_plus_is_unbiased_and_its_error_bar_honest(curved):
    exact, found = curved
    values = found["Hutch++"]
    assert values.shape == (400, 3)
    means, errors = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(3)
    # Four standard errors of the mean over 400 keys.
    assert abs(means.mean() - exact) < 4 * means.std(ddof=1) / 20
    # The spread over three residual probes against the spread over 400 keys, sketch and all: 10 %, three times that.
    assert (errors**2).mean() == pytest.approx(means.var(ddof=1), rel=0.3)
    # Student's t with 2 degrees of freedom: 4.30 standard errors cover 95 %; 400 keys tell it to 1.1 %.
    assert 0.90 < np.mean(abs(means - exact) < 4.303 * errors) < 0.99


def test_hutch_plus_plus_pays_where_the_data_lie_near_a_plane(curved):
    """Nine derivatives each: a sketch of three holds the three large variances."""
    _, found = curved
    variance = {name: values.mean(axis=1).var() for name, values in found.items()}
    print("variances at 9 derivatives", variance)
    assert variance["Hutch++"] < 0.5 * variance["Rademacher"]


def test_a_trace_that_pays_makes_no_better_log_p():
    """The integral over t is led by t_min, where the Jacobian is nearly diagonal: there signs are exact and the
    projection is not. On the same Gaussian, at the default t_min, 60 keys each: 4 to 5 times the variance (to 18 %
    each) for twice the calls."""
    sde = VP()
    score = near_a_plane(sde)
    x = jnp.tile(score.sample(sde.t_min, key=jax.random.key(0)), (60, 1))
    found = {
        kind: log_likelihood(score, x, key=jax.random.key(1), probes=9, estimator=kind)
        for kind in (Rademacher, HutchPlusPlus)
    }
    variance = {kind: float(jnp.var(solved.log_prob)) for kind, solved in found.items()}
    print({kind.__name__: (variance[kind], float(solved.nfe.mean())) for kind, solved in found.items()})
    assert all(solved.ok.all() for solved in found.values())
    assert variance[HutchPlusPlus] > 2 * variance[Rademacher]
    assert found[HutchPlusPlus].nfe.mean() > 1.5 * found[Rademacher].nfe.mean()
    # And its error bar says so: variances of 60 keys to 18 %, three times that.
    assert float(jnp.mean(found[HutchPlusPlus].standard_error ** 2)) == pytest.approx(variance[HutchPlusPlus], rel=0.55)


@pytest.mark.parametrize("dimension, probes", [(3, 6), pytest.param(6, 12, marks=pytest.mark.slow)])
def test_a_sketch_in_few_dimensions_is_not_short_of_a_direction(dimension, probes):
    """Two vectors of signs are the same but for the sign once in 2^{D-1}: 16 of 40 (D = 3) and 27 of 100 rows
    failed."""
    sde = VP()
    factor = np.random.default_rng(0).normal(size=(dimension, dimension))
    score = GaussianScore(sde, np.zeros(dimension), factor @ factor.T / dimension + 0.05 * np.eye(dimension))
    x = jnp.tile(score.sample(sde.t_min, key=jax.random.key(0)), (40, 1))
    exact = log_likelihood(score, x[:1], key=jax.random.key(1), probes=None)
    found = log_likelihood(score, x, key=jax.random.key(1), probes=probes, estimator=HutchPlusPlus)
    assert found.ok.all()
    mean, error = mean_and_error(found.log_prob)
    assert abs(mean - float(exact.log_prob[0])) < 4 * error
    # At most some times the steps of the exact trace: the basis of the sketch moves smoothly.
    assert found.nfe.max() < 10 * exact.nfe.max()


@pytest.mark.parametrize("thickness", [0.0, 1e-4])
def test_a_sketch_of_more_directions_than_the_data_have(thickness):
    """Data in a plane of two dimensions, a sketch of three: the third column is rounding (thickness 0), or comes and
    goes with t."""
    sde = VP(t_min=1e-3)
    axes = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    score = GaussianScore(sde, np.zeros(8), axes @ np.diag(np.r_[1.0, 0.5, np.full(6, thickness)]) @ axes.T)
    x = jnp.tile(score.sample(sde.t_min, key=jax.random.key(0)), (20, 1))
    exact = log_likelihood(score, x[:1], key=jax.random.key(1), probes=None)
    found = log_likelihood(score, x, key=jax.random.key(1), probes=9, estimator=HutchPlusPlus)
    assert found.ok.all() and found.nfe.max() < 3 * exact.nfe.max()
    mean, error = mean_and_error(found.log_prob)
    assert abs(mean - float(exact.log_prob[0])) < 4 * error + 1e-4  # ten times the tolerance


def test_a_direction_without_weight_is_left_to_the_probes(x64):
    """d between 0 and 1: sum_k d_k q_k . B q_k + E[N e . B N e] is the trace, whatever the columns. All 2^D signs
    give the mean."""
    sde, t = VP(), jnp.asarray(0.3)
    variances = np.array([1.0, 1e-13, 0.0, 0.0])  # B is next to rank 1: the second column has a weight of about 1/2
    score = GaussianScore(sde, np.zeros(4), variances)
    x = jnp.array([0.3, -0.2, 0.1, 0.4])
    trace = HutchPlusPlus(8)
    directions = trace.directions(x, key=jax.random.key(0))
    signs = jnp.array(np.stack(np.meshgrid(*[[-1.0, 1.0]] * 4), -1).reshape(-1, 4))
    found = [trace.flow(score, x, t, directions.at[2:].set(four))[1].mean() for four in signs.reshape(4, 4, 4)]
    exact = ExactTrace().flow(score, x, t, None)[1][0]
    np.testing.assert_allclose(np.mean(found), exact, rtol=1e-10)
