"""`python -m scoresde.convert`: see `scoresde.cli.convert`."""

from scoresde.cli.convert import main
from scoresde.cli.parser import run

if __name__ == "__main__":
    run(main)
