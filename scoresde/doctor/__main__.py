"""`python -m scoresde.doctor`: see `scoresde.cli.doctor`."""

from scoresde.cli.doctor import main
from scoresde.cli.parser import run

if __name__ == "__main__":
    run(main)
