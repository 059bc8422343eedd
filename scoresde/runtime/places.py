"""Paths of the user in flags and configurations, and the user's cache folder."""

import os
import pathlib
import re

from scoresde.errors import ConfigError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def local(text: str) -> str:
    """Return the path of a file or folder on this machine, with `~` replaced by the home directory.

    Raises:
      ConfigError: the text is an address such as gs://bucket/folder, or the home directory is unknown.
    """
    if _ADDRESS.match(text):
        raise ConfigError(
            f"{text}: expected a path on this machine, and this is an address; logs, locks and checkpoints are written "
            "through the file "
            "system, so mount the bucket (gcsfuse, mountpoint-s3) and give the path, or copy the files"
        )
    try:
        return str(pathlib.Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError as error:
        reason = str(error).rstrip(".")
        raise ConfigError(
            f"{text}: begins with ~, and {reason[:1].lower()}{reason[1:]}; write the path in full"
        ) from None


def user_cache() -> pathlib.Path | None:
    """Return the cache folder, $XDG_CACHE_HOME/scoresde or ~/.cache/scoresde, or None if it cannot be written, as in
    many containers."""
    try:
        folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "scoresde"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no HOME, and no user entry
        return None
    return folder if os.access(folder, os.W_OK) else None


def in_full(text: str) -> str:
    """Return the absolute path, which is valid in any working directory."""
    return os.path.abspath(local(text))
