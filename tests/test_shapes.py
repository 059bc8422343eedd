"""Arrays in an order of axes that nobody declared: curves, channels first, flat images; and data that do not vary."""

import json

import numpy as np
import pytest
from commands import call

from scoresde.data import load
from scoresde.data.shapes import guessed, remedy
from scoresde.errors import DataError
from scoresde.experiment.config import default

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def inspected(*arguments):
    result = call("data", "inspect", *arguments, "--out", "out")
    assert result.code == 0, result.err
    with open("out/inspection.json") as file:
        return json.load(file), result


@pytest.mark.parametrize(
    "found, shape",
    [
        ((187, 1), (187, 1)),
        ((64, 2), (64, 2)),
        ((28, 28), (28, 28, 1)),
        ((4, 4), (4, 4, 1)),
        ((32, 32, 3), (32, 32, 3)),
        ((5,), (5,)),
        ((8, 3), (8, 3)),
        ((1000, 12), (1000, 12, 1)),
        ((2, 3, 4, 1), (2, 3, 4, 1)),
        ((64, 64, 64), (64, 64, 64)),
    ],
)
def test_what_a_record_probably_is(found, shape):
    assert guessed(found, "x") == shape


@pytest.mark.parametrize("found", [(3, 32, 32), (1, 28, 28), (1, 187), (3, 64), (1, 8, 16, 16)])
def test_channels_first_are_recognised_and_the_advice_is_right(found):
    """The advice is a line of Python that makes the channels the last axis and mixes no pixels."""
    x = RANDOM.random((5, *found))
    with pytest.raises(DataError, match=r"channels first.*x\.transpose") as caught:
        guessed(found, "x")
    advice = remedy(found, (*found[1:], found[0]))
    line = advice.partition("save ")[2].partition(")")[0] + ")"
    assert line in str(caught.value)
    np.testing.assert_array_equal(eval(line, {"x": x}), np.moveaxis(x, 1, -1))


def test_other_advice_is_right_too():
    cifar = RANDOM.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    flat = np.moveaxis(cifar, -1, 1).reshape(5, -1)
    line = remedy(flat.shape[1:], (4, 6, 3)).partition("save ")[2]
    np.testing.assert_array_equal(eval(line, {"x": flat, "np": np}), cifar)
    assert remedy((187,), (187, 1)).endswith("save x[..., None]")
    assert remedy((8, 8, 3), (16, 16, 3)) == "declare the shape of one record"


def test_inspect_refuses_channels_first_and_the_right_declaration_gets_the_right_advice():
    images = RANDOM.integers(0, 256, (12, 3, 8, 10), dtype=np.uint8)
    np.savez("a.npz", x_train=images, x_test=images)
    shape = ["--config.data.image_size=(8,10)", "--config.data.channels=3", "--config.data.levels=256"]
    for arguments in ([], shape):
        refused = call("data", "inspect", "npz:a.npz", *arguments)
        assert refused.code == 3 and "x.transpose(0, 2, 3, 1)" in refused.err and len(refused.err.splitlines()) == 1
    field = ["--config.data.image_size=(3,8)", "--config.data.channels=10", "--config.data.levels=256"]
    assert inspected("npz:a.npz", *field)[0]["shape"] == [3, 8, 10]  # whoever has such fields can say so
    np.savez("a.npz", f=images.astype(np.float32))
    refused = call("data", "inspect", "functions:a.npz", "--config.data.arrays=('f',)")
    assert refused.code == 3 and "x.transpose(0, 2, 3, 1)" in refused.err
    with pytest.raises(DataError, match=r"its channels come first: save x.transpose\(0, 2, 3, 1\)"):
        load("functions:a.npz", shape=(8, 10, 3), levels=0, centered=True, keys=("f",))


def test_a_curve_with_an_axis_of_channels_is_a_curve():
    np.savez(
        "a.npz", x_train=RANDOM.random((12, 40, 1)), x_test=RANDOM.random((3, 40, 1)), f=RANDOM.random((12, 16, 16))
    )
    report, result = inspected("npz:a.npz")
    config = default()
    exec("\n".join(line.strip() for line in report["configuration"]), {"c": config})
    assert report["shape"] == [40, 1] and config.data.image_size == (40,) and config.model.name == "fno"
    report, result = inspected("functions:a.npz", "--config.data.arrays=('f',)")
    assert report["shape"] == [16, 16, 1]  # a field, and no curve of 16 channels
    assert (
        "for curves of 16 channels declare --config.data.image_size=(16,) and --config.data.channels=16" in result.err
    )


CONSTANT = {
    "values": (np.full((12, 4, 4, 3), 128, np.uint8), "all training values are the same", False),
    "floats": (np.full((12, 5), 0.1, np.float32), "all training values are the same", False),
    "records": (
        np.broadcast_to(RANDOM.random((4, 4, 3)).astype(np.float32), (12, 4, 4, 3)),
        "all training records are the same",
        True,
    ),
}


@pytest.mark.parametrize("x, words, spread", CONSTANT.values(), ids=CONSTANT.keys())
def test_data_that_do_not_vary_are_named_and_no_zero_is_proposed(x, words, spread):
    """sigma_data = 0 and sigma_max = 0 are refused by training: neither is among the lines to copy."""
    np.savez("a.npz", x_train=x, x_test=x)
    report, result = inspected("npz:a.npz")
    assert f"constant    {words}: there is nothing to learn" in result.out and report["sigma_max"] == 0
    config = default()
    exec("\n".join(line.strip() for line in report["configuration"]), {"c": config})
    assert ("sigma_data" in config.preconditioning) == spread
    assert not any("sigma_max" in line for line in report["configuration"])
    assert (report["sigma_data"] > 0) == spread
