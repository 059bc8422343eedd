"""Which files and folders give labels: the layouts of EDM, FFHQ and Hugging Face, empty tables, loose images."""

import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from scoresde.data import ImageOptions, load
from scoresde.data.tree import Given, arrange, labels_of
from scoresde.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def png(seed) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def opened(source, **options):
    return load(source, shape=(4, 4, 3), levels=256, centered=True, images=ImageOptions(**options))


def write(root, content: dict[str, bytes]):
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def labels_by_file(data) -> dict[str, str]:
    """{file: class name} of all records."""
    found = {}
    for part in (data.train, data.test):
        labels = part.rows(np.arange(len(part)))[1]["class"]
        found |= {part.name_of(k): data.found.classes[label] for k, label in enumerate(labels)}
    return found


SHARDS = [f"{k // 10:05}/img{k:08}.png" for k in range(30)]
TRUE = {name: str(k % 4) for k, name in enumerate(SHARDS)}


def edm(labels) -> bytes:
    return json.dumps({"labels": labels}).encode()


@pytest.mark.parametrize("kind", ["zip", "folder", "below", "one shard"])
def test_labels_of_edm_are_read_and_shards_are_no_classes(kind, tmp_path, capsys):
    names = SHARDS[:10] if kind == "one shard" else SHARDS
    content = {name: png(k) for k, name in enumerate(names)} | {
        "dataset.json": edm([[name, int(TRUE[name])] for name in names])
    }
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        data, prefix = opened(f"zip:{tmp_path / 'set.zip'}"), ""
    else:
        prefix = "deep/set/" if kind == "below" else ""
        data = opened(f"folder:{write(tmp_path, {prefix + name: data for name, data in content.items()})}")
    assert (
        data.found.classes == ("0", "1", "2", "3")
        and data.found.labelled == f"{prefix}dataset.json"
        and not data.found.others
    )
    assert labels_by_file(data) == {prefix + name: TRUE[name] for name in names}
    assert f"4 classes from {prefix}dataset.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "labels, words",
    [(None, "labels are null"), ([[name, [0.5, 1]] for name in SHARDS], "labels such as .* no classes")],
)
def test_a_set_of_edm_without_classes_has_none(labels, words, tmp_path, capsys):
    data = opened(
        f"folder:{write(tmp_path, {name: png(k) for k, name in enumerate(SHARDS)} | {'dataset.json': edm(labels)})}"
    )
    assert data.classes == 0 and data.found.classes == () and data.found.labelled == "none"
    said = capsys.readouterr().err
    assert "no labels are taken" in said and "; no labels\n" in said
    assert re.search(words, said)


@pytest.mark.parametrize(
    "names, shards",
    [
        (SHARDS, True),  # as EDM writes, with no dataset.json beside
        ([f"{k // 10 * 1000:05}/{k // 10 * 1000 + k % 10:05}.png" for k in range(30)], True),  # as FFHQ comes
        ([f"{k // 10:05}/{k % 10:05}.png" for k in range(30)], False),  # each numbered from 0: classes
        ([f"{k // 10}/{k}.png" for k in range(30)], False),  # digits
        ([f"n0{k // 10}/{k}.png" for k in range(30)], False),
        ([f"{k // 10:05}/a.png" for k in range(0, 30, 10)], False),
    ],
)
def test_numbered_folders_are_shards_only_if_they_divide_one_numbering(names, shards):
    tree = arrange(sorted(names), "x")
    assert (tree.classes == ()) == shards and (tree.labelled == "folders") != shards
    assert any("divide a numbered set" in note for note in tree.notes) == shards


FLAT = {f"{k}.png": png(k) for k in range(12)}
ANIMALS = {name: "cat" if int(name[:-4]) % 2 else "dog" for name in FLAT}
CSV = ("file_name,text,label\n" + "".join(f'{name},"a, b",{label}\n' for name, label in ANIMALS.items())).encode()
JSONL = "".join(json.dumps({"file_name": name, "label": label}) + "\n" for name, label in ANIMALS.items()).encode()


@pytest.mark.parametrize("name, table", [("metadata.csv", CSV), ("metadata.jsonl", JSONL)])
def test_metadata_of_hugging_face(name, table, tmp_path):
    data = opened(f"folder:{write(tmp_path, FLAT | {name: table})}")
    assert data.found.labelled == name and labels_by_file(data) == ANIMALS
    named = write(tmp_path / "named", {k: v for k, v in FLAT.items()} | {"other" + name[8:]: table})
    assert labels_by_file(opened(f"folder:{named}", labels="other" + name[8:])) == ANIMALS


def test_metadata_of_each_part(tmp_path):
    parts = {"train": ("0.png", "1.png", "2.png"), "test": ("3.png", "4.png")}
    content = {f"{part}/{name}": FLAT[name] for part, names in parts.items() for name in names}
    for part, names in parts.items():
        content[f"{part}/metadata.csv"] = (
            "file_name,label\n" + "".join(f"{name},{ANIMALS[name]}\n" for name in names)
        ).encode()
    data = opened(f"folder:{write(tmp_path, content)}")
    assert labels_by_file(data) == {f"{part}/{name}": ANIMALS[name] for part, names in parts.items() for name in names}
    assert (
        data.found.labelled == "train/metadata.csv and test/metadata.csv"
        or data.found.labelled == "test/metadata.csv and train/metadata.csv"
    )


def test_tables_that_hold_no_labels_are_passed_over_and_named(tmp_path, capsys):
    """Captions alone, and a dataset.json of another tool: then the folders are classes, as without them."""
    content = {f"{label}/{k}.png": png(k) for label in ("cat", "dog") for k in range(6)}
    content |= {"metadata.csv": b"file_name,text\ncat/0.png,x\n", "dataset.json": b'{"title": "x"}'}
    data = opened(f"folder:{write(tmp_path, content)}")
    assert data.found.labelled == "folders" and data.found.classes == ("cat", "dog")
    said = capsys.readouterr().err
    assert "metadata.csv: expected a column label, got file_name, text; it is passed over" in said
    assert "dataset.json: it has no field labels; it is passed over" in said
    with pytest.raises(DataError, match="expected a column label, got file_name, text; check data.labels"):
        opened(f"folder:{tmp_path}", labels="metadata.csv")


WRONG = {
    "an image without": (
        {"dataset.json": edm([[n, 1] for n in SHARDS[:-1]])},
        "1 of 30 images are not in the table.*img00000029",
    ),
    "a null among labels": (
        {"dataset.json": edm([[n, None if n == SHARDS[3] else 1] for n in SHARDS])},
        "1 of 30 images.*img00000003",
    ),
    "pairs of another form": ({"dataset.json": edm({"a": 1})}, r'expected "labels": \[\[file, label\]'),
    "cut short": ({"dataset.json": edm([["a", 1]])[:-3]}, "dataset.json: expected a table of labels, JSON in UTF-8"),
    "brackets": ({"dataset.json": b"[" * 100_000}, "dataset.json: expected a table of labels, JSON in UTF-8"),
    "no objects": ({"metadata.jsonl": b"1\n"}, "expected an object with file_name and label in each line, got '1'"),
}


@pytest.mark.parametrize("content, words", WRONG.values(), ids=WRONG.keys())
def test_tables_that_do_not_fit(content, words):
    with pytest.raises(DataError, match=words) as caught:
        labels_of(content.get, SHARDS, "", "x")
    assert "\n" not in str(caught.value)


def test_no_labels_can_be_asked_for(tmp_path):
    """Whatever is there: a table that fits, one that does not, folders."""
    for k, table in enumerate((CSV, CSV[:40], None)):
        content = {f"cat/{name}" if table is None else name: data for name, data in FLAT.items()}
        content |= {"dog/0.png": png(99)} if table is None else {"metadata.csv": table}
        data = opened(f"folder:{write(tmp_path / str(k), content)}", labels="none")
        assert data.classes == 0 and data.found.labelled == "none" and len(data.train) + len(data.test) >= 12


# Images beside the folders of classes


def test_a_loose_image_beside_classes_is_left_out_and_named(tmp_path, capsys):
    content = {f"{label}/{k}.png": png(k + 50 * (label == "dog")) for label in ("cat", "dog") for k in range(10)}
    whole = labels_by_file(opened(f"folder:{write(tmp_path / 'a', content)}"))
    data = opened(f"folder:{write(tmp_path / 'b', content | {'cover.png': png(99)})}")
    assert labels_by_file(data) == whole and set(whole.values()) == {"cat", "dog"}
    assert (
        "left out 1 beside the folders of the classes, since they have no label: cover.png" in capsys.readouterr().err
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_loose_image_never_takes_the_place_of_the_test_part(seed):
    """Of a few images the one of the least hash is the test part; were it the loose one, none would be left."""
    names = [f"a/{seed}{k}.png" for k in range(6)] + [f"b/{seed}{k}.png" for k in range(6)]
    for k in range(20):
        tree = arrange([*names, f"z{seed}-{k}.png"], "x")
        assert len(tree.test) >= 1 and len(names) not in {*tree.train, *tree.test} and tree.classes == ("a", "b")
        assert sorted([*tree.train, *tree.test]) == list(range(12)) and tree.left_out == 0


def test_many_loose_images_mean_that_folders_are_no_classes():
    tree = arrange([f"{folder}/{k}.png" for folder in "ab" for k in range(4)] + [f"{k}.png" for k in range(2)], "x")
    assert tree.classes == () and len(tree.train) + len(tree.test) == 10
    assert tree.notes == ("2 of 10 images lie beside the 2 folders, which are therefore not taken for classes",)


def test_a_loose_image_within_a_part():
    names = [f"{part}/{label}/{k}.png" for part in ("test", "train") for label in "ab" for k in range(6)] + [
        "train/0.png"
    ]
    tree = arrange(names, "x")
    assert tree.classes == ("a", "b") and len(tree.train) == len(tree.test) == 12 and "train/0.png" in tree.notes[0]


def test_labels_that_a_set_brings_are_named():
    names = [f"train/{k}" for k in range(3)]
    assert arrange(names, "x", given=Given([0, 1, 0], ("z", "a"), "the feature label")).labelled == "the feature label"
    without = arrange(
        names, "x", given=Given([0, 0, 0], (), "none", ("no feature is a ClassLabel; no labels are taken",))
    )
    assert without.labelled == "none" and without.notes == ("no feature is a ClassLabel; no labels are taken",)
