"""What processes of a run know of each other, on a table in memory and in real processes over loopback."""

import contextlib
import signal
import socket
import threading
import time

import jax
import numpy as np
import pytest
from commands import MIXTURE, finish, free_port, metrics, saved_steps, start, wait_until

from scoresde.data import load
from scoresde.errors import ConfigError, DistributedError, Interrupted
from scoresde.experiment import Experiment
from scoresde.experiment.config import load_config
from scoresde.experiment.description import settings
from scoresde.runs.folder import hold, look_for
from scoresde.runtime import peers
from scoresde.runtime.lookout import SILENCE as LIMIT
from scoresde.runtime.lookout import Lookout

BEAT, SILENCE = 0.02, 3.0  # seconds, in place of 1 and 60; a loaded machine may hold a thread up for a second


class Table:
    """The coordination service of JAX, as far as it is used."""

    def __init__(self):
        self.texts = {}

    def key_value_set(self, key, value, allow_overwrite):
        if key in self.texts and not allow_overwrite:
            raise jax.errors.JaxRuntimeError("ALREADY_EXISTS")
        self.texts[key] = value

    def key_value_try_get(self, key):
        if key not in self.texts:
            raise jax.errors.JaxRuntimeError("NOT_FOUND")
        return self.texts[key]

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.texts.items() if key.startswith(prefix + "/")]


@pytest.fixture
def processes(request):
    """Lookouts of so many processes on one table; `left[rank]` is the exit code of one that ended."""
    table, left, made = Table(), {}, []

    def make(count, run=None):
        for rank in range(count):
            made.append(
                Lookout(
                    table, rank, count, leave=lambda code, rank=rank: _leave(rank, code), silence=SILENCE, beat=BEAT
                )
            )
        for lookout in made if run is None else [made[rank] for rank in run]:
            lookout.start()
        return made, left

    def _leave(rank, code):
        left[rank] = code
        made[rank]._over.set()

    yield make
    for lookout in made:
        lookout._over.set()


def _everywhere(lookouts, work):
    """What `work(lookout)` raised on each, None if nothing."""
    raised = [None] * len(lookouts)

    def one(rank):
        try:
            work(rank, lookouts[rank])
        except Exception as error:
            raised[rank] = error

    threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(len(lookouts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "hung"
    return raised


def _until(holds, limit=20.0):
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.01)


def test_processes_that_do_the_same_go_on(processes):
    lookouts, left = processes(3)
    assert _everywhere(lookouts, lambda rank, one: one.agree("settings", {"seed": "1", "code": "a"})) == [None] * 3
    assert _everywhere(lookouts, lambda rank, one: one.finish(None)) == [None] * 3 and not left


def test_both_sides_of_each_difference_are_named(processes):
    lookouts, _ = processes(2)
    facts = [
        {"seed": "1", "sde.beta_max": "20.0", "code": "a"},
        {"seed": "2", "sde.beta_max": "10.0", "code": "a", "new": "3"},
    ]
    raised = _everywhere(lookouts, lambda rank, one: one.agree("settings", facts[rank]))
    for error in raised:
        assert isinstance(error, DistributedError)
        for part in (
            "seed is 1 on process 0, 2 on process 1",
            "sde.beta_max is 20.0 on process 0, 10.0 on process 1",
            "new is absent on process 0",
        ):
            assert part in str(error)
        assert "code" not in str(error).split("start all")[0] and "\n" not in str(error)


def test_process_0_stops_where_only_the_last_one_differs(processes):
    lookouts, _ = processes(3)
    raised = _everywhere(lookouts, lambda rank, one: one.agree("data", {"fingerprint": str(rank == 2)}))
    assert raised[1] is None and all("False on process 0, True on process 2" in str(raised[rank]) for rank in (0, 2))


def test_a_silent_process_ends_the_others_in_one_line(processes, capsys):
    lookouts, left = processes(3, run=[0, 1])  # the last one never gives a sign of life
    since = time.monotonic()
    _until(lambda: len(left) == 2)
    assert left == {0: 7, 1: 7} and SILENCE < time.monotonic() - since
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(
        "no sign of life from process 2" in line and "same command" in line for line in lines
    )


def test_a_silent_process_0_is_noticed_without_the_table(processes, capsys):
    """A process 0 that is stopped answers no call: the thread that makes them hangs, and another one must notice."""
    lookouts, left = processes(2, run=[0])
    _until(lambda: "scoresde/alive/0" in lookouts[0]._table.texts)
    lookouts[1]._table = type("Stopped", (), {"key_value_set": staticmethod(lambda *a: time.sleep(60))})()
    lookouts[1].start()
    _until(lambda: len(left) == 2)
    assert left == {0: 7, 1: 7} and "no sign of life from process 0" in capsys.readouterr().err


@pytest.mark.parametrize("rank, code, expected", [(1, 3, 7), (0, 3, 7), (1, 75, 75)])
def test_the_others_say_why_one_left(processes, capsys, rank, code, expected):
    lookouts, left = processes(3)
    lookouts[rank].tell(code, "the disk is gone")
    others = {0, 1, 2} - {rank}
    _until(lambda: set(left) == others)
    assert set(left.values()) == {expected}
    lines = capsys.readouterr().err.splitlines()
    kind = "stopped" if code == 75 else "error"
    assert lines == [f"{kind}: process {rank} ended: the disk is gone"] * 2
    found = lookouts[max(others)].reason(0)
    assert isinstance(found, Interrupted if code == 75 else DistributedError) and lookouts[rank].reason(0) is None


def test_whoever_is_done_waits_for_the_others(processes):
    lookouts, _ = processes(2)
    ended, since = [], time.monotonic()
    raised = _everywhere(
        lookouts, lambda rank, one: (time.sleep(rank), one.finish(None), ended.append(time.monotonic()))
    )
    assert raised == [None, None] and since + 1 <= min(ended)
    since, alone = time.monotonic(), Lookout(Table(), 0, 2, beat=BEAT)
    alone.finish(0.1)
    assert 0.1 <= time.monotonic() - since


def test_what_is_compared(monkeypatch, tmp_path):
    """Fields, versions, settings of JAX and code; the data by their content."""
    config, again = (Experiment.from_config(load_config(MIXTURE[0].removeprefix("--config="), [])) for _ in range(2))
    mine = settings(config)
    assert mine == settings(again)
    assert {
        "seed",
        "sde.beta_max",
        "training.log_every",
        "version of jax",
        "version of python",
        "jax_default_prng_impl",
    } <= mine.keys()
    with jax.enable_x64(True):
        assert {name for name, value in settings(config).items() if value != mine[name]} == {"jax_enable_x64"}
    from scoresde.experiment import description

    (tmp_path / "a.py").write_text("1")
    monkeypatch.setattr(description, "__file__", str(tmp_path / "experiment" / "description.py"))
    before = settings(config)["code of scoresde"]
    (tmp_path / "a.py").write_text("2")
    assert len({before, settings(config)["code of scoresde"], mine["code of scoresde"]}) == 3
    sets = [load(name, shape=(2,), levels=0, centered=True).fingerprint for name in ("gaussian_mixture", "two_moons")]
    assert sets[0] != sets[1]


def test_a_folder_that_is_not_shared_is_noticed(tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    held = hold(mine)
    word = (mine / ".lock").read_text()
    other.mkdir()
    (other / ".lock").write_text("of an earlier run")
    with pytest.raises(ConfigError, match="another process is training"):
        hold(mine)
    look_for(held and word, mine, patience=0)  # an attempt to take it leaves the word there
    for folder in (other, tmp_path / "nowhere"):
        with pytest.raises(DistributedError, match="one folder that all processes share"):
            look_for("word", folder, patience=0.2)
    held.close()


@pytest.mark.parametrize(
    "text", ["127.0.0.1:1,2,2", "127.0.0.1:1,2,-1", "127.0.0.1,2,0", ":1,2,0", "127.0.0.1:99999,2,0"]
)
def test_a_rank_or_port_that_does_not_exist_is_refused(text):
    with pytest.raises(ConfigError, match="RANK below PROCESSES"):
        peers.join(text)
    assert not peers.started()


# Real processes


def _start(rank, port, *arguments):
    return start("train", *MIXTURE, "--distributed", f"127.0.0.1:{port},2,{rank}", *arguments)


def _waits(process):
    """Reads the line that says that a process waits for the others."""
    line = process.stderr.readline()
    assert "waits for 2 processes" in line, line + process.stderr.read()


def test_sigterm_while_waiting_for_the_others_leaves_at_once(tmp_path):
    process = _start(0, free_port(), "--workdir", tmp_path)
    _waits(process)
    time.sleep(0.5)
    since = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = finish(process)
    assert result.code == 75 and result.err == "stopped: interrupted; run the same command again\n"
    assert time.monotonic() - since < 10


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        result = finish(_start(0, listener.getsockname()[1], "--workdir", tmp_path))
    assert result.code == 7 and "choose another port" in result.err and len(result.err.splitlines()) == 1


def test_another_seed_ends_both_before_the_first_step(tmp_path):
    port = free_port()
    both = [_start(0, port, "--workdir", tmp_path), _start(1, port, "--workdir", tmp_path, "--config.seed=7")]
    for result in map(finish, both):
        assert (
            result.code == 7
            and "the processes do not do the same: seed is 42 on process 0, 7 on process 1" in result.err
        )
    assert not metrics(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("what", ["workdir", "data"])
def test_other_folders_and_data_end_both(tmp_path, rank, what):
    port, run, other = free_port(), ["--workdir", tmp_path / "run"], ["--workdir", tmp_path / "other"]
    if what == "data":  # under the same name
        values = np.random.default_rng(0).normal(size=(2, 200, 2)).astype(np.float32)
        for folder, x in zip(("a", "b"), values):
            (tmp_path / folder).mkdir()
            np.savez(tmp_path / folder / "x.npz", x_train=x, x_test=x)
        sources = ["--config.data.source=npz:a/x.npz"], ["--config.data.source=npz:b/x.npz"]
        run, other = [*run, *sources[0]], [*run, *sources[1]]
    arguments = [other, run] if rank == 0 else [run, other]
    with contextlib.chdir(tmp_path):
        both = [_start(k, port, *arguments[k]) for k in (0, 1)]
    for result in map(finish, both):
        assert result.code == 7 and "on process 0" in result.err and "on process 1" in result.err
    assert not metrics(tmp_path / "run") and not metrics(tmp_path / "other")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_process_ends_the_other_in_one_line(tmp_path, rank):
    port = free_port()
    both = [_start(k, port, "--workdir", tmp_path, "--config.training.steps=1000000") for k in (0, 1)]
    wait_until(lambda: len(metrics(tmp_path)) >= 3, both[0])
    both[rank].send_signal(signal.SIGSTOP)
    since = time.monotonic()
    result = finish(both[1 - rank])
    took = time.monotonic() - since
    both[rank].send_signal(signal.SIGCONT)
    finish(both[rank])  # it ends as well, once it goes on
    assert result.code == 7 and LIMIT - 5 < took < LIMIT + 30
    ours = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert (
        len(ours) == 1
        and f"no sign of life from process {rank} for 60 s" in ours[0]
        and result.err.endswith(ours[0] + "\n")
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_other_signals_stop_both_at_one_step(tmp_path, number):
    port = free_port()
    both = [_start(k, port, "--workdir", tmp_path, "--config.training.steps=1000000") for k in (0, 1)]
    wait_until(lambda: len(metrics(tmp_path)) >= 3, both[0])
    both[1].send_signal(number)
    results = [finish(process) for process in both]
    step = saved_steps(tmp_path)[-1]
    assert [result.code for result in results] == [75, 75]
    assert all(f"saved at step {step}; resume with the same command" in result.err for result in results)


@pytest.mark.slow
def test_an_error_of_one_is_said_by_the_other(tmp_path):
    """A run folder that another run holds: process 0 alone sees it."""
    held, port = hold(tmp_path), free_port()
    first, second = map(finish, [_start(k, port, "--workdir", tmp_path) for k in (0, 1)])
    held.close()
    assert first.code == 2 and second.code == 7
    assert "error: process 0 ended: another process is training" in second.err and second.err.count("error:") == 1
