"""One U-Net for curves, images and volumes: what the network over more axes has in common with that over fewer.

`test_nets` runs the common suite on all of them, and `test_published_nets` compares their parts with formulas.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ROOT, call
from test_nets import apply, batch, far, fill

from scoresde.nets import UNet

SMALL = dict(channels=8, multipliers=(1, 2), blocks=1, attention=(4,))
VARIANTS = {
    "DDPM++": dict(),
    "DDPM": dict(resampling="conv", decoder_attention="block", skip_rescale=False),
    "ADM": dict(modulation="scale_shift", resample_skip="identity", head_channels=4),
    "NCSN++": dict(progressive_input="residual", progressive="output_skip", input_fourier=(0, 1)),
}
FIR = dict(resample_filter="fir", progressive_input="input_skip", progressive="residual", combine="cat")


def unet(shape, **options):
    return fill(lambda rngs: UNet(shape, **SMALL | options, rngs=rngs))


def close(y, expected) -> None:
    """Equal up to the rounding of some thirty float32 layers, for outputs that are not small."""
    size = float(jnp.abs(expected).max())
    assert size > 0.1
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4 * size)


def of_kernels(change, params, axes: int):
    """The parameters with `change` applied to the kernels of convolutions over so many axes."""
    return jax.tree.map(lambda p: change(p) if p.ndim == axes + 2 else p, params)


CASES = [((8,), 0), ((8,), 1), ((8, 4), 0), ((8, 4), 1), ((8, 4), 2)]


@pytest.mark.parametrize(
    "variant, space, axis",
    [
        pytest.param(
            name, space, axis, marks=[] if name == "DDPM++" or (space, axis) == ((8, 4), 0) else pytest.mark.slow
        )
        for name in VARIANTS
        for space, axis in CASES
    ],
)
def test_along_a_new_axis_on_which_nothing_varies_the_network_is_the_one_without_it(variant, space, axis):
    """The kernels are zero beside their centre on the new axis. Statistics, attention and resampling do not see how
    often equal values are repeated, so every slice of the output is the output of the network without the axis."""
    axes, n = len(space), 8 if axis == 0 else 4  # the first axis decides on attention
    low = unet((*space, 2), **VARIANTS[variant])
    high = unet((*space[:axis], n, *space[axis:], 2), **VARIANTS[variant])

    def spread(kernel):
        width = kernel.shape[0]
        wide = jnp.zeros((*kernel.shape[:axis], width, *kernel.shape[axis:]), kernel.dtype)
        return jnp.moveaxis(jnp.moveaxis(wide, axis, 0).at[width // 2].set(kernel), 0, axis)

    lifted = of_kernels(spread, low.params, axes)
    assert jax.tree.map(jnp.shape, lifted) == jax.tree.map(jnp.shape, high.params)
    x, c = batch(2, (*space, 2))
    repeat = lambda x: jnp.repeat(jnp.expand_dims(x, axis + 1), n, axis + 1)
    y = apply(dataclasses.replace(high, params=lifted), repeat(x), c)
    close(y, repeat(apply(low, x, c)))


@pytest.mark.parametrize("space, axis", [((8,), 1), ((8, 4), 0), ((8, 4), 1), ((8, 4), 2)])
def test_of_an_axis_with_one_point_the_kernels_use_their_centre(space, axis):
    """A signal as an N x 1 image, and an image as a volume: zeros lie on both sides, whatever the kernels are there."""
    options = dict(multipliers=(1,), attention=())  # one point cannot be halved
    high = unet((*space[:axis], 1, *space[axis:], 2), **options)
    low = unet((*space, 2), **options)
    centre = of_kernels(lambda p: jnp.take(p, p.shape[axis] // 2, axis), high.params, len(space) + 1)
    x, c = batch(2, (*space, 2))
    y = apply(high, jnp.expand_dims(x, axis + 1), c)
    close(jnp.squeeze(y, axis + 1), apply(dataclasses.replace(low, params=centre), x, c))


@pytest.mark.parametrize("space, order", [((4, 4), (1, 0)), ((4, 4, 4), (2, 0, 1))])
@pytest.mark.parametrize("resampling", ["block", pytest.param("conv", marks=pytest.mark.slow)])
def test_all_axes_are_alike(space, order, resampling):
    """Kernels and input with their axes in another order give the output in that order, with the filter of NCSN++ and
    both of its pyramids. Without the order of the kernels they do not."""
    net = unet((*space, 2), resampling=resampling, **FIR)
    x, c = batch(2, (*space, 2))
    turned = lambda x: x.transpose(0, *(axis + 1 for axis in order), len(space) + 1)
    kernels = of_kernels(lambda p: p.transpose(*order, -2, -1), net.params, len(space))
    assert jax.tree.map(jnp.shape, kernels) == jax.tree.map(jnp.shape, net.params)
    expected, y = turned(apply(net, x, c)), apply(dataclasses.replace(net, params=kernels), turned(x), c)
    close(y, expected)
    assert far(apply(net, turned(x), c), expected)


@pytest.mark.slow  # `test_choices` traces training and drawing of these networks in the fast suite
@pytest.mark.parametrize(
    "size, network",
    [
        ((8,), ["unet", "channels=8", "multipliers=(1,2)", "attention=()", "blocks=1"]),
        ((4, 4, 2), ["unet", "channels=8", "multipliers=(1,2)", "attention=()", "blocks=1"]),
        ((4, 4, 2), ["dit", "width=24", "depth=1", "head_channels=12"]),
    ],
)
def test_curves_and_volumes_through_the_commands(tmp_path, size, network):
    x = np.random.default_rng(0).standard_normal((12, *size, 2)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x_train=x, x_test=x[:3])
    name, *arguments = network
    flags = [
        f"--config={ROOT / 'configs' / 'mixture_2d.py'}",
        f"--config.data.source=npz:{tmp_path / 'a.npz'}",
        f"--config.data.image_size={size}",
        "--config.data.channels=2",
        f"--config.model.name={name}",
        *(f"--config.model.{text}" for text in arguments),
        "--config.training.batch_size=4",
        "--config.training.steps=2",
        "--config.training.watch=()",
        "--config.evaluate.num=0",
        "--config.sampling.sampler=ddim",
        "--config.sampling.steps=2",
        "--config.likelihood.tolerance=1e-2",
    ]
    trained = call("train", *flags, "--workdir", tmp_path / "run")
    assert trained.code == 0, trained.err
    assert call("sample", "--workdir", tmp_path / "run", "--num", 2, "--out", tmp_path / "out").code == 0
    samples = np.load(tmp_path / "out" / "samples.npz")["samples"]
    assert samples.shape == (2, *size, 2) and np.isfinite(samples).all()
    # Forward mode through the network.
    likelihood = call("likelihood", "--workdir", tmp_path / "run", "--num", 1, "--nats")
    assert likelihood.code == 0, likelihood.err
