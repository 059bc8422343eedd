"""`python -m scoresde.likelihood`: see `scoresde.cli.likelihood`."""

from scoresde.cli.likelihood import main
from scoresde.cli.parser import run

if __name__ == "__main__":
    run(main)
