"""Results of evaluations, one line of JSON each, with all that is needed to judge and to repeat it: OUT/records.jsonl.

Every line has the keys metric, value, standard_error, values (one per repeat), num_fake, num_real, split, step,
sampler, nfe, time, network, network_sha256, resize, channels, ema, seeds, data, samples, reference, config_hash,
versions, commit, device, details; `asked` is the metric and `arguments` are the arguments of the command. A key that
does not apply is null.
"""

import json
import math
import os
import pathlib

from scoresde.errors import DataError
from scoresde.runtime.files import UnreadableError
from scoresde.runtime.reading import json_lines

# Relative and absolute tolerance of a repeated number. On the same machine with the same versions it is equal up to the
# last bits; on another kind of device samples differ by rounding, which adaptive steps amplify.
RELATIVE, ABSOLUTE = 1e-3, 1e-6
# Metrics of the features of two sets of images, by their names in commands.
OF_FEATURES = ("fid", "fd", "kid", "prdc", "is")


def append(path: pathlib.Path, record: dict) -> None:
    """Append one line in one write: a kill leaves the whole line or none, and lines of two processes do not mix."""
    line = json.dumps({k: _finite(v) for k, v in record.items()}, allow_nan=False) + "\n"
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line  # ends a truncated line
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_results(path: pathlib.Path) -> dict[int, dict]:
    """Return {number of the line, from 1: record} of all complete lines.

    Raises:
        DataError: the file cannot be read, or none of its lines is a record.
    """
    try:
        lines, _ = json_lines(path)
    except UnreadableError as error:
        raise DataError(f"{path}: expected a file of records: {error}; check the path") from None
    records = {line.number: line.value for line in lines if _is_record(line.value)}
    if not records:
        raise DataError(f"{path}: expected lines with metric, value, asked and arguments, found none")
    return records


def _is_record(found: dict) -> bool:
    """Return whether a JSON object has the fields of a record; a file may be damaged, or edited, and still be JSON."""
    if not all(isinstance(found.get(name), str) for name in ("metric", "asked")):
        return False
    number, arguments = found.get("value"), found.get("arguments")
    return (
        isinstance(number, (int, float))
        and isinstance(arguments, list)
        and all(isinstance(text, str) for text in arguments)
    )


def agrees(old: float, new: float) -> bool:
    """Return whether a repeated number equals the recorded one within the tolerances above."""
    return abs(new - old) <= RELATIVE * abs(old) + ABSOLUTE


def _finite(value):
    """Replace numbers that are not finite, which JSON does not have, by null, also within lists and objects."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
