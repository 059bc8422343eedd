"""`python -m scoresde.sample`: samples of a trained run, and encoding, decoding, interpolation and restoration."""

import pathlib
from typing import TYPE_CHECKING

from scoresde.cli.parser import Parser
from scoresde.errors import ConfigError, NumericError
from scoresde.workflows.operators import OPERATORS, START

if TYPE_CHECKING:
    from scoresde.experiment.load import TrainedModel

_MOST = 10**9
_SHOWN = 10  # number of class names in a message
# Default of --task restore: a stochastic sampler removes errors from early steps, in which less of the record was
# determined.
_RESTORER = "sde_dpmpp"
_TASKS = ("generate", "encode", "decode", "interpolate", "restore")


def _parser() -> Parser:
    parser = Parser(
        "sample",
        "Draw samples of a trained run: OUT/samples.npz (samples, seeds, ok) and OUT/grid.png. Or encode records into\n"
        "latents by the probability flow, decode latents, interpolate between records. Or restore degraded records.",
    )
    parser.add_path("--workdir", required=True, help="the run folder")
    parser.add_argument("--task", choices=_TASKS, default="generate", help="what to do; default: generate")
    parser.add_argument("--num", type=int, help="how many: seeds 0 to NUM-1, or the first NUM records; default: 64")
    parser.add_argument(
        "--seeds", help="generate: the seeds, such as 0-63 or 0,5,8-11; image k depends on its seed alone"
    )
    parser.add_path(
        "--input", help="decode: NPZ with `latents`; encode, interpolate, restore: NPZ with `samples` to use as records"
    )
    parser.add_argument(
        "--split", choices=("train", "test"), help="encode, interpolate, restore: whose records; default: test"
    )
    parser.add_argument(
        "--points", type=int, help="interpolate: images from one record of a pair to the other; default: 8"
    )
    parser.add_argument(
        "--operator",
        choices=OPERATORS,
        help="restore: what degrades a record; default: blur, or start where a run starts from data",
    )
    parser.add_argument(
        "--strength",
        type=float,
        help="restore: deviation of the blur in points, factor, or share hidden; default: 1, 2, 0.5",
    )
    parser.add_argument(
        "--observation-noise", type=float, help="restore: deviation of the noise at a point; default: 0.05"
    )
    parser.add_argument(
        "--joint",
        action="store_true",
        default=None,
        help="restore: by the covariance of all values, not a variance per mode",
    )
    parser.add_argument("--baseline", action="store_true", default=None, help="restore: by replacement as well")
    parser.add_argument(
        "--sampler", help="default: sampling.name of the run; restore: see docs/commands.md, which lists them"
    )
    parser.add_argument("--steps", type=int, help="steps of a fixed grid; default: the sampler's own")
    parser.add_argument("--resolution", help="generate: points along each axis, such as 256 or 64,64; for fno and ufno")
    parser.add_renamed("--grid", "--resolution", "the grid of times is --config.sampling.grid")
    label_help = "the class, for a run with labels, as the data call it; default: generate draws one for each seed"
    parser.add_argument("--label", help=label_help)
    parser.add_path("--condition", help="NPZ with an array for each condition: one row for all, or one per sample")
    parser.add_argument(
        "--ema", help="decay, half-life or power:WIDTH of the averaged parameters; default: the first of training.ema"
    )
    parser.add_argument(
        "--checkpoint", default="latest", help="latest, best (see training.keep_best) or a step; default: latest"
    )
    parser.add_path("--out", help="folder; default: WORKDIR/samples_SAMPLER, or WORKDIR/TASK")
    parser.add_argument("--keep-going", "--keep_going", action="store_true", help="exit 0 even if a solver failed")
    return parser


def main(arguments: list[str]) -> None:
    found = _parser().parse(arguments)
    _check(found)
    if found.steps is not None and found.steps < 1:
        raise ConfigError(f"--steps: expected at least 1, got {found.steps}; leave it out for the sampler's own number")
    from scoresde.experiment.load import load_run

    overrides = found.overrides + ([] if found.steps is None else [f"sampling.steps={found.steps}"])
    sampler = {"generate": found.sampler, "restore": found.sampler or _RESTORER}.get(found.task, "probability_flow")
    trained = load_run(found.workdir, ema=found.ema, sampler=sampler, overrides=overrides, checkpoint=found.checkpoint)
    if found.resolution is not None:
        trained = trained.at(_resolution(found.resolution))
    if found.label is not None:
        trained = _with_label(trained, found.label)
    if found.condition is not None:
        from scoresde.workflows.conditions import read_conditions

        trained = read_conditions(trained, found.condition)
    name = f"samples_{trained.experiment.sampler_name.rpartition(':')[2]}" if found.task == "generate" else found.task
    out = pathlib.Path(found.out or pathlib.Path(found.workdir) / name)
    failed, total, what = _perform(found, trained, out)
    if failed and not found.keep_going:
        shown = ", ".join(map(str, failed[:10])) + (f" and {len(failed) - 10} more" if failed[10:] else "")
        raise NumericError(
            f"the solver failed for {len(failed)} of {total} {what}: {shown}; their rows have ok = False in {out}; "
            "raise --steps, loosen sampling.tolerance, or pass --keep-going"
        )


# Tasks that accept a flag, for flags that some tasks refuse.
_TAKEN_BY = {
    "num": ("generate", "encode", "interpolate", "restore"), "seeds": ("generate",), "sampler": ("generate", "restore"),
    "resolution": ("generate",), "input": ("encode", "decode", "interpolate", "restore"),
    "split": ("encode", "interpolate", "restore"), "points": ("interpolate",),
    "operator": ("restore",), "strength": ("restore",), "observation_noise": ("restore",),
    "joint": ("restore",), "baseline": ("restore",),
}  # fmt: skip


def _check(found) -> None:
    """Refuse flags that have no effect, and set the defaults of the others."""
    given = [name for name in _TAKEN_BY if getattr(found, name) is not None]
    problems = [
        f"--{name.replace('_', '-')}: --task {found.task} has no such thing; leave it out"
        for name in given
        if found.task not in _TAKEN_BY[name]
    ]
    for name, other in (("num", "seeds"), ("split", "input")):
        if name in given and other in given:
            problems.append(f"--{name}: --{other} says it already; leave one out")
    if any(text.startswith(("sampling.sampler=", "sampling.name=", "sampling=")) for text in found.overrides):
        problems.append("--config.sampling.name: use --sampler, which brings the steps and grid of its own")
    if found.num is not None and found.num < 1:
        problems.append(f"--num: expected at least 1, got {found.num}")
    if problems:
        raise ConfigError(*problems)
    found.split, found.points = found.split or "test", 8 if found.points is None else found.points


def _perform(found, trained: "TrainedModel", out: pathlib.Path) -> tuple[list[int], int, str]:
    """Perform the task, and return the failures, the total number of records, and the word for the records."""
    import numpy as np

    from scoresde.experiment.building import DEGRADED
    from scoresde.runs.sample_store import parse_seeds
    from scoresde.workflows.conditions import check_null, row_count
    from scoresde.workflows.generate import draw_to

    rows = row_count(trained)
    rows = 2 * rows if rows and found.task == "interpolate" else rows  # a row per pair
    found.num = found.num or rows or (_MOST if found.input else 64)
    if found.task == "generate":
        seeds = parse_seeds(f"0-{found.num - 1}" if found.seeds is None else found.seeds)
        return draw_to(trained, seeds, out), len(seeds), "seeds"
    if found.task in ("encode", "decode", "interpolate") and trained.score.sde.needs_data:
        raise ConfigError(
            f"--task {found.task}: {DEGRADED.format(trained.experiment.process_name)}; use --task restore --operator "
            "start"
        )
    check_null(trained, f"--task {found.task}")
    from scoresde.workflows.encode_decode import decode_to, encode_to, interpolate_to
    from scoresde.workflows.restore import restore_to

    records = dict(source=found.input, split=found.split, num=found.num)
    if found.task == "encode":
        ok = encode_to(trained, **records, out=out)
    elif found.task == "decode":
        ok = decode_to(trained, source=found.input, out=out)
    elif found.task == "interpolate":
        ok = interpolate_to(trained, **records, points=found.points, out=out)
    else:
        operator = found.operator or (START if trained.score.sde.needs_data else OPERATORS[0])
        degradation = dict(operator=operator, strength=found.strength, noise=found.observation_noise)
        ways = dict(baseline=bool(found.baseline), joint=bool(found.joint))
        ok = restore_to(trained, **records, **degradation, **ways, out=out)
    return np.flatnonzero(~ok.reshape(-1)).tolist(), ok.size, "rows"


def _resolution(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise ConfigError(f"--resolution: expected sizes such as 256 or 64,64, got {text!r}") from None


def _with_label(trained: "TrainedModel", label: str) -> "TrainedModel":
    """Return the run with the class of that name. If no name is a number, the number of a class is also accepted."""
    import numpy as np

    names, numbers = trained.classes, tuple(map(str, range(len(trained.classes))))
    known = names if label in names or any(name.isdecimal() for name in names) else numbers
    if label not in known:
        expected = f"--label: expected one of {_named(trained)}, got {label}"
        raise ConfigError(expected if names else "--label: the run has no labels")
    return trained.given({"class": np.int32(known.index(label))})


def _named(trained: "TrainedModel") -> str:
    names = trained.classes
    return ", ".join(names[:_SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > _SHOWN else "")
