"""`python -m scoresde.report`: see `scoresde.cli.report`."""

from scoresde.cli.parser import run
from scoresde.cli.report import main

if __name__ == "__main__":
    run(main)
