"""`python -m scoresde.sample`: see `scoresde.cli.sample`."""

from scoresde.cli.parser import run
from scoresde.cli.sample import main

if __name__ == "__main__":
    run(main)
