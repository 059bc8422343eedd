"""What computed a result: the versions of the packages, and the commit of this one."""

import importlib.metadata
import pathlib
import platform
import subprocess

# Packages that a number may depend on.
PACKAGES = (
    "scoresde", "jax", "jaxlib", "flax", "optax", "diffrax", "lineax", "equinox", "orbax-checkpoint", "numpy",
)  # fmt: skip
MISSING = "missing"
_PATIENCE = 20  # seconds for an answer of git, on a file system that is slow


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, of `PACKAGES` and of `more` packages; `MISSING` for those not installed."""
    return {"python": platform.python_version()} | {name: version(name) for name in (*PACKAGES, *more)}


def version(package: str) -> str:
    """Return the version of one package, or `MISSING`."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def commit() -> str | None:
    """Return the commit of the checkout that this package runs from, with "+changes" where files differ from it; None
    if there is no checkout."""
    root = pathlib.Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answers = [
            subprocess.run(
                ["git", "-C", str(root), *command], capture_output=True, text=True, timeout=_PATIENCE, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return answers[0] + ("+changes" if answers[1] else "")
