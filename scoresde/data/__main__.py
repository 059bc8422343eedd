"""`python -m scoresde.data`: see `scoresde.cli.data`."""

from scoresde.cli.data import main
from scoresde.cli.parser import run

if __name__ == "__main__":
    run(main)
