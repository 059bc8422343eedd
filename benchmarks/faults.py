"""Damaged checkpoints, kills and bad inputs by seed, and how each was answered: python benchmarks/faults.py

- damaged: a run of 40 steps on a mixture, with one random fault in its folder: a flipped bit, zeros, a file cut short,
  deleted, emptied, exchanged with that of another checkpoint, replaced by a FIFO, an empty newer checkpoint. The run is
  loaded, and its parameters are compared with those that were saved. Then its report is written.
- resumed: the same faults, and training goes on to step 50. Its parameters are compared with those of a run without a
fault.
- kills: a run of 200 steps, killed at random moments until it is done; losses and parameters are compared with those of
a run without.
- inputs: files and values that somebody else may have written, given to the commands.

Every answer is one of: the same; an older checkpoint, with a line about the damaged one; refused, with one line and the
exit code. What is not is SILENTLY WRONG, UNEXPECTED (exit code 1, or a traceback), NOISY (more lines than needed) or
HUNG. It prints counts by answer, and exits with 1 if there is one of the first two or the last. Five minutes on
two cores at the defaults.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from bad_inputs import (
    CONFIG,
    HUNG,
    NOISY,
    OLDER,
    PATIENCE,
    REFUSED,
    ROOT,
    SAME,
    UNEXPECTED,
    WRONG,
    HungError,
    captured,
    has_traceback,
    inputs,
)
from record import record

from scoresde.errors import ScoreSDEError
from scoresde.experiment.load import load_run
from scoresde.report import write_report

FLAGS = [
    CONFIG, "--config.model.width=128", "--config.model.depth=1", "--config.training.batch_size=64",
    "--config.training.log_every=1",
    "--config.training.checkpoint_every=10", "--config.training.sample_every=100000", "--config.optim.warmup=5",
    "--config.sampling.num=8",
    "--config.sampling.steps=8", "--config.evaluate.num=0", "--config.training.watch=()",
]  # fmt: skip


def trained(folder: pathlib.Path, steps: int) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    line = [
        sys.executable,
        "-m",
        "scoresde.train",
        *FLAGS,
        "--workdir",
        str(folder),
        f"--config.training.steps={steps}",
    ]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def parameters(folder: pathlib.Path, checkpoint: str = "latest") -> tuple[int, bytes]:
    """Step and the bytes of all averaged parameters."""
    found = load_run(folder, checkpoint=checkpoint)
    return found.step, b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found.score.network.params))


def losses(folder: pathlib.Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


# Faults


def place_of(folder: pathlib.Path, random: np.random.Generator) -> pathlib.Path:
    """A file, by its size half of the time; nine of ten times in a checkpoint."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.stat().st_size and path.name != ".lock"
    )
    inside = [path for path in files if "checkpoints" in path.parts]
    files = inside if random.random() < 0.9 else [path for path in files if path not in inside]
    sizes = np.array([path.stat().st_size for path in files], float)
    return files[random.choice(len(files), p=sizes / sizes.sum() if random.random() < 0.5 else None)]


def flipped(path, random):
    content = bytearray(path.read_bytes())
    content[random.integers(len(content))] ^= 1 << random.integers(8)
    path.write_bytes(content)


def zeroed(path, random):
    content = bytearray(path.read_bytes())
    first = random.integers(len(content))
    content[first : first + 4096] = bytes(len(content[first : first + 4096]))
    path.write_bytes(content)


def cut(path, random):
    path.write_bytes(path.read_bytes()[: random.integers(path.stat().st_size)])


def deleted(path, random):
    path.unlink()


def emptied(path, random):
    path.write_bytes(b"")


def lengthened(path, random):
    path.write_bytes(path.read_bytes() + random.bytes(100))


def a_fifo(path, random):
    path.unlink()
    os.mkfifo(path)


def exchanged(path, random):
    """With the file of that name in another checkpoint, or the whole checkpoint."""
    step = next((p for p in path.parents if p.parent.name == "checkpoints"), None)
    if step is None:
        return emptied(path, random)
    other = step.parent / random.choice([name for name in ("20", "30", "40") if name != step.name])
    if random.random() < 0.5 or not (other / path.relative_to(step)).is_file():
        shutil.rmtree(step)
        shutil.copytree(other, step)
    else:
        shutil.copy(other / path.relative_to(step), path)


def newer(path, random):
    folder = next(p for p in path.parents if (p / "checkpoints").is_dir())
    (folder / "checkpoints" / str(random.choice(["50", "²", "041"]))).mkdir()


FAULTS = (flipped, flipped, flipped, zeroed, cut, deleted, emptied, lengthened, a_fifo, exchanged, newer)


def damaged_run(whole: pathlib.Path, folder: pathlib.Path, seed: int) -> str:
    """A copy of the run with the fault of the seed; returns what it is."""
    random = np.random.default_rng(seed)
    shutil.copytree(whole, folder)
    path, fault = place_of(folder, random), FAULTS[random.integers(len(FAULTS))]
    fault(path, random)
    return f"{fault.__name__} {path.relative_to(folder)}"


def damaged(whole: pathlib.Path, scratch: pathlib.Path, seeds: range) -> dict[str, str]:
    truth, answers = {step: parameters(whole, str(step))[1] for step in (20, 30, 40)}, {}
    for seed in seeds:
        folder, text = scratch / f"damaged_{seed}", io.StringIO()
        fault = damaged_run(whole, folder, seed)
        try:
            with captured(text):
                try:
                    step, found = parameters(folder)
                    answer = (SAME if step == 40 else OLDER) if found == truth.get(step) else WRONG
                except ScoreSDEError as error:
                    answer = REFUSED if "\n" not in str(error) else NOISY
                with contextlib.suppress(ScoreSDEError):
                    write_report(folder)
        except HungError:
            answer = HUNG
        except Exception as error:
            answer = UNEXPECTED
            text.write(repr(error))
        if answer == OLDER and "is damaged" not in text.getvalue():
            answer = WRONG
        answers[f"{seed}: {fault}"] = (
            NOISY if has_traceback(text.getvalue()) and answer in (SAME, OLDER, REFUSED) else answer
        )
        shutil.rmtree(folder)
    return answers


def resumed(whole: pathlib.Path, scratch: pathlib.Path, seeds: range) -> dict[str, str]:
    straight = scratch / "straight"
    shutil.copytree(whole, straight)
    assert not trained(straight, 50).communicate()[0].count("error")
    truth, answers = (parameters(straight), losses(straight)), {}
    for seed in seeds:
        folder = scratch / f"resumed_{seed}"
        fault = damaged_run(whole, folder, seed)
        process = trained(folder, 50)
        try:
            text = process.communicate(timeout=5 * PATIENCE)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            text, answer = process.communicate()[0], HUNG
        else:
            answer = {0: SAME, 1: UNEXPECTED}.get(process.returncode, REFUSED)
        if answer == SAME:
            kept = dict(losses(folder))  # a damaged line of the log is left out, and said so
            same = (
                parameters(folder) == truth[0]
                and kept.items() <= dict(truth[1]).items()
                and (len(kept) == 50 or "left out line" in text)
            )
            answer = WRONG if not same else OLDER if "is damaged" in text else SAME
        answers[f"{seed}: {fault}"] = NOISY if has_traceback(text) and answer in (SAME, OLDER, REFUSED) else answer
        shutil.rmtree(folder)
    return answers


def kills(scratch: pathlib.Path, seeds: range, steps: int = 200) -> dict[str, str]:
    """One run, killed once a seed; then it is left alone."""
    straight, folder, answers = scratch / "unkilled", scratch / "killed", {}
    trained(straight, steps).wait()
    for seed in seeds:
        random = np.random.default_rng(seed)
        process, begun = trained(folder, steps), len(losses(folder)) if (folder / "metrics.jsonl").exists() else 0
        wanted, deadline = begun + random.integers(1, max(2, steps // len(seeds))), time.monotonic() + 5 * PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
            with contextlib.suppress(OSError):
                if (folder / "metrics.jsonl").read_bytes().count(b"\n") >= wanted:
                    break
        time.sleep(random.uniform(0, 0.5))
        process.kill()
        text = process.communicate()[0]
        answers[f"{seed}: killed"] = UNEXPECTED if process.returncode == 1 else NOISY if has_traceback(text) else SAME
    process = trained(folder, steps)
    text = process.communicate()[0]
    same = process.returncode == 0 and losses(folder) == losses(straight) and parameters(folder) == parameters(straight)
    left = [path for path in folder.rglob("*") if re.search(r"tmp|partial", path.name)]
    answers["the end"] = WRONG if not same else NOISY if left else SAME
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, number in (("damaged", 200), ("resumed", 10), ("kills", 10)):
        parser.add_argument(f"--{name}", type=int, default=number, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    found = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        os.environ["XDG_CACHE_HOME"] = str(scratch / "cache")
        whole = scratch / "whole"
        assert trained(whole, 40).wait() == 0, "the run without a fault failed"
        seeds = {name: range(found.seed, found.seed + getattr(found, name)) for name in ("damaged", "resumed", "kills")}
        answers = {
            "damaged": damaged(whole, scratch, seeds["damaged"]),
            "resumed": resumed(whole, scratch, seeds["resumed"]) if found.resumed else {},
            "kills": kills(scratch, seeds["kills"]) if found.kills else {},
            "inputs": inputs(whole, scratch),
        }
    counts = {part: dict(collections.Counter(by.values())) for part, by in answers.items()}
    bad = {f"{part} {what}": answer for part, by in answers.items() for what, answer in by.items() if answer.isupper()}
    print(json.dumps(counts, indent=1))
    print("\n".join(f"{answer}: {what}" for what, answer in bad.items()))
    record("faults", {"seed": found.seed, "counts": counts, "bad": bad})
    sys.exit(any(answer != NOISY for answer in bad.values()))


if __name__ == "__main__":
    main()
