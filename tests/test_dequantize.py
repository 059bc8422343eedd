"""Dequantization: densities on the bins, and bits/dim of integers whose probabilities are known."""

import dataclasses
import json
import math
import types
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inventory import SDES

from scoresde.data import load
from scoresde.errors import CheckpointError, ConfigError
from scoresde.likelihood import (
    Bins,
    CategoricalDecoder,
    TruncatedNormalDequantization,
    UniformDequantization,
    VariationalDequantization,
    bits_per_dim,
    dequantize,
    elbo,
    log_likelihood,
    mean_and_error,
)
from scoresde.nets import Network
from scoresde.score import MixtureScore
from scoresde.sde import VE, VP
from scoresde.train.dequantizer import (
    TrainedDequantization,
    dequantizer_network,
    fit_dequantizer,
    load_network,
    save_network,
)

BINS = {"[-1, 1]": Bins(8), "[0, 1]": Bins(256, 0.0, 1.0), "odd": Bins(17, -3.0, 0.4)}


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def moved(network: Network, size: float = 0.3) -> Network:
    """A flow that is not the identity."""
    leaves, tree = jax.tree.flatten(network.params)
    keys = keys_of(len(leaves), 7)
    leaves = [p + size * jax.random.normal(key, p.shape) for p, key in zip(leaves, keys)]
    return dataclasses.replace(network, params=jax.tree.unflatten(tree, leaves))


# The bins


@pytest.mark.parametrize("centered", [True, False])
def test_the_bins_are_those_of_the_data_set(centered):
    digits = load("digits", shape=(8, 8, 1), levels=17, centered=centered)
    bins, v, u = digits.codec.bins, jnp.arange(17), jnp.linspace(0.1, 0.9, 17)
    np.testing.assert_allclose(bins.encode(v, u), digits.encode(v, u), atol=1e-6)
    np.testing.assert_allclose(bins.log_jacobian(64), digits.log_jacobian(), rtol=1e-12)


# Densities


def quantization(name, shape=(2,)):
    return {
        "uniform": UniformDequantization(),
        "truncated normal": TruncatedNormalDequantization(),
        "variational": VariationalDequantization(moved(dequantizer_network(shape, width=8, depth=4, seed=0))),
    }[name]


@pytest.mark.parametrize("sde", [VP(), VP(t_min=1e-1), VE()], ids=["sharp", "blunt", "VE"])
@pytest.mark.parametrize("name", ["uniform", "truncated normal", "variational"])
def test_q_is_a_density_on_the_bin(name, sde):
    """E_q[1 / q] is the volume of the bin, and every draw lies in it."""
    bins, v = Bins(8), jnp.tile(jnp.array([2, 7]), (4000, 1))
    q = quantization(name)
    x, log_q = jax.jit(lambda keys: dequantize(sde, v, q, bins, keys=keys))(keys_of(4000))
    scale = sde.alpha(sde.t_min) if name == "truncated normal" else 1.0
    low, high = (scale * bins.encode(v, u) for u in (0.0, 1.0))
    assert np.all((x >= low - 1e-6) & (x <= high + 1e-6))
    if name == "truncated normal" and TruncatedNormalDequantization().tau(sde, bins) > 2:
        return  # 1 / q has no useful variance: see the moments below
    mean, error = mean_and_error(jnp.exp(-log_q) / (scale * bins.width) ** 2)
    assert abs(mean - 1) < 4 * error + 1e-5 and error < 0.05


# t_min to tau: 0.02, 0.5, 2, 40 and 4000 half bins per sigma.
@pytest.mark.parametrize("tau", [0.02, 0.5, 2.0, 40.0, 4000.0])
def test_the_truncated_normal_has_its_moments_in_float32(tau):
    """Variance and entropy against the closed forms (Zheng et al. 2023, eq. 16) in float64."""
    sde, levels = VE(sigma_min=1.0 / (8 * tau), sigma_max=50.0 / min(tau, 1), t_min=0.0), 8
    q, bins = TruncatedNormalDequantization(), Bins(levels)
    assert float(q.tau(sde, bins)) == pytest.approx(tau, rel=1e-5)
    v = jnp.full((20_000, 1), 4)  # the centre is 1/8: no rounding against sigma
    x, log_q = jax.jit(lambda keys: dequantize(sde, v, q, bins, keys=keys))(keys_of(20_000))
    assert x.dtype == jnp.float32 and np.isfinite(log_q).all()
    sigma = 1.0 / (8 * tau)
    mass = math.erf(tau / math.sqrt(2))
    variance = 1 - 2 * tau * math.exp(-(tau**2) / 2) / math.sqrt(2 * math.pi) / mass
    if tau < 0.1:
        variance = tau**2 / 3  # the closed form cancels; the next order is tau^4 / 45
    z = (np.asarray(x[:, 0], np.float64) - 1 / 8) / sigma
    # 20 000 draws tell a variance to 1 %; four times that. At tau = 4000, sigma is 3e-5 beside x = 1/8: 2e-4 of it.
    assert z.var() == pytest.approx(variance, rel=0.04) and abs(z.mean()) < 4 * np.sqrt(variance / 20_000) + 1e-3
    entropy = 0.5 * (math.log(2 * math.pi * sigma**2) + variance) + math.log(mass)
    mean, error = mean_and_error(-log_q)
    assert abs(mean - entropy) < 4 * error + 1e-5


def test_a_coupling_flow_says_its_own_determinant():
    """Against autodiff, for vectors and for pictures."""
    from scoresde.nets import push

    for shape in ((3,), (2, 2, 2)):
        network = moved(dequantizer_network(shape, width=8, depth=3, seed=1))
        z, context = jax.random.normal(jax.random.key(0), (2, *shape))
        jacobian = jax.jacobian(lambda z: push(network, z, context)[0])(z).reshape(z.size, z.size)
        sign, log_det = np.linalg.slogdet(np.asarray(jacobian, np.float64))
        assert sign == 1 and abs(log_det) > 0.1
        np.testing.assert_allclose(push(network, z, context)[1], log_det, rtol=1e-4, atol=1e-5)


# Known probabilities


def smooth_probabilities(bins: Bins) -> np.ndarray:
    """P(v1, v2): two Gaussians integrated over the bins, as a product in each."""
    edges = bins.low + bins.width * np.arange(bins.levels + 1)
    total = 0.0
    for weight, mean, std in ((0.6, (-0.3, 0.2), 0.25), (0.4, (0.4, -0.5), 0.15)):
        mass = [np.diff([0.5 * math.erfc((m - e) / std / math.sqrt(2)) for e in edges]) for m in mean]
        total = total + weight * np.outer(*mass)
    return total / total.sum()


# Processes whose t_min leaves a bin of 1/8 whole: tau = 125 (VP), 1.2e5 (sub-VP), 12 (VE), 226 (Cosine), 62 (Karras).
@pytest.mark.parametrize("name", SDES)
def test_bits_of_known_integers_by_the_truncated_normal(name, x64):
    """A model that knows P(v) exactly, as a comb of points: bits/dim is -log2 P(v) / D, by flow and by bound."""
    sde, bins = SDES[name], BINS["[-1, 1]"]
    P = smooth_probabilities(bins)
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), -1).reshape(-1, 2)
    score = MixtureScore(sde, np.asarray(bins.encode(jnp.asarray(grid))), np.zeros((64, 2)), P.ravel())
    v = grid[np.random.default_rng(0).choice(64, 40, p=P.ravel())]
    x, log_q = dequantize(sde, jnp.asarray(v), TruncatedNormalDequantization(), bins, keys=keys_of(40))
    found = log_likelihood(score, x, key=jax.random.key(1), probes=None, tolerance=1e-5)
    assert found.ok.all()
    exact = -np.log2(P[tuple(v.T)]) / 2
    # The exact p_T in the prior's place: the prior's mismatch has its own test (see test_likelihood).
    t_max = jnp.asarray(sde.t_max)
    log_prob = found.log_prob + jax.vmap(lambda z: score.log_prob(z, t_max) - sde.log_prior(z))(found.latent)
    off, error = mean_and_error(bits_per_dim(log_prob, -log_q, 2) - exact)
    print(name, dict(off=off, error=error, entropy=exact.mean()))
    assert abs(off) < 2 * error + 3e-4 and error < 1e-3  # and thirty times the tolerance: steps up to sigma = 1e-6
    x0 = bins.encode(jnp.asarray(v))
    bound = elbo(score, x0, key=jax.random.key(2), samples=64, decoder=CategoricalDecoder(bins))
    excess, error = mean_and_error(bits_per_dim(bound.log_prob, 0.0, 2) - exact)
    assert excess > -2 * error - 5e-3  # never below, but for the draws


def test_order_and_size_of_the_batch_change_nothing(x64):
    sde, bins = VP(), Bins(8)
    score = MixtureScore(sde, np.array([[0.1, 0.3], [-0.4, 0.2]]), np.full((2, 2), 0.05), [0.5, 0.5])
    v, keys = jnp.array([[1, 2], [3, 4], [5, 6], [7, 0]]), keys_of(4)

    def bits(order):
        x, log_q = dequantize(sde, v[order], UniformDequantization(), bins, keys=keys[order])
        found = log_likelihood(score, x, key=jax.random.key(1), probes=None, tolerance=1e-5)
        return np.asarray(bits_per_dim(found.log_prob, -log_q, 2))

    whole, order = bits(np.arange(4)), np.array([2, 0, 3])
    np.testing.assert_allclose(bits(order), whole[order], atol=1e-6)


# The flow


@dataclasses.dataclass
class Integers:
    """A stream of one value of four."""

    def stream(self, seed, batch_size):
        random = np.random.default_rng(seed)
        while True:
            yield {"value": random.integers(0, 4, (batch_size, 1))}


def test_training_the_flow_tightens_the_bound(tmp_path):
    """Integers 0 to 3, each a quarter: 2 bits. Uniform u pays for the model's narrow peaks; a trained flow hardly."""
    sde, bins = VP(t_min=1e-4), Bins(4)
    peaks = np.asarray(bins.encode(jnp.arange(4), 0.25))[:, None]
    score = MixtureScore(sde, peaks, np.full((4, 1), (bins.width / 10) ** 2), np.ones(4))
    start = dequantizer_network((1,), width=16, depth=2, seed=0)
    options = dict(steps=300, batch_size=256, learning_rate=2e-2, seed=0)
    network = fit_dequantizer(start, score, Integers(), bins, **options)
    v = jnp.tile(jnp.arange(4), 250)[:, None]

    def bits(flow):
        x, log_q = dequantize(sde, v, VariationalDequantization(flow), bins, keys=keys_of(1000))
        return mean_and_error(bits_per_dim(jax.vmap(lambda x: score.log_prob(x, sde.t_min))(x), -log_q, 1))

    (before, _), (after, error) = bits(start), bits(network)
    print(dict(before=before, after=after, error=error))
    assert before > 2.5 and after < 2.3
    assert after > 2 - 3 * error - 0.02  # 1.2 % of the left-hand peaks lie outside their bin

    path = tmp_path / "flow.npz"
    save_network(network, path, {"seed": 0})
    again = load_network(start, path)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(network.params)))
    with pytest.raises(CheckpointError, match="does not hold this flow"):
        load_network(dequantizer_network((1,), width=8, depth=2, seed=0), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_network(start, path)


def test_a_flow_that_an_earlier_version_stored_is_found(tmp_path):
    """The name of its file is the CRC-32 of the fields that earlier versions had."""
    about = {
        "parameters_crc32": "0badcafe", "seed": 7, "data": "records", "variational_steps": 1000,
        "variational_batch_size": 64, "variational_rate": 1e-3, "variational_width": 8, "variational_depth": 4,
    }  # fmt: skip
    stored = moved(dequantizer_network((2,), width=8, depth=4, seed=7))
    save_network(stored, tmp_path / f"{zlib.crc32(json.dumps(about, sort_keys=True).encode()):08x}.npz", about)
    dataset = types.SimpleNamespace(shape=(2,), fingerprint="records")
    found = TrainedDequantization(width=8).fitted(
        None, dataset, Bins(4), seed=7, folder=tmp_path, parameters="0badcafe"
    )
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(found.flow.params), jax.tree.leaves(stored.params)))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: TrainedDequantization(steps=0, rate=0.0), r"steps = 0.*\n.*rate = 0.0"),
        (lambda: TrainedDequantization().draw(VP(), Bins(4), jnp.arange(2), key=jax.random.key(0)), "fitted"),
        (lambda: Bins(1), "levels = 1"),
        (lambda: Bins(8, 1.0, 1.0), "high > low"),
        (lambda: dequantizer_network((4, 4), width=8, depth=2, seed=0), "coupling flow"),
        (lambda: dequantizer_network((4,), width=0, depth=2, seed=0), "coupling flow"),
    ],
)
def test_wrong_arguments_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
