"""An experiment built in Python: trained by `fit`, saved as a run folder, and used by the commands."""

import json

import jax
import numpy as np
import pytest
from commands import MIXTURE, call

from scoresde.config import component
from scoresde.errors import ConfigError, DataError
from scoresde.experiment import Experiment, load_run, save_run
from scoresde.experiment.config import load_config, to_json
from scoresde.sde import VP
from scoresde.train import fit


@pytest.fixture(scope="module")
def trained():
    texts = [text.removeprefix("--config.") for text in MIXTURE[1:]]
    config = load_config(MIXTURE[0].removeprefix("--config="), [*texts, "training.steps=10"])
    experiment = Experiment.from_config(config)
    dataset = experiment.dataset()
    state = fit(
        experiment.score(experiment.network),
        dataset,
        params=lambda: experiment.init_network().params,
        steps=experiment.training.steps,
        batch_size=experiment.training.batch_size,
        optimizer=experiment.optimizer,
        objective=experiment.objective,
        ema=experiment.averages,
        seed=experiment.seed,
        layout=experiment.parallelism,
        prepare=experiment.prepare(dataset),
    )
    return experiment, state, dataset


def test_a_state_from_python_becomes_a_run_folder(trained, tmp_path):
    """Its average comes back to the bit, and it is that of the command with the same configuration."""
    experiment, state, dataset = trained
    save_run(tmp_path / "run", experiment, state, dataset)
    loaded = load_run(tmp_path / "run")
    assert (loaded.step, loaded.ema, loaded.experiment.config) == (10, "0.6", experiment.config)
    jax.tree.map(np.testing.assert_array_equal, loaded.score.network.params, state.ema["0.6"])
    assert call("train", *MIXTURE, "--config.training.steps=10", "--workdir", tmp_path / "command").code == 0
    theirs = load_run(tmp_path / "command").score.network.params
    jax.tree.map(np.testing.assert_array_equal, loaded.score.network.params, theirs)
    for command in (("sample", "--num", 3), ("likelihood", "--num", 3, "--nats"), ("evaluate", "--metrics", "nats")):
        result = call(command[0], "--workdir", tmp_path / "run", *command[1:])
        assert result.code == 0, result.err
    with pytest.raises(ConfigError, match="holds a run already"):
        save_run(tmp_path / "run", experiment, state, dataset)


def test_what_other_processes_cannot_import_is_not_saved(trained, tmp_path):
    """A part that is defined in the script that runs, a state of another network, and one without the averages."""
    import __main__

    experiment, state, dataset = trained
    __main__.Here = type("Here", (VP,), {})
    try:
        config = load_config(MIXTURE[0].removeprefix("--config="), ["sde=__main__:Here"])
        here = Experiment.from_config(config)
        with pytest.raises(ConfigError, match="sde.name = '__main__:Here': it is defined in the script"):
            save_run(tmp_path / "run", here, state, dataset)
    finally:
        del __main__.Here
    with pytest.raises(ConfigError, match="not those of the network"):
        save_run(tmp_path / "run", experiment.changed("model.width=16"), state, dataset)
    with pytest.raises(ConfigError, match="has the averages 0.2, 0.6"):
        save_run(tmp_path / "run", experiment.changed("training.ema=0.5"), state, dataset)
    assert not (tmp_path / "run").exists()


def test_a_number_of_numpy_is_a_number_and_an_array_is_none():
    assert component("vp", beta_max=np.float32(15.0)).beta_max == 15.0
    with pytest.raises(ConfigError, match="beta_max is a ndarray, which JSON does not hold"):
        component("vp", beta_max=np.ones(2))


def test_components_of_components_are_set_by_path_and_from_above():
    config = load_config(MIXTURE[0].removeprefix("--config="), [])
    from scoresde.experiment.config import override

    override(config, ["sde.covariance.index=2.5", "sde.basis.length=2", "sde=coloured_vp", "sde.variance=3"])
    found = to_json(config)["sde"]
    assert found["basis"] == {"name": "dct", "length": 2.0}
    assert found["covariance"] == {"name": "power_law", "index": 2.5, "screening": 9.0, "variance": 3.0}
    override(config, ["sde.basis=kernel", "sde.kernel=rbf"])
    assert to_json(config)["sde"]["basis"]["kernel"] == "rbf" and json.dumps(to_json(config))


# A codec beside a source from outside

PARTS_OF_SOMEBODY = """
import pathlib
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from scoresde.config import constructor
from scoresde.data import ArraySource, Codec, Dataset


@dataclass(frozen=True, eq=False)
class Shifted(Codec):
    shift: float = 3.0

    def encode(self, v, u=0.5):
        return jnp.asarray(v) - self.shift

    def decode(self, x):
        return jnp.asarray(x, jnp.float32) + self.shift


@constructor
def points(file: str = ""):
    if not pathlib.Path(file).is_file():
        raise FileNotFoundError(file)
    return np.random.default_rng(0).normal(3.0, 0.5, size=(200, 2)).astype(np.float32)


@constructor
def whole():
    part = ArraySource(np.zeros((10, 2), np.float32))
    return Dataset("whole", part, part, levels=0, centered=True, fingerprint="")
"""


@pytest.fixture
def somebody(tmp_path, monkeypatch):
    (tmp_path / "codecs_of_somebody.py").write_text(PARTS_OF_SOMEBODY)
    (tmp_path / "records").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    return "codecs_of_somebody"


def with_codec(codec, source: str, **arguments):
    texts = [text.removeprefix("--config.") for text in MIXTURE[1:]]
    config = load_config(MIXTURE[0].removeprefix("--config="), [*texts, "training.ema=0.5"])
    config.data.codec, config.data.source = codec, component(source, **arguments)
    return Experiment.from_config(config)


@pytest.mark.parametrize("own", [True, False], ids=["outside", "standard"])
def test_a_codec_beside_a_source_from_outside(own, somebody, tmp_path):
    """Records are encoded by it, and the run knows it where the records are missing."""
    codec = component(f"{somebody}:Shifted", shift=2.0) if own else component("standard", offset=1.0, scale=(2.0, 3.0))
    experiment = with_codec(codec, f"{somebody}:points", file=str(tmp_path / "records"))
    dataset = experiment.dataset()
    values = dataset.train.rows(np.arange(3))[0]
    np.testing.assert_allclose(dataset.encode(values), values - 2 * own, rtol=1e-6)
    np.testing.assert_allclose(dataset.decode(dataset.encode(values)), values, rtol=1e-6)
    state = fit(experiment.score(), dataset, steps=1, batch_size=8, ema=experiment.averages, seed=experiment.seed)
    save_run(tmp_path / "run", experiment, state, dataset)
    (tmp_path / "records").unlink()
    found = load_run(tmp_path / "run").codec
    x = np.ones((1, 2))
    np.testing.assert_allclose(found.decode(x), x + 2 * own)
    np.testing.assert_allclose(found.units(x), x if own else [[3.0, 4.0]])
    drawn = call("sample", "--workdir", tmp_path / "run", "--num", 4, "--out", tmp_path / "out")
    assert drawn.code == 0, drawn.err


def test_what_a_codec_cannot_be_is_refused(somebody):
    with pytest.raises(ConfigError) as refused:
        with_codec(component("standard", offset=(1.0, 2.0, 3.0), scale=0.0, span=-1.0), f"{somebody}:points")
    assert len(refused.value.problems) == 3 and all(line.startswith("data.codec: ") for line in refused.value.problems)
    with pytest.raises(ConfigError, match="data.codec.name = 'standrad': .*did you mean standard"):
        with_codec("standrad", f"{somebody}:points")
    with pytest.raises(ConfigError, match="expected a codec: a subclass of scoresde.data.codec.Codec"):
        with_codec("os:system", f"{somebody}:points")
    with pytest.raises(DataError, match="returns a Dataset, which has its own"):
        with_codec(component("standard", span=3.0), f"{somebody}:whole").dataset()
    with pytest.raises(ConfigError, match="'two_moons' has a codec of its own"):
        config = load_config(MIXTURE[0].removeprefix("--config="), ["data.source=two_moons", "data.codec.span=3"])
        Experiment.from_config(config)
