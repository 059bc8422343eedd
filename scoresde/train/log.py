"""The figures of a run on disk: metrics.jsonl, and TensorBoard beside it."""

import json
import math
import os
import pathlib

from scoresde.errors import ResourceError


class MetricsLog:
    """`metrics.jsonl`, one JSON object a line with `step` among its keys, and TensorBoard events beside it.

    Args:
      folder: the run folder; it exists.
      step: the step the run continues from. Lines after it are dropped, so that no step stands twice.

    Raises:
      ResourceError: the files cannot be written.
    """

    def __init__(self, folder: pathlib.Path, step: int):
        from tensorboardX import SummaryWriter  # slow to import, and only a run in a folder needs it

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
                self._events.add_scalar(name, value, step)
        except OSError as error:
            raise ResourceError(f"cannot write metrics: {error.strerror}; free disk space, then resume") from error

    def close(self) -> None:
        self._file.close()
        self._events.close()


def _truncate(path: pathlib.Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            pass  # the last line of a killed run may be cut short
    scratch = path.with_suffix(".tmp")
    scratch.write_text("".join(kept), encoding="utf-8")
    os.replace(scratch, path)
