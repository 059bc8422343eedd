"""A run that was interrupted equals one that was not, to the bit; a damaged checkpoint is never used without a word."""

import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import (
    MIXTURE,
    call,
    losses,
    metrics,
    mixture_run,
    named,
    run,
    same_bits,
    saved_steps,
    start,
    stored,
    wait_until,
)
from commands import finish as finish_process

from scoresde.errors import CheckpointError, ConfigError
from scoresde.experiment.load import load_run
from scoresde.runs.checkpoint import AllDamagedError, Checkpoints, manifest
from scoresde.train.step import average_alone, init_state

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",  # what Orbax leaves behind after reading a damaged file
)

STEPS_40 = "--config.training.steps=40"


@pytest.fixture(scope="session")
def straight(tmp_path_factory):
    return mixture_run(tmp_path_factory)


@pytest.fixture
def workdir(straight, tmp_path):
    """A copy of a run with checkpoints at steps 20, 30 and 40, to be damaged."""
    shutil.copytree(straight, tmp_path / "run")
    assert saved_steps(tmp_path / "run") == [20, 30, 40]
    return tmp_path / "run"


def assert_same_run(one, other):
    """Every leaf of the last checkpoint (parameters, averages, optimizer, key, counters) and every loss."""
    leaves = stored(one, 40)
    for part in ("params/", "ema/0.6/", "ema/0.2/", "opt_state/", "key", "step"):
        assert any(name.startswith(part) for name in leaves)
    assert same_bits(leaves, stored(other, 40))
    np.testing.assert_array_equal(losses(one), losses(other))
    assert len(losses(one)) == 40


# Resuming


def test_10_steps_then_30_equal_40(straight, tmp_path):
    first = run("train", *MIXTURE, "--workdir", tmp_path, "--config.training.steps=10")
    assert first.code == 0 and saved_steps(tmp_path) == [10]
    second = run("train", *MIXTURE, "--workdir", tmp_path, STEPS_40)
    assert second.code == 0 and "resumed at step 10" in second.out
    assert_same_run(straight, tmp_path)


def test_signals_lose_nothing(straight, tmp_path):
    """SIGTERM, then SIGKILL, at whatever step they hit; then the rest."""
    command = ["train", *MIXTURE, "--workdir", tmp_path, STEPS_40]

    process = start(*command)
    wait_until(lambda: len(metrics(tmp_path)) >= 3, process)
    process.send_signal(signal.SIGTERM)
    stopped = finish_process(process)
    assert stopped.code == 75
    assert "resume with the same command" in stopped.err and len(stopped.err.splitlines()) == 1
    (step,) = saved_steps(tmp_path)[-1:]
    assert step == len(losses(tmp_path)) < 40  # saved where it stopped: nothing is done again

    process = start(*command)
    wait_until(lambda: len(metrics(tmp_path)) > max(step, 20), process)
    process.kill()
    assert finish_process(process).code == -signal.SIGKILL

    assert run(*command).code == 0
    assert_same_run(straight, tmp_path)


def test_a_picture_that_fails_loses_no_step(workdir, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device", "picture.png")

    monkeypatch.setattr("scoresde.workflows.monitor.save_picture", broken)
    flags = [
        STEPS_40.replace("40", "60"),
        "--config.training.sample_every=45",
        "--config.training.checkpoint_every=1000",
    ]
    stopped = call("train", *MIXTURE, "--workdir", workdir, *flags)
    assert stopped.code == 6 and "No space" in stopped.err
    assert saved_steps(workdir)[-1] == 45


def test_a_run_that_is_done_stays_as_it_is(workdir, straight):
    assert call("train", *MIXTURE, "--workdir", workdir, STEPS_40).code == 0
    assert_same_run(straight, workdir)


# Damage


def _all_arrays(step):
    """The files with arrays. Which of them holds a leaf differs from run to run."""
    return sorted(path for path in (step / "state").rglob("d/*") if path.is_file())


def _arrays(step):
    """The file with most of the arrays."""
    return max(_all_arrays(step), key=lambda path: path.stat().st_size)


def _flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


def flip_arrays(step):
    path = _arrays(step)
    _flip(path, path.stat().st_size // 2)


def flip_everywhere(step):
    """In the bytes of every leaf, also of those few that loading reads."""
    for path in _all_arrays(step):
        for position in range(min(500, path.stat().st_size - 1), path.stat().st_size, 1000):
            _flip(path, position)


def flip_meta(step):
    path = step / "meta" / "metadata"
    _flip(path, path.read_bytes().index(b'"width": 128') + len(b'"width": '))  # 1 becomes another digit: valid JSON


def zero_64_bytes(step):
    """Of every thousand."""
    for path in _all_arrays(step):
        content = bytearray(path.read_bytes())
        for position in range(500, len(content) - 64, 1000):
            content[position : position + 64] = bytes(64)
        path.write_bytes(content)


def truncate(step):
    for path in _all_arrays(step):
        path.write_bytes(path.read_bytes()[:100])


def delete_arrays(step):
    for path in _all_arrays(step):
        path.unlink()


def delete_meta(step):
    shutil.rmtree(step / "meta")


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


def another_step(step):
    """A copy of an older checkpoint under the newest name."""
    shutil.rmtree(step)
    shutil.copytree(step.parent / "20", step)


DAMAGE = [flip_everywhere, flip_meta, zero_64_bytes, truncate, delete_arrays, delete_meta, empty, another_step]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_checkpoint_is_told_and_passed_over(damage, workdir, capsys):
    damage(workdir / "checkpoints" / "40")
    trained = load_run(workdir)
    lines = capsys.readouterr().out
    assert "checkpoint at step 40 is damaged" in lines and "using the checkpoint at step 30" in lines
    whole = stored(workdir, 30)
    for name, leaf in named(trained.score.network.params).items():
        np.testing.assert_array_equal(leaf, whole[f"ema/0.6/{name}"])
    assert trained.step == 30 and (workdir / "checkpoints" / "40").exists()  # reading changes nothing


def test_training_goes_on_from_the_newest_good_checkpoint(workdir, straight):
    flip_arrays(workdir / "checkpoints" / "40")
    (workdir / "checkpoints" / "50").mkdir()
    resumed = call("train", *MIXTURE, "--workdir", workdir, STEPS_40)
    assert resumed.code == 0 and "resumed at step 30" in resumed.out
    assert all(f"checkpoint at step {step} is damaged" in resumed.out for step in (40, 50))
    assert saved_steps(workdir)[-1] == 40 and len(losses(workdir)) == 40  # steps 31 to 40 stand once
    assert sorted(path.name for path in (workdir / "checkpoints" / "damaged").iterdir()) == ["40", "50"]
    # The ten steps done again are those of the whole run. (Compiled in another process, hence not to the bit.)
    again = stored(workdir, 40)
    for name, leaf in stored(straight, 40).items():
        np.testing.assert_allclose(again[name], leaf, rtol=1e-4, atol=1e-6)


def test_without_a_good_checkpoint_nothing_starts_again(workdir):
    for damage, step in zip((flip_everywhere, truncate, empty), (20, 30, 40)):
        damage(workdir / "checkpoints" / str(step))
    before = (workdir / "metrics.jsonl").read_bytes()
    for _ in range(2):  # a second attempt must not start from zero either
        refused = call("train", *MIXTURE, "--workdir", workdir, STEPS_40)
        assert refused.code == 4 and "[40, 30, 20] are all damaged" in refused.err
    assert call("sample", "--workdir", workdir, "--num", 2).code == 4
    assert saved_steps(workdir) == [20, 30, 40] and (workdir / "metrics.jsonl").read_bytes() == before


def test_the_crc_finds_what_orbax_does_not(tmp_path):
    state = {"w": jax.random.normal(jax.random.key(0), (100, 100))}
    lines = []
    checkpoints = Checkpoints(tmp_path / "checkpoints", report=lines.append)
    checkpoints.save(1, state, {})
    checkpoints.wait()
    whole = stored(tmp_path, 1)
    flip_arrays(tmp_path / "checkpoints" / "1")
    assert not same_bits(stored(tmp_path, 1), whole)  # Orbax alone: other values, no error
    with pytest.raises(CheckpointError, match="no good checkpoint"):
        checkpoints.restore(state, accept=lambda meta: None, set_aside=True)
    assert lines == ["checkpoint at step 1 is damaged (CRC-32 differs at ['w'])"]
    checkpoints.close()


def test_random_bit_flips_are_never_silent(tmp_path):
    """Anywhere in any file: the right values, an older checkpoint, or an error. Never wrong values."""
    state = {"a": jnp.arange(300.0), "b": jnp.arange(7), "c": {"d": jnp.full((5, 5), 0.1, jnp.bfloat16)}}
    checkpoints = Checkpoints(tmp_path / "whole", report=lambda text: None)
    checkpoints.save(3, state, {"config": {"x": 1.5}})
    checkpoints.wait()
    checkpoints.close()
    rng, caught = np.random.default_rng(0), 0
    for trial in range(30):
        folder = tmp_path / str(trial)
        shutil.copytree(tmp_path / "whole", folder)
        files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
        sizes = np.array([path.stat().st_size for path in files])
        path = files[rng.choice(len(files), p=sizes / sizes.sum())]
        _flip(path, rng.integers(path.stat().st_size))
        try:
            found, meta = Checkpoints(folder, report=lambda text: None).restore(
                state, accept=lambda meta: None, set_aside=False
            )
        except CheckpointError:
            caught += 1
            continue
        assert manifest(found) == manifest(state) and meta["config"] == {"x": 1.5}
    assert caught > 3


# One average alone


def _averaged_state():
    """A state of parameters, two averages and two moments of Adam, of random numbers, which do not compress."""
    params = {"blocks": {i: jnp.zeros((100, 100)) for i in range(12)}, "last": [jnp.ones(3), jnp.arange(4.0)]}
    leaves, tree = jax.tree.flatten(init_state(params, optax.adam(1e-3), (0.9, 0.99), jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    draw = lambda leaf, key: jax.random.normal(key, leaf.shape) if leaf.ndim == 2 else leaf  # noqa: E731
    return tree.unflatten(map(draw, leaves, keys))


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    folder, state = tmp_path_factory.mktemp("averaged"), _averaged_state()
    checkpoints = Checkpoints(folder, report=lambda text: None)
    checkpoints.save(7, state, {})
    checkpoints.wait()
    checkpoints.close()
    return folder, state


def _bytes_read() -> int:
    """By this process from all files so far."""
    return int(next(line for line in open("/proc/self/io") if line.startswith("rchar")).split()[1])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="counts the bytes that a process reads on Linux")
def test_one_average_is_read_without_the_rest(averaged):
    folder, state = averaged
    size = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(part)) for name, part in state.ema.items()}
    before = _bytes_read()
    found, meta = Checkpoints(folder).restore_part(average_alone(state.params, "0.9"), accept=lambda meta: None)
    read = _bytes_read() - before
    assert meta["step"] == 7 and set(found.ema) == {"0.9"}
    assert len(jax.tree.leaves(found)) == len(jax.tree.leaves(state.params))  # nothing else takes memory
    assert found.opt_state is None and found.params is None
    for path, leaf in named(found.ema).items():  # 12 blocks: "10" comes before "2" among texts
        np.testing.assert_array_equal(leaf, named(state.ema)[path])
        assert leaf.dtype == named(state.ema)[path].dtype
    whole = _bytes_read()
    Checkpoints(folder).restore(state, accept=lambda meta: None, set_aside=False)
    assert 0.8 * size["0.9"] < read < 1.5 * size["0.9"] and _bytes_read() - whole > 4 * size["0.9"]


def test_a_flipped_bit_of_the_average_is_never_silent(averaged, tmp_path):
    """A flip elsewhere is not noticed, one in the average is: by its CRC-32, or by Orbax."""
    folder, state = averaged
    wanted, outcomes = average_alone(state.params, "0.9"), []
    files = [path.relative_to(folder) for path in _all_arrays(folder / "7")]
    ends = np.cumsum([(folder / file).stat().st_size for file in files])
    for trial, place in enumerate(np.linspace(0, ends[-1] - 1, 40).astype(int)):
        copy, lines = shutil.copytree(folder, tmp_path / str(trial)), []
        file = int(np.searchsorted(ends, place, side="right"))
        _flip(copy / files[file], place - ends[file])  # counted from the end of the file
        try:
            found, _ = Checkpoints(copy, report=lines.append).restore_part(wanted, accept=lambda meta: None)
        except AllDamagedError:
            outcomes.append("CRC-32" if "CRC-32 differs at .ema['0.9']" in lines[0] else "Orbax")
            continue
        assert same_bits(named(found.ema["0.9"]), named(state.ema["0.9"]))
        outcomes.append("elsewhere")
    assert {"CRC-32", "elsewhere"} <= set(outcomes), outcomes


def test_an_average_that_is_not_there_is_refused(averaged):
    folder, state = averaged
    with pytest.raises(CheckpointError, match=r"does not fit: \.ema\['0.5'\].* is absent there"):
        Checkpoints(folder).restore_part(average_alone(state.params, "0.5"), accept=lambda meta: None)


def test_a_run_is_loaded_without_its_optimizer(straight, monkeypatch):
    """Neither its moments nor the other average; an average that was not tracked is a mistake in the flag."""
    monkeypatch.setattr(Checkpoints, "restore", None)
    restore_part, parts = Checkpoints.restore_part, []

    def keep(self, *arguments, **options):
        parts.append(restore_part(self, *arguments, **options))
        return parts[-1]

    monkeypatch.setattr(Checkpoints, "restore_part", keep)
    for ema in (0.6, 0.2):
        trained = load_run(straight, ema=ema)
        assert set(parts[-1][0].ema) == {str(ema)} and parts[-1][0].opt_state is None
        for name, leaf in named(trained.score.network.params).items():
            np.testing.assert_array_equal(leaf, stored(straight, 40)[f"ema/{ema}/{name}"])
    with pytest.raises(ConfigError, match="no average 0.7; there are 0.6, 0.2"):
        load_run(straight, ema=0.7)


# What does not fit


@pytest.fixture
def saved(tmp_path):
    state = {"w": jnp.ones((3, 2)), "n": jnp.asarray(4)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(4, state, {"name": "this"})
    checkpoints.wait()
    yield checkpoints
    checkpoints.close()


@pytest.mark.parametrize(
    "target, words",
    [
        ({"w": jnp.ones((3, 2), jnp.bfloat16), "n": jnp.asarray(4)}, ["['w']", "float32", "bfloat16"]),
        ({"w": jnp.ones((2, 3)), "n": jnp.asarray(4)}, ["['w']", "[3, 2]", "[2, 3]"]),
        ({"w": jnp.ones((3, 2))}, ["['n']", "absent in this run"]),
        ({"w": jnp.ones((3, 2)), "n": jnp.asarray(4), "v": jnp.ones(1)}, ["['v']", "absent there"]),
    ],
)
def test_another_shape_or_dtype_is_refused(saved, target, words):
    with pytest.raises(CheckpointError, match="step 4 does not fit") as caught:
        saved.restore(target, accept=lambda meta: None, set_aside=True)
    assert all(word in str(caught.value) for word in words)
    assert saved.steps() == [4]  # it is good, only not of this run: not set aside


def test_what_was_saved_comes_back(saved):
    state, meta = saved.restore(
        {"w": jnp.zeros((3, 2)), "n": jnp.asarray(0)}, accept=lambda meta: None, set_aside=False
    )
    np.testing.assert_array_equal(state["w"], np.ones((3, 2)))
    assert int(state["n"]) == 4 and (meta["name"], meta["step"]) == ("this", 4)


def test_a_state_saved_is_the_state_of_that_moment(tmp_path):
    """Saving goes on in the background while the next step reuses the buffers."""
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    x, checkpoints = jnp.zeros((1000, 1000)), Checkpoints(tmp_path)
    for n in range(1, 4):
        x = step(x)
        checkpoints.save(n, {"x": x}, {})
    x = step(x)
    checkpoints.wait()
    found, _ = checkpoints.restore({"x": x}, accept=lambda meta: None, set_aside=False)
    np.testing.assert_array_equal(found["x"], np.full((1000, 1000), 3.0))
    checkpoints.close()


def test_an_empty_folder_holds_none(tmp_path):
    assert Checkpoints(tmp_path / "none").restore({"x": jnp.zeros(1)}, accept=lambda meta: None, set_aside=True) is None


# Another experiment in the run folder


@pytest.mark.parametrize(
    "override", ["model.width=17", "sde.beta_max=19.0", "seed=1", "training.ema=0.99", "optim.eps=1e-7"]
)
def test_another_configuration_is_refused_by_name(workdir, override):
    refused = call("train", *MIXTURE, f"--config.{override}", "--workdir", workdir, "--config.training.steps=50")
    assert refused.code == 4 and override.split("=")[0] in refused.err and "traceback" not in refused.err.lower()
    assert saved_steps(workdir) == [20, 30, 40]


def test_what_does_not_enter_the_state_may_change(workdir):
    free = ["--config.training.steps=41", "--config.training.log_every=7", "--config.sampling.steps=5"]
    assert call("train", *MIXTURE, "--workdir", workdir, *free).code == 0
    assert json.loads((workdir / "config.json").read_text())["sampling"]["steps"] == 5


@pytest.mark.parametrize("section, field, value", [("sde", "beta_max", 19.0), ("model", "width", 17)])
def test_an_edited_config_json_is_refused_by_name(workdir, section, field, value):
    """With another SDE every array still fits: only the comparison with the checkpoint can tell."""
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    config[section][field] = value
    path.write_text(json.dumps(config))
    refused = call("sample", "--workdir", workdir, "--num", 2)
    assert refused.code == 4 and f"{section}.{field}" in refused.err


def test_other_data_are_refused(tmp_path):
    def write(seed):
        points = np.random.default_rng(seed).normal(size=(80, 2)).astype(np.float32)
        np.savez(tmp_path / "data.npz", x_train=points, x_test=points[:10])

    write(0)
    command = ["train", *MIXTURE, f"--config.data.source=npz:{tmp_path / 'data.npz'}", "--workdir", tmp_path / "run"]
    assert call(*command, "--config.training.steps=2").code == 0
    write(1)
    refused = call(*command, "--config.training.steps=4")
    assert refused.code == 4 and "data were" in refused.err
    write(0)
    assert call(*command, "--config.training.steps=4").code == 0
