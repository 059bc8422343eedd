"""Images to compare that come as files, in units of their own, or beside published statistics."""

import json
import shutil

import numpy as np
import pytest
from commands import ROOT, call
from PIL import Image

from scoresde.data.sources import COLLECTIONS
from scoresde.errors import DataError
from scoresde.metrics.frechet import frechet_distance, moments
from scoresde.metrics.kid import kid
from scoresde.metrics.scales import check_scales
from scoresde.workflows import request
from scoresde.workflows.request import Request

RANDOM = np.random.default_rng(0)
FAKE, REAL = (
    RANDOM.integers(0, 256, (60, 4, 5, 3)).astype(np.uint8),
    RANDOM.integers(0, 200, (70, 4, 5, 3)).astype(np.uint8),
)


def features(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / np.float32(255)


EXACT = frechet_distance(moments(features(FAKE)), moments(features(REAL)))


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    np.savez("fake.npz", samples=FAKE)
    np.savez("real.npz", samples=REAL)


def written(folder, images, ending="png"):
    folder.mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k:03}.{ending}")
    return folder


def compared(samples, reference, metrics="fd", *more):
    return call(
        "evaluate",
        "--samples",
        samples,
        "--reference",
        reference,
        "--metrics",
        metrics,
        "--network",
        "pixels",
        "--out",
        "out",
        *more,
    )


def numbers() -> dict[str, dict]:
    with open("out/records.jsonl") as file:
        return {found["metric"]: found for found in map(json.loads, file)}


# Image files


def test_folders_and_zips_of_images_are_the_arrays_they_hold(tmp_path):
    """The same number as of the arrays, in each way to name them; and again from the record, in another folder."""
    written(tmp_path / "a", FAKE), written(tmp_path / "b", REAL, "tiff")
    shutil.make_archive("b", "zip", tmp_path / "b")
    for samples, reference in (
        ("a", "b"),
        ("folder:a", "folder:b"),
        ("a", "b.zip"),
        ("fake.npz", "zip:b.zip"),
        ("a", "real.npz"),
    ):
        done = compared(samples, reference)
        assert done.code == 0, done.err
        found = numbers()["fd_pixels"]
        assert found["value"] == pytest.approx(EXACT, rel=1e-6) and (found["num_fake"], found["num_real"]) == (60, 70)
    assert compared("folder:a", "b", "fd", "--num", 50).code == 0
    part = frechet_distance(moments(features(FAKE[:50])), moments(features(REAL)))
    assert numbers()["fd_pixels"]["value"] == pytest.approx(part, rel=1e-6)
    (tmp_path / "elsewhere").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "elsewhere")
        assert "difference 0 " in call("evaluate", "--repeat", tmp_path / "out" / "records.jsonl").out


def test_files_that_cannot_be_compared_are_refused_by_name(tmp_path):
    folder = written(tmp_path / "a", FAKE)
    Image.fromarray(FAKE[0][:3]).save(folder / "100.png")
    for content, words in (
        (None, "expected images of one size, got 5 x 4 in 000.png and 5 x 3 in 100.png"),
        (b"cut", "100.png: no PNG"),
        (np.zeros((4, 5), np.uint16), "100.png: expected 8 bits, got the mode I;16"),
    ):
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(folder / "100.png")
        elif content is not None:
            (folder / "100.png").write_bytes(content)
        refused = compared("a", "real.npz")
        assert refused.code == 3 and words in refused.err and len(refused.err.splitlines()) == 1, refused.err
    (folder / "100.png").unlink()
    (folder / "a.heic").write_bytes(b"x")
    refused = compared("a", "real.npz", "fd", "--num", 61)
    assert refused.code == 3 and "has 60 images" in refused.err
    np.savez(folder / "samples.npz", samples=FAKE)
    refused = compared("a", "real.npz")
    assert refused.code == 3 and "give a/samples.npz, or folder:a" in refused.err
    done = compared("folder:a", "real.npz")
    assert done.code == 0 and "not read: 2 other files (.heic 1, .npz 1)" in done.err
    refused = compared("none", "real.npz")
    assert refused.code == 3 and "found nothing" in refused.err
    grey = written(tmp_path / "grey", FAKE[..., 0])
    refused = compared(grey, "real.npz")
    assert refused.code == 3 and "one shape" in refused.err


def test_paths_of_a_record_hold_from_any_folder(tmp_path):
    assert set(request.COLLECTIONS) == set(COLLECTIONS)
    (tmp_path / "set").mkdir()
    for text, found in (
        ("folder:a", f"folder:{tmp_path}/a"),
        ("a", f"{tmp_path}/a"),
        ("a.npz:x", f"{tmp_path}/a.npz:x"),
        ("zip:~/a.zip", None),
        ("hf:owner/name", "hf:owner/name"),
        ("hf:set", f"hf:{tmp_path}/set"),
    ):
        arguments = Request(("fd",), tmp_path, tmp_path, samples=text).arguments()
        path = arguments[arguments.index("--samples") + 1]
        assert path == found or (
            found is None and path.startswith("zip:/") and path.endswith("/a.zip") and "~" not in path
        )


# Units


def test_floats_of_another_range_are_refused_with_the_line_that_converts_them():
    """The line is Python: done, the number is that of the images."""
    ranges = {
        "[-1, 1]": FAKE / 127.5 - 1,
        "0..255": FAKE.astype(float) + 0.3 * (FAKE < 255),
        "0 to 1.2": FAKE / 255 * 1.2,
    }
    for x in ranges.values():
        np.savez("x.npz", samples=x.astype(np.float32))
        for sides in (("x.npz", "real.npz"), ("real.npz", "x.npz")):
            refused = compared(*sides)
            assert refused.code == 3 and "expected uint8 images" in refused.err and len(refused.err.splitlines()) == 1
        line = refused.err.partition("save them as uint8: ")[2].strip()
        converted = eval(line, {"x": x, "np": np})
        if x is not ranges["0 to 1.2"]:
            np.testing.assert_array_equal(converted, FAKE)
    np.savez("x.npz", samples=(FAKE / 255).astype(np.float32))
    assert compared("x.npz", "real.npz").code == 0
    assert numbers()["fd_pixels"]["value"] == pytest.approx(EXACT, rel=1e-5)


@pytest.mark.parametrize(
    "fake, real, shape, same",
    [
        ((-1, 1), (0, 1), (4, 4, 3), False),
        ((0, 255), (-1, 1), (4, 4, 3), False),
        ((0, 255), (0, 1), (4, 4, 3), False),
        ((-3, 260), (-1, 1), (4, 4, 3), False),
        ((-0.1, 1.2), (0, 1), (4, 4, 3), True),
        ((-1.3, 1.2), (-1, 1), (4, 4, 3), True),
        ((-4.2, 4.4), (-3.9, 3.1), (4, 4, 3), True),
        ((0, 255), (-1, 1), (64, 1), True),
        ((-5, 5), (0, 300), (2,), True),
        (None, None, (4, 4, 3), True),
        (None, (0, 1), (4, 4, 3), True),
        (None, (-1, 1), (4, 4, 3), False),
        ((-1, 1), None, (5,), False),
    ],
)
def test_which_ranges_are_of_one_unit(fake, real, shape, same):
    if same:
        check_scales(fake, real, shape)
    else:
        with pytest.raises(DataError, match="uint8"):
            check_scales(fake, real, shape)


@pytest.mark.slow
def test_a_run_on_continuous_data_is_compared_with_its_data(tmp_path):
    """Points have a unit of their own, and so have their samples: none is uint8."""
    config = f"--config={ROOT / 'configs' / 'mixture_2d.py'}"
    tiny = ["--config.model.width=8", "--config.model.depth=1", "--config.training.steps=2", "--config.evaluate.num=0"]
    assert (
        call(
            "train", config, *tiny, "--config.sampling.sampler=ddim", "--config.sampling.steps=2", "--workdir", "run"
        ).code
        == 0
    )
    done = call("evaluate", "--workdir", "run", "--metrics", "fd", "--network", "pixels", "--num", 40, "--out", "out")
    assert done.code == 0 and numbers()["fd_pixels"]["value"] > 0, done.err


# Published statistics


def test_images_beside_published_statistics_give_the_metrics_that_need_them():
    """fd takes mu and sigma as they are published, here of other images; kid takes the images of the file."""
    other = moments(features(FAKE[:40]))
    np.savez("both.npz", mu=other.mean, sigma=other.covariance, arr_0=REAL)
    assert compared("fake.npz", "both.npz", "fd,kid,prdc").code == 0
    found = numbers()
    assert found["fd_pixels"]["value"] == pytest.approx(frechet_distance(moments(features(FAKE)), other), rel=1e-6)
    assert found["kid_pixels"]["value"] == pytest.approx(kid(features(FAKE), features(REAL)).value, rel=1e-6)
    assert found["kid_pixels"]["num_real"] == 70 and "precision_pixels" in found
    np.savez("both.npz", mu=np.zeros(7), sigma=np.eye(7), arr_0=REAL)  # of another network: then its images are taken
    assert compared("fake.npz", "both.npz").code == 0
    assert numbers()["fd_pixels"]["value"] == pytest.approx(EXACT, rel=1e-6)
    np.savez("alone.npz", mu=other.mean, sigma=other.covariance)
    refused = compared("fake.npz", "alone.npz", "kid")
    assert refused.code == 2 and "mu and sigma are all that is there" in refused.err
