"""What the headers of the published recipes say: parameters, images seen."""

import ast
import functools
import json
import re

import equinox as eqx
import pytest
from commands import ROOT

from scoresde.build import build_score
from scoresde.config import from_json, load_config, to_json
from scoresde.recipes import edm

RECIPES = sorted(path for path in (ROOT / "configs").glob("*.py") if "scoresde.recipes" in path.read_text())


@functools.cache
def parameters(model: str) -> int:
    """Of the networks with the sections `data` and `model` of this JSON; nothing is allocated."""
    return eqx.filter_eval_shape(build_score, from_json(json.loads(model))).network.num_params


each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def header(path) -> str:
    return ast.get_docstring(ast.parse(path.read_text()))


@each_recipe
def test_headers_say_the_images_seen(path):
    config = load_config(str(path), [])
    stated = re.search(r"([\d.,]+) (M )?steps of (\d+): (\d+) M images", header(path))
    if stated is None:
        assert "likelihood" in path.stem  # they say 1.3 M steps
        return
    steps = float(stated[1].replace(",", "")) * (1e6 if stated[2] else 1)
    assert (steps, int(stated[3])) == (config.training.steps, config.training.batch_size)
    assert abs(int(stated[4]) * 1e6 - config.training.steps * config.training.batch_size) < 1e6


@pytest.mark.slow  # the networks themselves are counted in test_published_nets.py
@each_recipe
def test_headers_say_the_parameters(path):
    stated, stored = re.search(r"([\d,]{9,}) parameters", header(path)), to_json(load_config(str(path), []))
    if stated is None:
        assert "likelihood" in path.stem
        return
    about = {name: stored["data"][name] for name in ("image_size", "channels", "augment")}
    model = stored["model"] | {"dtype": "float32", "preconditioning": "eps", "dropout": 0.0}  # what counts, so that networks are shared
    assert stated[1] == f"{parameters(json.dumps({'data': about, 'model': model}, sort_keys=True)):,}"


def test_images_of_edm_do_not_depend_on_the_batch():
    for batch_size in (64, 512):
        config = edm("edm_ddpmpp_cifar10", images=200_000_000, batch_size=batch_size, augment=0.12)
        assert config.training.steps * batch_size == 200_000_000
        assert 0 <= 10_000_000 - config.optim.warmup * batch_size < batch_size
