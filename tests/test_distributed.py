"""The same run on other numbers of devices and processes: the same losses to rounding, the same checkpoints."""

import json
import shutil
import signal

import jax
import numpy as np
import pytest
from commands import (
    MIXTURE,
    call,
    finish,
    free_port,
    losses,
    metrics,
    mixture_run,
    named,
    run,
    saved_steps,
    start,
    stored,
    wait_until,
)

from scoresde.experiment.load import load_run

TOLERANCE = 1e-5  # relative, over 20 steps in float32: only the order of sums differs


@pytest.fixture(scope="session")
def one_device(tmp_path_factory):
    return losses(mixture_run(tmp_path_factory))[:20]


@pytest.fixture(scope="session")
def eight_devices(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("eight")
    layout = ["--config.training.fsdp=4"]  # two groups of four devices, each with one copy of the state
    result = run("train", *MIXTURE, "--workdir", workdir, "--config.training.steps=20", *layout, devices=8)
    assert result.code == 0 and "8 cpu device(s), 1 process(es)" in result.out
    return workdir


def _start_two(workdir, *arguments):
    where = f"127.0.0.1:{free_port()},2"
    return [
        start("train", *MIXTURE, "--workdir", workdir, "--distributed", f"{where},{rank}", *arguments)
        for rank in (0, 1)
    ]


def test_eight_devices_give_the_losses_of_one(eight_devices, one_device):
    np.testing.assert_allclose(losses(eight_devices), one_device, rtol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("devices, fsdp", [(2, 1), (4, 0)])
def test_more_devices_give_the_losses_of_one(devices, fsdp, one_device, tmp_path):
    layout = ["--config.training.steps=20", f"--config.training.fsdp={fsdp}"]
    assert run("train", *MIXTURE, "--workdir", tmp_path, *layout, devices=devices).code == 0
    np.testing.assert_allclose(losses(tmp_path), one_device, rtol=TOLERANCE)


def test_a_checkpoint_of_eight_devices_is_read_on_one(eight_devices):
    trained = load_run(eight_devices)
    params, whole = trained.score.network.params, stored(eight_devices, 20)
    assert all(leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(params))
    for name, leaf in named(params).items():
        np.testing.assert_array_equal(leaf, whole[f"ema/0.6/{name}"])


def test_a_run_of_eight_devices_goes_on_with_two(eight_devices, tmp_path, tmp_path_factory):
    shutil.copytree(eight_devices, tmp_path / "run")
    result = run("train", *MIXTURE, "--workdir", tmp_path / "run", "--config.training.steps=30", devices=2)
    assert result.code == 0 and "resumed at step 20" in result.out
    assert "devices changed" in result.err and "not bit-identical" in result.err
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(mixture_run(tmp_path_factory))[:30], rtol=3e-5)


def test_two_processes_give_the_losses_of_one_and_end(one_device, tmp_path):
    """Fully sharded, with pictures while training and an evaluation at the end, which share the work or wait for
    nobody."""
    end = [
        "--config.training.fsdp=0",
        "--config.training.steps=20",
        "--config.evaluate.num=5",
        "--config.training.sample_every=10",
    ]
    end += ["--config.training.watch=moments,", "--config.training.keep_best=mean_error"]  # they agree on what is best
    first, second = map(finish, _start_two(tmp_path, *end))
    assert (first.code, second.code) == (0, 0), first.err + second.err
    np.testing.assert_allclose(losses(tmp_path), one_device, rtol=TOLERANCE)
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"000000.png", "000010.png", "000020.png"}
    assert "done:" in first.out and "done:" not in second.out  # one of them speaks
    watched = {line["step"]: line["watch/mean_error"] for line in metrics(tmp_path) if "watch/mean_error" in line}
    best = json.loads((tmp_path / "best.json").read_text())
    assert watched[best["step"]] == min(watched.values()) and load_run(tmp_path, checkpoint="best").step == best["step"]
    report = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert (report["num"], report["ok"]) == (5, 5)
    (record,) = map(json.loads, (tmp_path / "evaluation" / "records.jsonl").read_text().splitlines())  # written once
    assert (
        record["value"] == report["nats"]
        and record["step"] == 20
        and "nats " in first.out
        and "nats " not in second.out
    )
    # One process reads the checkpoint of two, and finds the same likelihood: none of the five was counted twice.
    again = call("evaluate", "--workdir", tmp_path, "--num", 5, "--out", tmp_path / "again")
    assert again.code == 0, again.err
    alone = json.loads((tmp_path / "again" / "evaluation.json").read_text())
    np.testing.assert_allclose(alone["nats"], report["nats"], rtol=1e-3)


@pytest.mark.slow
def test_sigterm_to_one_of_two_saves_one_step_on_both(tmp_path):
    processes = _start_two(tmp_path, "--config.training.steps=4000")
    wait_until(lambda: len(metrics(tmp_path)) >= 3, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    results = [finish(process) for process in processes]
    assert [result.code for result in results] == [75, 75], results
    step = saved_steps(tmp_path)[-1]
    assert step == len(losses(tmp_path))
    assert all(f"saved at step {step}; resume with the same command" in result.err for result in results)
    assert load_run(tmp_path).step == step


@pytest.mark.slow
def test_a_process_that_dies_takes_the_other_with_it(tmp_path):
    processes = _start_two(tmp_path, "--config.training.steps=4000")
    wait_until(lambda: len(metrics(tmp_path)) >= 3, processes[0])
    processes[1].kill()
    survivor = finish(processes[0])
    assert survivor.code == 7 and "another process" in survivor.err


def test_a_group_that_does_not_divide_the_devices(tmp_path):
    refused = call("train", *MIXTURE, "--config.training.fsdp=3", "--workdir", tmp_path / "run")
    assert (
        refused.code == 2 and "expected a divisor of the 1 devices" in refused.err and not (tmp_path / "run").exists()
    )


def test_a_batch_that_eight_devices_do_not_divide(tmp_path):
    arguments = ["--config.training.batch_size=60", "--workdir", tmp_path / "run"]
    refused = run("train", *MIXTURE, *arguments, devices=8)
    assert refused.code == 2 and "nearest: 48 or 64" in refused.err and len(refused.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["here", "127.0.0.1:1,2", "127.0.0.1:1,two,0"])
def test_a_malformed_address_is_refused(text):
    refused = call("train", *MIXTURE, "--distributed", text)
    assert refused.code == 2 and "HOST:PORT,PROCESSES,RANK" in refused.err
