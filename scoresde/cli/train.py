"""`python -m scoresde.train`: training with samples and an evaluation; the same command resumes."""

import pathlib
import shlex
import sys

from scoresde.cli.parser import Parser, add_distributed
from scoresde.runtime import peers


def main(arguments: list[str]) -> None:
    parser = Parser("train", "Train a score network. The same command continues a run that was interrupted.")
    parser.add_path("--config", required=True, help="experiment file, such as configs/digits_vp.py")
    parser.add_path("--workdir", help="the run folder; default: runs/NAME_OF_CONFIG")
    add_distributed(parser)
    found = parser.parse(arguments)
    import jax

    from scoresde.experiment.config import load_config, with_full_paths
    from scoresde.experiment.description import settings
    from scoresde.experiment.experiment import Experiment
    from scoresde.runs.trackers import require
    from scoresde.workflows.train_run import train_run

    if found.distributed is not None:
        peers.join(found.distributed)  # first, because a process computes when it checks its parameters
    config = load_config(found.config, found.overrides)
    with_full_paths(config)
    workdir = pathlib.Path(found.workdir or pathlib.Path("runs") / pathlib.Path(found.config).stem)
    experiment = Experiment.from_config(config)
    peers.agree("settings", **settings(experiment), **{"--workdir": str(workdir.absolute())})
    if (line := experiment.beyond_decay()) and jax.process_index() == 0:
        print(f"note: {line}", file=sys.stderr)
    require(experiment.trackers)
    experiment.parallelism.check(experiment.training.batch_size)
    train_run(experiment, workdir, shlex.join(["python", "-m", "scoresde.train", *arguments]))
