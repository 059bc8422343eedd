"""`python -m scoresde.data.navier_stokes`: creation of an NPZ file of vorticity fields, for `functions:FILE`."""

import pathlib

from scoresde.cli.parser import Parser
from scoresde.errors import ConfigError
from scoresde.runtime.files import replacing


def main(arguments: list[str]) -> None:
    parser = Parser(
        "data.navier_stokes", "Fields of vorticity at time T: OUT with an array 'vorticity' [num, size, size]."
    )
    parser.add_path("--out", required=True, help="the NPZ file")
    parser.add_argument("--num", type=int, default=256, help="fields (256)")
    parser.add_argument("--size", type=int, default=64, help="points along an axis (64)")
    parser.add_argument("--viscosity", type=float, default=1e-3, help="nu (1e-3)")
    parser.add_argument("--time", type=float, default=10.0, help="T (10)")
    parser.add_argument("--dt", type=float, default=0.01, help="longest time step (0.01)")
    parser.add_argument("--forcing", type=float, default=0.0, help="amplitude of the forcing (0)")
    parser.add_argument(
        "--initial-std", type=float, default=1.0, help="of the initial vorticity; 0: as in the literature (1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the initial fields (0)")
    parser.add_argument("--batch-size", type=int, default=32, help="fields solved at once (32)")
    found = parser.parse(arguments)
    if found.overrides:
        raise ConfigError("--config: this command has no configuration; use its flags")
    import numpy as np

    from scoresde.data.navier_stokes import solve

    names = ("num", "size", "viscosity", "time", "dt", "forcing", "initial_std", "seed", "batch_size")
    fields = solve(**{name: getattr(found, name) for name in names})
    out = pathlib.Path(found.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as scratch, scratch.open("wb") as file:  # keeps a name without .npz as it is
        np.savez_compressed(file, vorticity=fields)
    print(f"wrote {out}: vorticity {list(fields.shape)}, standard deviation {fields.std():.4g}")
