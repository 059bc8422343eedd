"""`python -m scoresde.likelihood`: bits/dim of a trained run on its data."""

import json
import pathlib

from scoresde.config import override
from scoresde.door import Parser, run
from scoresde.errors import ConfigError, NumericError
from scoresde.likelihoods import data_likelihood
from scoresde.trained import load_trained


def main(arguments: list[str]) -> None:
    parser = Parser("likelihood", "Probability-flow likelihood of a trained run: OUT.npz (per example) and OUT.json.")
    parser.add_argument("--workdir", required=True, help="the run folder")
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--num", type=int, default=-1, help="the first NUM examples; default: all")
    parser.add_argument("--probes", type=int, help="Hutchinson probes per example; 0 takes the exact trace")
    parser.add_argument("--dequantizations", type=int, help="draws of the dequantization noise per example")
    parser.add_argument("--tolerance", type=float, help="of the solver, per example")
    parser.add_argument("--nats", action="store_true", help="log p in nats, for continuous data")
    parser.add_argument("--ema", type=float, help="decay of the averaged parameters; default: the first of training.ema")
    parser.add_argument("--out", help="default: WORKDIR/likelihood_SPLIT")
    parser.add_argument("--keep-going", "--keep_going", action="store_true", help="exit 0 even if a solver failed")
    found = parser.parse(arguments)
    if found.num < -1 or found.num == 0:
        raise ConfigError(f"--num: expected at least 1, or -1 for all, got {found.num}")

    trained = load_trained(found.workdir, ema=found.ema, overrides=found.overrides)
    flags = {name: getattr(found, name) for name in ("probes", "dequantizations", "tolerance")}
    override(trained.config, [f"likelihood.{name}={value}" for name, value in flags.items() if value is not None])
    out = found.out or str(pathlib.Path(found.workdir) / f"likelihood_{found.split}")
    arrays, report = pathlib.Path(out + ".npz"), pathlib.Path(out + ".json")
    report.parent.mkdir(parents=True, exist_ok=True)  # before the work, so that a bad path loses none
    result = data_likelihood(trained, split=found.split, num=found.num, nats=found.nats)

    result.save(arrays)
    report.write_text(json.dumps(result.report, indent=1, allow_nan=False) + "\n")
    print(f"{result.text()}\nwrote {arrays} and {report}")
    if not result.ok.all() and not found.keep_going:
        raise NumericError(
            f"the solver failed for {int((~result.ok).sum())} of {result.ok.size} solves; their rows are NaN and not in "
            "the mean; loosen likelihood.tolerance, or pass --keep-going"
        )


if __name__ == "__main__":
    run(main)
