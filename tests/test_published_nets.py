"""The parts of which published networks differ, each against its formula written out in NumPy, and their numbers of
parameters."""

import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import problems_of
from flax import nnx

from scoresde.errors import ConfigError
from scoresde.experiment import Experiment
from scoresde.experiment.config import default
from scoresde.nets import PUBLISHED, ClassCondition, DiT, Network, UNet, edm2
from scoresde.nets.blocks import ResidualBlock
from scoresde.nets.dit import angles, rotate, sincos
from scoresde.nets.embedding import SinusoidalEmbedding, fourier_features
from scoresde.nets.resampling import FILTERS, DownConv, UpConv

FLOAT32 = dict(dtype=jnp.float32, param_dtype=jnp.float32)
KERNEL = np.array([1.0, 3, 3, 1]) / 8
PAGE = (Path(__file__).parents[1] / "docs" / "networks.md").read_text()


def image(*shape, seed: int = 0):
    return np.random.default_rng(seed).standard_normal(shape)


def fill(module, seed: int = 0):
    """Random parameters, none zero."""
    rng = np.random.default_rng(seed)
    graphdef, state = nnx.split(module)
    draw = lambda p: jnp.asarray(0.4 * rng.standard_normal(p.shape) + (0.5 if p.ndim == 1 else 0), jnp.float32)
    return nnx.merge(graphdef, jax.tree.map(draw, state))


def upfirdn(x, kernel, *, up: int = 1, down: int = 1, pad: tuple[int, int]):
    """Its definition along every axis of [b, *space, c]: zeros between, pad, convolve, drop."""
    for axis in range(1, x.ndim - 1):
        x = np.moveaxis(x, axis, -1)
        spread = np.zeros((*x.shape[:-1], x.shape[-1] * up))
        spread[..., ::up] = x
        padded = np.pad(spread, [(0, 0)] * (x.ndim - 1) + [pad])
        convolved = np.apply_along_axis(np.convolve, -1, padded, kernel, "valid")
        x = np.moveaxis(convolved[..., ::down], -1, axis)
    return x


def convolve(x, w, stride: int = 1):
    """Correlation without padding, as convolutions of networks are."""
    space = tuple((n - len(w)) // stride + 1 for n in x.shape[1:-1])
    y = np.zeros((len(x), *space, w.shape[-1]))
    for at in np.ndindex(space):
        part = x[:, *(slice(stride * i, stride * i + len(w)) for i in at)]
        y[:, *at] = part.reshape(len(x), -1) @ w.reshape(-1, w.shape[-1])
    return y


def around(x, *pad: int):
    """x with zeros around each spatial axis, as many before and after."""
    return np.pad(x, [(0, 0), *[pad] * (x.ndim - 2), (0, 0)])


each_space = pytest.mark.parametrize("space", [(8,), (4, 6), (2, 6, 4)], ids=["curve", "image", "volume"])


@each_space
def test_fir_resampling_is_upfirdn(space):
    x = image(2, *space, 3)
    down, up = FILTERS["fir"].down, FILTERS["fir"].up
    np.testing.assert_allclose(down(jnp.asarray(x)), upfirdn(x, KERNEL, down=2, pad=(1, 1)), atol=1e-6)
    np.testing.assert_allclose(up(jnp.asarray(x)), upfirdn(x, 2 * KERNEL, up=2, pad=(2, 1)), atol=1e-6)


@each_space
def test_fir_convolutions_share_one_padding(space):
    x, axes = image(2, *space, 3), len(space)
    down = fill(DownConv(3, 5, "fir", axes=axes, rngs=nnx.Rngs(0), **FLOAT32))
    w, b = (np.asarray(p[...], np.float64) for p in (down.conv.kernel, down.conv.bias))
    expected = convolve(upfirdn(x, KERNEL, pad=(2, 2)), w, stride=2) + b
    np.testing.assert_allclose(down(jnp.asarray(x, jnp.float32)), expected, atol=1e-5)
    up = fill(UpConv(3, 5, "fir", axes=axes, rngs=nnx.Rngs(0), **FLOAT32))
    w, b = (np.asarray(p[...], np.float64) for p in (up.conv.kernel, up.bias))
    spread = np.zeros((2, *(2 * n - 1 for n in space), 3))
    spread[:, *[slice(None, None, 2)] * axes] = x
    expected = upfirdn(convolve(around(spread, 2, 2), w), 2 * KERNEL, pad=(1, 1)) + b  # the bias is not filtered
    np.testing.assert_allclose(up(jnp.asarray(x, jnp.float32)), expected, atol=1e-5)


@each_space
def test_box_convolutions_are_those_of_ddpm(space):
    x, axes = image(2, *space, 3), len(space)
    for name, pad in [("box", (0, 1)), ("box_padded", (1, 1))]:
        down = fill(DownConv(3, 5, name, axes=axes, rngs=nnx.Rngs(0), **FLOAT32))
        w, b = (np.asarray(p[...], np.float64) for p in (down.conv.kernel, down.conv.bias))
        expected = convolve(around(x, *pad), w, stride=2) + b
        np.testing.assert_allclose(down(jnp.asarray(x, jnp.float32)), expected, atol=1e-5)
    up = fill(UpConv(3, 5, "box", axes=axes, rngs=nnx.Rngs(0), **FLOAT32))
    w, b = (np.asarray(p[...], np.float64) for p in (up.conv.kernel, up.bias))
    doubled = x
    for axis in range(1, axes + 1):
        doubled = doubled.repeat(2, axis)
    expected = convolve(around(doubled, 1, 1), w) + b
    np.testing.assert_allclose(up(jnp.asarray(x, jnp.float32)), expected, atol=1e-5)


def test_scale_shift_is_adaptive_group_normalization():
    """8 channels: groups of 4. Dhariwal and Nichol 2021, equation 3."""
    options = dict(axes=2, temb_features=6, modulation="scale_shift", dropout=0.0, rescale=1.0, epsilon=1e-5)
    block = fill(ResidualBlock(8, 8, **options, rngs=nnx.Rngs(0), **FLOAT32))
    x, temb = (jnp.asarray(image(*shape), jnp.float32) for shape in ((2, 3, 3, 8), (2, 6)))
    assert block.dense.kernel.shape == (6, 16)
    h = np.asarray(block.conv_1(nnx.swish(block.norm_1(x))), np.float64).reshape(2, 9, 2, 4)
    centred = (h - h.mean((1, 3), keepdims=True)) / np.sqrt(h.var((1, 3), keepdims=True) + 1e-5)
    normed = centred.reshape(2, 3, 3, 8) * block.norm_2.scale[...] + block.norm_2.bias[...]
    scale, shift = np.split(np.asarray(block.dense(temb))[:, None, None], 2, -1)
    expected = x + block.conv_2(nnx.swish(jnp.asarray(normed * (1 + scale) + shift, jnp.float32)))
    np.testing.assert_allclose(block(x, temb), expected, rtol=1e-4, atol=1e-4)


def test_blocks_that_resample_have_the_skip_path_of_their_paper():
    for kind, path in (("conv", nnx.Conv), ("identity", type(None))):
        net = nnx.eval_shape(
            lambda kind=kind: UNet(
                (4, 4, 1), channels=4, multipliers=(1, 1), blocks=1, resample_skip=kind, rngs=nnx.Rngs(0)
            )
        )
        assert isinstance(net.encoder[0].down.skip, path) and isinstance(net.decoder[0].up.skip, path)
        assert net.encoder[0].blocks[0].skip is None


@pytest.mark.parametrize("inputs, outputs", [("input_skip", "residual"), ("residual", "output_skip")])
def test_pyramids_go_beside_the_network(inputs, outputs):
    """The formulas of `pyramids` around the loop of the paper; one of the two shifts its input first."""
    center = inputs == "input_skip"
    config = dict(
        center_input=center,
        channels=8,
        multipliers=(1, 2),
        blocks=1,
        attention=(),
        resample_filter="fir",
        embedding="fourier",
    )
    module = fill(UNet((4, 4, 2), **config, progressive_input=inputs, progressive=outputs, rngs=nnx.Rngs(0)))
    x, c = jnp.asarray(image(2, 4, 4, 2), jnp.float32), jnp.array([0.1, 0.2])

    @jax.jit
    def both(x, c):
        m, half, whole = module, 2**-0.5, x
        x = 2 * x - 1 if center else x
        temb = nnx.swish(m.conditioning(c, {}))
        hs = [m.conv_in(x)]
        hs.append(m.encoder[0].blocks[0](hs[-1], temb))
        h, join = m.encoder[0].down(hs[-1], temb), m.encoder[0].pyramid
        h = join.conv(FILTERS["fir"].down(x)) + h if inputs == "input_skip" else (join.down(x) + h) * half
        hs += [h, m.encoder[1].blocks[0](h, temb)]
        h = m.middle_2(m.middle_attention(m.middle_1(hs[-1], temb)), temb)
        low, high = m.decoder
        for block in low.blocks:
            h = block(jnp.concatenate([h, hs.pop()], -1), temb)
        q = low.pyramid.conv(nnx.swish(low.pyramid.norm(h)))
        h = low.up(h, temb)
        for block in high.blocks:
            h = block(jnp.concatenate([h, hs.pop()], -1), temb)
        if outputs == "residual":
            h = (high.pyramid.up(q) + h) * half
        y = m.conv_out(nnx.swish(m.norm_out(h)))
        return m(whole, c), y + FILTERS["fir"].up(q) if outputs == "output_skip" else y

    ours, expected = both(x, c)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * float(jnp.abs(expected).max()))


def test_the_first_convolution_sees_fourier_features():
    """[x, sin 2 pi 2^n x, cos 2 pi 2^n x], n = 1 and 2, written out, into a U-Net of so many channels; center_input
    comes first."""
    options = dict(channels=8, multipliers=(1,), blocks=1, attention=())
    ours = fill(UNet((4, 4, 2), **options, input_fourier=(1, 3), center_input=True, rngs=nnx.Rngs(0)))
    plain = UNet((4, 4, 10), **options, rngs=nnx.Rngs(0))
    state = nnx.state(ours)
    for name in ("kernel", "bias"):
        state["conv_out"][name] = nnx.Param(jnp.repeat(state["conv_out"][name][...], 5, axis=-1))
    nnx.update(plain, state)
    x, c = np.float32(image(2, 4, 4, 2)), jnp.array([0.1, 0.2])
    y = 2 * np.float64(x) - 1
    seen = np.concatenate([y, *(f(2 * np.pi * 2**n * y) for f in (np.sin, np.cos) for n in (1, 2))], -1)
    expected = plain(jnp.asarray(seen, jnp.float32), c)[..., ::5]
    np.testing.assert_allclose(ours(jnp.asarray(x), c), expected, rtol=1e-4, atol=1e-4 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_finest_features_of_grey_levels_are_exact(dtype):
    """At n = 7 all centres of 256 levels have the same phase, at n = 6 neighbours opposite ones; bfloat16 alone could
    not tell them."""
    levels = jnp.asarray((2 * (np.arange(256) + 0.5) / 256 - 1).reshape(1, 16, 16, 1), jnp.float32)
    features = np.asarray(fourier_features(levels, (6, 8)).astype(dtype), np.float64).reshape(256, 5)
    np.testing.assert_allclose(features[:, 1], np.where(np.arange(256) % 2, -1, 1), atol=1e-5)  # sin, n = 6
    np.testing.assert_allclose(features[:, 4], -1, atol=1e-5)  # cos, n = 7
    np.testing.assert_allclose(features[:, 2:4], 0, atol=1e-5)


def test_sinusoidal_embedding_formula():
    c = np.array([0.0, 0.5, 700.0])
    angle = c[:, None] * np.exp(-np.arange(4) * np.log(1e4) / 4)
    expected = np.concatenate([np.cos(angle), np.sin(angle)], 1)
    np.testing.assert_allclose(
        SinusoidalEmbedding(8)(jnp.asarray(c, jnp.float32)), expected, atol=3e-4
    )  # angles up to 700


# DiT


def test_positions_of_patches():
    table = sincos((3, 2), 8)
    for i in range(3):
        for j in range(2):
            w = np.array([1.0, 1e-2])
            expected = np.concatenate([np.sin(j * w), np.cos(j * w), np.sin(i * w), np.cos(i * w)])
            np.testing.assert_allclose(table[2 * i + j], expected, atol=1e-6)


def test_positions_along_one_axis_and_along_three():
    """On a curve the embedding of Vaswani et al. 2017; in a volume each axis has its third, the last axis first."""
    w = 1e4 ** (-np.arange(4) / 4)
    for i, row in enumerate(sincos((5,), 8)):
        np.testing.assert_allclose(row, np.concatenate([np.sin(i * w), np.cos(i * w)]), atol=1e-6)
    w = np.array([1.0, 1e-2])
    for at, row in zip(np.ndindex(2, 3, 4), sincos((2, 3, 4), 12), strict=True):
        expected = np.concatenate([f(p * w) for p in reversed(at) for f in (np.sin, np.cos)])
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_rotary_products_see_differences_of_positions_alone():
    q, k = (np.tile(image(1, 1, 1, 8, seed=seed), (1, 25, 1, 1)) for seed in (0, 1))
    angle = angles((5, 5), 8).reshape(25, 4)
    turned = [np.asarray(rotate(jnp.asarray(x, jnp.float32), angle))[0, :, 0] for x in (q, k)]
    products = (turned[0] @ turned[1].T).reshape(5, 5, 5, 5)
    np.testing.assert_allclose(products[1:, 1:, 1:, 1:], products[:-1, :-1, :-1, :-1], atol=1e-5)
    assert (
        abs(products[0, 0, 0, 1] - products[0, 0, 0, 0]) > 1e-2
        and abs(products[0, 0, 1, 0] - products[0, 0, 0, 1]) > 1e-2
    )


@each_space
def test_dit_forward_is_the_formula(space):
    """Two heads, patches of two points along each axis; attention and normalization written out."""
    width = 4 * len(space)
    net = fill(DiT((*space, 2), patch=2, width=width, depth=1, head_channels=width // 2, rngs=nnx.Rngs(0)))
    x, c, grid = image(1, *space, 2), jnp.array([0.3]), tuple(n // 2 for n in space)
    of_patch = [(0, *(slice(2 * i, 2 * i + 2) for i in at)) for at in np.ndindex(grid)]
    patches = np.stack([x[part].ravel() for part in of_patch])
    dense = lambda layer, h: np.asarray(h) @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...])
    normed = lambda h: (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
    temb = np.asarray(nnx.swish(net.conditioning(c, {})), np.float64)[0]
    block, h = net.blocks[0], dense(net.dense_in, patches) + sincos(grid, width)
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = np.split(dense(block.modulation, temb), 6)
    y = normed(h) * (1 + scale_1) + shift_1
    q, k, v = (dense(layer, y) for layer in (block.query, block.key, block.value))
    heads = []
    for part in (slice(0, width // 2), slice(width // 2, width)):
        weights = np.exp(q[:, part] @ k[:, part].T / math.sqrt(width / 2))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, part])
    h = h + gate_1 * dense(block.out, np.concatenate(heads, -1))
    y = np.asarray(nnx.gelu(jnp.asarray(dense(block.dense_1, normed(h) * (1 + scale_2) + shift_2)), approximate=True))
    h = h + gate_2 * dense(block.dense_2, y)
    shift, scale = np.split(dense(net.modulation, temb), 2)
    out = dense(net.dense_out, normed(h) * (1 + scale) + shift)
    expected = np.zeros_like(x)
    for part, values in zip(of_patch, out, strict=True):
        expected[part] = values.reshape(expected[part].shape)
    y = net(jnp.asarray(x, jnp.float32), c)
    np.testing.assert_allclose(y, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


# EDM2


def rms(x, axis=None):
    return np.sqrt(np.mean(np.square(x), axis=axis, keepdims=axis is not None))


def test_edm2_operations_keep_the_magnitude():
    a, b = (jnp.asarray(image(100, 1000, seed=seed), jnp.float32) for seed in (0, 1))
    for y in (edm2.mp_silu(a), edm2.mp_sum(a, b, 0.3), edm2.mp_cat(a, b[:, :50]), edm2.mp_cat(a, b)):
        assert abs(rms(np.asarray(y)) - 1) < 0.01  # 1e5 draws
    assert float(edm2.mp_sum(jnp.ones(()), jnp.zeros(()), 0.3)) == pytest.approx(0.7 / math.sqrt(0.58))
    # Either input of a concatenation brings half of the square at t = 1/2, however many channels it has.
    y = np.asarray(edm2.mp_cat(a, b[:, :50]))
    assert abs(np.sum(y[:, :1000] ** 2) / np.sum(y[:, 1000:] ** 2) - 1) < 0.05


@pytest.mark.parametrize("start, seen", [(edm2.encoder_start, 6), (edm2.decoder_start, 4)])
def test_edm2_block_is_the_formula(start, seen):
    options = dict(temb_features=5, head_channels=3, dropout=0.0, attend=True, **FLOAT32)
    block = fill(edm2.MPBlock(4, 6, start=start, **options, rngs=nnx.Rngs(0)))
    x, temb = image(2, 3, 3, 4), image(2, 5)

    def kernel(conv):
        v = np.asarray(conv.kernel[...], np.float64)
        axes = tuple(range(v.ndim - 1))
        return v / (1e-4 + rms(v, axes)) / math.sqrt(v[..., 0].size)

    silu = lambda x: x / (1 + np.exp(-x)) / 0.596
    mp_sum = lambda a, b: (0.7 * a + 0.3 * b) / math.sqrt(0.58)
    unit = lambda x: x / (1e-4 + rms(x, (-1,)))
    skipped = convolve(x, kernel(block.skip))
    h, base = (unit(skipped), unit(skipped)) if start is edm2.encoder_start else (x, skipped)
    assert block.conv_1.kernel.shape[2] == seen
    h = convolve(around(silu(h), 1, 1), kernel(block.conv_1))
    h = silu(h * (1 + float(block.gain[...]) * (temb @ kernel(block.dense))[:, None, None]))
    base = mp_sum(base, convolve(around(h, 1, 1), kernel(block.conv_2)))
    tokens = base.reshape(2, 9, 6)
    q, k, v = (
        unit((tokens @ kernel(layer)).reshape(2, 9, 2, 3))
        for layer in (block.attention.query, block.attention.key, block.attention.value)
    )
    weights = np.exp(np.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(3))
    mixed = np.einsum("bhij,bjhd->bihd", weights / weights.sum(-1, keepdims=True), v).reshape(2, 9, 6)
    expected = mp_sum(tokens, mixed @ kernel(block.attention.out)).reshape(base.shape)
    np.testing.assert_allclose(
        block(jnp.asarray(x, jnp.float32), jnp.asarray(temb, jnp.float32)), expected, rtol=1e-4, atol=1e-4
    )


def test_edm2_kernels_stay_on_rms_one_and_the_function_does_not_see_their_length():
    config = default()
    config.model.update(
        dict(name="edm2", channels=4, multipliers=(1, 2), blocks=1, attention=(4,), head_channels=4, dropout=0.0)
    )
    config.data.image_size, config.data.channels, config.optim.warmup, config.optim.learning_rate = 8, 1, 0, 0.5
    network = Experiment.from_config(config).score().network
    optimizer = Experiment.from_config(config).optimizer
    ones = jax.tree.map(jnp.ones_like, network.params)
    updates, _ = optimizer.update(ones, optimizer.init(network.params), network.params)
    moved = optax.apply_updates(network.params, updates)
    for path, p in jax.tree_util.tree_flatten_with_path(moved)[0]:
        if path[-1].key == "kernel":
            np.testing.assert_allclose(
                rms(np.asarray(p), tuple(range(p.ndim - 1))), 1.0, atol=1e-3
            )  # 1e-4 beside the rms
    assert float(moved["gain"]) == pytest.approx(-0.5, rel=1e-3)  # gains move freely, and a warm-up of 0 steps is none
    longer = jax.tree_util.tree_map_with_path(lambda path, p: 3 * p if path[-1].key == "kernel" else p, moved)
    x, c = jnp.asarray(image(2, 8, 8, 1), jnp.float32), jnp.array([-1.0, 0.5])
    call = jax.jit(lambda params: nnx.merge(network.graphdef, params)(x, c))
    y = call(moved)
    assert float(jnp.abs(y).max()) > 0.01
    np.testing.assert_allclose(call(longer), y, atol=2e-3 * float(jnp.abs(y).max()))  # 1e-4 beside each of some 20 rms


# What is published


def count(name: str) -> int:
    """Of the network that a configuration with these fields builds; nothing is allocated."""
    published, config = PUBLISHED[name], default()
    config.model.update(published.fields)
    config.data.image_size, config.data.channels = published.shape[:2], published.shape[2]
    return Experiment.from_config(config).network.num_params


FAST = ("ddpm", "edm2_xs", "dit_s2")


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in PUBLISHED])
def test_parameters_are_those_of_the_paper(name):
    counted, published = count(name), PUBLISHED[name].parameters
    assert f"| {counted:,} |" in row(name)
    if published.endswith(" M"):
        digits = published.removesuffix(" M")
        decimals = len(digits.partition(".")[2])
        # Some papers cut off where others round, and our table of classes has one row more than ADM's: half a unit for
        # that.
        assert abs(counted / 1e6 - float(digits)) < 10**-decimals
    elif published:
        assert f"{counted:,}" == published


def row(name: str) -> str:
    return re.search(rf"^\| `{name}` \|.*$", PAGE, re.MULTILINE)[0]


def test_the_page_names_every_published_network():
    section = re.search(r"^## Published networks$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)[1]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(PUBLISHED)
    for name, published in PUBLISHED.items():
        assert published.parameters in row(name) and published.source in row(name)


DRAWN = {
    "conv_in/kernel": 17.316496,
    "middle_attention/out/kernel": 5.6936266e-4,
    "decoder/1/blocks/1/dense/kernel": 46.464714,
}


def test_the_default_network_has_the_parameters_it_always_had():
    """Paths, shapes and first draws, so that checkpoints of earlier versions are read."""
    small = dict(channels=8, multipliers=(1, 2), blocks=1, attention=(4,), conditions={"class": ClassCondition(3)})
    net = Network.init(lambda rngs: UNet((8, 8, 2), **small, rngs=rngs), key=jax.random.key(3))
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="/"): p
        for path, p in jax.tree_util.tree_flatten_with_path(net.params)[0]
    }
    assert len(flat) == 155
    assert flat["decoder/0/attention/query/kernel"].shape == (16, 16) and flat["encoder/0/down/skip/kernel"].shape == (
        1,
        1,
        8,
        8,
    )
    drawn = {
        name: float(jnp.abs(flat[name]).sum())
        for name in ("conv_in/kernel", "middle_attention/out/kernel", "decoder/1/blocks/1/dense/kernel")
    }
    assert drawn == pytest.approx(DRAWN, rel=1e-5)


@pytest.mark.parametrize(
    "fields, words",
    [
        (dict(head_channels=48), "model: head_channels: expected a divisor of 256, .* got 48; 0 is one head"),
        (dict(name="dit", patch=5), "model: image height: expected a multiple of the patch, 5, got 32"),
        (
            dict(name="dit", width=100, head_channels=64),
            "model: head_channels: expected a divisor of the width 100, got 64",
        ),
        (dict(multipliers=(1,), progressive="residual"), "join levels, and there is one"),
        (
            dict(input_fourier=(8, 6)),
            r"model: input_fourier: expected \(first, stop\).* got \(8, 6\); \(6, 8\) is VDM's",
        ),
        (
            dict(resample_filter="fri"),
            "resample_filter to be one of box, box_padded, fir, got 'fri'",
        ),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_line(fields, words):
    config = default()
    config.model.update(fields)
    problems = problems_of(config)
    assert re.search(words, problems[0]) and all("\n" not in text for text in problems)
    with pytest.raises(ConfigError):
        Experiment.from_config(config).score()
