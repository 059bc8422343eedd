"""The data room: the digits, encode and decode, the order of records, and what is refused with which words."""

import math
import pickle
import shutil
import socket
import subprocess
import sys
import warnings
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import PATIENCE

from scoresde.data import SOURCES, ArraySource, Dataset, ImageOptions, digits, load, mixture
from scoresde.data.stream import indices, permutation
from scoresde.errors import ConfigError, DataError


def dataset(values, levels=256, centered=True, labels=None):
    source = ArraySource(np.asarray(values), labels)
    return Dataset("test", source, source, levels, centered, "test")


# The shipped digits


def test_digits_are_the_uci_digits():
    data = digits()
    x = np.concatenate([data.train.values, data.test.values])
    y = np.concatenate([data.train.labels, data.test.labels])
    assert (len(data.train), len(data.test), data.shape, data.levels) == (1500, 297, (8, 8, 1), 17)
    assert (x.dtype, x.min(), x.max()) == (np.uint8, 0, 16)
    # Mean and standard deviation of the 1797 images, and the class counts of their description.
    assert x.mean() == pytest.approx(4.884164579855314, rel=1e-12)
    assert x.std() == pytest.approx(6.016787548672236, rel=1e-12)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert y[:10].tolist() == list(range(10)) and data.classes == 10


def test_digits_equal_those_of_scikit_learn():
    original = pytest.importorskip("sklearn.datasets").load_digits()
    data = digits()
    np.testing.assert_array_equal(np.concatenate([data.train.values, data.test.values])[..., 0], original.images)
    np.testing.assert_array_equal(np.concatenate([data.train.labels, data.test.labels]), original.target)


# Encode and decode


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
def test_decode_undoes_encode_for_every_level_and_noise(levels, centered):
    data = dataset(np.zeros((1, 1), np.uint8), levels, centered)
    v = jnp.arange(levels)
    tiny = np.finfo(np.float32).eps
    noise = [0.0, tiny, 1e-5, 0.25, 0.5, 0.75, 0.999, 1 - tiny, 1 - tiny / 2]  # the last is the largest float32 below 1
    noise += list(np.random.default_rng(0).random(50))

    def back(v, u):
        return data.decode(data.encode(v, u))

    for there_and_back in (back, jax.jit(back)):
        for u in noise:
            np.testing.assert_array_equal(there_and_back(v, jnp.float32(u)), v)
    assert data.decode(data.encode(v)).dtype == (jnp.uint8 if levels <= 256 else jnp.uint16)


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_encode_is_the_stated_formula(levels, centered):
    data = dataset(np.zeros((1, 1), np.uint8), levels, centered)
    v, u = np.arange(levels)[:, None], np.linspace(0.01, 0.99, 7)
    y = (v + u) / levels
    x = data.encode(v, u)
    # float32: sum, quotient and difference each round by 2^-24; measured as in the module.
    np.testing.assert_allclose(x, 2 * y - 1 if centered else y, atol=2.0**-22)
    low = -1 if centered else 0
    assert low <= x.min() and x.max() < 1


def test_decode_clips_what_lies_outside():
    data = dataset(np.zeros((1, 1), np.uint8), 17)
    assert data.decode(jnp.array([-3.0, -1.0, 0.9999, 1.0, 7.0])).tolist() == [0, 0, 16, 16, 16]


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("levels", [0, 2, 17, 256])
def test_log_jacobian_is_the_log_determinant_of_encode(levels, centered):
    shape = (2, 3, 1)
    data = dataset(np.zeros((1, *shape), np.uint8), levels, centered)
    v = jnp.ones(shape) * 0.25
    jacobian = jax.jacfwd(data.encode)(v).reshape(6, 6)
    sign, log_determinant = np.linalg.slogdet(np.asarray(jacobian, np.float64))
    assert sign == 1
    assert data.log_jacobian() == pytest.approx(log_determinant, abs=6 * 2.0**-23)  # each slope is a float32


def test_uniform_model_costs_log2_of_the_levels():
    data = digits()  # x uniform on [-1, 1): log p(x) = -D log 2, so bits/dim must be log2 17
    size = math.prod(data.shape)
    bits = -(-size * math.log(2) + data.log_jacobian()) / (size * math.log(2))
    assert bits == pytest.approx(math.log2(17), rel=1e-12)


def test_images_span_black_to_white():
    data = dataset(np.zeros((1, 1), np.uint8), 17)
    assert data.images(data.encode(jnp.array([0, 8, 16]))).tolist() == [0, 128, 255]
    v = jnp.arange(256)
    np.testing.assert_array_equal(dataset(np.zeros((1, 1), np.uint8)).images(dataset(np.zeros((1, 1))).encode(v)), v)
    continuous = dataset(np.zeros((1, 1), np.float32), 0)
    assert continuous.images(jnp.array([-1.0, 0.0, 1.0, 2.0])).tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize("levels", [1, -1, 65537])
def test_levels_that_make_no_sense(levels):
    with pytest.raises(ConfigError, match="grey levels"):
        dataset(np.zeros((1, 1), np.uint8), levels)


# The stream


def take(iterator, num):
    found = [next(iterator) for _ in range(num)]
    iterator.close()
    return found


def test_batch_depends_on_the_step_alone():
    data = digits()
    straight = take(data.stream(3, 128), 30)  # two epochs and a half
    for start in (0, 1, 11, 29):
        resumed = next(data.stream(3, 128, start))
        np.testing.assert_array_equal(resumed["value"], straight[start]["value"])
        np.testing.assert_array_equal(resumed["condition"]["class"], straight[start]["condition"]["class"])


@pytest.mark.parametrize("length, size", [(10, 4), (7, 7), (5, 12), (1, 3)])
def test_every_record_comes_once_per_epoch(length, size):
    read = np.concatenate([indices(0, step, size, length) for step in range(3 * length)])
    epochs = read[: len(read) // length * length].reshape(-1, length)
    assert (np.sort(epochs, axis=1) == np.arange(length)).all()
    assert length < 5 or len({tuple(e) for e in epochs}) > 1  # and not in the same order


def test_stream_reads_the_records_of_its_indices():
    values = np.arange(50, dtype=np.uint8)[:, None]
    data = dataset(values, labels=np.arange(50))
    for step, batch in enumerate(take(data.stream(9, 20, 4), 5), start=4):
        np.testing.assert_array_equal(batch["condition"]["class"], indices(9, step, 20, 50))
        np.testing.assert_array_equal(batch["value"][:, 0], batch["condition"]["class"])
        assert batch["condition"]["class"].dtype == np.int32


def test_order_is_uniform_and_read_only():
    first = np.array([permutation(0, epoch, 5)[0] for epoch in range(5000)])
    deviation = np.bincount(first, minlength=5) - 1000
    assert np.abs(deviation).max() < 5 * math.sqrt(5000 * 0.2 * 0.8)  # 5 standard errors
    with pytest.raises(ValueError):
        permutation(0, 0, 5)[0] = 1


def test_order_is_the_same_with_every_version():
    # A run resumed with another NumPy must go on in the same order: sorting the raw Philox output fixes it.
    raw = [int(n) for n in np.random.Philox(key=np.array([7, 2], np.uint64)).random_raw(9)]
    assert permutation(7, 2, 9).tolist() == sorted(range(9), key=raw.__getitem__)
    assert permutation(0, 0, 9).tolist() == ORDER_0_0_9


def test_processes_read_parts_of_one_batch():
    data = digits()
    whole = take(data.stream(0, 12), 3)
    halves = [take(data.stream(0, 12, rows=part), 3) for part in (slice(0, 6), slice(6, 12))]
    for step in range(3):
        parts = [jax.tree.leaves(half[step]) for half in halves]
        for one, other, both in zip(*parts, jax.tree.leaves(whole[step]), strict=True):
            np.testing.assert_array_equal(np.concatenate([one, other]), both)


def test_seeds_give_different_orders():
    assert len({tuple(indices(seed, 0, 20, 1500)) for seed in range(20)}) == 20


@pytest.mark.parametrize(
    "arguments, word",
    [((-1, 4), "seed"), ((0, 0), "batch_size"), ((0, 4, -1), "start")],
)
def test_stream_refuses_at_once(arguments, word):
    with pytest.raises(ConfigError, match=word):
        digits().stream(*arguments)
    with pytest.raises(ConfigError, match="rows"):
        digits().stream(0, 4, rows=slice(4, 8))


ORDER_0_0_9 = [0, 2, 1, 8, 5, 4, 3, 6, 7]  # part of what a seed means: changing it changes every resumed run


LEFT_OPEN = """
import time
import numpy as np
from scoresde.data.stream import batches
class Slow:
    threads = 4
    def __len__(self): return 100
    def rows(self, i):
        time.sleep(0.01)
        return np.zeros(len(i)), np.zeros(len(i), np.int32)
stream = batches(Slow(), 0, 8, 0, rows=slice(None))
next(stream), next(stream)
"""


def test_interpreter_ends_with_threads_reading():
    script = f"import sys; sys.path[:0] = {sys.path!r}{LEFT_OPEN}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=PATIENCE)


# Sources by name


def test_unknown_source_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'digits'"):
        load("digit", shape=(8, 8, 1), levels=17, centered=True)
    for source, expected in (("npz", "npz:PATH"), ("tfds:", "tfds:NAME"), ("digits:x", "'digits'")):
        with pytest.raises(ConfigError, match=expected):
            load(source, shape=(8, 8, 1), levels=17, centered=True)
    with pytest.raises(ConfigError, match="keys"):
        load("digits", shape=(8, 8, 1), levels=17, centered=True, keys=("a", "b", "c", "d"))


def test_declaration_must_fit():
    for shape, levels in (((16, 16, 1), 17), ((8, 8, 1), 256), ((8, 8), 17)):
        with pytest.raises(DataError, match=r"\(8, 8, 1\) and levels 17"):
            load("digits", shape=shape, levels=levels, centered=True)


@pytest.mark.parametrize("name", ["gaussian_mixture", "two_moons", "checkerboard"])
def test_toys_are_standardised_and_reproducible(name):
    data = load(name, shape=(2,), levels=0, centered=False)
    again = load(name, shape=(2,), levels=0, centered=False)
    x = np.concatenate([data.train.values, data.test.values])
    assert (x.dtype, len(data.train), len(data.test)) == (np.float32, 10_000, 2_000)
    np.testing.assert_array_equal(x[:10_000], again.train.values)
    assert data.fingerprint == again.fingerprint
    # 5 standard errors of a mean, and of a variance (bounded laws: variance of x^2 below 2).
    assert np.abs(x.mean(axis=0)).max() < 5 * 1.3 / math.sqrt(12_000)
    assert abs(x.var(axis=0).mean() - 1) < 5 * math.sqrt(2 / 12_000)
    np.testing.assert_array_equal(data.decode(data.encode(x)), x)
    assert data.log_jacobian() == 0


def test_mixture_parameters_are_those_of_the_points():
    means, covariances, weights = mixture()
    second = np.einsum("k,ki,kj->ij", weights, means, means) + np.einsum("k,kij->ij", weights, covariances)
    np.testing.assert_allclose(second, np.eye(2), atol=1e-12)
    data = load("gaussian_mixture", shape=(2,), levels=0, centered=False)
    for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        x = data.train.values[data.train.labels == k]
        error = 5 * math.sqrt(covariance[0, 0] / len(x))
        np.testing.assert_allclose(x.mean(axis=0), mean, atol=error)
        np.testing.assert_allclose(np.cov(x.T), covariance, atol=5 * covariance[0, 0] * math.sqrt(2 / len(x)))


def test_checkerboard_keeps_to_its_squares():
    x = load("checkerboard", shape=(2,), levels=0, centered=False).train.values * 4 / math.sqrt(12)
    square = np.floor(x).astype(int)
    assert (square.sum(axis=1) % 2 == 0).all() and np.abs(x).max() <= 2
    assert len(np.unique(square, axis=0)) == 8


# NPZ


IMAGES = np.arange(5 * 4 * 4 * 1, dtype=np.uint8).reshape(5, 4, 4, 1)


def open_npz(path, **changes):
    return load(f"npz:{path}", **{"shape": (4, 4, 1), "levels": 256, "centered": True} | changes)


def test_npz_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=np.arange(5)[:, None], x_test=IMAGES[:2, ..., 0])
    data = open_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.train.values, IMAGES)
    np.testing.assert_array_equal(data.test.values, IMAGES[:2])  # [N, H, W] is one channel
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4] and data.test.labels.tolist() == [
        -1,
        -1,
    ]  # none, rather than class 0
    assert (data.classes, data.test.classes) == (5, 0)
    (tmp_path / "b").mkdir()
    (tmp_path / "a.npz").rename(tmp_path / "b" / "c.npz")
    assert open_npz(tmp_path / "b" / "c.npz").fingerprint == data.fingerprint


def test_npz_by_other_names_and_kinds(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=IMAGES.astype(np.int64) * 300, f=IMAGES.astype(np.float64))
    wide = open_npz(tmp_path / "a.npz", levels=65536, keys=("pictures", "", "pictures", ""))
    assert wide.train.values.dtype == np.uint16
    with pytest.warns(UserWarning, match="up to 79"):
        floats = open_npz(tmp_path / "a.npz", levels=0, keys=("f", "", "f", ""))
    assert floats.train.values.dtype == np.float32
    assert floats.fingerprint != wide.fingerprint


def bad_float(at):
    values = np.zeros((5, 4, 4, 1), np.float32)
    values[3, 1, 1] = at
    return values


REFUSALS = {
    "no such key": ({"images": IMAGES}, {}, r"'x_train'.*the file has images.*keys="),
    "no test part": ({"x_train": IMAGES}, {}, r"'x_test'.*the file has x_train"),
    "label key asked for": (
        {"x_train": IMAGES, "x_test": IMAGES},
        {"keys": ("x_train", "labels", "x_test", "")},
        r"'labels'.*the file has x_test, x_train",
    ),
    "shape": ({"x_train": IMAGES, "x_test": IMAGES}, {"shape": (8, 8, 1)}, r"\[N, 8, 8, 1\].*got \[5, 4, 4, 1\]"),
    "rank": ({"x_train": IMAGES[0], "x_test": IMAGES}, {}, r"\[N, 4, 4, 1\].*got \[4, 4, 1\]"),
    "empty": ({"x_train": IMAGES[:0], "x_test": IMAGES}, {}, r"N >= 1, got \[0, 4, 4, 1\]"),
    "floats": ({"x_train": bad_float(1), "x_test": IMAGES}, {}, "float32 values 0..1; use levels=0.*integers 0..255"),
    "too large": ({"x_train": IMAGES, "x_test": IMAGES}, {"levels": 17}, "0..16.*got 0..79, the first in record 1;"),
    "negative": ({"x_train": IMAGES, "x_test": IMAGES.astype(int) - 1}, {}, "got -1..78, the first in record 0;"),
    "NaN": ({"x_train": bad_float(np.nan), "x_test": IMAGES}, {"levels": 0}, "1 of 5 records, the first in record 3"),
    "infinity": ({"x_train": bad_float(np.inf), "x_test": IMAGES}, {"levels": 0}, "the first in record 3"),
    "overflow": ({"x_train": bad_float(1).astype(float) * 1e300, "x_test": IMAGES}, {"levels": 0}, "record 3"),
    "text": ({"x_train": IMAGES.astype(str), "x_test": IMAGES}, {"levels": 0}, "expected real numbers"),
    "float labels": ({"x_train": IMAGES, "x_test": IMAGES, "y_train": np.ones(5)}, {}, "integer labels.*float64"),
    "one-hot labels": ({"x_train": IMAGES, "x_test": IMAGES, "y_train": np.eye(5, dtype=int)}, {}, "not one-hot"),
    "label count": ({"x_train": IMAGES, "x_test": IMAGES, "y_train": np.arange(4)}, {}, "expected 5 labels"),
    "negative label": ({"x_train": IMAGES, "x_test": IMAGES, "y_train": -np.arange(5)}, {}, "from 0.*-4"),
}


@pytest.mark.parametrize("arrays, declared, message", REFUSALS.values(), ids=REFUSALS.keys())
def test_npz_refusals(tmp_path, arrays, declared, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with warnings.catch_warnings(), pytest.raises(DataError, match=message) as caught:
        warnings.simplefilter("error")
        open_npz(tmp_path / "a.npz", **declared)
    assert "\n" not in str(caught.value)  # a command prints one line


def test_npz_scaled_before_it_was_stored(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES // 79, x_test=IMAGES)
    with pytest.warns(UserWarning, match="x_train holds only 0 and 1, but levels=256"):
        open_npz(tmp_path / "a.npz")


def test_npz_names_must_be_four(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES)
    with pytest.raises(ConfigError, match="x_train, y_train, x_test, y_test"):
        open_npz(tmp_path / "a.npz", keys=("x_train",))


def test_files_that_are_no_npz(tmp_path):
    file = tmp_path / "a.npz"
    with pytest.raises(DataError, match="found nothing there"):
        open_npz(file)
    with pytest.raises(DataError, match="found a folder there"):
        open_npz(tmp_path)
    for content in (b"", b"not an archive", b"PK\x03\x04 cut short"):
        file.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as an NPZ file: it is of another kind, or was cut short"):
            open_npz(file)
    with open(file, "wb") as out:
        np.save(out, IMAGES)
    with pytest.raises(DataError, match="single NPY array"):
        open_npz(file)


def test_damaged_npz(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, x_train=IMAGES, x_test=IMAGES)
    content = bytearray(file.read_bytes())
    content[content.index(IMAGES.tobytes()) + 20] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="'x_train': cannot be read.*damaged"):
        open_npz(file)


class Canary:
    """Unpickling it creates the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_no_pickle_is_loaded(tmp_path):
    sign, file = tmp_path / "sign", tmp_path / "a.npz"
    np.savez(file, x_train=np.array([Canary(sign)], object), x_test=IMAGES)
    with pytest.raises(DataError, match="object array.*can run code"):
        open_npz(file)
    file.write_bytes(pickle.dumps(Canary(sign)))
    with pytest.raises(DataError, match="cannot be read as an NPZ file"):
        open_npz(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x_train.npy", pickle.dumps(Canary(sign)))
    with pytest.raises(DataError, match="not a NumPy array"):
        open_npz(file)
    assert not sign.exists()
    pickle.loads(pickle.dumps(Canary(sign))).close()  # the canary does sing when it is unpickled
    assert sign.exists()


# TensorFlow Datasets


TFDS_IMAGES = np.random.default_rng(0).integers(0, 256, (26, 4, 4, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A set prepared in array_record without TensorFlow: 20 + 6 images, label = 7 n mod 3. Another has names
    besides."""
    import tensorflow_datasets as tfds

    class ToyImages(tfds.core.GeneratorBasedBuilder):
        name = "toy_images"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Tensor(shape=(4, 4, 3), dtype=np.uint8)  # the feature Image needs TensorFlow
            features = {"image": image, "label": tfds.features.ClassLabel(num_classes=3)}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(range(20)), "test": self._generate_examples(range(20, 26))}

        def _generate_examples(self, numbers):
            for n in numbers:
                yield n, {"image": TFDS_IMAGES[n], "label": 7 * n % 3}

    class NamedImages(ToyImages):
        name = "named_images"

        def _info(self):
            features = {**super()._info().features, "id": tfds.features.Text()}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _generate_examples(self, numbers):
            yield from ((n, example | {"id": f"image_{n:02}"}) for n, example in super()._generate_examples(numbers))

    folder = tmp_path_factory.mktemp("tfds")
    NamedImages(data_dir=folder, file_format="array_record").download_and_prepare()
    ToyImages(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def open_tfds(name, folder, **changes):
    declared = {"shape": (4, 4, 3), "levels": 256, "centered": True, "data_dir": str(folder)}
    return load(f"tfds:{name}", **declared | changes)


def test_prepared_set_is_read_without_tensorflow(tfds_folder, monkeypatch):
    before = "tensorflow" in sys.modules
    data = open_tfds("toy_images", tfds_folder)
    assert (len(data.train), len(data.test), data.shape, data.classes) == (20, 6, (4, 4, 3), 3)
    assert data.fingerprint == "tfds:toy_images/1.0.0:20+6"
    (batch,) = take(data.stream(0, 20), 1)  # one epoch; preparing has shuffled the records
    images = {image.tobytes(): 7 * n % 3 for n, image in enumerate(TFDS_IMAGES[:20])}
    assert {
        v.tobytes(): int(label) for v, label in zip(batch["value"], batch["condition"]["class"], strict=True)
    } == images
    assert ("tensorflow" in sys.modules) == before
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_folder))
    assert open_tfds("toy_images:1.0.0", "", data_dir=None).fingerprint == data.fingerprint


def test_prepared_records_with_names_come_in_their_order(tfds_folder):
    """Then the set gives the same batches as the arrays it was made from, read at once or as they are needed."""
    arrays = ArraySource(TFDS_IMAGES[:20], 7 * np.arange(20) % 3)
    expected = take(Dataset("x", arrays, arrays, 256, True, "x").stream(5, 8), 6)
    for memory, threads in ((2.0, 0), (0.0, 4)):
        data = open_tfds("named_images", tfds_folder, images=ImageOptions(memory=memory))
        assert data.train.threads == threads
        np.testing.assert_array_equal(data.train.labels, arrays.labels)  # without decoding an image
        for found, batch in zip(take(data.stream(5, 8), 6), expected, strict=True):
            np.testing.assert_array_equal(found["value"], batch["value"])
            np.testing.assert_array_equal(found["condition"]["class"], batch["condition"]["class"])
    shuffled = open_tfds("toy_images", tfds_folder).train.rows(np.arange(20))[0]
    assert (shuffled != TFDS_IMAGES[:20]).any(), "else this test cannot fail"


def test_prepared_set_must_be_as_declared(tfds_folder):
    with pytest.raises(DataError, match=r"\[N, 8, 8, 3\].*4, 4, 3"):
        open_tfds("toy_images", tfds_folder, shape=(8, 8, 3))
    with pytest.raises(DataError, match=r"0\.\.16"):
        open_tfds("toy_images", tfds_folder, levels=17)


def test_unprepared_set_says_how_to_prepare_it(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(DataError) as caught:
        open_tfds("cifar10", tmp_path, shape=(32, 32, 3))
    for part in ("pip install 'scoresde[tfds]'", "tfds.builder('cifar10'", str(tmp_path), "array_record", "npz:PATH"):
        assert part in str(caught.value)
    with pytest.raises(DataError, match="not prepared"):
        open_tfds("toy_images:9.9.9", tmp_path)


def test_other_file_format_says_how_to_convert(tfds_folder, tmp_path):
    folder = tmp_path / "toy_images" / "1.0.0"
    folder.mkdir(parents=True)
    for name in ("features.json", "dataset_info.json"):
        text = (tfds_folder / "toy_images" / "1.0.0" / name).read_text()
        (folder / name).write_text(text.replace('"array_record"', '"tfrecord"'))
    with pytest.raises(DataError, match="got tfrecord.*convert_format.*--out_file_format=array_record"):
        open_tfds("toy_images", tmp_path)


DAMAGE = {
    "gone": ("toy_images-train.array_record-00000-of-00001", None, "cannot be read"),
    "empty": ("toy_images-train.array_record-00000-of-00001", lambda content: b"", "cannot be read"),
    "cut": ("toy_images-train.array_record-00000-of-00001", lambda content: content[:65536], "records are missing"),
    "changed": ("toy_images-train.array_record-00000-of-00001", lambda content: content[::-1], "cannot be read"),
    "described": ("dataset_info.json", lambda content: content[:20], "cannot be read"),
}


@pytest.mark.parametrize("file, change, message", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_prepared_set(tfds_folder, tmp_path, file, change, message):
    shutil.copytree(tfds_folder / "toy_images", tmp_path / "toy_images")
    damaged = tmp_path / "toy_images" / "1.0.0" / file
    content = damaged.read_bytes()
    damaged.unlink()
    if change:
        damaged.write_bytes(change(content))
    with pytest.raises(DataError, match=message) as caught:
        open_tfds("toy_images", tmp_path)
    assert "prepare the set again" in str(caught.value) and "\n" not in str(caught.value)


def test_every_source_is_covered_here():
    here = {"digits", "npz", "tfds", "gaussian_mixture", "two_moons", "checkerboard"}
    there = {"functions", "gaussian_process", "gp_mixture", "quadratic"}  # tests/test_functions.py
    absent = {"none"}  # tests/test_convert.py
    images = {"folder", "zip", "array_record", "hf"}  # tests/test_folder.py, tests/test_collections.py
    assert set(SOURCES) == here | there | images | absent


def test_the_order_of_records_is_independent_of_their_draw():
    """Toys and orders both come from Philox: with one key for both, the first epoch of seed 0 came sorted by
    component."""
    data = load("gaussian_mixture", shape=(2,), levels=0, centered=True)
    first = data.train.rows(permutation(0, 0, len(data.train)))[1]["class"]
    assert 0.5 < np.mean(first[1:] != first[:-1])
