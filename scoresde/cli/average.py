"""`python -m scoresde.average`: computation of an average with a width that was not tracked, as a run folder."""

import pathlib
import sys

from scoresde.cli.parser import Parser
from scoresde.errors import ConfigError

# Above this relative error of the profile, the average differs noticeably from the requested one.
LARGE = 0.02


def main(arguments: list[str]) -> None:
    parser = Parser(
        "average",
        "The average of the parameters by a power function of any relative width, at any step, from the snapshots of a "
        "run that was\n"
        "trained with training.power_ema (Karras et al. 2024). Writes a run folder that sample, likelihood and "
        "evaluate read.",
    )
    parser.add_path("--workdir", required=True, help="the run folder")
    parser.add_argument("--sigma-rel", type=float, required=True, help="the relative width, between 0 and 0.2887")
    parser.add_argument("--step", type=int, help="of the average; default: the last snapshot")
    parser.add_path(
        "--out", help="the run folder to write; default: WORKDIR/average_WIDTH, or WORKDIR/average_WIDTH_STEP"
    )
    found = parser.parse(arguments)
    if found.overrides:
        raise ConfigError("--config: an average is of the run as it was trained; leave it out")
    from scoresde.convert.folder import check_free
    from scoresde.workflows.posthoc import reconstruct, write

    name = f"average_{found.sigma_rel:g}" + ("" if found.step is None else f"_{found.step}")
    out = pathlib.Path(found.out) if found.out else pathlib.Path(found.workdir) / name
    check_free(out)
    average = reconstruct(found.workdir, found.sigma_rel, found.step)
    write(average, out)
    print(f"{average.text()}\nwrote {out}")
    if average.residual > LARGE:
        print(
            f"warning: residual {average.residual:.2g}, above {LARGE}: the snapshots do not make this average; take "
            "the --step of a snapshot, more of them (training.snapshot_every), or a width nearer to those tracked",
            file=sys.stderr,
        )
