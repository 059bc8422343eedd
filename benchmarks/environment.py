"""The environment of other libraries, apart from ours: they ask for versions that do not go with it."""

import os
import pathlib
import subprocess
import sys


def environment(folder: pathlib.Path, packages: list[str], without_dependencies: list[str]) -> pathlib.Path:
    """The Python of the environment in `folder`, made and filled if need be."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    filled = folder / "filled"
    if not filled.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        (folder / ".gitignore").write_text("*\n")
        for arguments in (packages, ["--no-deps", *without_dependencies]):
            subprocess.run([python, "-m", "pip", "install", *arguments], check=True)
        filled.touch()
    return python
