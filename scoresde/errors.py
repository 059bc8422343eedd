"""Errors that a user can meet, each with its exit code.

A command prints the message as one line and exits with the code. The library raises the same classes.
`ConfigError` is also a ValueError, so that `except ValueError` works in Python.

| code | class             | meaning                                              |
|------|-------------------|------------------------------------------------------|
| 0    |                   | done                                                 |
| 2    | ConfigError       | a flag, a config field or an argument is wrong       |
| 3    | DataError         | the data are missing, damaged or not as declared     |
| 4    | CheckpointError   | no good checkpoint, or one that does not fit         |
| 5    | NumericError      | the loss stayed non-finite, or a solver failed       |
| 6    | ResourceError     | out of memory or disk, no permission, or no device   |
| 7    | DistributedError  | a process of a run was not found, differs, or ended  |
| 75   | Interrupted       | saved after a signal; the same command resumes       |
"""

import signal

# Signals that raise `Interrupted`. They come from a scheduler or `kill`, from Ctrl-C, from a closed terminal, and from
# SLURM if it is configured to send SIGUSR1.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class ScoreSDEError(Exception):
    """Base class of all errors below; `exit_code` is the exit code of a command that raises the error."""

    exit_code = 1


class ConfigError(ScoreSDEError, ValueError):
    """Error for a wrong flag, config field or argument; `problems` holds one line per problem."""

    exit_code = 2

    def __init__(self, *problems: str):
        self.problems = problems
        super().__init__("\n".join(problems))


class DataError(ScoreSDEError):
    exit_code = 3


class CheckpointError(ScoreSDEError):
    exit_code = 4


class NumericError(ScoreSDEError):
    exit_code = 5


class ResourceError(ScoreSDEError):
    exit_code = 6


class DistributedError(ScoreSDEError):
    exit_code = 7


class Interrupted(ScoreSDEError):
    exit_code = 75
