"""The lock of a run folder, and the check that all processes of the run use the same folder.

Process 0 locks WORKDIR/.lock and writes a random token into it. The others wait for that token: if each machine had a
separate folder, checkpoints would never become complete.
"""

import fcntl
import pathlib
import secrets
import time
from typing import IO

import jax

from scoresde.errors import ConfigError, DistributedError, ResourceError
from scoresde.runtime import peers
from scoresde.runtime.files import UnreadableError, read_bytes

_VISIBLE = 60.0  # seconds within which a new file on a shared file system is visible to every machine


def hold(folder: pathlib.Path) -> IO | None:
    """Lock the run folder for this run until the process ends, however it ends. Call this on every process.

    Returns:
      The open file of the lock on process 0.

    Raises:
      ConfigError: another process holds it. ResourceError: the folder cannot be written. DistributedError: it is not
        the folder of process 0.
    """
    if jax.process_index() == 0:
        file = lock(folder)
        file.write(peers.of_main("folder", secrets.token_hex(8)))
        file.flush()
        return file
    look_for(peers.of_main("folder"), folder)
    return None


def look_for(word: str, folder: pathlib.Path, patience: float = _VISIBLE) -> None:
    """Wait until `folder` holds the lock with this token.

    Raises:
      DistributedError: the token does not appear within `patience` seconds.
    """
    path, deadline = folder / ".lock", time.monotonic() + patience
    while not _holds(path, word):
        if time.monotonic() > deadline:
            raise DistributedError(
                f"process {jax.process_index()} does not find in {folder} what process 0 wrote there {patience:.0f} s "
                "ago; --workdir must be "
                "one folder that all processes share"
            )
        time.sleep(0.1)


def _holds(path: pathlib.Path, word: str) -> bool:
    try:
        return read_bytes(path) == word.encode()
    except UnreadableError:
        return False


def lock(folder: pathlib.Path):
    """Acquire the lock of a run folder.

    Raises:
      ConfigError: another process holds it. ResourceError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a")  # not "w": the existing content belongs to the process that holds the lock
    except OSError as error:
        raise ResourceError(f"cannot write in {folder}: {error.strerror}; choose another --workdir") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigError(
            f"another process is training in {folder}; wait for it, or choose another --workdir"
        ) from error
    file.truncate(0)
    return file
