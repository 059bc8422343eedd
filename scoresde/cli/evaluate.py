"""`python -m scoresde.evaluate`: metrics of a trained run, or of two sets of images, and their repetition."""

import argparse
import dataclasses
import pathlib
import shutil
from typing import TYPE_CHECKING

from scoresde.cli.parser import Parser
from scoresde.errors import ConfigError, NumericError
from scoresde.metrics import record
from scoresde.runtime.places import user_cache
from scoresde.runtime.reading import is_whole_number
from scoresde.workflows.request import METRICS, Request, validate

if TYPE_CHECKING:
    from scoresde.experiment.load import TrainedModel

_REPETITION = ".repeat-{}"  # folder next to the records during the repetition of a number


def _parser() -> Parser:
    parser = Parser(
        "evaluate",
        "Numbers of a trained run, or of two sets of images: one line of OUT/records.jsonl each, with all it takes to "
        "repeat it.\n"
        "Without --metrics: test bits/dim (nats for continuous data) and a picture. A killed command continues.",
    )
    parser.add_path("--workdir", help="the run folder")
    parser.add_argument("--metrics", help=f"several of {','.join(METRICS)}")
    parser.add_argument(
        "--num", type=int, help="samples to draw, default 50000; bpd, nats: the first NUM test examples, default all"
    )
    parser.add_argument("--seeds", help="the seeds of the samples instead, such as 0-49999")
    parser.add_argument(
        "--repeats", type=int, help="sets of samples of NUM each, whose spread is the standard error; default: 1"
    )
    parser.add_path(
        "--network", help="file of the 2015 Inception (.npz or .pth) or of DINOv2 (.safetensors or .pth), or pixels"
    )
    parser.add_argument("--split", choices=("train", "test"), help="of the run's data, to compare with; default: train")
    samples = "images to evaluate instead of drawing: FILE.npz[:ARRAY], or a folder or zip of images"
    parser.add_path("--samples", help=samples)
    reference = "images to compare with, as --samples, or FILE.npz with mu and sigma; default: the run's data"
    parser.add_path("--reference", help=reference)
    parser.add_path(
        "--features", help="NPZ with features `fake` and `real` [N, D], and perhaps `fake_logits`, of another network"
    )
    parser.add_argument("--sampler", help="default: sampling.name of the run")
    parser.add_argument("--steps", type=int, help="steps of a fixed grid; default: the sampler's own")
    parser.add_argument(
        "--ema", help="decay, half-life or power:WIDTH of the averaged parameters; default: the first of training.ema"
    )
    parser.add_argument("--checkpoint", help="latest, best (see training.keep_best) or a step; default: latest")
    parser.add_path("--out", help="folder; default: WORKDIR/evaluation, or evaluation")
    parser.add_path(
        "--stats",
        help="folder for the features of references; default: ~/.cache/scoresde, or OUT/references where that cannot "
        "be written",
    )
    parser.add_argument(
        "--keep-going", "--keep_going", action="store_true", help="leave out samples whose solver failed"
    )
    parser.add_path(
        "--repeat",
        metavar="FILE[:LINE]",
        help="repeat the number in a line of records.jsonl, the last if none is named, and compare",
    )
    return parser


def main(arguments: list[str]) -> None:
    found = _parser().parse(arguments)
    if found.repeat is not None:
        if idle := [name for name in ("out", "metrics") if getattr(found, name) is not None]:
            raise ConfigError(
                *(f"--{name}: the record and its place say it already; leave it out beside --repeat" for name in idle)
            )
        at = arguments.index("--repeat") if "--repeat" in arguments else None
        rest = (
            arguments[:at] + arguments[at + 2 :]
            if at is not None
            else [text for text in arguments if not text.startswith("--repeat=")]
        )
        _repeat(found.repeat, rest)
        return
    from scoresde.workflows.evaluate import FILE, evaluate
    from scoresde.workflows.generate import draw_picture

    request, trained, plain = _asked(found)
    evaluate(request, trained)
    wrote = str(request.out / FILE)
    if plain:
        draw_picture(trained, request.out / "grid.png")
        wrote = f"{request.out / 'evaluation.json'}, {wrote} and {request.out / 'grid.png'}"
    print(f"wrote {wrote}")


def _asked(found: argparse.Namespace) -> tuple[Request, "TrainedModel | None", bool]:
    """Return the request, its run, and whether no metric was named."""
    from scoresde.experiment.config import with_full_path
    from scoresde.workflows.evaluate import load

    if found.num is not None and (found.num < -1 or found.num == 0):
        raise ConfigError(f"--num: expected at least 1, or -1 for all, got {found.num}")
    plain = found.metrics is None
    out = pathlib.Path(found.out or pathlib.Path(found.workdir or ".") / "evaluation")
    stats = pathlib.Path(found.stats) if found.stats else user_cache() or out / "references"
    flags = {field.name: getattr(found, field.name) for field in dataclasses.fields(Request)}
    flags |= {
        "metrics": ("nats",) if plain else tuple(found.metrics.split(",")),
        "num": None if found.num == -1 else found.num, "out": out,
        "stats": stats, "overrides": tuple(map(with_full_path, found.overrides)),
    }  # fmt: skip
    request = Request(**flags)
    validate(request)  # before a checkpoint is read
    trained = load(request)
    if plain and trained.codec.levels:
        request = dataclasses.replace(request, metrics=("bpd",))
    return request, trained, plain


def _repeat(text: str, others: list[str]) -> None:
    """Recompute the number of a record from the start, in a separate folder. `others` are flags for files that have
    moved.

    Raises:
        NumericError: the numbers differ.
    """
    from scoresde.workflows.evaluate import evaluate

    name, colon, number = text.rpartition(":")
    file, line = (pathlib.Path(name), int(number)) if colon and is_whole_number(number) else (pathlib.Path(text), None)
    records = record.read_results(file)
    if line is None:
        line = max(records)
    if line not in records:
        raise ConfigError(f"--repeat: {file} has no record in line {line}; there are {', '.join(map(str, records))}")
    old, folder = records[line], file.parent / _REPETITION.format(line)
    again = [*old["arguments"], "--metrics", old["asked"], "--out", str(folder), *others]
    request, trained, _ = _asked(_parser().parse(again))
    found = {new["metric"]: new for new in evaluate(request, trained, expected=old)}
    shutil.rmtree(folder)  # deleted so that the next repetition starts anew instead of resuming
    if old["metric"] not in found:
        raise NumericError(f"{old['metric']}: the repetition gave {', '.join(found)} instead")
    new = found[old["metric"]]["value"]
    print(
        f"{old['metric']}: recorded {old['value']:.9g}, repeated {new:.9g}, difference {new - old['value']:.3g} "
        f"(tolerance {record.RELATIVE:g} of it + {record.ABSOLUTE:g})"
    )
    if not record.agrees(old["value"], new):
        raise NumericError(
            f"{old['metric']}: the repeated number is not the recorded one; compare versions, device and commit of "
            f"line {line}"
        )
