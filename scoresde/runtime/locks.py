"""The lock of a folder that one process at a time may fill: a lock of the system on a file in it.

The system releases it when the process ends, however it ends, so that no lock outlives a process that was killed.
"""

import errno
import fcntl
import os
from typing import TextIO

from scoresde.errors import ConfigError

# The errors of a lock that another process holds (POSIX allows both); any other means that there are no locks.
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


def acquire_lock(path: str | os.PathLike, held: str) -> TextIO:
    """Lock the file at `path`, which is created if there is none, until the file is closed or the process ends.

    The content of the file stays: it belongs to the process that holds the lock.

    Args:
      held: the message of the error if another process holds the lock.

    Raises:
      ConfigError: another process holds it. OSError: the file cannot be written, or its file system has no locks.
    """
    file = open(path, "a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in _HELD:
            raise ConfigError(held) from None
        error.filename = os.fspath(path)
        raise
    return file
