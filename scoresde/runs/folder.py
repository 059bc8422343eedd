"""One run folder, held by one run, and the same for all of its processes.

Process 0 locks WORKDIR/.lock and writes a random word into it. The others look for that word: in a folder that each
machine has for itself, the parts of a checkpoint never become whole.
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

_VISIBLE = 60.0  # seconds after which a shared file system shows a new file to every machine


def hold(folder: pathlib.Path) -> IO | None:
    """Hold the run folder for this run; the lock goes with the process, however it ends. To be called on every process.

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
    """Return when `folder` holds the lock with this word.

    Raises:
      DistributedError: it does not within `patience` seconds.
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
    """The lock of a run folder.

    Raises:
      ConfigError: another process holds it. ResourceError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a")  # not "w": what stands there is of the process that holds it
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
