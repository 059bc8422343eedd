"""Collections of image files: folders, zips, parts, labels, damaged files; in memory, streamed and remembered alike."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoresde.data import ImageOptions, load, survey
from scoresde.data.tree import arrange, held_out, inner, labels_of
from scoresde.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Surveys are remembered here, and not in the home of whoever runs the tests."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return place


def png(seed=0, size=(8, 8), mode="RGB") -> bytes:
    file = io.BytesIO()
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(image).convert(mode).save(file, "PNG")
    return file.getvalue()


def write(root: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def pack(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def open_images(source, memory=2.0, shape=(8, 8, 3), levels=256, **options):
    return load(str(source), shape=shape, levels=levels, centered=True, images=ImageOptions(memory=memory, **options))


FLAT = {f"{k:02}.png": png(k) for k in range(40)}
SORTED = {
    f"{part}/{label}/{k}.PNG": png(k + 10 * i)
    for i, part in enumerate(("train", "test"))
    for label in ("cat", "ant")
    for k in range(3)
}


def batches(data, steps=7, seed=3, size=6):
    stream = data.stream(seed, size)
    found = [next(stream) for _ in range(steps)]
    stream.close()
    return np.stack([b["value"] for b in found]), np.stack(
        [b["condition"].get("class", np.zeros(len(b["value"]))) for b in found]
    )


def same(one, other):
    assert one.fingerprint == other.fingerprint and one.classes == other.classes
    for a, b in zip(batches(one), batches(other), strict=True):
        np.testing.assert_array_equal(a, b)


# Records


def test_records_are_the_files_in_order(tmp_path):
    data = open_images(f"folder:{write(tmp_path, FLAT)}")
    test = held_out(sorted(FLAT))
    for part, chosen in ((data.train, ~test), (data.test, test)):
        expected = [np.asarray(Image.open(io.BytesIO(FLAT[n]))) for n in np.array(sorted(FLAT))[chosen]]
        values, conditions = part.rows(np.arange(len(part)))
        np.testing.assert_array_equal(values, expected)
        assert conditions == {} and (part.labels == -1).all()  # none, rather than class 0
    assert data.classes == 0 and len(data.train) + len(data.test) == 40


@pytest.mark.parametrize("content", [FLAT, SORTED], ids=["flat", "sorted"])
def test_memory_stream_zip_and_a_second_start_are_the_same(tmp_path, content, monkeypatch):
    """Six ways to the same batches: the values, the order, the labels and the fingerprint."""
    files = content | {"train/cat/bad.png": b""} if content is SORTED else content | {"bad.png": b"no image"}
    folder, packed = write(tmp_path / "a" / "b", files), pack(tmp_path / "a.zip", files)
    kept = open_images(f"folder:{folder}")
    assert kept.train.threads == 0
    streamed = open_images(f"folder:{folder}", memory=0.0)  # remembered, and decoded by the threads of grain
    assert streamed.train.threads >= 2
    same(kept, streamed)
    same(kept, open_images(f"folder:{folder}"))  # remembered, decoded when first needed
    same(kept, open_images(f"zip:{packed}"))
    same(kept, open_images(f"zip:{packed}", memory=0.0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    same(kept, open_images(f"folder:{folder}", memory=0.0))  # looked at anew, without keeping the values


def test_the_survey_is_remembered_until_a_file_changes(tmp_path, monkeypatch):
    folder = write(tmp_path, FLAT)
    first = open_images(f"folder:{folder}", memory=0.0).fingerprint
    looked = []
    write(folder, {"bad.png": b""})
    first = open_images(f"folder:{folder}", memory=0.0).fingerprint
    monkeypatch.setattr(survey, "read", lambda files, i, rule: looked.append(i) or pytest.fail("decoded again"))
    assert open_images(f"folder:{folder}", memory=0.0).fingerprint == first and not looked
    monkeypatch.undo()
    os.utime(folder / "03.png", ns=(1, 1))
    assert open_images(f"folder:{folder}", memory=0.0).fingerprint == first  # looked at again: the same content
    (folder / "03.png").write_bytes(png(99))
    assert open_images(f"folder:{folder}", memory=0.0).fingerprint != first


def test_a_survey_of_another_limit_is_no_answer(tmp_path):
    folder = write(tmp_path, FLAT | {"large.png": png(1, (60, 50))})
    assert open_images(f"folder:{folder}").found.survey.unlike == 1
    with pytest.raises(DataError, match="large.png"):
        open_images(f"folder:{folder}", max_pixels=2000)


def test_what_fits_into_memory_is_kept_there(tmp_path):
    folder, size = write(tmp_path, FLAT), 40 * 8 * 8 * 3 / 2**30
    assert open_images(f"folder:{folder}", memory=size * 1.01).train.pictures.in_memory
    assert not open_images(f"folder:{folder}", memory=size * 0.99).train.pictures.in_memory


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """Left out without a word, a part of the data would be missing."""
    scandir = os.scandir

    def closed(path):
        if os.fspath(path).endswith("cat"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    write(tmp_path, SORTED)
    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match="cat cannot be read: Permission denied"):
        open_images(f"folder:{tmp_path}")


def test_the_fingerprint_tells_content_rule_parts_and_labels(tmp_path):
    base = open_images(f"folder:{write(tmp_path / 'a', SORTED)}").fingerprint
    moved = {name.replace("/cat/", "/dog/"): data for name, data in SORTED.items()}
    swapped = {name.replace("train/cat/0", "test/cat/9"): data for name, data in SORTED.items()}
    others = [
        open_images(f"folder:{write(tmp_path / name, content)}").fingerprint
        for name, content in (("b", moved), ("c", swapped))
    ]
    others += [open_images(f"folder:{tmp_path / 'a'}", shape=shape).fingerprint for shape in ((4, 4, 3), (8, 8, 1))]
    assert len({base, *others}) == 5
    removed = write(tmp_path / "d", SORTED | {"train/ant/00.png": b""})
    before = open_images(f"folder:{removed}").fingerprint
    assert before == base  # a damaged file is no content
    (removed / "train/ant/00.png").unlink()
    assert open_images(f"folder:{removed}").fingerprint == base


def test_a_streamed_run_resumes_exactly(tmp_path):
    data = open_images(f"folder:{write(tmp_path, FLAT)}", memory=0.0)
    values, _ = batches(data)
    stream = data.stream(3, 6, 4)
    np.testing.assert_array_equal(next(stream)["value"], values[4])
    stream.close()


def test_a_file_that_breaks_during_training_stops_the_run(tmp_path):
    data = open_images(f"folder:{write(tmp_path, FLAT)}", memory=0.0)
    (tmp_path / "07.png").write_bytes(b"")
    (tmp_path / "08.png").unlink()
    with pytest.raises(DataError, match=r"0[78].png could be read before and now cannot"):
        batches(data, steps=20)


def test_names_that_are_no_text(tmp_path):
    """Linux allows any bytes in a name."""
    write(tmp_path, {f"{k}.png": png(k) for k in range(3)})
    for name in (b"\xff\xfe.png", "\u00e9 \U0001f600.png".encode()):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(png(9))
    data = open_images(f"folder:{tmp_path}")
    assert len(data.train) + len(data.test) == 5
    same(data, open_images(f"folder:{tmp_path}", memory=0.0))


def test_linked_folders_and_hidden_files(tmp_path):
    write(tmp_path / "far", {f"{k}.png": png(k) for k in range(4)})
    root = write(tmp_path / "root", {f"near/{k}.png": png(9 + k) for k in range(4)})
    (root / "linked").symlink_to(tmp_path / "far")
    (root / "near" / "loop").symlink_to(root)
    write(root, {".hidden.png": b"", "__MACOSX/near/._0.png": b"", ".git/x.png": b"", "notes.txt": b"x"})
    data = open_images(f"folder:{root}")
    assert data.found.survey.count == 8 and data.found.classes == ("linked", "near")


# Parts and labels


def test_a_tenth_is_held_out_and_stays_held_out():
    names = [f"images/{k}.jpg" for k in range(20_000)]
    chosen = held_out(names)
    assert abs(chosen.mean() - 0.1) < 5 * np.sqrt(0.09 / 20_000)
    some = [name for k, name in enumerate(names) if k % 7]
    np.testing.assert_array_equal(held_out(some), chosen[[k for k in range(20_000) if k % 7]])
    assert all(held_out([f"{k}.png" for k in range(n)]).sum() >= 1 for n in range(1, 12))


@pytest.mark.parametrize("test", ["test", "val", "validation", "VALID"])
def test_folders_train_and_test_are_the_parts(test):
    names = sorted([f"{test}/b/0.png", "train/a/1.png", "train/b/2.png", "extra/a/3.png", "4.png"])
    tree = arrange(names, "x")
    assert [names[i] for i in tree.train] == ["train/a/1.png", "train/b/2.png"] and [names[i] for i in tree.test] == [
        f"{test}/b/0.png"
    ]
    assert (tree.left_out, tree.classes) == (2, ("a", "b")) and tree.labels[tree.test].tolist() == [1]


def test_train_without_test_is_told(tmp_path, capsys):
    """A folder `testing` is a class, and its images are trained on: that should be no surprise."""
    data = open_images(
        f"folder:{write(tmp_path, {name.replace('test/', 'testing/'): image for name, image in SORTED.items()})}"
    )
    assert (
        data.found.classes == ("testing", "train")
        and "no folder test, val, valid, validation beside train" in capsys.readouterr().err
    )
    assert "beside" not in arrange(["a/0.png", "b/1.png"], "x").parts


def test_test_comes_before_validation():
    names = ["test/0.png", "train/1.png", "val/2.png"]
    assert arrange(names, "x").test.tolist() == [0] and arrange(names, "x").left_out == 1


def test_labels_from_folders():
    names = [f"all/data/{label}/{sub}/0.png" for label in ("10", "9", "2") for sub in ("x", "y")]
    assert inner(names)[0] == "10/x/0.png"
    tree = arrange(names, "x")
    assert tree.classes == ("2", "9", "10") and tree.labels.tolist() == [2, 2, 1, 1, 0, 0]  # as numbers
    mixed = arrange(["a/0.png", "b/1.png", "2.png"], "x")
    assert mixed.classes == () and not mixed.labels.any() and mixed.labelled == "none"
    assert arrange(["only/0.png", "only/1.png"], "x").classes == ()


def table(**labels):
    return ("file,label\n" + "".join(f"{file}.png,{label}\n" for file, label in labels.items())).encode()


def test_labels_from_a_table(tmp_path):
    write(tmp_path / "images", {"a.png": png(1), "b.png": png(2), "c.png": png(3)})
    (tmp_path / "labels.csv").write_bytes(table(a="dog", b="cat", c="dog"))
    data = open_images(f"folder:{tmp_path}")
    # b.png is the one for testing: cat is no class of the training images, and has a number behind theirs.
    assert data.found.classes == ("dog", "cat") and data.classes == 1 and data.test.labels.tolist() == [1]
    names = data.train.pictures.files.names
    found = labels_of({"images/labels.csv": table(a=2, b=10, c=2)}.get, names, "", "x")
    assert (
        found.labels == {"images/a.png": "2", "images/b.png": "10", "images/c.png": "2"}
        and found.origin == "images/labels.csv"
    )
    assert arrange(names, "x", found).labels.tolist() == [0, 1, 0]
    other = tmp_path / "other.csv"
    other.write_text(
        "\ufeffimages/a.png,1\nimages/b.png,2\n./images/c.png,3\n"
    )  # no header, names from the root, as Excel writes
    assert open_images(f"folder:{tmp_path}", labels="other.csv").label_names == ("1", "3", "2")
    assert open_images(f"folder:{tmp_path / 'images'}", labels=str(tmp_path / "labels.csv")).label_names == (
        "dog",
        "cat",
    )


TABLES = {
    "an image without": (table(a=1, b=1), "1 of 3 images are not in the table.*'images/c.png'"),
    "a line without an image": (table(a=1, b=1, c=1, d=1), "1 of its 4 lines name no image.*'d.png'"),
    "twice": (
        table(a=1, b=1, c=1) + b"a.png,2\n",
        "4 lines, and more than one of them for 'images/a.png'; write each file once",
    ),
    "three cells": (b"a.png,1,2\n", "'a.png,1,2'; expected file,label"),
    "no text": (b"\xff\xfe\x00", "expected a table of labels, CSV in UTF-8"),
}


@pytest.mark.parametrize("content, message", TABLES.values(), ids=TABLES.keys())
def test_labels_that_do_not_match(tmp_path, content, message):
    write(tmp_path / "images", {"a.png": png(1), "b.png": png(2), "c.png": png(3)})
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_images(f"folder:{tmp_path}")
    with pytest.raises(DataError, match="data.labels"):
        open_images(f"folder:{tmp_path}", labels="none.csv")


# Damaged files and other bad input


def test_damaged_files_are_left_out_and_named(tmp_path, capsys):
    broken = {"zero.png": b"", "words.jpg": b"some text", "deep/cut.png": png(5)[:100]}
    data = open_images(f"folder:{write(tmp_path, FLAT | broken)}")
    assert len(data.train) + len(data.test) == 40 and [name for name, _ in data.found.survey.bad] == sorted(broken)
    told = capsys.readouterr().err
    for part in (
        "left out zero.png: empty file",
        "left out words.jpg: no PNG",
        "left out deep/cut.png:",
        "40 of 43 images",
    ):
        assert part in told
    open_images(f"folder:{tmp_path}", max_bad=3)  # remembered
    assert "left out zero.png" in capsys.readouterr().err
    with pytest.raises(DataError, match="more than 2 of 43 images cannot be read.*data.max_bad"):
        open_images(f"folder:{tmp_path}", max_bad=2)


@pytest.mark.parametrize("count, most", [(60, 10), (10_000, 10), (50_000, 50), (10_000_000, 100)])
def test_how_many_may_be_damaged(count, most):
    assert survey.most_bad(count, -1) == most and survey.most_bad(count, 7) == 7


def test_too_many_damaged_files_stop_the_run(tmp_path):
    write(tmp_path, FLAT | {f"bad{k}.png": b"" for k in range(11)})
    with pytest.raises(DataError, match="more than 10 of 51 .*bad0.png: empty file.*inspect"):
        open_images(f"folder:{tmp_path}")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_large_files_are_refused_by_name(tmp_path):
    write(tmp_path, FLAT | {"sub/large.png": png(1, (50, 50))})
    with pytest.raises(DataError, match="sub/large.png: 50 x 50 pixels"):
        open_images(f"folder:{tmp_path}", max_pixels=2000)
    assert open_images(f"folder:{tmp_path}", max_pixels=2500).found.survey.bad == []
    with open(tmp_path / "sub" / "large.png", "r+b") as file:
        file.truncate(10 * 2**30)  # sparse: reading it would take 10 GiB of memory
    with pytest.raises(DataError, match="sub/large.png: 10,737,418,240 bytes"):
        open_images(f"folder:{tmp_path}")


def test_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match=r"\.png, \.jpg, \.jpeg, \.webp, .*\), found no files"):
        open_images(f"folder:{tmp_path}")
    write(tmp_path / "a", {"a.txt": b"x", "b.svg": b"x"})
    with pytest.raises(
        DataError, match=r"found 2 other files \(.svg 1, .txt 1\)|found 2 other files \(.txt 1, .svg 1\)"
    ):
        open_images(f"folder:{tmp_path / 'a'}")
    packed = pack(tmp_path / "a.zip", {"a.txt": b""})
    with pytest.raises(DataError, match="found 1 other files"):
        open_images(f"zip:{packed}")
    for source, message in (
        (f"folder:{tmp_path / 'none'}", "found nothing there; check"),
        (f"folder:{packed}", "found a file there; use zip:PATH"),
        (f"zip:{tmp_path}", "found a folder there; use folder:PATH"),
        (f"zip:{write(tmp_path, {'b.zip': b'PK no zip'}) / 'b.zip'}", "not a zip file"),
        (f"folder:{write(tmp_path / 'one', {'0.png': png()})}", "at least 2 images"),
        (f"folder:{write(tmp_path / 'bad', {'0.png': png(), '1.png': b''})}", "got none that can be read"),
    ):
        with pytest.raises(DataError, match=message):
            open_images(source)


def test_wrong_declarations(tmp_path):
    source = f"folder:{write(tmp_path, FLAT)}"
    with pytest.raises(ConfigError, match="1 .grey., 3"):
        open_images(source, shape=(8, 8, 2))
    with pytest.raises(ConfigError, match="data.image_size above 0"):
        open_images(source, shape=(3,))
    with pytest.raises(DataError, match="levels 256; declare those"):
        open_images(source, levels=2)


def member(name, **fields):
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    for field, value in fields.items():
        setattr(info, field, value)
    return info


HARMFUL = {
    "parent": (member("../out.png"), "points outside"),
    "deep parent": (member("a/../../out.png"), "points outside"),
    "absolute": (member("/etc/out.png"), "points outside"),
    "windows": (member("..\\out.png"), "points outside"),
    "drive": (member("C:/out.png"), "points outside"),
    "text too": (member("../.bashrc"), "points outside"),
    "link": (member("a.png", external_attr=0o120777 << 16), "is a link"),
    "encrypted": (member("a.png"), "encrypted"),
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_harmful_zips_are_refused(tmp_path, kind):
    info, message = HARMFUL[kind]
    path = pack(tmp_path / "a.zip", FLAT)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, png(1))
    if kind == "encrypted":
        raw = bytearray(path.read_bytes())
        raw[raw.rindex(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
        path.write_bytes(raw)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=message) as caught:
        open_images(f"zip:{path}")
    assert "\n" not in str(caught.value) and sorted(tmp_path.rglob("*")) == before


def test_damage_within_a_zip_is_a_damaged_file(tmp_path):
    path = pack(tmp_path / "a.zip", FLAT)
    raw = bytearray(path.read_bytes())
    at = raw.index(FLAT["05.png"])
    raw[at + 40 : at + 50] = bytes(10)
    path.write_bytes(raw)
    assert [name for name, _ in open_images(f"zip:{path}").found.survey.bad] == ["05.png"]
    path.write_bytes(raw[:-200])
    with pytest.raises(DataError, match="cut short"):
        open_images(f"zip:{path}")
