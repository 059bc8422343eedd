"""`python -m scoresde.sample`: draw samples of a trained run."""

import dataclasses
import pathlib

import jax.numpy as jnp

from scoresde.config import override
from scoresde.door import Parser, run
from scoresde.errors import ConfigError, NumericError
from scoresde.draws import draw_to
from scoresde.sample.store import parse_seeds
from scoresde.trained import Trained, load_trained


def main(arguments: list[str]) -> None:
    parser = Parser("sample", "Draw samples of a trained run: OUT/samples.npz (samples, seeds, ok) and OUT/grid.png.")
    parser.add_argument("--workdir", required=True, help="the run folder")
    parser.add_argument("--num", type=int, default=64, help="how many; seeds 0 to NUM-1")
    parser.add_argument("--seeds", help="the seeds instead, such as 0-63 or 0,5,8-11; image k depends on its seed alone")
    parser.add_argument("--sampler", help="reverse_sde or probability_flow; default: sampling.sampler of the run")
    parser.add_argument("--steps", type=int, help="steps of a fixed grid; probability_flow is adaptive without")
    parser.add_argument("--label", type=int, help="the class, for a run with labels; default: the null class")
    parser.add_argument("--ema", type=float, help="decay of the averaged parameters; default: the first of training.ema")
    parser.add_argument("--out", help="folder; default: WORKDIR/samples_SAMPLER")
    parser.add_argument("--keep-going", "--keep_going", action="store_true", help="exit 0 even if a solver failed")
    found = parser.parse(arguments)
    if found.num < 1:
        raise ConfigError(f"--num: expected at least 1, got {found.num}")
    seeds = parse_seeds(found.seeds or f"0-{found.num - 1}")

    overrides = found.overrides + ([f"sampling.sampler={found.sampler}"] if found.sampler else [])
    trained = load_trained(found.workdir, ema=found.ema, overrides=overrides)
    if found.steps is not None:
        field = "steps" if trained.config.sampling.sampler == "reverse_sde" else "ode_steps"
        override(trained.config, [f"sampling.{field}={found.steps}"])
    if found.label is not None:
        trained = _with_label(trained, found.label)
    out = pathlib.Path(found.out or pathlib.Path(found.workdir) / f"samples_{trained.config.sampling.sampler}")

    failed = draw_to(trained, seeds, out)
    if failed and not found.keep_going:
        shown = ", ".join(map(str, failed[:10])) + (f" and {len(failed) - 10} more" if failed[10:] else "")
        raise NumericError(
            f"the solver failed for {len(failed)} of {len(seeds)} seeds: {shown}; their rows have ok = False in "
            f"{out / 'samples.npz'}; raise --steps, loosen sampling.tolerance, or pass --keep-going"
        )


def _with_label(trained: Trained, label: int) -> Trained:
    classes = trained.config.model.num_classes
    if not 0 <= label < classes:
        raise ConfigError(f"--label: expected 0 to {classes - 1}, got {label}" if classes else "--label: the run has no labels")
    return trained._replace(score=dataclasses.replace(trained.score, label=jnp.asarray(label)))


if __name__ == "__main__":
    run(main)
