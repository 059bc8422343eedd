"""`python -m scoresde.data.navier_stokes`: see `scoresde.cli.navier_stokes`."""

from scoresde.cli.navier_stokes import main
from scoresde.cli.parser import run

if __name__ == "__main__":
    run(main)
