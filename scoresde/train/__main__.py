"""`python -m scoresde.train`: see `scoresde.cli.train`."""

from scoresde.cli.parser import run
from scoresde.cli.train import main

if __name__ == "__main__":
    run(main)
