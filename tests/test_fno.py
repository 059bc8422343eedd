"""Neural operators: the spectral layer against FFTs, and that a network is one operator on every grid."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scoresde.errors import ConfigError
from scoresde.nets import FNO, UFNO, Network, UNet
from scoresde.nets.spectral import BOUNDARIES, SpectralConv, basis, held, resample

both = pytest.mark.parametrize("boundary", BOUNDARIES)
BUILD = {
    "fno": lambda rngs, shape, **kw: FNO(shape, rngs=rngs, **dict(width=16, depth=2, modes=5) | kw),
    "ufno": lambda rngs, shape, **kw: UFNO(shape, rngs=rngs, **dict(width=12, multipliers=(1, 2), modes=5) | kw),
}
nets = pytest.mark.parametrize("name", BUILD)


def abstract(build) -> Network:
    return jax.eval_shape(lambda key: Network.init(build, key=key), jax.random.key(0))


def fill(build) -> Network:
    """The network with random parameters of the size of their initialization, and the last layer like the others."""
    rng = np.random.default_rng(0)

    def draw(path, p):
        z = rng.standard_normal(p.shape, dtype=np.float32)
        fan = p.shape[-2] * p.shape[-3] if path[-2].key == "spectral" else math.prod(p.shape[:-1])
        return jnp.asarray(z / math.sqrt(fan) if p.ndim > 1 else 0.1 * z)

    net = abstract(build)
    return dataclasses.replace(net, params=jax.tree_util.tree_map_with_path(draw, net.params))


@functools.cache
def network(name, shape, **kw) -> Network:
    return fill(lambda rngs: BUILD[name](rngs, shape, **kw))


@jax.jit
def apply(net, x, c, condition=None, key=None):
    return net(x, c, condition, key=key)


def values(boundary, c, n: int):
    """The function of coefficients c [B, *modes (parts), C] at n points per axis, [B, *n, C]. One axis or two."""
    s = basis(boundary, n, c.shape[1])[0]
    if c.ndim == 4:
        return jnp.asarray(np.einsum("bkpc,nkp->bnc", c, s))
    return jnp.asarray(np.einsum("bkplqc,nkp,mlq->bnmc", c, s, s))


def coefficients(boundary, x, modes: int):
    """The inverse of `values`, by the sum over the grid."""
    n = x.shape[1]
    s = basis(boundary, n, modes)[0] / n
    return np.einsum("bnc,nkp->bkpc", x, s) if x.ndim == 3 else np.einsum("bnmc,nkp,mlq->bkplqc", x, s, s)


def draw(boundary, modes: int, dims: int = 1, channels: int = 1, batch: int = 2, seed: int = 0):
    """Coefficients of random functions of unit size."""
    parts = 2 if boundary == "periodic" else 1
    c = np.random.default_rng(seed).standard_normal((batch, *[modes, parts] * dims, channels), dtype=np.float32)
    return c / math.sqrt(math.prod(c.shape[1:-1]))


def noise(batch: int = 2):
    return jnp.linspace(0.0, 3.0, batch)


# The spectral layer

run = jax.jit(lambda layer, h: layer(h))


@pytest.mark.parametrize("space", [(9,), (8,), (6, 7), (4, 5, 6)])
def test_periodic_layer_is_the_fft_layer(space):
    """Li et al. 2021: multiply the coefficients of rfftn, drop the others, irfftn."""
    modes = tuple(held("periodic", n) for n in space)
    layer = SpectralConv(2, 3, modes, boundary="periodic", param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    w = np.asarray(layer.kernel[...], np.float64)
    w = w[..., 0, :, :] + 1j * w[..., 1, :, :]
    h = np.random.default_rng(0).standard_normal((2, *space, 2)).astype(np.float32)
    axes = tuple(range(1, len(space) + 1))
    z, out = np.fft.rfftn(h, axes=axes), 0
    out = np.zeros((*z.shape[:-1], 3), complex)
    order = [[0, *(s * j for j in range(1, k) for s in (1, -1))] for k in modes[:-1]] + [list(range(modes[-1]))]
    for i in np.ndindex(*w.shape[:-2]):
        at = (slice(None), *(k[j] for k, j in zip(order, i)))
        out[at] = z[at] @ w[i]
    np.testing.assert_allclose(run(layer, jnp.asarray(h)), np.fft.irfftn(out, space, axes), atol=1e-5)


@pytest.mark.parametrize("space", [(8,), (5, 6)])
def test_even_layer_is_the_dct_layer(space):
    modes = tuple(n - 2 for n in space)
    layer = SpectralConv(2, 3, modes, boundary="even", param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    h = np.random.default_rng(0).standard_normal((2, *space, 2)).astype(np.float32)
    axes = tuple(range(1, len(space) + 1))
    z = jax.scipy.fft.dctn(jnp.asarray(h), axes=axes, norm="ortho")[(slice(None), *(slice(k) for k in modes))]
    out = np.einsum("b...i,...io->b...o", z, np.asarray(layer.kernel[...])[..., 0, :, :])
    out = np.pad(out, [(0, 0), *((0, 2) for _ in space), (0, 0)])
    np.testing.assert_allclose(
        run(layer, jnp.asarray(h)), jax.scipy.fft.idctn(jnp.asarray(out), axes=axes, norm="ortho"), atol=1e-5
    )


@both
@pytest.mark.parametrize("dims", [1, 2])
def test_layer_is_one_operator_on_every_grid(boundary, dims):
    """Exactly, also on grids that hold fewer modes than the layer has, if the function has no more."""
    layer = SpectralConv(1, 2, (8,) * dims, boundary=boundary, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    c = draw(boundary, 4, dims)
    out = [coefficients(boundary, run(layer, values(boundary, c, n)), 4) for n in (7, 8, 15, 32)]
    for other in out[1:]:
        np.testing.assert_allclose(other, out[0], atol=1e-5)


@both
def test_layer_keeps_the_variance_of_its_modes(boundary):
    layer = SpectralConv(256, 256, (16,), boundary=boundary, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    h = values(boundary, draw(boundary, 16, channels=256, batch=1), 32)
    assert abs(float(jnp.var(run(layer, h)) / jnp.var(h)) - 1) < 0.1


@both
@pytest.mark.parametrize("dims", [1, 2])
def test_resampling_is_exact_for_what_both_grids_hold(boundary, dims):
    c = draw(boundary, 5, dims, channels=2)
    for n, m in [(9, 24), (24, 9), (10, 13), (10, 10)]:
        y = resample(values(boundary, c, n), (m,) * dims, boundary)
        np.testing.assert_allclose(y, values(boundary, c, m), atol=1e-5)
    fine = draw(boundary, 12, dims)
    cut = fine[:, :5, :, :5] if dims == 2 else fine[:, :5]
    m = 9 if boundary == "periodic" else 5  # holds five modes
    np.testing.assert_allclose(
        resample(values(boundary, fine, 24), (m,) * dims, boundary), values(boundary, cut, m), atol=1e-5
    )


# One network for every grid


def errors(net, boundary, grids, dims: int = 1, scale: float = 1.0) -> list[float]:
    """Relative distances of the outputs on neighbours among the grids, in the modes that the first one holds.

    With `scale`, the spectral weights of the last grid are multiplied: what coefficients without 1/n would do.
    """
    x = 3 * draw(boundary, 4, dims)
    multiply = lambda path, p: p * scale if path[-2].key == "spectral" else p
    scaled = dataclasses.replace(net, params=jax.tree_util.tree_map_with_path(multiply, net.params))
    run = lambda n: apply(scaled if n == grids[-1] else net, values(boundary, x, n), noise())
    ys = [coefficients(boundary, run(n), held(boundary, grids[0])) for n in grids]
    return [float(np.linalg.norm(y - z) / np.linalg.norm(z)) for y, z in zip(ys[:-1], ys[1:], strict=True)]


@nets
@both
def test_output_does_not_depend_on_the_grid(name, boundary):
    """Up to aliasing of the activations, which falls faster than any power of n. Input of four modes, three units
    large."""
    net = network(name, (16, 1), boundary=boundary)
    error = errors(net, boundary, (8, 16, 32, 64))
    assert error[1] < 3e-2 and error[2] < 3e-3
    assert error[2] < error[1] / 5 < error[0] / 25
    assert errors(net, boundary, (16, 32), scale=2.0)[0] > 0.1  # without 1/n in the coefficients


@nets
@both
def test_output_does_not_depend_on_the_grid_in_two_dimensions(name, boundary):
    net = network(name, (8, 8, 1), boundary=boundary, modes=3)
    coarse, fine = errors(net, boundary, (8, 16, 32), dims=2)
    assert fine < 3e-2 and fine < coarse / 5


def test_a_convolution_on_pixels_depends_on_the_grid():
    """The same measure for a U-Net: its kernels have the size of some points, whatever these mean."""
    build = lambda n: lambda rngs: UNet((n, n, 1), channels=8, multipliers=(1, 1), blocks=1, attention=(), rngs=rngs)
    x, ys = 3 * draw("even", 4, 2), []
    for n in (16, 32):
        ys.append(coefficients("even", apply(fill(build(n)), values("even", x, n), noise()), 16))
    assert np.linalg.norm(ys[0] - ys[1]) > 0.3 * np.linalg.norm(ys[1])


@nets
@both
def test_on_coarser_grids_than_the_modes_constants_stay_what_they_are(name, boundary):
    """Without coordinates a constant goes to a constant, which is the same on a grid that holds all modes and on a
    single point."""
    net = network(name, (16, 1), boundary=boundary, coordinates=False)
    whole = np.asarray(apply(net, jnp.full((2, 16, 1), 0.7), noise()))
    assert np.ptp(whole, axis=1).max() < 1e-5 < np.abs(whole).min()
    for n in (1, 6):
        np.testing.assert_allclose(apply(net, jnp.full((2, n, 1), 0.7), noise()), whole[:, :n], atol=1e-5)


@nets
def test_axes_may_differ(name):
    """Along an axis on which the input is constant the output is, too, and does not depend on its number of points."""
    net = network(name, (16, 8, 2), modes=(4, 2), boundary="periodic", coordinates=False)
    for axis in (1, 2):
        x = np.random.default_rng(0).standard_normal((2, 10, 1, 2) if axis == 2 else (2, 1, 10, 2)).astype(np.float32)
        ys = [np.asarray(apply(net, jnp.asarray(x.repeat(n, axis)), noise())) for n in (9, 13)]
        assert ys[0].shape == x.repeat(9, axis).shape and np.ptp(ys[0], axis=axis).max() < 1e-5
        np.testing.assert_allclose(ys[1].take([0], axis), ys[0].take([0], axis), atol=1e-5)
        assert np.ptp(ys[0], axis=3 - axis).max() > 1e-3


@nets
def test_parameters_do_not_depend_on_the_grid(name):
    for boundary in BOUNDARIES:
        shapes = [jax.tree.map(jnp.shape, network(name, (n, n, 1), boundary=boundary, modes=3).params) for n in (8, 50)]
        assert shapes[0] == shapes[1]


def test_number_of_parameters():
    width, k = 16, 5
    pointwise = width**2 + width + 2 * (width**2 + width)  # Dense(v), and Dense(temb) of twice the width
    for boundary, shape, modes, extra in [
        ("even", (16, 1), k, 1), ("even", (16, 16, 1), k**2, 2),
        ("periodic", (16, 1), 2 * k, 2), ("periodic", (16, 16, 1), 2 * k * (2 * k - 1), 4),
    ]:  # fmt: skip
        frame = 2 * (width**2 + width) + (1 + extra) * width + width + (width**2 + width) + width + 1
        build = lambda rngs: BUILD["fno"](rngs, shape, boundary=boundary)
        assert abstract(build).num_params == frame + 2 * (modes * width**2 + pointwise)


# Symmetries


@pytest.mark.parametrize("shape", [(16, 1), (8, 8, 1)])
def test_without_coordinates_a_periodic_network_commutes_with_translations(shape):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32))
    shift = lambda x: jnp.roll(x, tuple(range(3, len(shape) + 2)), tuple(range(1, len(shape))))
    for coordinates in (False, True):
        net = network("fno", shape, modes=3, boundary="periodic", coordinates=coordinates)
        y, z = shift(apply(net, x, noise())), apply(net, shift(x), noise())
        assert (float(jnp.abs(y - z).max()) < 1e-4) == (not coordinates)


def test_without_coordinates_an_even_network_commutes_with_reflections():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 16, 1), dtype=np.float32))
    for coordinates in (False, True):
        net = network("fno", (16, 1), coordinates=coordinates)
        y, z = apply(net, x, noise())[:, ::-1], apply(net, x[:, ::-1], noise())
        assert (float(jnp.abs(y - z).max()) < 1e-4) == (not coordinates)


# Dropout, compilation


@nets
def test_dropout_drops_channels_of_the_whole_domain(name):
    """So the same key gives the same operator on every grid."""
    net = network(name, (16, 1), dropout=0.5)
    x, key = draw("even", 4), jax.random.key(1)
    y, z = (coefficients("even", apply(net, values("even", x, n), noise(), None, key), 16) for n in (64, 128))
    assert np.linalg.norm(y - z) < 1e-3 * np.linalg.norm(z)
    other = coefficients("even", apply(net, values("even", x, 64), noise(), None, jax.random.key(2)), 16)
    assert np.linalg.norm(y - other) > 0.1 * np.linalg.norm(y)


def test_one_program_for_each_grid():
    net, traced = network("fno", (16, 1)), []

    @jax.jit
    def run(net, x):
        traced.append(x.shape)
        return net(x, noise())

    for n in (16, 24, 16, 24):
        run(net, jnp.zeros((2, n, 1)))
    assert traced == [(2, 16, 1), (2, 24, 1)]


# Refusals


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda rngs: FNO((16,), rngs=rngs), "points per axis, channels"),
        (lambda rngs: FNO((8, 1), modes=9, rngs=rngs), "1 to 8 modes on axis 0.* got 9; use fewer modes"),
        (lambda rngs: FNO((8, 8, 1), modes=(4, 5), boundary="periodic", rngs=rngs), "1 to 4 modes on axis 1.* got 5"),
        (lambda rngs: FNO((8, 8, 1), modes=(4,), rngs=rngs), "modes for 2 axes"),
        (lambda rngs: FNO((8, 1), modes=2, boundary="odd", rngs=rngs), "periodic, even, got 'odd'"),
        (lambda rngs: FNO((8, 1), modes=2, depth=0, dropout=1.0, rngs=rngs), "depth 0\n.*dropout < 1, got 1.0"),
        (lambda rngs: UFNO((8, 1), modes=2, multipliers=(), rngs=rngs), "one positive multiplier"),
        (lambda rngs: UFNO((12, 1), modes=2, multipliers=(1, 1, 1, 1), rngs=rngs), "at least 16 points .* 4 levels"),
        (lambda rngs: UFNO((12, 1), modes=2, blocks=0, rngs=rngs), "blocks 0"),
    ],
)
def test_arguments_out_of_range_are_refused(build, words):
    with pytest.raises(ConfigError, match=words):
        build(nnx.Rngs(0))


@nets
def test_what_is_no_batch_of_functions_is_refused(name):
    module = nnx.eval_shape(lambda: BUILD[name](nnx.Rngs(0), (16, 1)))
    for x, c in [((16, 1), (16,)), ((2, 16, 2), (2,)), ((2, 16, 1), (1,)), ((2, 0, 1), (2,)), ((2, 4, 4, 1), (2,))]:
        with pytest.raises(ConfigError, match=r"\[B, n, 1\]"):
            module.frame.lift(jnp.zeros(x), jnp.zeros(c), None)
