"""Conditions: kinds of entries, their nulls, what networks do with them, and training that drops them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scoresde.data import ArraySource, Dataset
from scoresde.data.conditions import with_conditions
from scoresde.errors import ConfigError, DataError
from scoresde.likelihood import log_likelihood
from scoresde.nets import (
    FNO,
    MLP,
    UFNO,
    ClassCondition,
    DiT,
    EDM2UNet,
    EncodedImageCondition,
    ImageCondition,
    Network,
    SequenceCondition,
    UNet,
    VectorCondition,
)
from scoresde.sample import DDIM, sample
from scoresde.score import GaussianScore, NetworkScore
from scoresde.score.exact import MixtureScore
from scoresde.sde import VP
from scoresde.train import Objective, UniformTime, fit
from scoresde.train.step import drop_conditions

SHAPE = (8, 8, 1)
KINDS = {
    "class": ClassCondition(3),
    "coarse": ImageCondition((4, 4), 2, "linear", (8, 8)),
    "points": SequenceCondition(5, 2),
    "set": SequenceCondition(4, 1, ordered=False),
    "sketch": EncodedImageCondition((6, 5), 1, width=4),
    "vector": VectorCondition(2),
}
SMALL = dict(channels=8, multipliers=(1, 2), blocks=1, attention=(4,))
BUILD = {
    "unet": lambda rngs, kinds: UNet(SHAPE, **SMALL, dropout=0.0, conditions=kinds, rngs=rngs),
    "dit": lambda rngs, kinds: DiT(SHAPE, width=16, depth=2, head_channels=8, conditions=kinds, rngs=rngs),
    "mlp": lambda rngs, kinds: MLP(SHAPE, width=16, depth=2, conditions=kinds, rngs=rngs),
    "fno": lambda rngs, kinds: FNO(SHAPE, width=8, depth=1, modes=3, conditions=kinds, rngs=rngs),
    "ufno": lambda rngs, kinds: UFNO(SHAPE, width=8, modes=3, multipliers=(1, 2), conditions=kinds, rngs=rngs),
    "edm2": lambda rngs, kinds: EDM2UNet(SHAPE, **SMALL, head_channels=8, conditions=kinds, rngs=rngs),
}
networks = pytest.mark.parametrize("name", BUILD)


@functools.cache
def network(name: str, *, start: bool = False, bare: bool = False) -> Network:
    """The network as it is initialised, or with parameters moved away from zero."""
    kinds = {} if bare else KINDS
    net = Network.init(lambda rngs: BUILD[name](rngs, kinds), key=jax.random.key(0))
    rng = np.random.default_rng(0)
    move = lambda p: p if start else p + 0.2 * jnp.asarray(rng.standard_normal(p.shape), p.dtype)
    return dataclasses.replace(net, params=jax.tree.map(move, net.params))


def values(n: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(1)
    drawn = {name: jnp.asarray(rng.standard_normal((n, *kind.shape)), jnp.float32) for name, kind in KINDS.items()}
    return drawn | {"class": jnp.asarray(rng.integers(0, 3, n))}


def inputs(n: int):
    return jax.random.normal(jax.random.key(2), (n, *SHAPE)), jnp.linspace(0.0, 1.0, n)


@jax.jit
def apply(net, x, c, condition=None):
    return net(x, c, condition)


# Networks


@networks
def test_every_entry_matters_and_its_null_is_what_is_left_out(name):
    net, (x, c), given = network(name), inputs(2), values(2)
    absent = apply(net, x, c)
    least = 1e-3 * jnp.abs(absent).max()
    nulls = {entry: jnp.broadcast_to(kind.null(), (2, *kind.shape)) for entry, kind in KINDS.items()}
    np.testing.assert_allclose(apply(net, x, c, nulls), absent, atol=1e-5)
    for entry, value in given.items():
        moved = apply(net, x, c, {entry: value})
        assert jnp.isfinite(moved).all() and jnp.abs(moved - absent).max() > least, entry
        # The null is not the value 0, which a standardised condition takes.
        if entry != "class":
            zero = apply(net, x, c, {entry: jnp.zeros_like(value)})
            assert jnp.abs(zero - absent).max() > least, entry


@networks
def test_examples_with_and_without_conditions_do_not_mix(name):
    net, (x, c), given = network(name), inputs(3), values(3)
    mixed = {e: v.at[1].set(jnp.asarray(KINDS[e].null(), v.dtype)) for e, v in given.items()}
    together = apply(net, x, c, mixed)
    for k in range(3):
        one = apply(net, x[k : k + 1], c[k : k + 1], {e: v[k : k + 1] for e, v in mixed.items()})
        np.testing.assert_allclose(one[0], together[k], rtol=1e-3, atol=1e-4)


@networks
def test_gradients_reach_values_and_nulls_and_are_finite(name):
    net, (x, c), given = network(name), inputs(4), values(4)
    half = {e: v.at[2:].set(jnp.asarray(KINDS[e].null(), v.dtype)) for e, v in given.items()}
    gradient = jax.grad(lambda p: jnp.sum(dataclasses.replace(net, params=p)(x, c, half) ** 2))(net.params)
    flat = {jax.tree_util.keystr(p, simple=True, separator="/"): g for p, g in
            jax.tree_util.tree_flatten_with_path(gradient)[0]}  # fmt: skip
    assert all(jnp.isfinite(g).all() for g in flat.values())
    own = {path: g for path, g in flat.items() if "condition_" in path or "null" in path or "cross" in path}
    still = [path for path, g in own.items() if not g.any() and not path.endswith("key/bias")]
    assert own and not still


@networks
def test_a_network_starts_without_the_effect_of_its_conditions(name):
    """All but a class start at zero, so that a trained network can be given new ones."""
    net, (x, c), given = network(name, start=True), inputs(2), values(2)
    # The output starts at zero as well, so its layer is replaced by a random one.
    last = {"unet": "conv_out", "dit": "dense_out", "mlp": "dense_out", "edm2": "conv_out"}.get(name)
    params = jax.tree.map(lambda p: p, net.params)
    layer = params[last] if last else params["frame"]["dense_out"]
    layer["kernel"] = jax.random.normal(jax.random.key(3), layer["kernel"].shape)
    if name == "edm2":
        params["gain"] = jnp.ones(())
    net = dataclasses.replace(net, params=params)
    given.pop("class")
    if name == "edm2":
        given.pop("coarse")  # its channels enter a convolution whose kernel has magnitude 1
    np.testing.assert_allclose(apply(net, x, c, given), apply(net, x, c), atol=1e-3)


@networks
def test_unknown_entries_are_refused(name):
    x, c = inputs(1)
    with pytest.raises(ConfigError, match="unknown entry 'colour'.* class, coarse"):
        network(name)(x, c, {"colour": jnp.zeros(1)})
    with pytest.raises(ConfigError, match="unknown entry 'class'; the network takes: none"):
        network(name, bare=True)(x, c, {"class": jnp.zeros(1, jnp.int32)})


def test_masked_rows_take_no_part_and_a_set_has_no_order():
    (x, c), rows = inputs(1), jnp.asarray(np.random.default_rng(3).standard_normal((1, 4, 1)), jnp.float32)
    for name in ("unet", "mlp"):
        net = network(name)
        part = rows.at[:, 2:].set(jnp.nan)
        swapped = rows[:, jnp.array([1, 0, 3, 2])].at[:, 2:].set(jnp.nan)
        found = apply(net, x, c, {"set": part})
        np.testing.assert_allclose(found, apply(net, x, c, {"set": swapped}), atol=1e-5)
        assert jnp.abs(found - apply(net, x, c, {"set": rows})).max() > 1e-5
        ordered = jnp.concatenate([rows, rows], -1)
        turned = {"points": jnp.pad(ordered[:, ::-1], ((0, 0), (0, 1), (0, 0)), constant_values=jnp.nan)}
        straight = {"points": jnp.pad(ordered, ((0, 0), (0, 1), (0, 0)), constant_values=jnp.nan)}
        assert jnp.abs(apply(net, x, c, turned) - apply(net, x, c, straight)).max() > 1e-5


def test_an_image_condition_is_resized_by_its_rule():
    """Nearest neighbours: a coarse image is the fine one in which each value fills its block."""
    fine, coarse = (ImageCondition(size, 1, "nearest", (8, 8)) for size in ((8, 8), (4, 4)))
    y = jax.random.normal(jax.random.key(4), (1, 4, 4, 1))
    x, c = inputs(1)
    nets = [
        Network.init(lambda rngs, kind=kind: BUILD["unet"](rngs, {"y": kind}), key=jax.random.key(0))
        for kind in (fine, coarse)
    ]
    moved = jax.tree.map(lambda p: p + 0.1, nets[0].params)
    filled = jnp.repeat(jnp.repeat(y, 2, axis=1), 2, axis=2)
    outputs = [dataclasses.replace(net, params=moved)(x, c, {"y": v}) for net, v in zip(nets, (filled, y), strict=True)]
    np.testing.assert_allclose(*outputs, atol=1e-6)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: ClassCondition(0), "num_classes of 1 or more"),
        (lambda: VectorCondition(0), "size of 1 or more"),
        (lambda: SequenceCondition(0, 2), "length of 1 or more"),
        (lambda: ImageCondition((4, 4), 1, "none", (8, 8)), r"\(4, 4\) is not that of x, \(8, 8\); set resize"),
        (lambda: ImageCondition((4, 4), 1, "linear", ()), "x has no grid.* encoded_image"),
        (lambda: ImageCondition((4,), 1, "linear", (8, 8)), "as many axes as x has, 2"),
        (lambda: ImageCondition((4, 4), 1, "area", (8, 8)), "one of none, nearest, linear, cubic"),
    ],
)
def test_kinds_refuse_arguments_that_they_cannot_have(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


# Scores


def score(net=None, **scales) -> NetworkScore:
    return NetworkScore(VP(), network("mlp") if net is None else net, scales=scales)


def test_a_score_given_a_condition_is_the_score_under_it():
    own, (x, _), given = score(), inputs(1), values(1)
    t = jnp.asarray(0.3)
    one = {name: value[0] for name, value in given.items()}
    direct = dataclasses.replace(own, condition=one)
    np.testing.assert_allclose(own.given(one)(x[0], t), direct(x[0], t), atol=1e-5)
    step_by_step = own.given({"class": int(one["class"])}).given({k: v for k, v in one.items() if k != "class"})
    np.testing.assert_allclose(step_by_step(x[0], t), direct(x[0], t), atol=1e-5)
    assert own.given(None) is own and own.given({}) is own
    dropped = own.given(one).given(dict.fromkeys(one))
    np.testing.assert_allclose(dropped(x[0], t), own(x[0], t), atol=1e-5)


def test_values_are_standardised_by_the_statistics_of_the_run():
    offset, scale = jnp.array([10.0, -2.0]), jnp.array([4.0, 0.5])
    own = score(vector=(offset, scale))
    x, t, raw = inputs(1)[0][0], jnp.asarray(0.3), jnp.array([12.0, -1.5])
    np.testing.assert_allclose(
        own.given({"vector": raw})(x, t), score().given({"vector": (raw - offset) / scale})(x, t), atol=1e-5
    )


def test_a_shorter_sequence_is_padded():
    own, x, t = score(), inputs(1)[0][0], jnp.asarray(0.3)
    rows = np.ones((2, 2), np.float32)
    full = np.concatenate([rows, np.full((3, 2), np.nan, np.float32)])
    np.testing.assert_allclose(own.given({"points": rows})(x, t), own.given({"points": full})(x, t), atol=1e-6)


@pytest.mark.parametrize(
    "condition, words",
    [
        ({"class": 3}, "classes 0 to 2, or -1 for none, got 3"),
        ({"class": 1.5}, "classes .* as integers"),
        ({"vector": np.ones(3)}, r"'vector': expected numbers \[N, 2\]"),
        ({"vector": np.array([1.0, np.nan])}, "'vector'.* NaN or infinity in 1 of 1 rows"),
        ({"coarse": np.full((4, 4, 2), np.inf)}, "'coarse'.* NaN or infinity"),
        ({"points": np.ones((6, 2))}, "'points': expected numbers"),
        ({"points": np.array([[1.0, np.nan]] * 5)}, "'points'.* NaN or infinity"),
        ({"colour": 1}, "unknown entry 'colour'"),
    ],
)
def test_wrong_values_are_refused(condition, words):
    with pytest.raises(ConfigError, match=words):
        score().given(condition)
    with pytest.raises(ConfigError, match="GaussianScore takes no condition"):
        GaussianScore(VP(), np.zeros(2), np.ones(2)).given(condition)


def test_samples_and_likelihoods_take_a_condition_for_each_example():
    net = Network.init(lambda rngs: MLP((2,), width=8, conditions={"y": VectorCondition(1)}, rngs=rngs),
                       key=jax.random.key(0))  # fmt: skip
    net = dataclasses.replace(net, params=jax.tree.map(lambda p: p + 0.1, net.params))
    own, key = score(net), jax.random.key(1)
    y = jnp.array([[-1.0], [0.5], [2.0]])
    together = sample(DDIM(steps=4), own, (2,), num=3, key=key, conditions={"y": y})
    for k in range(3):
        alone = sample(DDIM(steps=4), own.given({"y": y[k]}), (2,), num=3, key=key)
        np.testing.assert_allclose(together[k], alone[k], rtol=1e-4, atol=1e-5)
    x = jnp.ones((3, 2))
    nats = log_likelihood(own, x, key=key, probes=None, tolerance=1e-4, conditions={"y": y}).log_prob
    for k in range(3):
        alone = log_likelihood(own.given({"y": y[k]}), x, key=key, probes=None, tolerance=1e-4).log_prob
        np.testing.assert_allclose(nats[k], alone[k], rtol=1e-3)
    with pytest.raises(ConfigError, match=r"conditions\['y'\]: expected 3 rows"):
        sample(DDIM(steps=4), own, (2,), num=3, key=key, conditions={"y": y[:2]})


# Data


def source(n: int, **conditions) -> ArraySource:
    return ArraySource(np.zeros((n, 2), np.float32), np.arange(n) % 3, conditions)


def fields(data: Dataset):
    return lambda name, kind: (data.train.field(name), data.test.field(name))


def test_statistics_are_those_of_the_values_that_are_there():
    y = np.array([[1.0, 7.0], [3.0, 7.0], [np.nan, np.nan], [5.0, 7.0]], np.float32)
    data = Dataset("x", source(4, y=y), source(2, y=y[:2]), 0, True, "print")
    data = dataclasses.replace(data, fields=fields(data))
    found = with_conditions(data, {"class": ClassCondition(3), "y": VectorCondition(2)})
    offset, scale = found.scales["y"]
    np.testing.assert_allclose(offset, [3, 7])
    np.testing.assert_allclose(scale, [np.std([1, 3, 5]), 1])  # a constant has no scale
    assert found.nulls == {"y"} and found.fingerprint.startswith("print;y:")
    batch = next(found.stream(0, 3))
    assert batch["condition"]["class"].shape == (3,) and batch["condition"]["y"].shape == (3, 2)
    changed = Dataset("x", source(4, y=y + 1), source(2, y=y[:2]), 0, True, "print")
    changed = with_conditions(dataclasses.replace(changed, fields=fields(changed)), {"y": VectorCondition(2)})
    assert changed.fingerprint != found.fingerprint
    with pytest.raises(DataError, match="one row per record, 3"):
        source(3, y=y)
    with pytest.raises(DataError, match="no fields beside its records"):
        with_conditions(dataclasses.replace(data, fields=None), {"y": VectorCondition(2)})


# Training with the null


def test_conditions_are_dropped_per_example_alone_or_together():
    kinds = {"a": VectorCondition(1), "b": ClassCondition(3)}
    keys = jax.random.split(jax.random.key(0), 20_000)
    given = {"a": jnp.ones(1), "b": jnp.asarray(2)}

    def dropped(dropout):
        found = jax.vmap(lambda key: drop_conditions(kinds, given, dropout, key=key))(keys)
        return np.isnan(found["a"][:, 0]), np.asarray(found["b"]) < 0

    a, b = dropped(0.1)
    assert (a == b).all() and abs(a.mean() - 0.1) < 0.01  # 4.7 standard errors
    a, b = dropped({"a": 0.1, "b": 0.3})
    assert abs(a.mean() - 0.1) < 0.01 and abs(b.mean() - 0.3) < 0.015 and abs((a & b).mean() - 0.03) < 0.006
    a, b = dropped(0.0)
    assert not a.any() and not b.any()


def classes_in_one_dimension():
    """VP, data 1/2 N(-1, .04) + 1/2 N(1, .25): exact scores of the classes, and of the whole."""
    sde = VP()
    parts = [GaussianScore(sde, np.array([m]), np.array([v])) for m, v in ((-1.0, 0.04), (1.0, 0.25))]
    return sde, parts, MixtureScore(sde, [[-1.0], [1.0]], [[0.04], [0.25]], [0.5, 0.5])


def test_losses_of_exact_scores_are_those_of_the_optimum(x64):
    """E |sigma s + z|^2 with t ~ U: .127134 for the classes, .240828 for the null, .138503 with 10 % dropped."""
    sde, parts, whole = classes_in_one_dimension()
    rng = np.random.default_rng(0)
    n = 1 << 20
    t = sde.t_min + (sde.t_max - sde.t_min) * (np.arange(n) + 0.5) / n
    t = jnp.asarray(rng.permutation(t))
    k = np.arange(n) % 2
    x0 = np.where(k, 1 + 0.5 * rng.standard_normal(n), -1 + 0.2 * rng.standard_normal(n))[:, None]
    z = rng.standard_normal((n, 1))

    def error(score):
        def one(x0, z, t):
            x = sde.alpha(t) * x0 + sde.sigma(t) * z
            return jnp.sum((sde.sigma(t) * score(x, t) + z) ** 2)

        return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(x0), jnp.asarray(z), t))

    conditional = np.where(k, error(parts[1]), error(parts[0]))
    null = error(whole)
    for found, exact in ((conditional, 0.127134), (null, 0.240828), (0.9 * conditional + 0.1 * null, 0.138503)):
        assert abs(found.mean() - exact) < 4 * found.std() / n**0.5 + 1e-4


class Sorted:
    """Points of two classes of weights .8 and .2; each batch is sorted by class, either class first."""

    def __init__(self, first: int):
        self.first = first

    def stream(self, seed, batch_size, start, *, rows):
        step = start
        while True:
            rng = np.random.default_rng([seed, step])
            k = (rng.random(batch_size) < 0.2).astype(np.int32)
            k = np.sort(k) if self.first == 0 else -np.sort(-k)
            x = (2.0 * k - 1 + 0.3 * rng.standard_normal(batch_size)).astype(np.float32)[:, None]
            yield {"value": x[rows], "condition": {"class": k[rows]}}
            step += 1

    def encode(self, value):
        return jnp.asarray(value)


@pytest.mark.parametrize("first", [0, 1])
def test_the_null_learns_the_whole_whatever_the_order_of_a_batch(first):
    """The null branch has the mean of the whole, -.6, at high noise, and each class has its own."""
    kinds = {"class": ClassCondition(2)}
    net = Network.init(lambda rngs: MLP((1,), width=32, depth=2, conditions=kinds, rngs=rngs), key=jax.random.key(0))
    own = NetworkScore(VP(), net)
    state = fit(
        own, Sorted(first), steps=600, batch_size=256, optimizer=optax.adam(5e-3), ema=(0.99,),
        objective=Objective(time_law=UniformTime()), condition_dropout=0.2,
    )  # fmt: skip
    trained = dataclasses.replace(own, network=dataclasses.replace(net, params=state.ema["0.99"]))
    noise = jax.random.normal(jax.random.key(5), (2048, 1))
    mean = lambda score: float(jax.vmap(lambda x: score.denoise(x, jnp.asarray(1.0)))(noise).mean())  # noqa: E731
    assert abs(mean(trained) + 0.6) < 0.1
    assert abs(mean(trained.given({"class": 0})) + 1) < 0.25 and abs(mean(trained.given({"class": 1})) - 1) < 0.25
