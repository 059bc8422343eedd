"""`python -m scoresde.evaluate`: bits/dim and a picture of samples of a trained run."""

import pathlib

from scoresde.door import Parser, run
from scoresde.draws import draw_picture
from scoresde.errors import ConfigError
from scoresde.likelihoods import evaluate
from scoresde.trained import LATEST, load_trained


def main(arguments: list[str]) -> None:
    parser = Parser("evaluate", "Test bits/dim (nats for continuous data) and samples: OUT/evaluation.json and OUT/grid.png.")
    parser.add_argument("--workdir", required=True, help="the run folder")
    parser.add_argument("--num", type=int, default=-1, help="the first NUM test examples; default: all")
    parser.add_argument("--ema", type=float, help="decay of the averaged parameters; default: the first of training.ema")
    parser.add_argument("--checkpoint", default=LATEST, help="latest, best (see training.keep_best) or a step; default: latest")
    parser.add_argument("--out", help="folder; default: WORKDIR/evaluation")
    found = parser.parse(arguments)
    if found.num < -1 or found.num == 0:
        raise ConfigError(f"--num: expected at least 1, or -1 for all, got {found.num}")
    out = pathlib.Path(found.out or pathlib.Path(found.workdir) / "evaluation")
    trained = load_trained(found.workdir, ema=found.ema, overrides=found.overrides, checkpoint=found.checkpoint)
    print(evaluate(trained, num=found.num, out=out, folder=pathlib.Path(found.workdir)))
    draw_picture(trained, out / "grid.png")
    print(f"wrote {out / 'evaluation.json'} and {out / 'grid.png'}")


if __name__ == "__main__":
    run(main)
