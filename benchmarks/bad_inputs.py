"""Files and values that somebody else may have written, given to the commands in this process, and how each was
answered; for faults.py."""

import contextlib
import faulthandler
import gc
import io
import json
import os
import pathlib
import shutil
import signal
import struct
import sys
import tempfile
import time
import zipfile

import numpy as np
from PIL import Image

from scoresde.cli import parser as door
from scoresde.cli.average import main as average
from scoresde.cli.convert import main as convert
from scoresde.cli.data import main as data
from scoresde.cli.evaluate import main as evaluate
from scoresde.cli.report import main as report
from scoresde.cli.sample import main as sample
from scoresde.cli.train import main as train

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = f"--config={ROOT / 'configs' / 'mixture_2d.py'}"
SAME, OLDER, REFUSED = "the same", "older, said so", "refused"
WRONG, UNEXPECTED, NOISY, HUNG = "SILENTLY WRONG", "UNEXPECTED", "NOISY", "HUNG"
PATIENCE = 60  # seconds for one command in this process


class HungError(BaseException):
    """The alarm."""


@contextlib.contextmanager
def captured(text: io.StringIO):
    """What this process and its threads print, also below Python; HungError after some time.

    If that does not end it, because a thread waits that is waited for, the process prints where each thread is and exits
    with 1. What it worked on is left in the temporary folder.
    """
    alarms = []

    def alarm(*_):
        if alarms:
            faulthandler.dump_traceback(file=before[1])
            os._exit(1)
        alarms.append(HUNG)
        signal.alarm(PATIENCE)
        raise HungError

    with tempfile.TemporaryFile("w+") as file:
        sys.stderr.flush()
        before, handler = (os.dup(1), os.dup(2)), signal.signal(signal.SIGALRM, alarm)
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        signal.alarm(PATIENCE)
        try:
            with (
                contextlib.redirect_stdout(open(1, "w", closefd=False)),
                contextlib.redirect_stderr(open(2, "w", closefd=False)),
            ):
                try:
                    yield
                finally:
                    gc.collect()  # futures whose result is never read report when they are collected
                    time.sleep(0.05)
                    sys.stdout.flush(), sys.stderr.flush()
        finally:
            signal.alarm(0)
            os.dup2(before[0], 1), os.dup2(before[1], 2)
            os.close(before[0]), os.close(before[1])
            signal.signal(signal.SIGALRM, handler)
            file.seek(0)
            text.write(file.read())


def has_traceback(text: str) -> bool:
    return "Traceback" in text or "exception was never retrieved" in text or "Event loop" in text


def inputs(whole: pathlib.Path, scratch: pathlib.Path) -> dict[str, str]:
    place, answers = scratch / "inputs", {}
    place.mkdir()
    for name, (codes, main, *arguments) in cases(whole, place).items():
        text = io.StringIO()
        code = None
        try:
            with captured(text):
                try:
                    door.run(main, [str(a) for a in arguments])
                except SystemExit as left:
                    code = left.code or 0
        except HungError:
            answers[name] = HUNG
            continue
        lines = [line for line in text.getvalue().splitlines() if line.startswith("error:")]
        wrong = UNEXPECTED if code == 1 or "unexpected" in text.getvalue() else WRONG if code == 0 else UNEXPECTED
        answers[name] = (
            wrong
            if code not in codes
            else NOISY
            if has_traceback(text.getvalue()) or len(lines) > 1
            else SAME
            if code == 0
            else REFUSED
        )
    return answers


def cases(whole: pathlib.Path, place: pathlib.Path) -> dict[str, tuple]:
    """{what: (exit codes that are right, command, its arguments)}."""
    brackets, run = "[" * 100_000 + "]" * 100_000, place / "run"
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }"
    for name, shape in (("much", b"2000000000000"), ("negative", b"-16"), ("zero", b"8")):
        with zipfile.ZipFile(place / f"{name}.npz", "w") as archive:
            for array in ("x_train", "x_test", "samples"):
                archive.writestr(
                    f"{array}.npy",
                    b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + (head % shape).ljust(117) + b"\n" + bytes(64),
                )
    for name in ("fifo", "device", "text"):
        (place / name).mkdir()
        for k in range(6):
            Image.fromarray(np.full((8, 8, 3), 30 * k, np.uint8)).save(place / name / f"{k}.png")
    os.mkfifo(place / "fifo" / "a.png")
    (place / "device" / "a.png").symlink_to("/dev/zero")
    (place / "text" / "a.png").write_text("no image")
    (place / "leaves.py").write_text("import sys\n\n\ndef get_config():\n    sys.exit(0)\n")
    (place / "brackets").mkdir()
    (place / "brackets" / "config.json").write_text(brackets)
    (place / "brackets" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    (place / "a.safetensors").write_bytes(struct.pack("<Q", len(brackets)) + brackets.encode())
    about = json.dumps({"__metadata__": {"config": json.dumps({"model": {"wdth": 1}, "data": {}})}})
    (place / "b.safetensors").write_bytes(struct.pack("<Q", len(about)) + about.encode())
    os.mkfifo(place / "c.safetensors")
    shutil.copytree(whole, run)
    (run / "ledger.json").write_text(brackets)
    (run / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": "\xff"}\n' + (run / "metrics.jsonl").read_bytes())
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation" / "records.jsonl").write_text(brackets)
    both = [
        (3,),
        evaluate,
        "--network",
        "pixels",
        "--metrics",
        "fd",
        "--out",
        place / "out",
        "--stats",
        place / "stats",
    ]
    new = ["--workdir", place / "new"]
    return {
        **{
            f"npz {n}: train": ((3,), train, CONFIG, f"--config.data.source=npz:{place / n}.npz", *new)
            for n in ("much", "negative", "zero")
        },
        **{
            f"npz {n}: evaluate": (*both, "--samples", place / f"{n}.npz", "--reference", place / f"{n}.npz")
            for n in ("much", "negative", "zero")
        },
        **{
            f"npz {n}: inspect": ((3,), data, "inspect", f"npz:{place / n}.npz", "--out", place / "out")
            for n in ("much", "negative", "zero")
        },
        **{
            f"folder with {n}": ((0,), data, "inspect", f"folder:{place / n}", "--out", place / "out")
            for n in ("fifo", "device", "text")
        },
        "configuration leaves": ((2,), train, f"--config={place / 'leaves.py'}", *new),
        "steps 2^70": ((2,), train, CONFIG, f"--config.training.steps={2**70}", *new),
        "field of brackets": ((2,), train, CONFIG, f"--config.training.ema={brackets}", *new),
        **{
            f"brackets: {n}": ((2,), m, *f, place / "brackets")
            for n, m, *f in (("sample", sample, "--workdir"), ("report", report))
        },
        "brackets: average": ((2,), average, "--sigma-rel", "0.1", "--workdir", place / "brackets"),
        "brackets: diffusers": ((4,), convert, place / "brackets", "--out", place / "new"),
        **{f"safetensors {n}": ((2, 4), convert, place / f"{n}.safetensors", "--out", place / "new") for n in "abc"},
        "report of damaged records": ((0,), report, run),
        "number of another script": ((2,), sample, "--workdir", run, "--checkpoint", "²", "--num", "2"),
    }
