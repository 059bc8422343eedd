"""Encoded images in array_record files and in sets of Hugging Face, and arrays of other than two axes."""

import io
import sys
import types
import warnings

import numpy as np
import pytest
from commands import ROOT, call, same_bits, stored
from PIL import Image

from scoresde.data import ImageOptions, hub, load
from scoresde.errors import ConfigError, DataError
from scoresde.experiment import Experiment
from scoresde.experiment.config import default, override


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def png(seed) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(seed)).save(file, "PNG")
    return file.getvalue()


def pixels(seed) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)


def open_images(source, **options):
    return load(source, shape=(4, 4, 3), levels=256, centered=True, images=ImageOptions(**options))


# array_record


def shard(path, records):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def test_shards_are_folders_of_numbered_images(tmp_path):
    shard(tmp_path / "train.array_record-00000-of-00002", [png(0), png(1)])
    shard(tmp_path / "train.array_record-00001-of-00002", [png(2), b"no image"])
    shard(tmp_path / "test-00000-of-00001.array_record", [png(9)])
    (tmp_path / "labels.csv").write_text("file,label\ntrain/0,b\ntrain/1,a\ntrain/2,b\ntrain/3,a\ntest/0,a\n")
    for memory in (2.0, 0.0):
        data = open_images(f"array_record:{tmp_path}", memory=memory)
        values, conditions = data.train.rows(np.arange(3))
        np.testing.assert_array_equal(values, [pixels(0), pixels(1), pixels(2)])
        np.testing.assert_array_equal(data.test.rows(np.array([0]))[0], [pixels(9)])
        assert (
            conditions["class"].tolist() == [1, 0, 1]
            and data.found.survey.bad[0][0] == "train/3"
            and len(data.train) == 3
        )


def test_numbered_files_of_records_are_shards_and_no_classes(tmp_path):
    for k in range(3):
        shard(tmp_path / f"{k:05}.array_record", [png(10 * k + i) for i in range(4)])
    data = open_images(f"array_record:{tmp_path}")
    assert data.classes == 0 and data.train.pictures.files.names == [str(k) for k in range(12)]
    np.testing.assert_array_equal(data.train.pictures.take(np.array([5])), [pixels(11)])


def test_files_of_records_can_be_classes(tmp_path):
    for name, seeds in (("cats", range(6)), ("ants", range(10, 16))):
        shard(tmp_path / f"{name}.array_record", [png(seed) for seed in seeds])
    data = open_images(f"array_record:{tmp_path}")
    assert data.found.classes == ("ants", "cats")
    values, conditions = data.train.rows(np.arange(len(data.train)))
    seeds = {pixels(seed).tobytes(): seed for seed in range(16)}
    assert all((seeds[value.tobytes()] < 10) == label for value, label in zip(values, conditions["class"], strict=True))
    alone = open_images(f"array_record:{tmp_path / 'cats.array_record'}")
    assert len(alone.train) + len(alone.test) == 6 and alone.classes == 0


def test_records_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="found no such file in the folder"):
        open_images(f"array_record:{tmp_path}")
    with pytest.raises(DataError, match="found nothing"):
        open_images(f"array_record:{tmp_path / 'none'}")
    (tmp_path / "words.array_record").write_bytes(b"words")
    with pytest.raises(DataError, match="words.array_record: no array_record file") as caught:
        open_images(f"array_record:{tmp_path / 'words.array_record'}")
    assert "\n" not in str(caught.value)


# Hugging Face


def test_a_set_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        img=datasets.Image(), label=datasets.ClassLabel(names=["z", "a"]), note=datasets.Value("string")
    )

    def part(seeds):
        rows = {
            "img": [{"bytes": png(s), "path": None} for s in seeds],
            "label": [s % 2 for s in seeds],
            "note": [""] * len(seeds),
        }
        return datasets.Dataset.from_dict(rows, features=features)

    datasets.DatasetDict(train=part(range(5)), validation=part(range(8, 10))).save_to_disk(tmp_path / "set")
    for memory in (2.0, 0.0):
        data = open_images(f"hf:{tmp_path / 'set'}", memory=memory)
        values, conditions = data.train.rows(np.arange(5))
        np.testing.assert_array_equal(values, [pixels(s) for s in range(5)])
        assert (
            conditions["class"].tolist() == [0, 1, 0, 1, 0]
            and data.found.classes == ("z", "a")
            and data.found.labelled == "the feature label"
        )
        np.testing.assert_array_equal(data.test.rows(np.arange(2))[0], [pixels(8), pixels(9)])
    part(range(20)).save_to_disk(tmp_path / "one")
    whole = open_images(f"hf:{tmp_path / 'one'}")
    assert len(whole.train) + len(whole.test) == 20 and len(whole.test) >= 1
    with pytest.raises(ConfigError, match="has its own labels"):
        open_images(f"hf:{tmp_path / 'one'}", labels="labels.csv")
    hidden = datasets.DatasetDict(
        train=part(range(5)), test=part(range(8, 10)).map(lambda row: row | {"label": -1}, features=features)
    )
    hidden.save_to_disk(tmp_path / "hidden")
    unpublished = open_images(f"hf:{tmp_path / 'hidden'}")
    assert unpublished.classes == 2 and unpublished.test.labels.tolist() == [-1, -1] and not unpublished.found.notes
    part(range(3)).remove_columns("img").save_to_disk(tmp_path / "words")
    with pytest.raises(DataError, match="expected one feature of images, got none among label, note"):
        open_images(f"hf:{tmp_path / 'words'}")


class Column(list):
    """What labels need of a split: its length, and a column by name."""

    def __getitem__(self, name):
        return list(self)


@pytest.mark.parametrize(
    "test, labels, numbers, words",
    [
        ([1], ["y"], [0, 1, 0, 1], None),
        ([-1], ["y"], [0, 1, 0, -1], None),
        ([None], ["y"], [0, 1, 0, -1], None),
        ([1], ["y", "w"], [-1] * 4, "the features y, w are labels, and one is expected"),
        ([1], [], [-1] * 4, "no feature is a ClassLabel"),
    ],
)
def test_which_feature_of_a_set_gives_labels(test, labels, numbers, words):
    features = {name: types.SimpleNamespace(names=["z", "a"]) for name in labels}
    given = hub._labels({"train": Column([0, 1, 0]), "test": Column(test)}, features, labels)
    assert given.classes == (() if words else ("z", "a")) and given.labels == numbers
    assert given.notes == (() if words is None else (f"{words}; no labels are taken",))


def test_without_the_library_or_the_network(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # what an import of it then meets is an ImportError
    with pytest.raises(DataError, match=r"pip install 'scoresde\[hf\]'"):
        open_images("hf:nobody/nothing")

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach\nthe hub")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=offline, load_from_disk=offline))
    with pytest.raises(
        DataError, match="hf:nobody/nothing cannot be had .Couldn't reach the hub.; check the name and the network"
    ) as caught:
        open_images("hf:nobody/nothing")
    assert "\n" not in str(caught.value)


# Arrays of one and three axes, and floats that were images

FLOATS = np.random.default_rng(0).random((12, 4, 4, 1)).astype(np.float32)


@pytest.mark.parametrize(
    "x, levels, words",
    [
        (FLOATS, 256, "float32 values .*use levels=0.*: np.round.255 . x..astype.np.uint8."),
        (2 * FLOATS - 1, 256, r"np.round.127.5 . .x . 1..\.astype.np.uint8."),
        (np.round(255 * FLOATS), 256, r"integers 0..255: x.astype.np.uint8.$"),
        (FLOATS, 65536, "np.round.65535 . x..astype.np.uint16."),
        (FLOATS * 300, 256, "or give integers 0..255$"),
        (FLOATS * np.nan, 256, "or give integers 0..255$"),
    ],
)
def test_floats_given_as_images(tmp_path, x, levels, words):
    np.savez(tmp_path / "a.npz", x_train=x, x_test=x)
    with pytest.raises(DataError, match=words):
        load(f"npz:{tmp_path / 'a.npz'}", shape=(4, 4, 1), levels=levels, centered=True)


def test_scaling_is_warned_of(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=FLOATS * 255, x_test=FLOATS)
    with pytest.warns(UserWarning, match="values up to 25.*levels=0 leaves them.*standardise"):
        load(f"npz:{tmp_path / 'a.npz'}", shape=(4, 4, 1), levels=0, centered=True)
    np.savez(tmp_path / "a.npz", x_train=FLOATS, x_test=FLOATS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(f"npz:{tmp_path / 'a.npz'}", shape=(4, 4, 1), levels=0, centered=True)


def test_labels_of_another_number_name_the_file(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=FLOATS, x_test=FLOATS, y_train=np.arange(11))
    with pytest.raises(DataError, match=r"a.npz: expected 12 labels.*'y_train'.*\(11,\)"):
        load(f"npz:{tmp_path / 'a.npz'}", shape=(4, 4, 1), levels=0, centered=True)


TINY = [
    f"--config={ROOT / 'configs' / 'mixture_2d.py'}", "--config.model.width=8", "--config.model.depth=1",
    "--config.training.batch_size=4", "--config.training.steps=2",
    "--config.sampling.sampler=ddim", "--config.sampling.steps=2", "--config.evaluate.num=0",
]  # fmt: skip


SLOW = [pytest.param(*shape, marks=pytest.mark.slow) for shape in (((6,), 2), (0, 5), ((3, 5), 4))]


@pytest.mark.parametrize("size, channels", [((2, 4, 4), 1), *SLOW])
def test_arrays_of_any_number_of_axes_are_trained_on(tmp_path, size, channels):
    shape = (*(size or ()), channels)
    x = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, x_test=x[:3])
    fields = [f"--config.data.image_size={size}", f"--config.data.channels={channels}", "--config.data.levels=256"]
    result = call(
        "train", *TINY, *fields, f"--config.data.source=npz:{tmp_path / 'a.npz'}", "--workdir", tmp_path / "run"
    )
    assert result.code == 0, result.err
    assert call("sample", "--workdir", tmp_path / "run", "--num", 2, "--out", tmp_path / "out").code == 0
    samples = np.load(tmp_path / "out" / "samples.npz")["samples"]
    assert samples.shape == (2, *shape) and samples.dtype == np.uint8


def test_edm2_refuses_volumes_and_names_a_network_for_them():
    config = default()
    override(config, ["data.image_size=(2,8,8)", "model.name=edm2"])
    with pytest.raises(ConfigError, match="expected images .* got volumes .* use unet"):
        Experiment.from_config(config)


def test_a_folder_with_broken_files_trains_and_resumes_in_another_mode(tmp_path):
    """JPEGs of many sizes and three broken files: one command. Stopped after two steps, the run goes on from the disk
    instead of memory, and ends with the same bits."""
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for k in range(40):
        noise = random.integers(0, 256, (*random.integers(5, 60, 2), 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "in" / f"{k}.JPG", "JPEG")
    content = (tmp_path / "in" / "7.JPG").read_bytes()
    for name, broken in (("cut.jpg", content[: len(content) // 2]), ("empty.jpeg", b""), ("words.png", b"words")):
        (tmp_path / "in" / name).write_bytes(broken)
    fields = [
        "--config.data.image_size=4",
        "--config.data.channels=3",
        "--config.data.levels=256",
        f"--config.data.source=folder:{tmp_path / 'in'}",
    ]

    def train(folder, *more):
        result = call("train", *TINY, *fields, "--workdir", tmp_path / folder, *more)
        assert result.code == 0, result.err
        return result

    told = train("whole", "--config.training.steps=4").err
    assert "40 of 43 images" in told and all(
        f"left out {name}" in told for name in ("cut.jpg", "empty.jpeg", "words.png")
    )
    train("parts", "--config.training.steps=2")
    train("parts", "--config.training.steps=4", "--config.data.memory=0")
    assert same_bits(stored(tmp_path / "whole", 4), stored(tmp_path / "parts", 4))
    (tmp_path / "in" / "7.JPG").unlink()
    refused = call("train", *TINY, *fields, "--workdir", tmp_path / "parts", "--config.training.steps=6")
    assert refused.code == 4 and "data were images:" in refused.err


def test_fewer_images_than_a_batch_before_anything_is_compiled(tmp_path):
    for k in range(5):
        (tmp_path / f"{k}.png").write_bytes(png(k))
    fields = [
        "--config.model.name=mlp",
        "--config.data.image_size=4",
        "--config.data.channels=3",
        "--config.data.levels=256",
    ]
    result = call(
        "train",
        *TINY,
        *fields,
        "--config.training.batch_size=64",
        f"--config.data.source=folder:{tmp_path}",
        "--workdir",
        tmp_path / "run",
    )
    assert (
        result.code == 3
        and "training examples, fewer than training.batch_size = 64" in result.err
        and "Traceback" not in result.err
    )
    assert not (tmp_path / "run").exists()
    (tmp_path / "empty").mkdir()
    result = call(
        "train", *TINY, *fields, f"--config.data.source=folder:{tmp_path / 'empty'}", "--workdir", tmp_path / "run"
    )
    assert result.code == 3 and ".png, .jpg, .jpeg, .webp" in result.err
