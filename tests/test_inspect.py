"""`python -m scoresde.data inspect`: every figure against one worked out in another way, for every source."""

import io
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, call
from PIL import Image

from scoresde.cli.data import _two_digits_up
from scoresde.data import SOURCES
from scoresde.experiment.config import default


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def inspected(*arguments):
    result = call("data", "inspect", *arguments, "--out", "out")
    assert result.code == 0, result.err
    with open("out/inspection.json") as file:
        return json.load(file), result


RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(3, 200, (30, 4, 6, 3), dtype=np.uint8)


def test_figures_of_arrays():
    train, test = IMAGES.copy(), IMAGES[:5].copy()
    train[7] = train[3]  # a copy within train, and three in test: 0, 1 and 3
    test[2] = 250
    test[4] = test[2]  # a copy within test
    labels = np.arange(30) % 3
    np.savez("a.npz", x_train=train, y_train=labels, x_test=test, y_test=labels[:5])
    report, result = inspected("npz:a.npz")
    x = 2 * (train.astype(float) + 0.5) / 256 - 1
    assert (report["shape"], report["levels"], report["train"], report["test"], report["classes"]) == (
        [4, 6, 3],
        256,
        30,
        5,
        3,
    )
    np.testing.assert_allclose(report["mean"], train.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(report["std"], train.std(axis=(0, 1, 2)), rtol=1e-9)
    assert report["sigma_data"] == pytest.approx(x.std(), rel=1e-9)
    largest = max(np.linalg.norm(a - b) for a, b in itertools.combinations(x, 2))
    assert report["sigma_max"] == pytest.approx(largest, rel=1e-6) and report["sampled"] == 30
    assert report["levels_used"] == len(np.unique(train)) and report["range"] == [train.min(), train.max()]
    assert report["labels"]["train"] == {"0": 10, "1": 10, "2": 10}
    same = report["duplicates"]
    assert (same["train"], same["test"], same["between"]) == (1, 1, 3)
    assert (
        ["train 3", "train 7"] in same["first"]
        and ["train 0", "test 0"] in same["first"]
        and ["test 2", "test 4"] in same["first"]
    )
    assert Image.open("out/grid.png").size[0] > 100 and "1 in train, 1 in test, 3 of test in train" in result.out


@pytest.mark.filterwarnings("ignore:.*expect data of about unit size")
def test_a_mean_that_is_large_beside_the_deviation_does_not_cancel():
    """Float32 of 3e6 is a lattice of .25, which float64 sums without loss of the deviation only about the mean: the
    difference of mean square and squared mean is off."""
    x = (np.random.default_rng(1).standard_normal((3000, 4, 2, 2)) + [3e6, 0]).astype(np.float32)
    np.savez("a.npz", x_train=x, x_test=x[:4])
    report, _ = inspected("npz:a.npz")
    np.testing.assert_allclose(report["mean"], x.mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(report["std"], x.astype(np.float64).std(axis=(0, 1, 2)), rtol=1e-9)


def test_the_lines_to_copy_make_a_configuration():
    np.savez("a.npz", x_train=IMAGES, x_test=IMAGES, y_train=np.arange(30) % 2)
    report, result = inspected("npz:a.npz")
    config = default()
    exec("\n".join(line.strip() for line in report["configuration"]), {"c": config})
    data = config.data
    assert (data.source, data.image_size, data.channels, data.levels) == ("npz:a.npz", (4, 6), 3, 256)
    assert config.conditions["class"].num_classes == 2 and config.preconditioning.sigma_data == pytest.approx(
        report["sigma_data"], rel=1e-2
    )
    assert config.model.multipliers == (1, 2)  # 6 halves once
    (line,) = (line for line in report["configuration"] if "sigma_max" in line)
    assert 1 <= float(line.split("=")[1].split(",")[0]) / report["sigma_max"] <= 1.1
    assert all(line in result.out for line in report["configuration"])


@pytest.mark.parametrize(
    "value, found", [(9.036, 9.1), (95.0, 95.0), (95.01, 96.0), (322.5, 330.0), (0.1234, 0.13), (0.0, 0.0)]
)
def test_two_digits(value, found):
    assert _two_digits_up(value) == pytest.approx(found, rel=1e-12)


def picture(seed, size, mode="RGB", format="PNG"):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).convert(mode).save(
        file, format
    )
    return file.getvalue()


def test_a_folder(tmp_path):
    files = {f"in/{label}/{k}.png": picture(k + 50 * (label == "b"), (20 + k, 40)) for label in "ab" for k in range(9)}
    files |= {
        "in/a/copy.png": files["in/a/0.png"],
        "in/a/grey.jpg": picture(77, (50, 50), "L", "JPEG"),
        "in/b/ink.jpg": picture(78, (50, 30), "CMYK", "JPEG"),
    }
    files |= {f"in/b/bad{k}.png": bytes(k) for k in range(12)}  # more than a run would put up with: here all are listed
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    report, result = inspected("folder:in")
    about = report["files"]
    assert report["shape"] == [16, 16, 3] and report["levels"] == 256  # the shorter sides are 20 and more
    assert report["train"] + report["test"] == 21 and about["kinds"] == {"PNG RGB": 19, "JPEG L": 1, "JPEG CMYK": 1}
    assert about["sizes"] == {
        "least_width": 30,
        "greatest_width": 50,
        "least_height": 20,
        "greatest_height": 50,
        "median_shorter_side": 24,
    }
    assert (
        sorted(name for name, _ in about["bad"]) == sorted(f"b/bad{k}.png" for k in range(12))
        and "b/bad11.png: " in result.out
    )
    assert about["class_names"] == ["a", "b"] and "a: " in result.out
    same = report["duplicates"]
    assert same["train"] + same["test"] + same["between"] == 1 and {"a/0.png", "a/copy.png"} in map(set, same["first"])
    declared, _ = inspected("folder:in", "--config.data.image_size=(8,12)", "--config.data.channels=1")
    assert declared["shape"] == [8, 12, 1] and declared["files"]["rule"] != about["rule"]
    for path in (tmp_path / "in").rglob("*.*"):
        path.unlink()
    for k in range(3):
        (tmp_path / "in" / f"{k}.webp").write_bytes(picture(k, (10, 14), "L", "WEBP"))
    assert inspected("folder:in")[0]["shape"] == [10, 14, 3]  # one size: kept. WebP knows no grey


def test_what_is_not_read_is_counted_and_named(tmp_path):
    """Formats of Pillow are read; those that are not are counted by extension, in the report, its text and the note."""
    (tmp_path / "in").mkdir()
    for k, ending in enumerate(("tif", "bmp", "gif", "jfif", "png")):
        kind = {"tif": "TIFF", "jfif": "JPEG"}.get(ending, ending.upper())
        for number in range(2):
            (tmp_path / "in" / f"{k}{number}.{ending.upper()}").write_bytes(
                picture(10 * k + number, (8, 8), format=kind)
            )
    for name in ("a.heic", "b.HEIC", "notes.txt", "LICENSE", ".hidden.heic", "labels.csv"):
        (tmp_path / "in" / name).write_bytes(
            b"file,label\n"
            + b"".join(
                f"{k}{n}.{e},x\n".encode() for k, e in enumerate(("TIF", "BMP", "GIF", "JFIF", "PNG")) for n in range(2)
            )
        )
    report, result = inspected("folder:in")
    about = report["files"]
    assert (
        about["kinds"] == {"TIFF RGB": 2, "BMP RGB": 2, "GIF P": 2, "JPEG RGB": 2, "PNG RGB": 2}
        and report["train"] + report["test"] == 10
    )
    assert about["not_read"] == {".heic": 2, ".txt": 1, "no extension": 1}
    words = "4 other files (.heic 2, no extension 1, .txt 1)", "4 other files (.heic 2, .txt 1, no extension 1)"
    assert any(text in result.out and f"not read: {text}" in result.err for text in words)


def test_deep_grey_is_found_out_and_kept(tmp_path):
    """12 bits in 16: at 256 levels 7 grey levels are left, and a note says so; the levels found out keep all."""
    (tmp_path / "in").mkdir()
    images = np.random.default_rng(0).integers(200, 1800, (20, 8, 8)).astype(np.uint16)
    for k, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "in" / f"{k:02}.png")
    report, result = inspected("folder:in")
    assert (report["shape"], report["levels"]) == ([8, 8, 1], 2048)
    everything = np.concatenate([images[k].ravel() for k in range(20)])
    assert (
        report["range"][0] >= everything.min()
        and report["range"][1] <= everything.max()
        and report["levels_used"] > 800
    )
    x = 2 * (everything + 0.5) / 2048 - 1
    assert report["sigma_data"] == pytest.approx(x.std(), rel=0.05)  # of the training part: 19 of 20 images
    assert "'folder:in', 8, 1, 2048" in result.out
    eight, result = inspected(
        "folder:in", "--config.data.image_size=8", "--config.data.channels=1", "--config.data.levels=256"
    )
    assert eight["levels_used"] == 7
    words = (
        f"16-bit grey values up to {everything.max()} become at most 8 of 256 grey levels (v/257); data.levels = 2048"
    )
    assert words in result.out and words in result.err


def test_names_that_are_no_text_can_be_shown(tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(3):
        (tmp_path / "in" / f"{k}.png").write_bytes(picture(k, (8, 8)))
    with open(os.path.join(os.fsencode(tmp_path), b"in/\xff.png"), "wb") as file:
        file.write(b"damaged")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"}
    line = [sys.executable, "-m", "scoresde.data", "inspect", "folder:in"]
    result = subprocess.run(line, env=environment, capture_output=True, timeout=120)
    assert result.returncode == 0 and rb"\udcff.png: no PNG" in result.stdout, result.stderr


def test_shapes_and_levels_are_found_out():
    vectors, volumes = RANDOM.random((20, 5)), RANDOM.integers(0, 1000, (20, 2, 3, 4, 1), dtype=np.uint16)
    np.savez("a.npz", x_train=vectors, x_test=vectors, v=volumes, f=RANDOM.random((20, 7)))
    for arguments, shape, levels, train in (
        (["digits"], [8, 8, 1], 17, 1500),
        (["two_moons"], [2], 0, 10_000),
        (["npz:a.npz"], [5], 0, 20),
        (["npz:a.npz", "--config.data.arrays=('v','','v','')"], [2, 3, 4, 1], 65536, 20),
        (["functions:a.npz", "--config.data.arrays=('f',)"], [7, 1], 0, 18),
        (
            ["quadratic", "--config.data.image_size=(9,)", "--config.data.channels=1", "--config.data.levels=0"],
            [9, 1],
            0,
            1000,
        ),
    ):
        report, _ = inspected(*arguments)
        assert (report["shape"], report["levels"], report["train"]) == (shape, levels, train)


def test_a_unet_with_as_many_halvings_as_the_size_has_is_proposed_for_volumes():
    volumes = RANDOM.integers(0, 256, (12, 4, 8, 12, 1), dtype=np.uint8)
    np.savez("a.npz", x_train=volumes, x_test=volumes)
    report, _ = inspected("npz:a.npz")
    config = default()
    exec("\n".join(line.strip() for line in report["configuration"]), {"c": config})
    assert (config.model.name, config.model.multipliers) == ("unet", (1, 2, 2))
    assert any("2 halvings of 4 x 8 x 12" in line for line in report["configuration"])


WRONG = {
    "no source": (["folder:none"], 3, "expected a folder of images, found nothing"),
    "unknown": (["fodler:x"], 2, "did you mean"),
    "no grid": (["quadratic"], 2, "has no shape of its own; declare one"),
    "no argument": ([], 2, "SOURCE"),
    "another section": (["digits", "--config.model.width=3"], 2, "only the fields of data are used"),
    "no data field": (["digits", "--config.data.size=3"], 2, "unknown field size"),
    "no array": (["npz:b.npz"], 3, "expected an array 'x_train', the file has y"),
    "no name": (["functions:b.npz"], 2, "data.arrays=('NAME',)"),
    "wrong shape": (["digits", "--config.data.image_size=9"], 3, "declared shape (9, 9, 1)"),
    "nothing readable": (["folder:bad"], 3, "none of 1 images can be read (0.png: empty file)"),
}


@pytest.mark.parametrize("arguments, code, message", WRONG.values(), ids=WRONG.keys())
def test_mistakes(tmp_path, arguments, code, message):
    np.savez("b.npz", y=np.zeros(3))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.png").write_bytes(b"")
    result = call("data", "inspect", *arguments)
    assert (
        result.code == code
        and message in result.err
        and result.err.count("error:") == 1
        and "Traceback" not in result.err
    )


def test_a_configuration_can_be_given():
    (config,) = [
        line
        for line in inspected("digits", "--config", str(ROOT / "configs" / "digits_vp.py"))[0]["configuration"]
        if "sigma_data" in line
    ]
    assert "0.706" in config


def test_every_source_has_an_answer():
    from scoresde.data.declared import _FINDERS
    from scoresde.data.sources import COLLECTIONS

    assert set(SOURCES) == set(COLLECTIONS) | set(_FINDERS) | {"gaussian_process", "gp_mixture", "quadratic", "none"}
