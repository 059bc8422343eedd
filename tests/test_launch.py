"""The files of launch/: they parse, they run the one command, and the local one works with two real processes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from scoresde import errors

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = ["local.sh", "slurm.sbatch", "tpu-queued-resource.sh"]
LAUNCHERS = [*SCRIPTS, "gke-jobset.yaml"]

# Two processes that start, compile and take a few steps: about 15 s on two idle cores, more where they are shared.
PATIENCE = 150


def train(workdir: Path, steps: int, *options: str, **env: str) -> subprocess.Popen:
    """launch/local.sh with two processes and the smallest possible run."""
    fields = {
        "training.steps": steps, "training.batch_size": 8, "training.log_every": 1, "optim.decay_steps": 0,
        "evaluate.num": 0, "sampling.num": 4, "sampling.steps": 2, "model.width": 16, "model.depth": 1,
    }  # fmt: skip
    command = [LAUNCH / "local.sh", "2", "--config", "configs/mixture_2d.py", "--workdir", workdir]
    command += [f"--config.{name}={value}" for name, value in fields.items()] + list(options)
    env = {**os.environ, "PYTHON": sys.executable, "JAX_PLATFORMS": "cpu", **env}
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


@pytest.fixture
def started():
    """Start runs by `train`; whatever is left of them after the test is killed."""
    processes = []

    def start(*args, **kwargs):
        processes.append(train(*args, **kwargs))
        return processes[-1]

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def steps_of(workdir: Path) -> list[int]:
    return [
        json.loads(line)["step"]
        for line in (workdir / "metrics.jsonl").read_text().splitlines()
        if "loss" in json.loads(line)
    ]


def checkpoints_of(workdir: Path) -> set[str]:
    return {path.name for path in (workdir / "checkpoints").iterdir()}


@pytest.mark.timeout(2 * PATIENCE)
def test_two_local_processes_train_one_run(started, tmp_path):
    process = started(tmp_path / "run", 3)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "2 process(es)" in output
    assert len(list(tmp_path.rglob("metrics.jsonl"))) == 1
    assert steps_of(tmp_path / "run") == [1, 2, 3]
    assert checkpoints_of(tmp_path / "run") == {"3"}


@pytest.mark.timeout(2 * PATIENCE)
def test_sigterm_reaches_all_processes_and_gives_75(started, tmp_path):
    workdir = tmp_path / "run"
    process = started(workdir, 1_000_000)
    deadline = time.monotonic() + PATIENCE
    while not (workdir / "metrics.jsonl").exists() or not steps_of(workdir):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no step within the time"
        time.sleep(0.2)
    process.terminate()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == errors.Interrupted.exit_code == 75, output
    assert checkpoints_of(workdir) == {str(steps_of(workdir)[-1])}
    with pytest.raises(ProcessLookupError):  # nothing is left of the group
        os.killpg(process.pid, 0)


@pytest.mark.parametrize("arguments", [[], ["2"], ["0", "--config", "x"], ["two", "--config", "x"]])
def test_local_says_how_it_is_used(arguments):
    found = subprocess.run([LAUNCH / "local.sh", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert found.returncode == 2 and found.stderr.startswith("usage:")


def stand_in(folder: Path, name: str, body: str) -> None:
    """A program of this name, in bash, found before the real one."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("codes, expected", [("0 0", 0), ("75 134", 75), ("134 75", 75), ("3 0", 3), ("0 5", 5)])
def test_the_exit_code_of_local(tmp_path, codes, expected):
    """Rank k ends with the k-th code, one after the other."""
    rank = "codes=(%s) rank=${*: -1} rank=${rank##*,}" % codes
    body = f'if [[ $1 == -c ]]; then echo 1; exit; fi; {rank}; sleep "0.$((3 * rank))"; exit "${{codes[$rank]}}"'
    stand_in(tmp_path, "python", body)
    command = [LAUNCH / "local.sh", "2", "--config", "x"]
    found = subprocess.run(command, env=os.environ | {"PYTHON": str(tmp_path / "python")}, timeout=PATIENCE)
    assert found.returncode == expected


@pytest.mark.parametrize("codes, expected", [("0 0", 0), ("75 134", 75), ("3 0", 3), ("134 0", 134)])
def test_slurm_requeues_what_was_saved(tmp_path, codes, expected):
    """srun runs two tasks one after the other and returns the larger code, as the real one does."""
    programs = tmp_path / "bin"
    tasks = f'for code in {codes}; do CODE=$code "$@"; got=$?; ((got > worst)) && worst=$got; done; exit $worst'
    stand_in(programs, "srun", f"shift; worst=0; {tasks}")
    stand_in(programs, "scontrol", f'echo "$@" > {tmp_path}/asked')
    stand_in(programs, "python", f'echo "$JAX_LOCAL_DEVICE_IDS $*" >> {tmp_path}/commands; exit $CODE')
    slurm = {"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "4", "PYTHON": "python"}
    env = os.environ | slurm | {"PATH": f"{programs}:{os.environ['PATH']}"}
    command = [LAUNCH / "slurm.sbatch", "configs/a.py", tmp_path / "run", "--config.seed=1 2"]
    found = subprocess.run(["bash", *map(str, command)], env=env, timeout=PATIENCE)
    assert found.returncode == expected
    flags = f"--config configs/a.py --workdir {tmp_path}/run --config.seed=1 2 --distributed auto"
    assert (tmp_path / "commands").read_text().splitlines() == [f"0,1,2,3 -m scoresde.train {flags}"] * 2
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else None) == ("requeue 7\n" if expected == 75 else None)
    assert not list((tmp_path / "run").glob(".requeue*"))


def test_the_tpu_loop_asks_again_after_a_preemption(tmp_path):
    """No slice, then one that is lost during training, then a new one on which training ends with 0."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    states = tmp_path / "states"  # what describe says, one line a call
    states.write_text("\nWAITING_FOR_RESOURCES\nACTIVE\nSUSPENDED\n\nACTIVE\n")
    stand_in(programs, "sleep", "exit 0")
    stand_in(programs, "git", 'while [[ $1 != -o ]]; do shift; done; touch "$2"')
    gcloud = f"""echo "$*" >> {log}
case "$*" in
  *describe*) head -n 1 {states}; sed -i 1d {states} ;;
  *scoresde.train\\ --config*) echo . >> {tmp_path}/runs; [[ $(wc -l < {tmp_path}/runs) -gt 1 ]] || exit 255 ;;
esac"""
    stand_in(programs, "gcloud", gcloud)
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PROJECT": "p", "ZONE": "z", "BUCKET": "b"}
    command = [LAUNCH / "tpu-queued-resource.sh", "name", "--config", "configs/a.py"]
    found = subprocess.run(command, env=env, timeout=PATIENCE, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    asked = log.read_text()
    assert asked.count("queued-resources create name --project p --zone z --node-id name") == 2
    assert asked.count("queued-resources delete name") == 2  # the one that was lost, and the last one when done
    train = "python -m scoresde.train --config configs/a.py --workdir ~/bucket/runs/name --distributed auto"
    assert asked.count(train) == 2


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_strict_bash(name):
    subprocess.run(["bash", "-n", LAUNCH / name], check=True, timeout=PATIENCE)
    text = (LAUNCH / name).read_text()
    assert text.startswith("#!/usr/bin/env bash\n") and "\nset -euo pipefail\n" in text
    assert name.endswith(".sbatch") or os.access(LAUNCH / name, os.X_OK)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_runs_the_command_and_is_explained(name):
    text = (LAUNCH / name).read_text()
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert "-m scoresde.train" in code and "--distributed" in code
    assert f"({name})" in (LAUNCH / "README.md").read_text()


def test_slurm_asks_for_a_signal_and_to_be_requeued():
    text = (LAUNCH / "slurm.sbatch").read_text()
    options = re.findall(r"^#SBATCH (\S+)", text, re.MULTILINE)
    assert {"--signal=TERM@120", "--requeue", "--open-mode=append", "--ntasks-per-node=1"} <= set(options)
    assert text.count("trap : TERM USR1") == 2, "either signal is for the tasks, not for the shells around them"
    assert text.index("#SBATCH") < text.index("set -euo"), "SLURM stops reading options at the first command"
    assert "scontrol requeue" in text


def test_the_jobset_has_what_a_run_needs():
    jobset = yaml.safe_load((LAUNCH / "gke-jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (group,) = jobset["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    assert job["completionMode"] == "Indexed" and job["parallelism"] == job["completions"] and job["backoffLimit"] == 0
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "what podFailurePolicy asks for"
    assert pod["terminationGracePeriodSeconds"] >= 60
    (container,) = pod["containers"]
    assert container["command"] == ["bash", "-c"] and container["args"][0].startswith("exec python -m scoresde.train")
    mounts = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == mounts
    (path,) = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert f"--workdir {path}/" in container["args"][0]


def test_the_jobset_retries_what_can_be_retried():
    """75 counts as a failure to retry; what a user must mend ends the JobSet."""
    spec = yaml.safe_load((LAUNCH / "gke-jobset.yaml").read_text())["spec"]
    rules = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    actions = {code: rule["action"] for rule in rules for code in rule["onExitCodes"]["values"]}
    assert actions[errors.Interrupted.exit_code] == "Count"
    final = (errors.ConfigError, errors.DataError, errors.CheckpointError, errors.NumericError, errors.ResourceError)
    assert {code for code, action in actions.items() if action == "FailJob"} == {error.exit_code for error in final}
    of_job = {
        reason: rule["action"] for rule in spec["failurePolicy"]["rules"] for reason in rule["onJobFailureReasons"]
    }
    assert of_job == {"PodFailurePolicy": "FailJobSet", "BackoffLimitExceeded": "RestartJobSet"}
