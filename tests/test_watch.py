"""What is looked at while a score trains: the figures against closed forms, the ledger, the best checkpoint,
trackers."""

import dataclasses
import json
import shutil
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import MIXTURE, call, metrics
from test_train import Points, _score

from scoresde.config import component
from scoresde.data.dataset import ArraySource, Dataset
from scoresde.errors import ConfigError, DataError, ResourceError
from scoresde.experiment import Experiment
from scoresde.experiment.component import build
from scoresde.experiment.config import from_json, load_config, to_json
from scoresde.experiment.kinds import PROCESS
from scoresde.experiment.load import TrainedModel, load_run
from scoresde.experiment.sections import complete
from scoresde.metrics.neighbours import nearest
from scoresde.runs import Intervals, Run
from scoresde.runs.best import Best
from scoresde.runs.checkpoint import Checkpoints
from scoresde.runs.goodput import GoodputTimer
from scoresde.runs.trackers import Trackers, Trackio, WandB, require
from scoresde.sample import DDIM, Draw, trajectory
from scoresde.score import GaussianScore
from scoresde.train import fit
from scoresde.workflows.monitor import LOSSES, QUANTILES, Monitor

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


# Nearest records


def test_nearest_is_that_of_all_distances_and_copies_are_told():
    random = np.random.default_rng(0)
    y = random.normal(size=(700, 3, 4)) + 100  # far from 0: the expanded square would cancel
    x = np.concatenate([random.normal(size=(300, 3, 4)) + 100, y[[5, 650]], np.full((1, 3, 4), np.nan)])
    found = nearest(x, y)
    apart = np.sqrt(np.mean((x[:-1, None] - y) ** 2, axis=(2, 3)))
    np.testing.assert_array_equal(found.index[:-1], apart.argmin(axis=1))
    np.testing.assert_allclose(found.distance[:300], apart.min(axis=1)[:300], rtol=1e-4)
    assert np.all(found.distance[300:302] < 1e-5) and np.isnan(found.distance[302])
    with pytest.raises(DataError, match="one shape"):
        nearest(x, y[:, :2])


# Trajectories


@pytest.mark.parametrize("name", ["vp", "heat"])
def test_a_trajectory_is_that_of_ddim(name):
    """x at t_min is what the sampler returns, and x0 is E[x_0 | x_t] at every point; also with one alpha per mode."""
    full, _ = complete({"sde": {"name": name}})
    sde = build(PROCESS, full["sde"], "sde", {"grid": (6,)})
    score = GaussianScore(sde, np.full((6, 1), 0.3), np.full(6, 0.5))
    x_T = jax.vmap(lambda key: sde.sample_prior((6, 1), key=key))(jax.random.split(jax.random.key(0), 3))
    found = trajectory(score, x_T, 7)
    drawn = jax.jit(jax.vmap(lambda x: DDIM(7)(score, x, key=jax.random.key(1)).x))(x_T)
    np.testing.assert_allclose(found.x[-1], drawn, rtol=2e-5, atol=1e-5)
    np.testing.assert_array_equal(found.x[0], x_T)
    denoised = jax.vmap(lambda x: score.denoise(x, found.t[3]))(found.x[3])
    np.testing.assert_allclose(found.x0[3], denoised, rtol=1e-4, atol=1e-5)


# Figures


@dataclasses.dataclass(frozen=True)
class Zero:
    """A network that says nothing: E[x_0 | x_t] is then the skip connection alone."""

    params: tuple = ()

    def __call__(self, x, c_noise, label, key=None):
        return jnp.zeros_like(x)


jax.tree_util.register_dataclass(Zero, data_fields=["params"], meta_fields=[])


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """A look at a network that says nothing, on Gaussian data of deviation 0.3; with what it looked with."""
    folder = tmp_path_factory.mktemp("looked")
    config = load_config(MIXTURE[0].removeprefix("--config="), [text.removeprefix("--config.") for text in MIXTURE[1:]])
    config.training.watch = ("sliced_wasserstein", "moments", "nearest", "loss")
    config.training.weighting, config.sampling.num, config.preconditioning.sigma_data = "edm", 64, 1.0
    values = np.random.default_rng(0).normal(size=(600, 2), scale=0.3).astype(np.float32)
    data = Dataset(
        "gaussian", ArraySource(values[:300]), ArraySource(values[300:]), levels=0, centered=True, fingerprint=""
    )
    experiment = Experiment.from_config(config)
    score = dataclasses.replace(experiment.score(), network=Zero())
    watch, trained = (
        Monitor(experiment, data, folder),
        TrainedModel(experiment, data.codec, score, 5, "0.6", data.shape, lambda: data),
    )
    figures = watch(trained, folder / "picture.png")
    return config, data, score, watch, trained, figures, folder


def test_the_losses_are_those_of_the_objective(looked):
    """For the skip connection c = alpha / (alpha^2 + sigma^2) the loss at t is ((c alpha - 1)^2 v + c^2 sigma^2) /
    c_out^2."""
    config, _, score, _, _, figures, folder = looked
    sde = score.sde
    t = sde.t_min + (np.arange(QUANTILES) + 0.5) / QUANTILES * (sde.t_max - sde.t_min)  # low discrepancy: uniform in t
    alpha, sigma = (np.asarray(jax.vmap(part)(t), np.float64) for part in (sde.alpha, sde.sigma))
    c = alpha / (alpha**2 + sigma**2)
    exact = ((c * alpha - 1) ** 2 * 0.09 + c**2 * sigma**2) * (alpha**2 + sigma**2) / sigma**2
    with np.load(folder / "watch" / "newest.npz") as file:
        arrays = dict(file)
    np.testing.assert_allclose(arrays["log_snr"], np.sort(2 * np.log(alpha / sigma)), rtol=1e-4, atol=1e-4)
    for split in ("train", "test"):
        # 2 * 128 squares, each with a relative deviation of at most sqrt(2)
        np.testing.assert_allclose(arrays[f"{split}_loss"], exact[::-1], rtol=4 * np.sqrt(2 / (2 * LOSSES)))
        np.testing.assert_allclose(figures[f"{split}_loss"], arrays[f"{split}_loss"].mean(), rtol=1e-6)
    assert sum(name.startswith("test_loss@") for name in figures) == QUANTILES


def test_a_look_is_the_same_each_time_and_tells_what_is_written(looked):
    _, _, _, watch, trained, figures, folder = looked
    assert watch(trained, folder / "picture.png") == figures
    assert (folder / "picture.png").exists() and (folder / "watch" / "trajectory.png").exists()
    with np.load(folder / "watch" / "newest.npz") as file:
        assert int(file["step"]) == 5 and file["samples"].shape == (64, 2) and file["ok"].all()
        np.testing.assert_allclose(np.median(file["nearest"]), figures["nearest"])
        np.testing.assert_allclose(np.median(file["nearest_of_test"]), 1)
        # As many training records: closer to the test records than samples of a model that has learned nothing.
        assert file["floor_sliced_wasserstein"] < 0.1 < figures["sliced_wasserstein"]
        # Samples of the skip connection have deviation near 1 instead of 0.3.
        np.testing.assert_allclose(figures["deviation_error"], np.std(file["samples"], axis=0).mean() - 0.3, atol=0.06)


def drawn_as(x, ok: bool) -> Draw:
    return jax.tree.map(np.asarray, jax.vmap(lambda x: Draw(x, jnp.asarray(9), jnp.asarray(ok)))(jnp.asarray(x)))


def test_a_model_that_repeats_its_data_is_told(looked):
    config, data, _, _, trained, _, folder = looked

    watch = Monitor(trained.experiment, data, folder / "copies")
    drawn = drawn_as(data.train.values[:8], True)
    watch.names = ("nearest",)
    (folder / "copies" / "watch").mkdir(parents=True)
    figures, arrays = watch._look(trained, drawn)
    assert figures["nearest"] < 1e-3 and np.array_equal(arrays["nearest_index"], np.arange(8))


def test_samples_that_failed_leave_no_figure_but_do_no_harm(looked):
    _, _, _, watch, trained, _, _ = looked
    figures, _ = watch._look(trained, drawn_as(np.full((4, 2), np.nan, np.float32), False))
    assert all(np.isnan(figures[name]) for name in ("sliced_wasserstein", "mean_error", "deviation_error", "nearest"))
    assert np.isfinite(figures["test_loss"])


# The ledger


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_every_second_is_in_one_part(tmp_path):
    clock = Clock()
    ledger = GoodputTimer(tmp_path / "ledger.json", {"command": "train"}, clock=clock)

    def spend(seconds):
        clock.now += seconds

    spend(2)
    with ledger.part("restore"):
        spend(3)
    ledger.switch("step")

    def batches():
        for _ in range(3):
            spend(1)
            yield 0

    idle = iter([True, False, True])
    for _ in ledger.waiting(batches(), idle=lambda: next(idle)):
        spend(10)
    with ledger.part("watch"):
        spend(4)
        with ledger.part("save"):
            spend(5)
    ledger.saved()
    expected = {"init": 2, "restore": 3, "data": 2, "step": 31, "watch": 4, "save": 5}
    stored = json.loads((tmp_path / "ledger.json").read_text())
    assert {name: value for name, value in stored["seconds"].items() if value} == expected
    assert stored["goodput"] == pytest.approx(31 / 47) and "goodput 66.0% of 47 s" in ledger.text()

    spend(7)  # steps that no checkpoint holds, as the session is killed
    ledger.write()
    again = GoodputTimer(tmp_path / "ledger.json", clock=clock)
    assert again.seconds["lost"] == 7 and again.seconds["step"] == 31 and len(again.sessions) == 2


@pytest.mark.parametrize(
    "content", ["", "[]", '{"seconds": 3}', '{"seconds": {}, "sessions": 5, "step_at_checkpoint": 0}']
)
def test_a_damaged_ledger_starts_anew(content, tmp_path):
    (tmp_path / "ledger.json").write_text(content)
    assert sum(GoodputTimer(tmp_path / "ledger.json").seconds.values()) == 0


# The best checkpoint, and runs in memory


VALUES = {0: 5.0, 2: 3.0, 4: 4.0, 6: float("nan"), 8: 2.0, 10: 2.5}


def attempt(folder, steps, values=VALUES, keep_best="loss", data=None, **options):
    with Run(
        folder, meta={"config": {}}, accept=lambda meta: None, cadence=Intervals(log=1, checkpoint=4, sample=2),
        watch=lambda state, path: {"loss": values[int(state.step)]}, keep_best=keep_best, **options,
    ) as run:  # fmt: skip
        return fit(_score(), data or Points(), steps=steps, batch_size=32, optimizer=optax.adam(1e-2), run=run)


def kept(folder):
    return [(step, meta["best"]) for step, meta in Checkpoints(folder / "best").metas().items()]


BEST = [(8, {"metric": "loss", "value": 2.0})]


def test_the_lowest_value_is_kept_however_a_run_is_cut(tmp_path):
    attempt(tmp_path / "whole", 10)
    assert kept(tmp_path / "whole") == BEST
    assert json.loads((tmp_path / "whole" / "best.json").read_text()) == {"metric": "loss", "value": 2.0, "step": 8}

    attempt(tmp_path / "parts", 4)
    assert kept(tmp_path / "parts") == [(2, {"metric": "loss", "value": 3.0})]
    attempt(tmp_path / "parts", 10)
    assert kept(tmp_path / "parts") == BEST
    watched = [[line for line in metrics(tmp_path / part) if "watch/loss" in line] for part in ("whole", "parts")]
    assert watched[0] == watched[1] and [line["step"] for line in watched[0]] == [0, 2, 4, 6, 8, 10]

    # Killed after step 8, when the newest checkpoint was that of step 4.
    for step in (8, 10):
        shutil.rmtree(tmp_path / "whole" / "checkpoints" / str(step))
    state = attempt(tmp_path / "whole", 10)
    assert int(state.step) == 10 and kept(tmp_path / "whole") == BEST


def test_another_metric_starts_anew_and_two_that_a_kill_left_are_told_apart(tmp_path):
    attempt(tmp_path, 4)
    best = Best(tmp_path, "other", print)
    state = {"w": jnp.ones(2)}
    best.offer(3, {"other": 9.0}, state, {})
    assert kept(tmp_path) == [(3, {"metric": "other", "value": 9.0})]
    best.offer(4, {"other": float("nan")}, state, {})
    best.offer(5, {"loss": 1.0}, state, {})
    best.offer(6, {"other": 9.0}, state, {})
    assert kept(tmp_path) == [(3, {"metric": "other", "value": 9.0})]
    best.offer(3, {"other": 8.0}, {"w": jnp.zeros(2)}, {})  # the same step done again, with another result
    found, _ = Checkpoints(tmp_path / "best").restore(state, accept=lambda meta: None, set_aside=False)
    assert kept(tmp_path)[0][1]["value"] == 8.0 and float(found["w"][0]) == 0
    best.close()


def test_a_best_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    """What fails in the background is told when it is waited for; only then may the older one go."""

    def full():
        raise ResourceError("disk full")

    best, state = Best(tmp_path, "loss", print), {"w": jnp.ones(2)}
    best.offer(1, {"loss": 2.0}, state, {})
    with monkeypatch.context() as patch:
        patch.setattr(best._checkpoints, "wait", full)
        with pytest.raises(ResourceError, match="disk full"):
            best.offer(2, {"loss": 1.0}, state, {})
    assert 1 in best._checkpoints.steps()
    best.close()


def test_the_learning_rate_is_logged_as_it_was_used(tmp_path):
    """Steps that were skipped do not count for the schedule."""
    schedule = optax.linear_schedule(1.0, 0.0, 10)
    attempt(tmp_path, 6, values=dict.fromkeys(range(11), 1.0), data=Points(spoiled=[3]), learning_rate=schedule)
    lines = [line for line in metrics(tmp_path) if "loss" in line]
    used = [line["learning_rate"] for line in lines]
    np.testing.assert_allclose(used, [1.0, 0.9, 0.9, 0.8, 0.7, 0.6], rtol=1e-6)  # that of step 3 was not used
    assert lines[2]["loss"] is None


def test_the_rate_of_a_configuration_is_that_of_its_optimizer():
    config = load_config("configs/digits_vp.py", [])
    rate = Experiment.from_config(config).learning_rate
    assert [float(rate(n)) for n in (0, 50, 100)] == pytest.approx([0, 2e-3, 4e-3]) and float(
        rate(1300)
    ) == pytest.approx(4e-5)


# The commands


def test_a_run_keeps_its_best_checkpoint_and_the_commands_read_it(tmp_path):
    flags = [
        "--config.training.steps=30",
        "--config.training.sample_every=10",
        "--config.training.keep_best=mean_error",
    ]
    flags.append("--config.training.watch=moments,loss")
    result = call("train", *MIXTURE, "--workdir", tmp_path, *flags)
    assert result.code == 0 and "goodput" in result.out and "warning" not in result.out, result.err
    lines = {line["step"]: line["watch/mean_error"] for line in metrics(tmp_path) if "watch/mean_error" in line}
    assert sorted(lines) == [0, 10, 20, 30]
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["value"] == min(lines.values()) == lines[best["step"]]
    assert load_run(tmp_path, checkpoint="best").step == best["step"]
    assert load_run(tmp_path, checkpoint="10").step == 10 and load_run(tmp_path).step == 30
    for name, code, words in (("7", 4, "there are"), ("newest", 2, "latest, best or a step")):
        refused = call("sample", "--workdir", tmp_path, "--checkpoint", name)
        assert refused.code == code and words in refused.err
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    assert ledger["seconds"]["watch"] > 0 and "--config.training.steps=30" in ledger["sessions"][0]["command"]


def test_without_a_best_checkpoint_none_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(to_json(load_config("configs/mixture_2d.py", []))))
    refused = call("sample", "--workdir", tmp_path, "--checkpoint", "best")
    assert refused.code == 4 and "training.keep_best" in refused.err


@pytest.mark.parametrize(
    "override, words",
    [
        ("training.watch=loss,speed", "one of sliced_wasserstein"),
        ("training.keep_best=train_loss", "did you mean test_loss"),
        ("training.watch_sampler=ddpm", "did you mean ddim"),
        ("training.trackers=wandb,tensorbord", "one of wandb, mlflow, trackio"),
    ],
)
def test_names_that_are_none(override, words):
    with pytest.raises(ConfigError, match=words):
        Experiment.from_config(load_config("configs/mixture_2d.py", [override]))


def test_what_is_not_watched_cannot_choose():
    with pytest.raises(ConfigError, match="expected 'loss' in training.watch"):
        Experiment.from_config(
            load_config("configs/mixture_2d.py", ["training.watch=moments,", "training.keep_best=test_loss"])
        )
    config = load_config("configs/digits_vp.py", ["training.watch_sampler=dpmpp"])
    assert (config.sampling.name, config.sampling.steps) == ("reverse_sde", 250)


PARTS_OF_SOMEBODY = """
from scoresde.config import constructor
from scoresde.runs.trackers import AbstractTracker


@constructor
def spread(samples, records, power: float = 2.0):
    return power


@constructor
class Histogram:
    def __init__(self, bins: int = 16):
        self.bins = bins

    def __call__(self, samples, records):
        return {"bins": self.bins}


class Lines(AbstractTracker):
    package = "a_package_that_is_missing"

    def __init__(self, name, run_id, config, folder, every: int = 1):
        self.given = name, run_id, config, folder, every

    def write(self, step, values): ...

    def image(self, step, path): ...

    def close(self): ...
"""


@pytest.fixture
def somebody(tmp_path, monkeypatch):
    (tmp_path / "parts_of_somebody.py").write_text(PARTS_OF_SOMEBODY)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "parts_of_somebody"


def test_metrics_and_trackers_take_arguments(somebody, tmp_path):
    config = load_config("configs/mixture_2d.py", [])
    config.training.watch = ("loss", component(f"{somebody}:spread", power=3), f"{somebody}:Histogram")
    config.training.trackers = (component(f"{somebody}:Lines", every=4),)
    config.training.keep_best = "spread"
    experiment = Experiment.from_config(config)
    assert {name: metric(None, None) for name, metric in experiment.metrics.items()} == {
        "spread": 3.0, "Histogram": {"bins": 16},
    }  # fmt: skip
    assert experiment.trackers["Lines"]("run", "id", {}, tmp_path).given == ("run", "id", {}, tmp_path, 4)
    with pytest.raises(ConfigError, match="a_package_that_is_missing cannot be imported"):
        require(experiment.trackers)
    assert to_json(from_json(experiment.config)) == experiment.config
    assert experiment.config["training"]["watch"] == [
        "loss", {"name": f"{somebody}:spread", "power": 3.0}, f"{somebody}:Histogram",
    ]  # fmt: skip
    watch = f"training.watch=('moments', {{'name': '{somebody}:Histogram', 'bins': 7}})"
    changed = experiment.changed(watch, "training.keep_best=")
    assert changed.metrics["Histogram"](None, None) == {"bins": 7}


@pytest.mark.parametrize(
    "entry, words",
    [
        ({"name": "spread", "powre": 2}, "did you mean training.watch.spread.power?"),
        ({"name": "spread", "power": "x"}, "expected a number"),
        ({"name": "spreat", "power": 2}, "did you mean spread?"),
        ({"power": 2}, "expected names or components"),
        (3, "expected a tuple"),
    ],
)
def test_wrong_arguments_of_a_metric_are_one_line(entry, words, somebody):
    config = load_config("configs/mixture_2d.py", [])
    named = isinstance(entry, dict) and "name" in entry
    config.training.watch = ("loss", entry | {"name": f"{somebody}:{entry['name']}"} if named else entry)
    with pytest.raises(ConfigError) as refused:
        Experiment.from_config(config)
    (line,) = refused.value.problems
    assert words in line and line.startswith("training.watch")


# Trackers


class Module(types.ModuleType):
    """In the place of a tracker's package: keeps what it is told, and is down from some call on."""

    def __init__(self, name, works=10**9):
        super().__init__(name)
        self.told, self.works, self.started = [], works, []

    def init(self, **options):
        self.started.append(options)
        return self

    def log(self, values, step):
        if len(self.told) >= self.works:
            raise ConnectionError("the server is down")
        self.told.append((step, values))

    def Image(self, path):
        return path

    def finish(self):
        self.finished = True


def test_a_tracker_that_goes_down_is_left_out(tmp_path, monkeypatch, capsys):
    down, up = Module("wandb", works=3), Module("trackio")
    monkeypatch.setitem(sys.modules, "wandb", down)
    monkeypatch.setitem(sys.modules, "trackio", up)
    for steps in (4, 10):
        attempt(tmp_path, steps, trackers={"wandb": WandB, "trackio": Trackio})
    text = capsys.readouterr().out
    assert text.count("warning: tracker wandb failed (the server is down)") == 2  # once a session
    assert len(down.told) == 3 and not hasattr(down, "finished") and up.finished
    steps = [step for step, values in up.told if "loss" in values]
    assert steps == list(range(1, 11)) == [line["step"] for line in metrics(tmp_path) if "loss" in line]
    assert {step for step, values in up.told if "watch/loss" in values} == set(VALUES)
    assert len({options["id"] for options in down.started}) == 1  # a resumed run goes on in the same place


def test_a_tracker_that_cannot_start_is_left_out(tmp_path, monkeypatch):
    broken = Module("wandb")
    monkeypatch.setattr(broken, "init", lambda **options: 1 / 0)
    monkeypatch.setitem(sys.modules, "wandb", broken)
    said = []
    trackers = Trackers({"wandb": WandB}, tmp_path, {}, said.append)
    trackers.write(1, {"loss": 1.0})
    assert len(said) == 1 and "division by zero" in said[0]


def test_a_tracker_that_is_missing_is_told_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    refused = call("train", *MIXTURE, "--workdir", tmp_path / "run", "--config.training.trackers=mlflow,")
    assert refused.code == 2 and "pip install 'scoresde[mlflow]'" in refused.err and not (tmp_path / "run").exists()
    require({})
