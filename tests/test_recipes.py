"""What the headers of the recipes for accelerators say: parameters, images seen. And the two that follow no single
paper, made small."""

import ast
import functools
import json
import re

import numpy as np
import pytest
from commands import ROOT, call

from scoresde.experiment import Experiment
from scoresde.experiment.config import from_json, load_config, to_json
from scoresde.experiment.presets import edm

RECIPES = sorted(
    path for path in (ROOT / "configs").glob("*.py") if path.stem.startswith(("cifar10", "celeba", "ffhq", "imagenet"))
)


@functools.cache
def parameters(model: str) -> int:
    """Of the networks with the sections `data` and `model` of this JSON; nothing is allocated."""
    return Experiment.from_config(from_json(json.loads(model))).network.num_params


each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def header(path) -> str:
    return ast.get_docstring(ast.parse(path.read_text()))


@each_recipe
def test_headers_say_the_images_seen(path):
    config = load_config(str(path), [])
    stated = re.search(r"([\d.,]+) (M )?steps of (\d+): ([\d.]+) M images", header(path))
    steps = float(stated[1].replace(",", "")) * (1e6 if stated[2] else 1)
    assert (steps, int(stated[3])) == (config.training.steps, config.training.batch_size)
    unit = 10 ** (6 - len(stated[4].partition(".")[2]))
    assert abs(float(stated[4]) * 1e6 - config.training.steps * config.training.batch_size) <= unit / 2


@pytest.mark.slow  # the networks themselves are counted in test_published_nets.py
@each_recipe
def test_headers_say_the_parameters(path):
    stated, stored = re.search(r"([\d,]{9,})\s+parameters", header(path)), to_json(load_config(str(path), []))
    about = {name: stored["data"][name] for name in ("image_size", "channels", "augment")}
    model = stored["model"] | {
        "dtype": "float32",
        "dropout": 0.0,
    }  # what counts, so that networks are shared
    fields = {"data": about, "conditions": stored["conditions"], "model": model, "preconditioning": {"name": "eps"}}
    assert stated[1] == f"{parameters(json.dumps(fields, sort_keys=True)):,}"


def test_images_of_edm_do_not_depend_on_the_batch():
    for batch_size in (64, 512):
        config = edm("edm_ddpmpp_cifar10", images=200_000_000, batch_size=batch_size, augment=0.12)
        assert config.training.steps * batch_size == 200_000_000
        assert 0 <= 10_000_000 - config.optim.warmup * batch_size < batch_size


def test_the_decay_of_the_fast_recipe_follows_its_steps():
    path = str(ROOT / "configs" / "cifar10_fast.py")
    for overrides, steps, decay in (
        ([], 33_000, 49_500),
        (["training.steps=20000"], 20_000, 30_000),
        (["optim.decay_steps=4000"], 33_000, 4000),
    ):
        config = load_config(path, overrides)
        assert (config.training.steps, config.optim.decay_steps) == (steps, decay)
        rate = Experiment.from_config(config).learning_rate
        assert float(rate(decay)) == pytest.approx(0.01 * config.optim.learning_rate, rel=1e-5)
        if decay > steps:
            assert 0.25 < float(rate(steps)) / config.optim.learning_rate < 0.3
        assert from_json(to_json(config)).optim.decay_steps == decay


SMALL = (
    "data.image_size=8", "model.channels=8", "model.blocks=1", "training.steps=2", "training.batch_size=4",
    "training.log_every=1",
    "training.watch=()", "optim.warmup=1", "sampling.num=2", "sampling.steps=3", "likelihood.tolerance=1e-2",
    "likelihood.samples=2",
    "likelihood.dequantizations=1",
)  # fmt: skip


@pytest.mark.slow  # a minute of compiling
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name, fields",
    [
        ("cifar10_likelihood", ()),
        ("cifar10_fast", ("model.multipliers=(1,2)", "model.num_classes=2", "training.ema=40.0,")),
    ],
)
def test_two_steps_of_a_small_copy(name, fields, tmp_path):
    """Train, draw and take the likelihood by the recipe's own sampler and method, on eight images of noise in two
    classes."""
    values, labels = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8), np.arange(8) % 2
    np.savez(tmp_path / "noise.npz", x_train=values, y_train=labels, x_test=values[:2], y_test=labels[:2])
    flags = [f"--config.{text}" for text in (*SMALL, *fields, f"data.source=npz:{tmp_path / 'noise.npz'}")]
    run = tmp_path / "run"
    done = call("train", f"--config={ROOT / 'configs' / name}.py", "--workdir", run, *flags)
    assert done.code == 0, done.err
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    assert len(losses) == 2 and np.isfinite(losses).all()
    assert call("sample", "--workdir", run, "--num", 2, "--out", tmp_path / "drawn").code == 0
    with np.load(tmp_path / "drawn" / "samples.npz") as drawn:
        assert drawn["samples"].shape == (2, 8, 8, 3) and drawn["ok"].all()
    assert call("likelihood", "--workdir", run, "--num", 1, "--out", tmp_path / "bits").code == 0
    assert np.isfinite(json.loads((tmp_path / "bits.json").read_text())["bits_per_dim"])
