"""Networks: the architecture of the paper, block by block, and what every module promises its callers.

Most tests fill the parameters with numpy, so that nothing is zero and nothing is compiled but the call under test. They
share one network of each kind (`network(name)`) and one batch size, and compile without optimization.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scoresde.errors import ConfigError
from scoresde.nets import (
    FNO,
    MLP,
    UFNO,
    DiT,
    EDM2UNet,
    FourierEmbedding,
    Network,
    PositionalEmbedding,
    UNet,
    check_halvings,
)
from scoresde.nets.blocks import (
    AttentionBlock,
    ResidualBlock,
    default_init,
    group_norm,
    num_groups,
)
from scoresde.nets.condition_kinds import ClassCondition
from scoresde.nets.network import check_input
from scoresde.nets.resampling import downsample, upsample

FLOAT32 = dict(dtype=jnp.float32, param_dtype=jnp.float32)
SHAPE = (8, 8, 2)
CURVE, VOLUME = (8, 2), (4, 4, 4, 2)
SMALL = dict(channels=8, multipliers=(1, 2), blocks=1, attention=(4,))
OPTIONS = dict(conditions={"class": ClassCondition(3)}, dropout=0.5)
# All that DDPM++ has not.
OTHER = dict(
    head_channels=4, decoder_attention="block", modulation="scale_shift", resample_filter="fir",
    resample_skip="identity",
    progressive_input="input_skip", progressive="residual", combine="cat", center_input=True,
)  # fmt: skip
BUILD = {
    "mlp": lambda rngs, **kw: MLP((8, 8, 2), width=16, depth=2, rngs=rngs, **OPTIONS | kw),
    "unet": lambda rngs, **kw: UNet((8, 8, 2), **SMALL, rngs=rngs, **OPTIONS | kw),
    "unet_other": lambda rngs, **kw: UNet((8, 8, 2), **SMALL, **OTHER, rngs=rngs, **OPTIONS | kw),
    # It has an embedding of its own.
    "edm2": lambda rngs, embedding=None, **kw: EDM2UNet((8, 8, 2), **SMALL, head_channels=4, rngs=rngs, **OPTIONS | kw),
    "dit": lambda rngs, **kw: DiT((8, 8, 2), width=16, depth=2, head_channels=8, rngs=rngs, **OPTIONS | kw),
    "unet_curve": lambda rngs, **kw: UNet(CURVE, **SMALL, **OTHER, rngs=rngs, **OPTIONS | kw),
    "unet_volume": lambda rngs, **kw: UNet(VOLUME, **SMALL, rngs=rngs, **OPTIONS | kw),
    "dit_curve": lambda rngs, **kw: DiT(
        CURVE, width=16, depth=1, head_channels=8, positions="rotary", rngs=rngs, **OPTIONS | kw
    ),
    "dit_volume": lambda rngs, **kw: DiT(VOLUME, width=24, depth=1, head_channels=12, rngs=rngs, **OPTIONS | kw),
    "fno": lambda rngs, **kw: FNO(
        (8, 8, 2), width=16, depth=2, modes=3, boundary="periodic", rngs=rngs, **OPTIONS | kw
    ),
    "ufno": lambda rngs, **kw: UFNO((8, 8, 2), width=16, multipliers=(1, 2), modes=3, rngs=rngs, **OPTIONS | kw),
}
SHAPES = {name: {"curve": CURVE, "volume": VOLUME}.get(name.partition("_")[2], SHAPE) for name in BUILD}
nets = pytest.mark.parametrize("name", BUILD)


def abstract(build) -> Network:
    return jax.eval_shape(lambda key: Network.init(build, key=key), jax.random.key(0))


def fill(build, seed: int = 0) -> Network:
    """The network with random parameters of a sensible size, none of them zero."""
    rng = np.random.default_rng(seed)

    def draw(path, p):
        z = rng.standard_normal(p.shape, dtype=np.float32)
        if p.ndim > 1:
            return jnp.asarray(z / math.sqrt(math.prod(p.shape[:-1])), p.dtype)
        return jnp.asarray(0.1 * z + (path[-1].key in ("scale", "frequencies", "gain")), p.dtype)

    net = abstract(build)
    return dataclasses.replace(net, params=jax.tree_util.tree_map_with_path(draw, net.params))


@functools.cache
def network(name: str, **kw) -> Network:
    return fill(functools.partial(BUILD[name], **kw))


@jax.jit
def apply(net, x, c, condition=None, key=None):
    return net(x, c, condition, key=key)


def batch(n: int = 4, shape=SHAPE, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *shape), dtype=np.float32)
    return jnp.asarray(x), jnp.asarray(rng.uniform(0, 5, n), jnp.float32)


def paths(params):
    """The same tree with each leaf replaced by its path, as in "blocks/0/dense_1/kernel"."""
    return jax.tree_util.tree_map_with_path(lambda p, _: jax.tree_util.keystr(p, simple=True, separator="/"), params)


def far(a, b) -> bool:
    """Different by far more than rounding."""
    return float(jnp.max(jnp.abs(a - b))) > 1e-3


# The architecture


def count_ddpmpp(channels, multipliers, blocks, attention, height, image_channels) -> int:
    """Parameters of DDPM++, from the formulas of the paper and not from the modules."""
    temb = 4 * channels
    conv = lambda i, o, w: w * w * i * o + o
    attend = lambda c: 2 * c + 4 * conv(c, c, 1)

    def block(i, o, resample=False):
        skip = conv(i, o, 1) if i != o or resample else 0
        return 2 * i + conv(i, o, 3) + conv(temb, o, 1) + 2 * o + conv(o, o, 3) + skip

    total = conv(channels, temb, 1) + conv(temb, temb, 1) + conv(image_channels, channels, 3)
    hs, n = [channels], channels
    for i, m in enumerate(multipliers):
        for _ in range(blocks):
            total += block(n, m * channels) + attend(m * channels) * (height // 2**i in attention)
            n = m * channels
            hs.append(n)
        if i < len(multipliers) - 1:
            total += block(n, n, True)
            hs.append(n)
    total += 2 * block(n, n) + attend(n)
    for i, m in reversed(list(enumerate(multipliers))):
        for _ in range(blocks + 1):
            total += block(n + hs.pop(), m * channels)
            n = m * channels
        total += attend(n) * (height // 2**i in attention) + block(n, n, True) * (i > 0)
    return total + 2 * n + conv(n, image_channels, 3)


def test_the_cifar10_network_has_the_parameters_of_the_paper():
    net = abstract(lambda rngs: UNet((32, 32, 3), rngs=rngs))
    assert net.num_params == count_ddpmpp(128, (1, 2, 2, 2), 4, (16,), 32, 3)
    assert round(net.num_params / 1e6, 1) == 61.8  # as published for DDPM++


def test_forward_pass_is_the_loop_of_the_paper():
    """Order of blocks, attention, resampling and skips; with equal channels everywhere, so that a swap would run."""
    config = dict(channels=8, multipliers=(1, 1), blocks=2, attention=(4,))
    net = fill(lambda rngs: UNet((8, 8, 2), **config, rngs=rngs))
    x, c = batch(2)

    @jax.jit
    def reference(net, x, c):
        m = nnx.merge(net.graphdef, net.params)
        temb = nnx.swish(m.conditioning(c, {}))
        high, low = m.encoder
        hs = [m.conv_in(x)]
        for block in high.blocks:
            hs.append(block(hs[-1], temb))
        hs.append(high.down(hs[-1], temb))
        for block, attention in zip(low.blocks, low.attention, strict=True):
            hs.append(attention(block(hs[-1], temb)))
        h = m.middle_2(m.middle_attention(m.middle_1(hs[-1], temb)), temb)
        low, high = m.decoder
        for block in low.blocks:
            h = block(jnp.concatenate([h, hs.pop()], -1), temb)
        h = low.up(low.attention(h), temb)
        for block in high.blocks:
            h = block(jnp.concatenate([h, hs.pop()], -1), temb)
        assert not hs and high.up is None and high.attention is None
        return m.conv_out(nnx.swish(m.norm_out(h)))

    np.testing.assert_allclose(apply(net, x, c), reference(net, x, c), rtol=1e-4, atol=1e-4)  # 30 float32 layers


@pytest.mark.parametrize("rescale", [1.0, 1 / math.sqrt(2)])
def test_a_block_starts_as_its_skip_path(rescale):
    x, _ = batch(2, (4, 4, 8))
    temb = jnp.ones((2, 16))
    options = dict(rescale=rescale, rngs=nnx.Rngs(0), **FLOAT32)
    block = ResidualBlock(8, 8, axes=2, temb_features=16, dropout=0.0, **options)
    np.testing.assert_allclose(block(x, temb), rescale * x, atol=1e-4)  # weights of 1e-5, 72 inputs
    np.testing.assert_allclose(AttentionBlock(8, **options)(x), rescale * x, atol=1e-4)
    down = ResidualBlock(8, 8, axes=2, temb_features=16, dropout=0.0, resample=downsample, **options)
    np.testing.assert_allclose(down(x, temb), rescale * down.skip(downsample(x)), atol=1e-4)


def test_skip_rescale_reaches_every_block():
    factors = {}
    for skip_rescale in (False, True):
        build = functools.partial(BUILD["unet"], skip_rescale=skip_rescale)
        modules = nnx.iter_modules(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
        factors[skip_rescale] = {m.rescale for _, m in modules if isinstance(m, ResidualBlock | AttentionBlock)}
    assert factors == {False: {1.0}, True: {1 / math.sqrt(2)}}


@pytest.mark.parametrize("head_channels", [0, 4])
def test_attention_is_softmax_of_scaled_products(head_channels):
    x, _ = batch(2, (4, 2, 8))
    block = AttentionBlock(8, head_channels=head_channels, rescale=1.0, rngs=nnx.Rngs(0), **FLOAT32)
    rng = np.random.default_rng(1)
    for layer in (block.query, block.key, block.value, block.out):  # large enough to leave the linear range of softmax
        layer.kernel[...] = jnp.asarray(rng.standard_normal((8, 8), dtype=np.float32))
    h = block.norm(x).reshape(2, 8, 8)
    q, k, v = (np.asarray(layer(h)) for layer in (block.query, block.key, block.value))
    parts, d = [], head_channels or 8
    for first in range(0, 8, d):
        mine = slice(first, first + d)
        weights = np.exp(q[:, :, mine] @ k[:, :, mine].transpose(0, 2, 1) / math.sqrt(d))
        parts.append(weights / weights.sum(-1, keepdims=True) @ v[:, :, mine])
    expected = block.out(jnp.asarray(np.concatenate(parts, -1))).reshape(x.shape)
    np.testing.assert_allclose(block(x) - x, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("space", [(8,), (4, 2), (2, 1, 4)])
def test_resampling(space):
    x = jnp.arange(24.0).reshape(1, *space, 3)
    twice = np.asarray(x)
    for axis in range(1, len(space) + 1):
        twice = twice.repeat(2, axis)
    np.testing.assert_array_equal(upsample(x), twice)
    np.testing.assert_array_equal(downsample(upsample(x)), x)
    np.testing.assert_array_equal(downsample(jnp.array([1.0, 2]).reshape(1, 2, 1)).ravel(), [1.5])
    np.testing.assert_array_equal(downsample(jnp.array([[1.0, 2], [3, 4]]).reshape(1, 2, 2, 1)).ravel(), [2.5])


def test_group_norm_groups():
    expected = {128: 32, 384: 32, 64: 16, 12: 3, 30: 6, 28: 7, 7: 1, 3: 1, 1: 1}
    assert {c: num_groups(c) for c in expected} == expected


@pytest.mark.parametrize("space", [(64,), (8, 8), (2, 8, 4)])
def test_group_norm_keeps_bfloat16_with_float32_statistics(space):
    x = jnp.asarray(30 + np.random.default_rng(0).standard_normal((2, *space, 8)), jnp.bfloat16)
    norm = group_norm(8, dtype=jnp.bfloat16, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    y = norm(x)
    groups = np.asarray(x, np.float64).reshape(2, 64, 2, 4)
    centred = groups - groups.mean((1, 3), keepdims=True)
    expected = centred / np.sqrt(groups.var((1, 3), keepdims=True) + 1e-6)
    assert y.dtype == jnp.bfloat16
    # Half a unit in the last of 8 bits at values up to 4; bfloat16 statistics would be off by 0.1 and more.
    np.testing.assert_allclose(np.asarray(y, np.float64), expected.reshape(x.shape), atol=2e-2)


def test_initialization_is_uniform_with_the_average_of_fans():
    w = np.asarray(default_init(0.1)(jax.random.key(0), (3, 3, 32, 96)))
    bound = math.sqrt(3 * 0.1 / (9 * (32 + 96) / 2))
    assert np.abs(w).max() <= bound * (1 + 1e-6)
    assert abs(w.std() / (bound / math.sqrt(3)) - 1) < 0.02  # 27648 draws: 0.3 % standard error


# Embeddings


def test_positional_embedding_formula():
    c = np.array([0.0, 0.5, 999.0], np.float32)
    w = np.exp(-np.arange(4) * math.log(1e4) / 3)
    emb = PositionalEmbedding(9)(jnp.asarray(c))
    assert emb.dtype == jnp.float32 and emb.shape == (3, 9)
    # The angle 999 is resolved to 6e-5 in float32.
    expected = np.concatenate([np.sin(c[:, None] * w), np.cos(c[:, None] * w)], 1)
    np.testing.assert_allclose(emb[:, :8], expected, atol=3e-4)
    np.testing.assert_array_equal(emb[:, 8], 0)


def test_fourier_embedding_formula():
    emb = FourierEmbedding(1000, scale=16.0, rngs=nnx.Rngs(0))
    w = np.asarray(emb.frequencies[...], np.float64)
    assert emb.features == 2000 and abs(w.std() / 16 - 1) < 0.1  # standard error 2 %
    c = np.array([-1.5, 0.25])
    expected = np.concatenate([np.sin(2 * np.pi * w * c[:, None]), np.cos(2 * np.pi * w * c[:, None])], 1)
    np.testing.assert_allclose(emb(jnp.asarray(c, jnp.float32)), expected, atol=3e-4)  # angles up to 500


@nets
def test_close_noise_levels_differ_in_bfloat16(name):
    """998 and 999 are one number in bfloat16."""
    net = network(name, dtype=jnp.bfloat16)
    assert jnp.bfloat16(998) == jnp.bfloat16(999)
    x = jnp.repeat(batch(1, SHAPES[name])[0], 4, 0)
    y = apply(net, x, jnp.array([998.0, 999.0, 0, 0]))
    assert far(y[0], y[1])


# What every module promises


@nets
def test_a_drawn_network_starts_at_zero(name):
    net = Network.init(BUILD[name], key=jax.random.key(0))
    y = apply(net, *batch(shape=SHAPES[name]))
    assert y.shape == (4, *SHAPES[name]) and float(jnp.max(jnp.abs(y))) < 1e-3
    # Structures from two builds are equal, or the average of two networks would not be a network.
    assert jax.tree.structure(net) == jax.tree.structure(abstract(BUILD[name]))
    first = [float(p.ravel()[0]) for p in jax.tree.leaves(net.params) if p.ndim > 1 and p.any()]
    assert len(set(first)) == len(first)  # no key is drawn from twice


def test_parameters_follow_the_key():
    nets = [Network.init(BUILD["mlp"], key=jax.random.key(seed)).params for seed in (0, 0, 1)]
    for path, same, p, q in zip(*(jax.tree.leaves(t) for t in (paths(nets[0]), *nets)), strict=True):
        np.testing.assert_array_equal(same, p)
        assert path.endswith("bias") or far(1e6 * p, 1e6 * q), path


@nets
def test_init_inside_jit(name):
    net = jax.jit(lambda key: Network.init(BUILD[name], key=key).params)
    assert jax.tree.structure(net.eval_shape(jax.random.key(0))) == jax.tree.structure(network(name).params)


def test_drawing_does_not_ask_traced_values_for_their_sharding(monkeypatch):
    """Each answer is an error whose message takes as long as all that was traced before it."""
    asked = []
    monkeypatch.setattr(jax.core.Tracer, "sharding", property(lambda tracer: asked.append(tracer)))
    jax.eval_shape(lambda key: Network.init(BUILD["unet"], key=key).params, jax.random.key(0))
    assert len(asked) < 10  # a network has dozens of parameters


def test_random_state_is_refused():
    class Stateful(nnx.Module):
        def __init__(self, rngs):
            self.noise = nnx.Dropout(0.5, rngs=rngs)

    with pytest.raises(ConfigError, match="noise/rngs"):
        Network.init(Stateful, key=jax.random.key(0))


@nets
def test_examples_do_not_mix(name):
    """One by one under vmap, or permuted: the same as in a batch."""
    net = network(name)
    (x, c), label = batch(shape=SHAPES[name]), jnp.array([0, 2, -1, 1])
    y = apply(net, x, c, {"class": label})
    one = jax.jit(jax.vmap(lambda x, c, label: net(x[None], c[None], {"class": label[None]})[0]))(x, c, label)
    np.testing.assert_allclose(y, one, rtol=1e-4, atol=1e-4)  # sums in another order
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(apply(net, x[order], c[order], {"class": label[order]}), y[order], rtol=1e-4, atol=1e-4)


@nets
def test_gradients_reach_every_parameter_but_the_fixed_ones(name):
    net = network(name, embedding="fourier")
    (x, c), label = batch(shape=SHAPES[name]), jnp.array([0, 1, -1, 2])
    grad = jax.jit(
        jax.grad(lambda params: jnp.sum(dataclasses.replace(net, params=params)(x, c, {"class": label}) ** 2))
    )
    for path, g in zip(jax.tree.leaves(paths(net.params)), jax.tree.leaves(grad(net.params)), strict=True):
        if path.endswith(("frequencies", "phases")):
            assert not g.any()
        elif path.endswith("key/bias") and name != "dit_curve":  # rotary positions turn it
            assert jnp.abs(g).max() < 1e-2  # softmax does not see it: zero up to rounding
        else:
            assert jnp.abs(g).max() > 1e-3, path
            if path.endswith("classes/embedding"):
                assert (jnp.abs(g).max(1) > 1e-3).all()  # the null class as well


@nets
def test_dropout_follows_the_key(name):
    net = network(name)
    x, c = batch(shape=SHAPES[name])
    keys = [jax.random.key(0), jax.random.key(1)]
    a, b = (apply(net, x, c, None, key) for key in keys)
    assert far(a, b) and far(a, apply(net, x, c))
    np.testing.assert_array_equal(a, apply(net, x, c, None, keys[0]))


def test_without_a_key_nothing_is_dropped():
    x, c = batch()
    np.testing.assert_array_equal(apply(network("mlp"), x, c), apply(network("mlp", dropout=0.0), x, c))


def test_dropout_draws_anew_in_every_block():
    module = nnx.eval_shape(lambda: BUILD["unet"](nnx.Rngs(0)))
    blocks = [m for _, m in nnx.iter_modules(module) if isinstance(m, ResidualBlock)]
    assert module.num_keys == len(blocks)


@nets
def test_label_and_noise_level_matter(name):
    net = network(name)
    x = jnp.repeat(batch(1, SHAPES[name])[0], 4, 0)
    c = jnp.ones(4)
    y = apply(net, x, c, {"class": jnp.array([0, 1, 2, -1])})
    for i in range(4):
        for j in range(i):
            assert far(y[i], y[j])
    null = apply(net, x, c)
    np.testing.assert_allclose(null[0], y[3], rtol=1e-5, atol=1e-5)  # None is the null class
    assert far(null[0], apply(net, x, 2 * c)[0])


@nets
def test_bfloat16_is_close_and_returns_float32(name):
    low = network(name, dtype=jnp.bfloat16)
    high = dataclasses.replace(network(name), params=low.params)
    x, c = batch(shape=SHAPES[name])
    y, y32 = apply(low, x, c), apply(high, x, c)
    assert y.dtype == y32.dtype == jnp.float32
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(low.params))
    error = float(jnp.linalg.norm(y - y32) / jnp.linalg.norm(y32))
    assert 1e-4 < error < 0.05  # 8 bits over some twenty layers; and it is not float32 in disguise


@nets
def test_parameters_enter_in_the_dtype_of_the_computation(name):
    low = network(name, dtype=jnp.bfloat16)
    enter = low.entering()
    x, c = batch(shape=SHAPES[name])
    np.testing.assert_array_equal(apply(low, x, c), apply(enter, x, c))
    narrow = sum(p.size for p in jax.tree.leaves(enter.params) if p.dtype == jnp.bfloat16)
    read = {"edm2": 0, "fno": 0.01, "ufno": 0.01}.get(name, 0.3)  # theirs are normalized, or spectral, in float32
    assert narrow >= read * low.num_params
    assert {p.dtype for p in jax.tree.leaves(network(name).entering().params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "shape, multipliers",
    [((12, 8, 3), (1, 2)), ((28, 28, 1), (1, 1, 2)), ((24, 3), (1, 1, 2)), ((4, 6, 8, 1), (1, 2))],
)
def test_any_shape_and_every_pixel_sees_every_other(shape, multipliers):
    net = fill(lambda rngs: UNet(shape, channels=9, multipliers=multipliers, blocks=1, attention=(6, 14), rngs=rngs))
    x, _ = batch(1, shape)
    changed = x.at[(0, *[-1] * len(shape))].add(3.0)
    y = apply(net, jnp.concatenate([x, changed]), jnp.ones(2))
    assert jnp.isfinite(y).all()
    assert (jnp.abs(y[0] - y[1]).max(-1) > 0).all()  # the middle has attention over all points


@pytest.mark.parametrize("shape", [(12, 3), (12, 8, 3), (12, 8, 8, 3)])
def test_attention_goes_by_the_first_axis(shape):
    net = abstract(lambda rngs: UNet(shape, **SMALL | dict(attention=(8, 6)), rngs=rngs))
    attends = ["attention" in level and bool(level["attention"]) for level in net.params["encoder"].values()]
    assert attends == [False, True]  # sizes 12 and 6; the 8 of the other axes does not count


# Refusals


def test_a_size_that_the_levels_do_not_divide_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="multiple of 4 .* got 10.* 8 or 12") as caught:
        UNet((10, 12, 1), multipliers=(1, 1, 1), rngs=nnx.Rngs(0))
    assert len(caught.value.problems) == 1
    assert len(check_halvings((10, 10), 3)) == 2
    assert check_halvings((28, 12), 3) == check_halvings((5, 7), 1) == check_halvings((12,), 3) == []
    assert "to 8," in check_halvings((3, 8), 4)[0]


@pytest.mark.parametrize(
    "shape, axis", [((10, 1), "curve points"), ((8, 10, 1), "image width"), ((10, 8, 8, 1), "volume depth")]
)
def test_the_axis_of_a_size_that_does_not_fit_is_named(shape, axis):
    for build, line in [
        (UNet, f"{axis}: expected a multiple of 4 for 3 levels, got 10; resize or pad to 8 or 12, or use fewer levels"),
        (DiT, f"{axis}: expected a multiple of the patch, 4, got 10; crop or pad the {axis.split()[0]}s, or take "
         "another patch"),
    ]:  # fmt: skip
        arguments = dict(multipliers=(1, 1, 1)) if build is UNet else dict(patch=4)
        with pytest.raises(ConfigError) as caught:
            build(shape, **arguments, rngs=nnx.Rngs(0))
        assert caught.value.problems == (line,)


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda rngs: UNet((0, 8, 1), rngs=rngs), r"\(height, width, channels\)"),
        (lambda rngs: DiT((8, 0), rngs=rngs), r"\(points, channels\)"),
        (lambda rngs: EDM2UNet((8, 8, 0), rngs=rngs), r"\(height, width, channels\)"),
        (lambda rngs: UNet((8,), rngs=rngs), r"got vectors of shape \(8,\); use mlp"),
        (lambda rngs: DiT((2, 2, 2, 2, 1), rngs=rngs), "got records of 4 spatial axes .*; use fno"),
        (lambda rngs: EDM2UNet((8, 8, 8, 1), rngs=rngs), "got volumes .*; use unet"),
        (lambda rngs: UNet((8, 8, 1), multipliers=(), rngs=rngs), "multipliers"),
        (lambda rngs: UNet((8, 8, 1), dropout=1.0, rngs=rngs), "dropout < 1, got 1.0"),
        (
            lambda rngs: UNet((8, 8, 1), **SMALL, embedding="sine", rngs=rngs),
            "positional, sinusoidal, fourier, got 'sine'",
        ),
        (lambda rngs: UNet((8, 8, 1), **SMALL, head_channels=3, rngs=rngs), "divisor of 16, .* got 3"),
        (
            lambda rngs: UNet((8, 8, 1), **SMALL, resample_filter="lanczos", rngs=rngs),
            "box, box_padded, fir, got 'lanczos'",
        ),
        (lambda rngs: UNet((8, 8, 1), multipliers=(1,), progressive="residual", rngs=rngs), "there is one"),
        (lambda rngs: EDM2UNet((10, 8, 1), channels=4, head_channels=0, rngs=rngs), "multiple of 8 .* got 10"),
        (lambda rngs: DiT((8, 9, 1), patch=2, rngs=rngs), "width: expected a multiple of the patch, 2, got 9"),
        (lambda rngs: DiT((8, 8, 1), width=20, head_channels=8, rngs=rngs), "divisor of the width 20, got 8"),
        (
            lambda rngs: DiT((8, 8, 1), width=12, head_channels=6, positions="rotary", rngs=rngs),
            "multiple of 4 .* got 6",
        ),
        (lambda rngs: DiT((8, 8, 8, 1), width=16, head_channels=0, rngs=rngs), "multiple of 6 .* volumes, got 16"),
        (lambda rngs: DiT((8, 8, 1), positions="learned", rngs=rngs), "sincos, rotary, got 'learned'"),
        (lambda rngs: MLP((2,), depth=0, rngs=rngs), "depth 0"),
        (lambda rngs: ClassCondition(-1), "num_classes"),
    ],
)
def test_arguments_out_of_range_are_refused(build, words):
    with pytest.raises(ConfigError, match=words):
        build(nnx.Rngs(0))


@pytest.mark.parametrize("name", ["mlp", "unet", "edm2", "dit"])  # the operators take every grid; see test_fno
def test_calls_that_would_go_wrong_in_silence_are_refused(name):
    net = fill(functools.partial(BUILD[name], conditions={}))
    x, c = batch(2)
    with pytest.raises(ConfigError, match=r"x of shape \[B, 8, 8, 2\].* got \[2, 4, 8, 2\]"):
        net(x[:, :4], c)
    for bad_x, bad_c in ((x[0], c[0]), (x, c[:1])):  # not through the network: the type checker would be first
        with pytest.raises(ConfigError, match=r"x\[None\]"):
            check_input((8, 8, 2), bad_x, bad_c)
    with pytest.raises(ConfigError, match="unknown entry 'class'"):
        net(x, c, {"class": jnp.array([0, 1])})
