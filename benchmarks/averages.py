"""Averages made after a run against the same ones tracked on the way.

python -m scoresde.train --config configs/mixture_2d.py --workdir runs/widths
    --config.training.power_ema=0.05,0.075,0.1,0.15 \\
    --config.training.snapshot_every=125 && python benchmarks/averages.py --workdir runs/widths

Snapshots of widths 0.05 and 0.1 make those of 0.075 and 0.15 at the last step: the norm of the difference over that of
the average, by coefficients of sum 1, and by free least squares as published. `nearest` is the difference of the
nearest width tracked.
"""

import argparse
import pathlib

import jax
import numpy as np
from record import record

from scoresde.experiment import Experiment
from scoresde.experiment.load import local_sharding, stored_config
from scoresde.runs.snapshots import snapshots
from scoresde.train import power_name
from scoresde.train.average import exponent
from scoresde.workflows.posthoc.profiles import fit, inner

TRACKED, WANTED, EVERY = (0.05, 0.1), (0.075, 0.15), (1, 2, 4, 8, 16)


def vectors(folder: pathlib.Path) -> dict[int, dict[float, np.ndarray]]:
    """{step: {width: all parameters, float64}}."""
    config, _ = stored_config(folder)
    params = Experiment.from_config(config).network.params
    like = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=local_sharding()), params)
    target, stored, found = {power_name(width): like for width in config.training.power_ema}, snapshots(folder), {}
    for step in sorted(stored.steps()):
        averages, _ = stored.restore(target, accept=lambda meta: None, set_aside=False, step=step)
        found[step] = {
            width: np.concatenate(
                [np.ravel(leaf).astype(float) for leaf in jax.tree.leaves(averages[power_name(width)])]
            )
            for width in (*TRACKED, *WANTED)
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workdir", required=True)
    found = vectors(pathlib.Path(parser.parse_args().workdir))
    steps, rows = list(found), []
    for every in EVERY:
        used = steps[every - 1 :: every]
        t, gamma = np.repeat(np.array(used, float), 2), np.tile([exponent(width) for width in TRACKED], len(used))
        columns = np.stack([found[step][width] for step in used for width in TRACKED], axis=1)
        for width in WANTED:
            direct, wanted = found[steps[-1]][width], (float(steps[-1]), exponent(width))
            by_sum, size = fit(t, gamma, *wanted), np.linalg.norm(direct)
            free = np.linalg.solve(inner(t[:, None], gamma[:, None], t, gamma), inner(t, gamma, *wanted))
            row = {
                "snapshots": len(used), "width": width, "residual": by_sum.residual,
                "error": np.linalg.norm(columns @ by_sum.coefficients - direct) / size,
                "error_of_free_least_squares": np.linalg.norm(columns @ free - direct) / size,
                "nearest": min(np.linalg.norm(found[steps[-1]][other] - direct) for other in TRACKED) / size,
            }  # fmt: skip
            rows.append(
                {
                    name: value if name in ("snapshots", "width") else float(f"{value:.2e}")
                    for name, value in row.items()
                }
            )
            print(rows[-1])
    record("averages", {"steps": steps[-1], "parameters": int(columns.shape[0]), "rows": rows})


if __name__ == "__main__":
    main()
