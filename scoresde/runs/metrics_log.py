"""Log of the metrics of a run on disk: metrics.jsonl and TensorBoard events."""

import json
import math
import pathlib
import sys

from scoresde.errors import ResourceError
from scoresde.runtime.files import MissingError, UnreadableError, write_text
from scoresde.runtime.reading import json_lines


class MetricsLog:
    """Log of metrics in `metrics.jsonl`, one JSON object per line with `step` among its keys, and in TensorBoard
    events.

    Args:
      folder: run folder, which exists.
      step: step from which the run continues. Lines after it are dropped, so that no step appears twice.

    Raises:
      ResourceError: the files cannot be written.
    """

    def __init__(self, folder: pathlib.Path, step: int):
        from tensorboardX import SummaryWriter  # slow to import, and needed only by a run in a folder

        path = folder / "metrics.jsonl"
        try:
            _truncate(path, step)
            self._file = open(path, "a", encoding="utf-8")
            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        except OSError as error:
            raise ResourceError(f"cannot write {path}: {error.strerror}; choose another --workdir") from error

    def write(self, step: int, values: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        try:
            self._file.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")
            self._file.flush()
            for name, value in values.items():
                if math.isfinite(
                    value
                ):  # tensorboardX warns of each value that is not finite, and its charts omit them anyway
                    self._events.add_scalar(name, value, step)
        except OSError as error:
            raise ResourceError(f"cannot write metrics: {error.strerror}; free disk space, then resume") from error

    def close(self) -> None:
        self._file.close()
        self._events.close()


def _truncate(path: pathlib.Path, step: int) -> None:
    """Drop damaged lines and the lines after `step`; the last line of an interrupted run may be truncated."""
    try:
        lines, damaged = json_lines(path)
    except MissingError:
        return
    except UnreadableError as error:
        raise ResourceError(f"cannot continue {path}: {error}; move it away, and the log begins anew") from None
    last = max([line.number for line in lines] + damaged, default=0)
    if inside := [number for number in damaged if number < last]:
        print(
            f"note: {path}: left out line {inside[0]}, which is damaged"
            + (f", and {len(inside) - 1} more" if inside[1:] else ""),
            file=sys.stderr,
        )
    write_text(path, "".join(line.text + "\n" for line in lines if _step(line.value) <= step))


def _step(line: dict) -> float:
    """Return the step of a line; a line without a step counts as later than every step."""
    found = line.get("step")
    return found if isinstance(found, int | float) else math.inf
