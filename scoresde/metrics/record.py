"""One number, one line of JSON, with all that it takes to judge it and to repeat it: OUT/records.jsonl.

Keys of every line: metric, value, standard_error, values (one per repeat), num_fake, num_real, split, step, sampler,
nfe, time, network, network_sha256, resize, channels, ema, seeds, data, samples, reference, config_hash, versions,
commit, device, details; `asked` and `arguments` are what the command was given. What does not apply is null.
"""

import json
import math
import os
import pathlib

from scoresde.errors import DataError
from scoresde.runtime.files import UnreadableError
from scoresde.runtime.reading import json_lines

# A repeated number may differ from the recorded one by this share of it, and this much. On the same machine and
# versions
# it is equal to the last bits; on another kind of device samples differ by rounding, which adaptive steps amplify.
RELATIVE, ABSOLUTE = 1e-3, 1e-6
# Numbers of the features of two sets of images, by the names under which they are asked for.
OF_FEATURES = ("fid", "fd", "kid", "prdc", "is")


def append(path: pathlib.Path, record: dict) -> None:
    """Add one line, in one write: a kill leaves the whole line or none, and lines of two processes do not mix."""
    line = json.dumps({k: _finite(v) for k, v in record.items()}, allow_nan=False) + "\n"
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line  # the end of a line that was cut short
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_results(path: pathlib.Path) -> dict[int, dict]:
    """{line, from 1: record} of all lines that are whole.

    Raises:
        DataError: no file there, or none of its lines is a record.
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
    """Whether it says what number it is and how it was asked for; a file may be damaged, or edited, and still be
    JSON."""
    if not all(isinstance(found.get(name), str) for name in ("metric", "asked")):
        return False
    number, arguments = found.get("value"), found.get("arguments")
    return (
        isinstance(number, (int, float))
        and isinstance(arguments, list)
        and all(isinstance(text, str) for text in arguments)
    )


def agrees(old: float, new: float) -> bool:
    """Whether a repeated number is the recorded one, within the tolerance stated above."""
    return abs(new - old) <= RELATIVE * abs(old) + ABSOLUTE


def _finite(value):
    """With null for numbers that are not finite, within lists and objects too: JSON has none."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
