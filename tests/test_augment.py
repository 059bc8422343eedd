"""Non-leaking augmentation: the label tells all that was done, and a network without a label sees none."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from scoresde.data import ArraySource, Dataset
from scoresde.errors import ConfigError
from scoresde.experiment import Experiment
from scoresde.experiment.config import default, override
from scoresde.nets import AugmentationCondition, UNet
from scoresde.runtime.streams import branch
from scoresde.score.network import EDMPreconditioning, NetworkScore
from scoresde.sde import VP
from scoresde.train import LABELS, augment, fit

HEIGHT, WIDTH = 24, 32


def picture(along_x, along_y):
    """A smooth image without symmetry, at places in pixels from the centre; nothing is near the edges."""
    bump = np.exp(-((along_x - 2) ** 2 + (along_y + 1.5) ** 2 + along_x * along_y / 2) / 12)
    return np.stack([bump, bump * along_x / 3], axis=-1)


def places():
    return np.meshgrid(np.arange(WIDTH) + 0.5 - WIDTH / 2, np.arange(HEIGHT) + 0.5 - HEIGHT / 2)


def rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def forward(label) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and shift of u -> M u + t from a label alone: flips, then scaling, rotation, stretching, translation."""
    flips = np.diag(1 - 2 * label[:2])
    turn = rotation(np.arctan2(label[4], label[3] + 1))
    octaves, along = 0.2 * np.hypot(label[5], label[6]), rotation(np.arctan2(label[6], label[5]) / 2)
    stretch = along @ np.diag([2**octaves, 2**-octaves]) @ along.T
    return stretch @ turn @ (2 ** (0.2 * label[2]) * flips), label[7:] / 8 * np.array([WIDTH, HEIGHT])


@functools.cache
def drawn(probability: float, number: int = 200):
    x = jnp.asarray(picture(*places()), jnp.float32)
    images, labels = jax.jit(jax.vmap(lambda key: augment(x, probability, key=key)))(
        jax.random.split(jax.random.key(0), number)
    )
    return np.asarray(x), np.asarray(images), np.asarray(labels, np.float64)


def test_the_label_tells_what_was_done():
    """Each image is the picture at the places that its label, inverted here, leads back to, where they are within
    it."""
    _, images, labels = drawn(0.5)
    seen = 0
    for image, label in zip(images, labels, strict=True):
        matrix, shift = forward(label)
        u = np.tensordot(np.linalg.inv(matrix), np.stack(places()) - shift[:, None, None], 1)
        within = (abs(u[0]) < WIDTH / 2 - 1) & (abs(u[1]) < HEIGHT / 2 - 1)
        np.testing.assert_allclose(image[within], picture(*u)[within], atol=0.05)
        seen += within.mean() > 0.5 and np.abs(image[within]).max() > 0.5 and np.abs(label[2:]).max() > 0.1
    assert seen > 100


def test_each_kind_is_as_frequent_as_asked():
    labels = drawn(0.25, 2000)[2]
    kinds = [labels[:, [0]], labels[:, [1]], labels[:, [2]], labels[:, 3:5], labels[:, 5:7], labels[:, 7:]]
    done = [np.mean(np.any(kind != 0, axis=1)) for kind in kinds]
    np.testing.assert_allclose(done, [0.5, 0.125, 0.25, 0.25, 0.25, 0.25], atol=0.04)
    assert all(abs(part[part != 0].std() - 1) < 0.1 for part in (labels[:, 2], labels[:, 7], labels[:, 8]))


def test_an_image_left_alone_is_exact():
    x, images, labels = drawn(0.0)
    assert labels.shape == (200, LABELS) and np.all(labels[:, 1:] == 0) and 0 < labels[:, 0].sum() < 200
    for image, label in zip(images, labels, strict=True):
        np.testing.assert_array_equal(image, x[:, ::-1] if label[0] else x)


def config(*texts):
    c = default()
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention, c.model.dropout = 4, (1,), 1, (), 0.0
    override(c, ["data.image_size=8", "data.augment=0.5", *texts])
    return c


def test_the_network_hears_the_label_and_nothing_is_label_zero():
    net = UNet(
        (8, 8, 1),
        channels=8,
        multipliers=(1,),
        blocks=1,
        attention=(),
        conditions={"augmentation": AugmentationCondition(LABELS)},
        rngs=nnx.Rngs(0),
    )
    state = jax.tree.map(lambda p: p + 0.1, nnx.state(net, nnx.Param))
    nnx.update(net, state)
    x, c = jnp.ones((1, 8, 8, 1)).at[0, 2].set(3.0), jnp.zeros(1)
    plain, zero, told = (
        net(x, c),
        net(x, c, {"augmentation": jnp.zeros((1, LABELS))}),
        net(x, c, {"augmentation": jnp.ones((1, LABELS))}),
    )
    np.testing.assert_array_equal(plain, zero)
    assert np.abs(told - plain).max() > 1e-3
    bare = UNet((8, 8, 1), channels=8, multipliers=(1,), blocks=1, attention=(), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match="unknown entry 'augmentation'"):
        bare(x, c, {"augmentation": jnp.zeros((1, LABELS))})


class Listener(eqx.Module):
    """A network that is its label times a matrix."""

    params: dict
    conditions = {"augmentation": AugmentationCondition(LABELS)}

    def __call__(self, x, c_noise, condition, *, key=None):
        return jnp.broadcast_to((condition["augmentation"] @ self.params["w"])[:, None, None], x.shape)


class Records:
    """Pictures that are brighter the further right: flipped ones differ from the others."""

    def stream(self, seed, batch_size, start, *, rows):
        while True:
            value = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None], (batch_size, 4, 4, 3))
            yield {"value": value[rows], "condition": {}}

    def encode(self, value):
        return jnp.asarray(value)


def test_training_tells_the_network_what_it_did_to_each_example():
    """With probability 0 there are flips alone: only their entry of the label has a gradient."""
    score = NetworkScore(VP(), Listener({"w": jnp.zeros((LABELS, 3))}), EDMPreconditioning(1.0))
    moved = {}
    for probability in (0.0, 0.5):

        def prepare(value, condition, *, key, p=probability):
            image, label = augment(jnp.asarray(value), p, key=branch(key, "augmentation"))
            return image, {"augmentation": label}

        state = fit(score, Records(), steps=2, batch_size=16, optimizer=optax.sgd(1.0), prepare=prepare)
        moved[probability] = np.abs(np.asarray(state.params["w"])).max(axis=1) > 0
    assert moved[0.0].tolist() == [True] + [False] * (LABELS - 1) and moved[0.5].all()


def test_a_configuration_builds_the_augmentation_and_its_weights():
    c = config()
    kernel = Experiment.from_config(c).network.params["conditioning"]["augmentation"]["kernel"]
    assert kernel.shape == (LABELS, c.model.channels)
    x = jax.random.normal(jax.random.key(1), (8, 8, 3))
    records = ArraySource(np.zeros((2, 8, 8, 3), np.float32))
    key, data = jax.random.key(3), Dataset("x", records, records, 0, True, "x")
    image, label = augment(x, 0.5, key=branch(key, "augmentation"))
    built, given = Experiment.from_config(c).prepare_augmented(data)(x, {}, key=key)
    np.testing.assert_allclose(built, image, atol=1e-6)
    np.testing.assert_array_equal(given["augmentation"], label)
    assert np.abs(label).max() > 0
    assert Experiment.from_config(default()).prepare_augmented(data)(x, {}, key=key)[1] == {}


@pytest.mark.parametrize(
    "texts, word",
    [
        (["data.random_flip=true"], "which flips"),
        (["data.augment=1.5"], "less than 1"),
    ],
)
def test_what_does_not_go_with_it(texts, word):
    with pytest.raises(ConfigError, match=word):
        Experiment.from_config(config(*texts))
