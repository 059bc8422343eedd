"""Lock of a run folder, and the check that all processes of the run use the same folder.

Process 0 locks WORKDIR/.lock and writes a random token into it. The others wait for that token: if each machine had a
separate folder, checkpoints would never become complete.
"""

import pathlib
import secrets
import time
from typing import TextIO

import jax

from scoresde.errors import DistributedError, ResourceError
from scoresde.runtime import peers
from scoresde.runtime.files import UnreadableError, read_bytes
from scoresde.runtime.locks import acquire_lock

_VISIBLE = 60.0  # seconds within which a new file on a shared file system is visible to every machine


def hold(folder: pathlib.Path) -> TextIO | None:
    """Lock the run folder for this run until the process ends for any reason. Call this on every process.

    Returns:
      The open lock file on process 0, and None on the others.

    Raises:
      ConfigError: another process has the lock.
      ResourceError: the folder cannot be written.
      DistributedError: the folder is not that of process 0.
    """
    if jax.process_index() == 0:
        file = lock(folder)
        file.write(peers.of_main("folder", secrets.token_hex(8)))
        file.flush()
        return file
    look_for(peers.of_main("folder"), folder)
    return None


def look_for(word: str, folder: pathlib.Path, patience: float = _VISIBLE) -> None:
    """Wait until the lock in `folder` contains the token `word`.

    Raises:
      DistributedError: the token does not appear within `patience` seconds.
    """
    path, deadline = folder / ".lock", time.monotonic() + patience
    while not _holds(path, word):
        if time.monotonic() > deadline:
            raise DistributedError(
                f"process {jax.process_index()} does not find in {folder} what process 0 wrote there {patience:.0f} s "
                "ago; --workdir must be one folder that all processes share"
            )
        time.sleep(0.1)


def _holds(path: pathlib.Path, word: str) -> bool:
    try:
        return read_bytes(path) == word.encode()
    except UnreadableError:
        return False


def lock(folder: pathlib.Path) -> TextIO:
    """Acquire the lock of a run folder.

    Raises:
      ConfigError: another process has the lock.
      ResourceError: the folder cannot be written.
    """
    held = f"another process is training in {folder}; wait for it, or choose another --workdir"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = acquire_lock(folder / ".lock", held)
    except OSError as error:
        raise ResourceError(f"cannot write in {folder}: {error.strerror}; choose another --workdir") from error
    file.truncate(0)  # deletes the token of an earlier run
    return file
