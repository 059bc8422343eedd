"""`python -m scoresde.average`: see `scoresde.cli.average`."""

from scoresde.cli.average import main
from scoresde.cli.parser import run

if __name__ == "__main__":
    run(main)
