"""Configurations: every mistake is met before anything runs, in one line each, with what to write instead."""

import json
from pathlib import Path

import pytest
from commands import MIXTURE, ROOT, call

from scoresde.errors import ConfigError
from scoresde.experiment import Experiment
from scoresde.experiment.config import FREE_FIELDS, default, differences, from_json, load_config, override, to_json
from scoresde.experiment.sections import complete, flatten

CONFIGS = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_experiment_is_valid_and_comes_back_from_json(path):
    config = load_config(str(path), [])
    back = from_json(json.loads(json.dumps(to_json(config))))
    assert to_json(back) == to_json(config)
    usual = flatten(complete({})[0])
    changed = {name for name, value in flatten(config).items() if value != usual.get(name)}
    assert changed  # else from_json could return the default
    for name, value in flatten(config).items():
        assert flatten(back)[name] == value and type(flatten(back)[name]) is type(value)


def test_json_does_not_lose_special_values():
    config = default()
    override(
        config,
        ["data.arrays=a,b,c,d".replace("a,b,c,d", "('a','','c','')"), "data.image_size=(32,64)", "optim.eps=1e-12"],
    )
    back = from_json(to_json(config))
    assert back.data.arrays == ("a", "", "c", "") and back.data.image_size == (32, 64) and back.optim.eps == 1e-12


@pytest.mark.parametrize(
    "text, value",
    [
        ("training.steps=1e5", 100_000),
        ("training.steps=2_000", 2000),
        ("optim.learning_rate=1", 1.0),
        ("training.reduce_mean=false", False),
        ("training.ema=0.9", (0.9,)),
        ("training.ema=0.9,0.99", (0.9, 0.99)),
        ("model.attention=()", ()),
        ("model.multipliers=[1, 2]", (1, 2)),
        ("data.source=npz:some file.npz", "npz:some file.npz"),
        ("data.source=1e5", "1e5"),
        ("data.image_size=(16,32)", (16, 32)),
        ("data.data_dir=", ""),
    ],
)
def test_texts_take_the_type_of_their_field(text, value):
    config = default()
    override(config, [text])
    found = flatten(config)[text.split("=")[0]]
    assert found == value and type(found) is type(value)


# Each: arguments, and what the one line must say.
MISTAKES = [
    (["trian.steps=10"], ["trian", "did you mean training?"]),
    (["training.stpes=10"], ["training.stpes", "did you mean training.steps?"]),
    (["training.steps.more=10"], ["unknown field more"]),
    (["training=10"], ["section", "steps"]),
    (["training.steps"], ["whole number", "''"]),
    (["training.steps=abc"], ["training.steps", "whole number", "'abc'"]),
    (["training.steps=1.5"], ["training.steps", "whole number", "'1.5'"]),
    (["training.steps=inf"], ["training.steps", "whole number"]),
    (["training.steps=1e400"], ["training.steps", "whole number"]),
    (["training.steps=nan"], ["training.steps", "whole number"]),
    (["training.steps=None"], ["training.steps", "whole number"]),
    (["training.steps=True"], ["training.steps", "whole number"]),
    (["training.steps=__import__('os')"], ["training.steps", "whole number"]),
    (["training.reduce_mean=1"], ["true or false"]),
    (["training.ema=abc"], ["training.ema", "a tuple"]),
    (["training.steps=-5"], ["training.steps = -5", "at least 1"]),
    (["seed=-1"], ["seed = -1", "at least 0"]),
    (["optim.learning_rate=nan"], ["optim.learning_rate", "finite"]),
    (["optim.learning_rate=1e400"], ["optim.learning_rate", "finite"]),
    (["optim.learning_rate=0"], ["optim.learning_rate", "above 0"]),
    (["training.ema=1.0"], ["training.ema", "less than 1", "batch_size", "got 1.0"]),
    (["training.ema=()"], ["training.ema", "at least one decay"]),
    (["training.batch_size=65"], ["batch_size = 65", "64 or 66"]),
    (["sde.name=vpp"], ["sde.name", "did you mean vp?"]),
    (["sampling.sampler=ode"], ["sampling.name", "reverse_sde, adaptive_sde"]),
    (["sde.beta_max=0.01"], ["sde", "beta_min <= beta_max"]),
    (["sde.t_min=1.5"], ["sde", "t_min < t_max"]),
    (["optim.decay_steps=10", "optim.warmup=20"], ["optim.decay_steps = 10", "optim.warmup = 20"]),
    (["data.random_flip=true"], ["data.random_flip", "images"]),
    (["data.uniform_dequantization=true"], ["data.uniform_dequantization", "data.levels = 0"]),
    (
        ["sampling.sampler=probability_flow", "sampling.ode_solver=euler", "sampling.steps=0"],
        ["euler", "steps > 0"],
    ),
]


@pytest.mark.parametrize("overrides, words", MISTAKES, ids=lambda item: item[0] if isinstance(item, list) else "")
def test_a_mistake_is_one_line(overrides, words, tmp_path):
    refused = call("train", *MIXTURE, *(f"--config.{text}" for text in overrides), "--workdir", tmp_path / "run")
    assert refused.code == 2
    (line,) = refused.err.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words)
    assert not (tmp_path / "run").exists()


def test_a_name_of_a_flag_is_not_said_to_be_in_the_file(tmp_path):
    """A name in the file is."""
    flag = call("train", *MIXTURE, "--config.sde=vpp")
    assert flag.code == 2 and flag.err.startswith("error: sde.name = 'vpp'")
    file = tmp_path / "own.py"
    file.write_text(
        "from scoresde.config import default\ndef get_config():\n    c = default()\n    c.sde = 'vpp'\n    return c\n"
    )
    named = call("train", "--config", file)
    assert named.code == 2 and named.err.startswith(f"error: {file}: sde.name = 'vpp'")


@pytest.mark.parametrize("size, words", [("9", ["height", "width"]), ("(8,9)", ["width"])])
def test_an_image_that_cannot_be_halved(size, words):
    refused = call("train", f"--config={ROOT / 'configs' / 'digits_vp.py'}", f"--config.data.image_size={size}")
    assert refused.code == 2
    for line, word in zip(refused.err.splitlines(), words, strict=True):
        assert line.startswith("error: model: image") and word in line and "8 or 10" in line


def test_all_problems_come_at_once():
    texts = ["--config.training.stpes=1", "--config.training.steps=x", "--config.optim.eps=-1", "--config.sde.name=q"]
    refused = call("train", *MIXTURE, *texts)
    assert refused.code == 2 and len(refused.err.splitlines()) == 4


def test_a_value_may_follow_after_a_space(tmp_path):
    refused = call("train", *MIXTURE, "--config.training.steps", "-5", "--workdir", tmp_path / "run")
    assert refused.code == 2 and "training.steps = -5" in refused.err


def test_two_unknown_flags_are_two_lines():
    refused = call("train", *MIXTURE, "--wrokdir=x", "--frobnicate")
    assert refused.code == 2 and len(refused.err.splitlines()) == 2
    assert "did you mean --workdir?" in refused.err and "--frobnicate" in refused.err


def test_batches_that_do_not_fit_the_devices_are_met_by_numbers():
    from scoresde.train import Parallelism

    Parallelism(accumulation=4).check(12)
    with pytest.raises(ConfigError, match="nearest: 8 or 12"):
        Parallelism(accumulation=4).check(10)
    with pytest.raises(ConfigError, match="nearest: 4$"):
        Parallelism(accumulation=4).check(3)


# The file


def test_a_missing_file_names_the_nearest():
    refused = call("train", "--config", ROOT / "configs" / "mixture2d.py")
    assert refused.code == 2 and "mixture_2d.py" in refused.err.split("did you mean")[1]


@pytest.mark.parametrize(
    "text, word",
    [
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "get_config"),
        ("def get_config():\n    return 1 / 0", "ZeroDivisionError"),
        ("def get_config():\n    return {}", "default()"),
        (
            "from scoresde.experiment.config import default\ndef get_config():\n    c = default()\n    "
            "c.training.stpes = 1\n    return c",
            "stpes",
        ),
    ],
)
def test_an_error_inside_the_file_is_one_line(text, word, tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(text)
    refused = call("train", "--config", path)
    assert refused.code == 2
    (line,) = refused.err.splitlines()
    assert str(path) in line and word in line


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "experiment.json"
    path.write_text("{}")
    refused = call("train", "--config", path)
    assert refused.code == 2 and "Python file" in refused.err


def test_debug_shows_the_traceback(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text("def get_config():\n    return 1 / 0")
    assert "Traceback" not in call("train", "--config", path).err
    shown = call("train", "--config", path, "--debug").err
    assert "Traceback" in shown and "return 1 / 0" in shown


# Resuming


def test_differences_name_what_may_not_change():
    old, new = (to_json(from_json({"preconditioning": {}})) for _ in range(2))
    new["model"]["channels"], new["training"]["steps"], new["sampling"]["num"] = 7, 7, 7
    assert differences(old, old) == []
    assert differences(old, new) == [f"model.channels was {old['model']['channels']}, is 7"]
    del new["sde"]["beta_max"]
    assert any("sde.beta_max" in line and "absent" in line for line in differences(old, new))


@pytest.mark.parametrize("steps, end, noted", [(100, 100, False), (100, 0, False), (50, 100, False), (101, 100, True)])
def test_steps_beyond_the_decay_are_noted(steps, end, noted):
    config = default()
    override(
        config, [f"training.steps={steps}", f"optim.decay_steps={end}", "optim.warmup=10", "optim.learning_rate=2e-4"]
    )
    line = Experiment.from_config(config).beyond_decay()
    assert bool(line) == noted
    if noted:
        assert "steps 101 to 101" in line and "2e-06" in line and f"optim.decay_steps = {steps}" in line
        assert float(Experiment.from_config(config).learning_rate(100)) == pytest.approx(
            2e-6
        )  # of the update that makes step 101


def test_no_recipe_goes_beyond_its_decay():
    for path in CONFIGS:
        config = load_config(str(path), [])
        assert not 0 < config.optim.decay_steps < config.training.steps


def test_free_fields_exist():
    names = flatten(complete({})[0])
    for field in FREE_FIELDS:
        assert any(name.startswith(field) for name in names)


def test_json_of_another_version(capsys):
    """A field that came later takes its default; one that is gone is left out if it entered no model."""
    usual = to_json(from_json({"preconditioning": {}}))
    stored = to_json(from_json(usual))
    del stored["sampling"]["solver"], stored["model"]["blocks"]
    stored["sampling"]["ode_steps"] = 5
    assert to_json(from_json(stored)) == usual
    assert "sampling.ode_steps" in capsys.readouterr().err


def test_a_field_that_is_gone_must_hold_what_is_meant_now():
    stored = json.loads((ROOT / "tests" / "fixtures" / "mixture_run" / "config.json").read_text())
    assert stored["model"]["param_dtype"] == "float32" and "param_dtype" not in from_json(stored).model
    stored["model"]["param_dtype"] = "bfloat16"
    with pytest.raises(ConfigError, match="model.param_dtype = 'bfloat16'"):
        from_json(stored)


def test_json_of_other_fields_is_refused():
    stored = to_json(default())
    stored["model"]["colour"] = "red"
    with pytest.raises(ConfigError, match="config.json.*model.colour"):
        from_json(stored)


EARLIER = json.loads((ROOT / "tests" / "fixtures" / "mixture_run" / "config.json").read_text())
SPOILED = {
    "model": 3, "sampling": 4, "sde": {"name": ["vp"]}, "optim": {"name": None}, "likelihood": None, "seed": "x",
    "data": {"source": {"name": 7}}, "training": {"weighting": [1]}, "preconditioning": "edn",
}  # fmt: skip


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("section", SPOILED)
def test_a_section_of_another_form_is_one_line(section, earlier):
    """In a config.json that somebody else may have written, also in the form of earlier versions."""
    if earlier and section == "preconditioning":
        pytest.skip("earlier versions had no such section")
    stored = EARLIER if earlier else to_json(from_json(EARLIER))
    with pytest.raises(ConfigError, match=f"config.json: {section}") as refused:
        from_json(stored | {section: SPOILED[section]})
    assert len(refused.value.problems) == 1


def test_a_name_of_an_earlier_spelling_goes_into_a_section_that_is_a_name():
    config = default()
    config.preconditioning, config.model.preconditioning = "edm", "eps"
    override(config, [])
    assert config.preconditioning.to_dict() == {"name": "eps"}


# Help


@pytest.mark.parametrize(
    "command, flags",
    [
        ("train", ["--config", "--config.SECTION.FIELD", "--workdir", "--distributed"]),
        ("average", ["--workdir", "--sigma-rel", "--step", "--out"]),
        (
            "sample",
            ["--workdir", "--num", "--seeds", "--sampler", "--steps", "--label", "--ema", "--out", "--keep-going"],
        ),
        (
            "likelihood",
            ["--workdir", "--split", "--num", "--probes", "--dequantizations", "--tolerance", "--nats", "--out"],
        ),
        ("evaluate", ["--workdir", "--metrics", "--num", "--network", "--repeat", "--ema", "--out"]),
    ],
)
def test_help_lists_what_a_command_takes(command, flags):
    shown = call(command, "--help")
    assert shown.code == 0 and all(flag in shown.out for flag in [*flags, "--debug", "exit codes"])


@pytest.mark.parametrize("command", ["train", "sample", "likelihood", "evaluate"])
def test_a_command_without_arguments_says_what_it_needs(command):
    refused = call(command)
    needed = "--config" if command == "train" else "--workdir"
    assert refused.code == 2 and needed in refused.err and len(refused.err.splitlines()) == 1


def test_experiments_say_how_they_are_run():
    assert CONFIGS
    for path in CONFIGS:
        assert f"python -m scoresde.train --config configs/{Path(path).name}" in path.read_text()
