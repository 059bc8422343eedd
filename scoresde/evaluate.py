"""`python -m scoresde.evaluate`: see `scoresde.cli.evaluate`."""

from scoresde.cli.evaluate import main
from scoresde.cli.parser import run

if __name__ == "__main__":
    run(main)
