"""`python -m scoresde.likelihood`: bits/dim of a trained run on its data."""

import pathlib
from typing import TYPE_CHECKING

from scoresde.cli.parser import Parser
from scoresde.errors import ConfigError, DataError, NumericError

if TYPE_CHECKING:
    from scoresde.experiment.load import TrainedModel


def main(arguments: list[str]) -> None:
    parser = Parser("likelihood", "Likelihood of a trained run, or a bound on it: OUT.npz (per example) and OUT.json.")
    parser.add_path("--workdir", required=True, help="the run folder")
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--num", type=int, default=-1, help="the first NUM examples; default: all")
    parser.add_argument("--method", help="flow (probability flow), elbo or vlb (bounds in continuous, discrete time)")
    parser.add_argument("--probes", type=int, help="flow: probes per example; 0 takes the exact trace")
    parser.add_argument("--estimator", help="flow: rademacher, gaussian or hutchpp")
    parser.add_argument(
        "--dequantization",
        help="integers: uniform, variational, truncated_normal (flow), none (elbo, vlb), or module:attribute",
    )
    parser.add_argument("--dequantizations", type=int, help="integers: draws of x per example")
    parser.add_argument("--samples", type=int, help="elbo, vlb: calls of the score per example")
    parser.add_argument("--tolerance", type=float, help="flow: of the solver, per example")
    parser.add_argument("--nats", action="store_true", help="log p in nats, for continuous data")
    parser.add_argument(
        "--ema", help="decay, half-life or power:WIDTH of the averaged parameters; default: the first of training.ema"
    )
    parser.add_argument(
        "--checkpoint", default="latest", help="latest, best (see training.keep_best) or a step; default: latest"
    )
    parser.add_path("--out", help="default: WORKDIR/likelihood_SPLIT")
    parser.add_argument("--keep-going", "--keep_going", action="store_true", help="exit 0 even if a solver failed")
    found = parser.parse(arguments)
    if found.num < -1 or found.num == 0:
        raise ConfigError(f"--num: expected at least 1, or -1 for all, got {found.num}")
    from scoresde.experiment.load import load_run
    from scoresde.likelihood.report import write
    from scoresde.workflows.likelihood import data_likelihood

    flags = {name: value for name in _METHODS if (value := getattr(found, name)) is not None}
    overrides = found.overrides + [f"likelihood.{name}={value}" for name, value in flags.items()]
    trained = load_run(found.workdir, ema=found.ema, overrides=overrides, checkpoint=found.checkpoint)
    _check(flags, trained)
    out = found.out or str(pathlib.Path(found.workdir) / f"likelihood_{found.split}")
    arrays, report = pathlib.Path(out + ".npz"), pathlib.Path(out + ".json")
    report.parent.mkdir(parents=True, exist_ok=True)  # before the work, so that a bad path causes no loss
    if folders := [path for path in (arrays, report) if path.is_dir()]:
        raise ConfigError(f"--out: expected a name for files, got the folder {folders[0]}")
    result = data_likelihood(
        trained, split=found.split, num=found.num, nats=found.nats, folder=pathlib.Path(found.workdir)
    )

    result.save(arrays)
    write(result.report, report)
    print(f"{result.text()}\nwrote {arrays} and {report}")
    if not result.ok.all() and not found.keep_going:
        raise NumericError(
            f"the solver failed for {int((~result.ok).sum())} of {result.ok.size} solves; their rows are NaN and not "
            "in the mean; loosen likelihood.tolerance, or pass --keep-going"
        )


# Methods that accept a flag that sets likelihood.FLAG.
_METHODS = {
    "method": ("flow", "elbo", "vlb"),
    "probes": ("flow",), "estimator": ("flow",), "tolerance": ("flow",),
    "dequantization": ("flow", "elbo", "vlb"), "dequantizations": ("flow", "elbo", "vlb"), "samples": ("elbo", "vlb"),
}  # fmt: skip


def _check(flags: dict, trained: "TrainedModel") -> None:
    """Refuse flags that have no effect."""
    method = trained.experiment.likelihood.method
    if idle := [name for name in flags if method not in _METHODS[name]]:
        raise ConfigError(*(f"--{name}: --method {method} has no such thing; leave it out" for name in idle))
    if "estimator" in flags and not trained.experiment.likelihood.probes:
        raise ConfigError("--estimator: with likelihood.probes = 0 the trace is exact; give --probes as well")
    if flags.keys() & {"dequantization", "dequantizations"} and not trained.codec.levels:
        source = trained.experiment.source_name
        raise DataError(f"--dequantization, --dequantizations: {source} is continuous (data.levels = 0); leave it out")
