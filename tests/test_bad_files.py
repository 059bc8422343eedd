"""Bad files and values, by commands: one line, the documented exit code, nothing lost."""

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import zlib

import pytest
from commands import MIXTURE, call, mixture_run, run, saved_steps
from test_runtime import BRACKETS, described, npz_of

from scoresde.experiment.load import load_run
from scoresde.runs.goodput import GoodputTimer
from scoresde.runtime.files import UnreadableError
from scoresde.runtime.reading import read_safetensors


def refused(code: int, word: str, command: str, *arguments) -> None:
    result = call(command, *arguments)
    assert (
        result.code == code
        and word in result.err
        and len(result.err.splitlines()) == 1
        and "unexpected" not in result.err
    ), result


def test_what_a_file_promises_is_refused_by_commands(tmp_path):
    (tmp_path / "d.npz").write_bytes(npz_of(*(described("(2000000000000,)"), bytes(64))))
    refused(
        3,
        "promises",
        "train",
        MIXTURE[0],
        f"--config.data.source=npz:{tmp_path / 'd.npz'}",
        "--workdir",
        tmp_path / "run",
    )
    sides = [
        "--samples",
        tmp_path / "d.npz",
        "--reference",
        tmp_path / "d.npz",
        "--network",
        "pixels",
        "--metrics",
        "fd",
    ]
    refused(3, "promises", "evaluate", *sides, "--out", tmp_path / "out", "--stats", tmp_path / "stats")


def test_a_configuration_that_leaves_is_refused(tmp_path):
    for number, line in enumerate(("sys.exit(0)", "sys.exit()", "raise SystemExit('done')")):
        file = tmp_path / f"config_{number}.py"
        file.write_text(f"import sys\n\n\ndef get_config():\n    {line}\n")
        refused(2, "leaves with sys.exit", "train", f"--config={file}", "--workdir", tmp_path / "run")


def test_numbers_that_no_device_counts_to_are_refused(tmp_path):
    for field in ("training.steps", "sampling.num", "model.width"):
        refused(
            2,
            f"{field} = {2**70}: expected less than 2^31",
            "train",
            MIXTURE[0],
            f"--config.{field}={2**70}",
            "--workdir",
            tmp_path,
        )
    refused(
        2,
        "expected a whole number",
        "train",
        MIXTURE[0],
        f"--config.training.steps={'-' * 50_000}1",
        "--workdir",
        tmp_path,
    )


def test_brackets_in_a_run_folder_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(BRACKETS)
    for command in (
        ["sample", "--workdir", tmp_path, "--num", 2],
        ["report", tmp_path],
        ["convert", tmp_path, "--export", tmp_path / "a.safetensors"],
    ):
        refused(2, "config.json", *command)
    ledger = tmp_path / "ledger.json"
    ledger.write_text(BRACKETS)
    assert GoodputTimer(ledger).seconds["step"] == 0  # as of a file that is missing: it is no part of the state


@pytest.mark.parametrize(
    "content",
    [
        BRACKETS,
        "[1]",
        '{"block_out_channels": 3}',
        '{"down_block_types": [1], "up_block_types": 2, "block_out_channels": "x"}',
    ],
)
def test_a_config_of_diffusers_that_is_none(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    refused(4, "config.json", "convert", tmp_path, "--out", tmp_path / "run")


def safetensors_of(header: str, values: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + values


HEADERS = {
    "brackets": BRACKETS,
    "brackets in the metadata": json.dumps({"__metadata__": {"config": BRACKETS}}),
    "too much": json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
    "negative": json.dumps({"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}),
    "no field": json.dumps({"__metadata__": {"config": json.dumps({"model": {"wdth": 3}, "data": {}})}}),
    "no section": json.dumps({"__metadata__": {"config": json.dumps({"modell": {"width": 3}, "data": {}})}}),
    "another type": json.dumps({"__metadata__": {"config": json.dumps({"model": {"width": "wide"}, "data": {}})}}),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_safetensors_file_that_is_none(case, tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(safetensors_of(HEADERS[case], bytes(16)) if case == "negative" else safetensors_of(HEADERS[case]))
    field = case in ("no field", "no section", "another type")
    refused(
        2 if field else 4,
        "a.safetensors" if not field else "SOURCE: model",
        "convert",
        file,
        "--out",
        tmp_path / "run",
    )
    if case in ("brackets", "too much", "negative"):
        with pytest.raises(UnreadableError, match="not a good safetensors file"):
            read_safetensors(file)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.msgpack"])
def test_weights_that_are_no_file(name, tmp_path):
    os.mkfifo(tmp_path / name)
    network = [] if name == "a.safetensors" else ["--network", "ncsnpp_cifar10"]
    result = call("convert", tmp_path / name, "--out", tmp_path / "run", *network)
    torchless = name == "a.pth" and "needs torch" in result.err
    assert result.code == (2 if torchless else 4) and (torchless or "a FIFO, not a regular file" in result.err), result


# What a run folder holds


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(mixture_run(tmp_path_factory), folder)
    return folder


def test_a_full_disk_under_an_export(workdir, tmp_path):
    """The system refuses files above some size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        refused(6, "File too large", "convert", workdir, "--export", tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []  # what was written so far would fill the disk further


def test_a_picture_of_400_megapixels_is_left_out_of_the_report(workdir):
    path = workdir / "samples" / "000041.png"
    head = struct.pack(">II5B", 20_000, 20_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    )
    os.mkfifo(workdir / "samples" / "000042.png")
    try:
        assert call("report", workdir).code == 0
        assert "data:image/png" in (workdir / "report.html").read_text()  # the other pictures are there
    finally:
        path.unlink()
        (workdir / "samples" / "000042.png").unlink()


def test_no_link_comes_of_a_name(workdir):
    config = json.loads((workdir / "config.json").read_text())
    wrong = "npz:[x](javascript:alert(1)) ![y](javascript:2) `code` <javascript:3> [z]: javascript:4"
    config["data"]["source"] = wrong
    other = workdir.parent / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(config))
    assert call("report", other).code == 0
    text = (other / "report.md").read_text()
    lines = [line for line in text.splitlines() if "javascript" in line]
    assert len(lines) >= 2  # the heading and the table of fields
    for line in lines:
        unescaped = line.replace("\\[", "").replace("\\]", "").replace("\\`", "").replace("\\!", "")
        assert not set("[]`<>!") & set(unescaped), line
    assert (
        "batch_size" in text
        and "python -m scoresde.sample --workdir " in text
        and "&#39;" not in text.split("## Commands")[1]
    )


def test_a_folder_of_checkpoints_with_other_names(workdir):
    for name in ("²", "٤", "040", "x"):
        (workdir / "checkpoints" / name).mkdir()
    try:
        assert load_run(workdir).step == 40
    finally:
        for name in ("²", "٤", "040", "x"):
            (workdir / "checkpoints" / name).rmdir()
    refused(2, "--checkpoint", "sample", "--workdir", workdir, "--checkpoint", "²", "--num", 2)


@pytest.mark.parametrize("change", ["missing", "list", "config", "no fingerprint"])
def test_a_meta_of_another_form_makes_a_damaged_checkpoint(change, workdir, tmp_path, capsys):
    """With the right CRC: somebody wrote it so."""
    shutil.copytree(workdir, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "40" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    del meta["crc32"]
    meta |= {"missing": {}, "list": {"data": [1]}, "config": {"config": [1]}, "no fingerprint": {"data": {"seed": 1}}}[
        change
    ]
    if change == "missing":
        del meta["data"]
    meta["crc32"] = zlib.crc32(json.dumps(meta, sort_keys=True).encode())
    path.write_text(json.dumps(meta))
    assert load_run(tmp_path / "run").step == 30
    assert "checkpoint at step 40 is damaged (its meta has no " in capsys.readouterr().out


def test_a_fifo_in_a_checkpoint_is_damage(workdir, tmp_path, capsys):
    shutil.copytree(workdir, tmp_path / "run")
    path = next(p for p in (tmp_path / "run" / "checkpoints" / "40" / "state").rglob("manifest.ocdbt"))
    path.unlink()
    os.mkfifo(path)
    assert load_run(tmp_path / "run").step == 30
    assert "checkpoint at step 40 is damaged (a FIFO, not a regular file)" in capsys.readouterr().out


def test_a_fifo_in_another_checkpoint_than_the_one_in_use_hangs_nothing(workdir, tmp_path, capsys):
    """Orbax's manager reads this file of every step when it is opened."""
    shutil.copytree(workdir, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "20" / "_CHECKPOINT_METADATA"
    path.unlink()
    os.mkfifo(path)
    assert load_run(tmp_path / "run").step == 40
    assert "damaged" not in capsys.readouterr().out
    result = run("train", *MIXTURE, "--workdir", tmp_path / "run", "--config.training.steps=50")
    assert result.code == 0 and "checkpoint at step 20 is damaged (a FIFO, not a regular file)" in result.out, result
    assert saved_steps(tmp_path / "run") == [30, 40, 50]
    assert (tmp_path / "run" / "checkpoints" / "damaged" / "20").is_dir()


def test_a_platform_without_a_device_is_refused():
    """In a process of its own: this one has its devices already."""
    for platform in ("cuda", "nonsense"):
        code = "from scoresde.cli import parser; import jax; parser.run(lambda arguments: jax.numpy.zeros(1))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"JAX_PLATFORMS": platform},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 6 and f"JAX finds no device for JAX_PLATFORMS={platform}" in done.stderr, done
        assert (
            len([text for text in done.stderr.splitlines() if text.startswith("error")]) == 1
            and "Traceback" not in done.stderr
        )


LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # the log and the pictures fit, a checkpoint does not
sys.argv = ["scoresde.train", *sys.argv[1:]]
runpy.run_module("scoresde.train", run_name="__main__")
"""


def test_a_full_disk_under_training_is_one_line(workdir, tmp_path):
    """The same command continues once there is space. Compiled programs are not kept: the limit would cut them
    short."""
    shutil.copytree(workdir, tmp_path / "run")
    command = [*MIXTURE, "--workdir", str(tmp_path / "run"), "--config.training.steps=45"]
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *command], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 6, done
    assert [
        line.startswith("error: cannot write a checkpoint in ") and "File too large" in line
        for line in done.stderr.splitlines()
    ] == [True], done.stderr
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdecimal()].count(
        "40"
    ) == 1


DAMAGED = """
import gc, sys, time
from scoresde.experiment.load import load_run
assert load_run(sys.argv[1]).step == 30
gc.collect()
time.sleep(0.2)
"""


def test_damage_prints_no_traceback(workdir, tmp_path):
    """Zeros in the manifest that all arrays are found by: each of them fails by itself, most after Orbax has closed its
    event loop."""
    shutil.copytree(workdir, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "40" / "state" / "manifest.ocdbt"
    path.write_bytes(bytes(path.stat().st_size))
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED, str(tmp_path / "run")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        "checkpoint at step 40 is damaged",
        "using the checkpoint at step 30",
    ]


LATE = """
from scoresde.runs.quiet import leave_out_late_reports
leave_out_late_reports()

class Kept:
    def __init__(self, text):
        self.text = text

    def __del__(self):
        raise RuntimeError(self.text)

for text in ("Encountered error while reading array index: (). See full TensorStore details", "of the user"):
    Kept(text)
"""


def test_a_late_report_of_the_readers_is_left_out_and_others_are_printed():
    """An exception that nobody can catch any more, as of a coroutine that is collected: one of tensorstore, one of the
    user."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "RuntimeError: of the user" in done.stderr and "TensorStore" not in done.stderr
