"""What comes from outside while a command runs: signals, and output that nobody reads any more."""

import io
import os
import signal
import subprocess

import pytest
from commands import MIXTURE, call, finish, losses, metrics, saved_steps, start, wait_until

from scoresde.errors import STOPS
from scoresde.experiment.load import load_run
from scoresde.runs.preemption import StopRequest
from scoresde.runtime.progress import Lasting


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_other_signals_save_as_sigterm_does(tmp_path, number):
    process = start(
        "train", *MIXTURE, "--workdir", tmp_path, "--config.training.steps=1000000", "--config.optim.decay_steps=0"
    )
    wait_until(lambda: len(metrics(tmp_path)) >= 3, process)
    process.send_signal(number)
    result = finish(process)
    step = saved_steps(tmp_path)[-1]
    assert (
        result.code == 75
        and result.err == f"stopped: interrupted and saved at step {step}; resume with the same command\n"
    )
    assert step == len(losses(tmp_path)) and load_run(tmp_path).step == step


@pytest.mark.parametrize("number", STOPS)
def test_a_first_signal_asks_and_a_second_one_stops(number):
    outside = signal.signal(number, signal.SIG_DFL)  # a job in the background starts with some of them ignored
    try:
        with StopRequest() as stop:
            assert not stop.reached(1)
            signal.raise_signal(number)
            assert stop.reached(2) and signal.getsignal(number) is signal.SIG_DFL
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outside)


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_that_is_ignored_stays_so(number):
    """`nohup` ignores SIGHUP, so that training goes on when the terminal is closed."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(number)
            assert not stop.reached(1)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [number for number in STOPS if number != signal.SIGINT])
def test_a_signal_outside_training_is_one_line(monkeypatch, number):
    monkeypatch.setattr("scoresde.cli.doctor.Parser", lambda *_: signal.raise_signal(number))
    found = call("doctor")
    assert (found.code, found.err) == (75, "stopped: interrupted; run the same command again\n")


# Output that ends


def test_a_reader_that_ends_does_not_end_training(tmp_path):
    """As `train ... | head -n 1`: both streams are pipes whose reader has gone before the first step."""
    process = start("train", *MIXTURE, "--workdir", tmp_path, "--config.training.steps=20")
    process.stdout.readline()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=150) == 0
    assert len(losses(tmp_path)) == 20 and saved_steps(tmp_path)[-1] == 20


def test_no_output_at_all(tmp_path):
    """Both descriptors closed from the start, as by `>&- 2>&-`."""
    line = start("doctor", "--help")
    line.communicate(timeout=60)
    closed = subprocess.run(["bash", "-c", 'exec "$0" "$@" >&- 2>&-', *line.args], timeout=60)
    assert closed.returncode == line.returncode == 0


def test_a_broken_stream_goes_on_without_output():
    reads, writes = os.pipe()
    kept = os.dup(writes)
    stream = Lasting.of(open(writes, "w"))
    assert Lasting.of(stream) is stream and stream.fileno() == writes
    os.close(reads)
    for text in ("a", "b" * 100_000):
        assert stream.write(text) == len(text)
        stream.flush()
    stream.writelines(["c", "d"])
    stream.close()  # flushes what is left, which raised before
    with pytest.raises(BrokenPipeError):
        os.write(kept, b"e")
    os.close(kept)


def test_other_mistakes_in_writing_are_not_hidden():
    stream = Lasting.of(io.StringIO())
    with pytest.raises(TypeError):
        stream.write(b"bytes")
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.write("a")
