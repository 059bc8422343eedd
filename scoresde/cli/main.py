"""Console command: `scoresde NAME [flags]` does what `python -m scoresde.NAME [flags]` does."""

import difflib
import importlib
import os
import sys

from scoresde.cli import parser
from scoresde.errors import ConfigError

COMMANDS = {
    "train": "train a score network, or continue",
    "sample": "draw samples of a trained run; encode, decode, interpolate, restore",
    "likelihood": "the likelihood of a trained run on its data, or a bound on it",
    "evaluate": "numbers of a trained run, or of two sets of images",
    "data": "what is in a data set, and the lines for a configuration",
    "convert": "published weights to a run folder, and a run to safetensors",
    "average": "an average of the parameters that was not tracked, as a run folder",
    "report": "the page of a run, or one that compares several",
    "doctor": "versions, devices, and a self-test",
}


def main() -> None:
    parser.run(command)


def command(arguments: list[str]) -> None:
    """Run the command that the first argument names, with the arguments after it."""
    name, *rest = arguments or [""]
    if name in ("--help", "-h"):
        print(f"usage: {parser.CONSOLE} COMMAND [flags]\n\ncommands:")
        print("\n".join(f"  {name:<12}{meaning}" for name, meaning in COMMANDS.items()))
        print(f"\n{parser.CONSOLE} COMMAND --help lists the flags of a command\n{parser.EPILOG}")
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
        raise ConfigError(f"unknown command {name}; {hint}" if name else f"no command; {hint}")
    if (here := os.getcwd()) not in sys.path:  # like `python -m`, for parts in the current directory
        sys.path.insert(0, here)
    importlib.import_module(f"scoresde.cli.{name}").main(rest)
