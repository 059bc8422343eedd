r"""Classifier two-sample test: how often can a classifier tell samples of two distributions apart?

The best classifier of p and q with equal weights has the accuracy (1 + TV(p, q))/2, where TV is the total variation
distance: 1/2 for equal distributions, Phi(d/2) for N(0, 1) and N(d, 1). A trained classifier stays below it by an
amount that depends on the classifier and on the number of samples, so that accuracies of different classifiers cannot
be compared (Lopez-Paz and Oquab 2017). That of this module is the perceptron of the benchmark of Lueckmann et al.
(2021): two hidden layers of 10 d ReLU units, Adam with rate 1e-3 and batches of 200, standardised coordinates,
cross-validation over 5 folds. It differs in that batches hold as many points of one set as of the other, and that the
number of steps is fixed. Report beside an accuracy the number of samples and the row of `c2st_calibration` for that
number and dimension.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from scoresde.errors import ConfigError, DataError
from scoresde.metrics.arrays import random_generator, vectors

_WIDTH, _BATCH, _RATE = 10, 200, 1e-3  # units per coordinate; points of both sets in a batch; learning rate
_EPOCHS, _STEPS = 30, 500  # the steps are those of the epochs of the larger set, but at least 500

Layers = list[tuple[Float[Array, "..."], Float[Array, "..."]]]  # weights [inputs, outputs] and biases [outputs]


class C2ST(NamedTuple):
    """Accuracy of a classifier of two sets of points.

    Attributes:
        accuracy: mean of the shares of both sets that are classified correctly, on held-out points. It is 1/2 for equal
            distributions, also for sets of different sizes.
        standard_error: binomial standard error of the accuracy, over the held-out points. Equal distributions give
            1.2 times this spread over repetitions, because the folds share most of their training points.
        sizes: numbers of points in the two sets.
        classifier: description of the classifier.
    """

    accuracy: float
    standard_error: float
    sizes: tuple[int, int]
    classifier: str


class Calibration(NamedTuple):
    """Test of N(0, I_d) against N(0, I_d) shifted by `shift` along one coordinate.

    Attributes:
        test: result of the classifier.
        bayes: accuracy Phi(shift/2) of the best classifier.
    """

    test: C2ST
    bayes: float


def c2st(a, b, *, folds: int = 5, seed: int = 0) -> C2ST:
    """Return the accuracy with which a perceptron tells points of `a` from points of `b`.

    Args:
        a: points, [n, d].
        b: points, [m, d].
        folds: number of folds K. Each point is classified by the one of K perceptrons that was not trained on it.
        seed: seed of the folds, the parameters and the batches.

    Raises:
        ConfigError: there are fewer than 2 folds, or the seed is negative.
        DataError: shapes do not fit, values are not finite, or a set has fewer than 10 points for each fold.
    """
    if folds < 2:
        raise ConfigError(f"folds: expected at least 2, got {folds}")
    random = random_generator(seed)
    sets = [vectors(x, what, least=10 * folds) for x, what in ((a, "a"), (b, "b"))]
    dimension = sets[0].shape[1]
    if sets[1].shape[1] != dimension:
        raise DataError(
            f"a and b: expected one dimension d, got {dimension} and {sets[1].shape[1]}; give [n, d], [m, d]"
        )
    both = np.concatenate(sets)
    deviation = both.std(axis=0)
    points = ((both - both.mean(axis=0)) / np.where(deviation > 0, deviation, 1)).astype(np.float32)
    sizes = (len(sets[0]), len(sets[1]))
    fold = [random.permutation(np.arange(size) % folds) for size in sizes]
    half = min(_BATCH // 2, *(size - math.ceil(size / folds) for size in sizes))
    steps = max(_STEPS, _EPOCHS * math.ceil(max(sizes) / half))
    # The batches [steps, folds, 2 half] are indices into all points, half of each set.
    rows = [
        _batches(random, which, folds, steps, half) + first for which, first in zip(fold, (0, sizes[0]), strict=True)
    ]
    logits = _train(_parameters(random, dimension, folds), points, np.concatenate(rows, axis=-1))
    own = np.asarray(logits)[np.concatenate(fold), np.arange(len(both))]
    rates = np.mean(own[: sizes[0]] < 0), np.mean(own[sizes[0] :] >= 0)
    variance = sum(rate * (1 - rate) / size for rate, size in zip(rates, sizes, strict=True)) / 4
    classifier = (
        f"perceptron, hidden layers {_WIDTH * dimension} and {_WIDTH * dimension}, {steps} steps of Adam, {folds} folds"
    )
    return C2ST(float(np.mean(rates)), math.sqrt(variance), sizes, classifier)


def c2st_calibration(num: int, dimension: int = 1, *, shift: float = 0.5, folds: int = 5, seed: int = 0) -> Calibration:
    """Return the test of `num` points of N(0, I_d) against as many of N(shift e_1, I_d), beside the best accuracy.

    Args:
        num: number of points in each set.
        dimension: d.
        shift: distance of the means, at least 0.
        folds: number of folds.
        seed: seed of the points and of the classifier.

    Raises:
        ConfigError: the dimension is below 1, or the shift negative or not finite.
        DataError: there are fewer than 10 points for each fold.
    """
    if dimension < 1 or not 0 <= shift < math.inf:
        raise ConfigError(f"expected dimension from 1 and a finite shift from 0, got {dimension} and {shift}")
    # The second word of the key separates the points from the draws of the classifier with the same seed.
    random_generator(seed)
    random = np.random.Generator(np.random.Philox(key=np.array([seed, 1], np.uint64)))
    a, b = random.standard_normal((2, max(num, 0), dimension))
    b[:, 0] += shift
    return Calibration(c2st(a, b, folds=folds, seed=seed), (1 + math.erf(shift / 2 / math.sqrt(2))) / 2)


def _batches(random: np.random.Generator, fold: np.ndarray, folds: int, steps: int, half: int) -> np.ndarray:
    """Return indices [steps, folds, half] of points outside each fold, drawn with replacement."""
    others = [np.flatnonzero(fold != k) for k in range(folds)]
    return np.stack([rows[random.integers(len(rows), size=(steps, half))] for rows in others], axis=1)


def _parameters(random: np.random.Generator, dimension: int, folds: int) -> Layers:
    """Return the layers of all folds, uniform in +-sqrt(6/(inputs + outputs)) (Glorot and Bengio 2010)."""
    width, layers = _WIDTH * dimension, []
    for inputs, outputs in ((dimension, width), (width, width), (width, 1)):
        bound = math.sqrt(6 / (inputs + outputs))
        shapes = ((folds, inputs, outputs), (folds, outputs))
        layers.append(tuple(jnp.asarray(random.uniform(-bound, bound, shape), jnp.float32) for shape in shapes))
    return layers


def _logits(layers: Layers, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = layers[-1]
    return (x @ weight + bias)[:, 0]


@jax.jit
def _train(
    layers: Layers, points: Float[Array, "n d"], batches: Int[Array, "steps folds batch"]
) -> Float[Array, "folds n"]:
    """Train the perceptrons of all folds at once, and return their logits of the second set for all points."""
    adam = optax.adam(_RATE)
    label = jnp.where(jnp.arange(batches.shape[-1]) < batches.shape[-1] // 2, -1.0, 1.0)

    def loss(layers, rows):
        """Sum over folds: Adam acts on each parameter alone, so that the folds stay independent."""
        return jnp.sum(jnp.mean(jax.nn.softplus(-label * jax.vmap(_logits)(layers, points[rows])), axis=1))

    def step(state, rows):
        layers, moments = state
        updates, moments = adam.update(jax.grad(loss)(layers, rows), moments)
        return (optax.apply_updates(layers, updates), moments), None

    (layers, _), _ = jax.lax.scan(step, (layers, adam.init(layers)), batches)
    return jax.vmap(_logits, in_axes=(0, None))(layers, points)
