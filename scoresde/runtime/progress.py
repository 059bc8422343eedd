"""Progress of long work: a bar on a terminal, otherwise plain lines; and output streams whose reader may end."""

import contextlib
import math
import os
import sys
import time


class Lasting:
    """Standard output or error whose reader may end; writing then continues without output.

    The reader of a pipe may end, as in `... | head -n 1`, or a terminal may be closed. The command must nevertheless
    finish writing its files.

    Args:
      stream: the stream to which text is written.
    """

    def __init__(self, stream):
        self._stream = stream

    @classmethod
    def of(cls, stream) -> "Lasting":
        """Return `stream` as a `Lasting`; None stands for a descriptor that was closed at the start."""
        return stream if isinstance(stream, cls) else cls(open(os.devnull, "w") if stream is None else stream)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._drop()
            return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def _drop(self) -> None:
        """Redirect the stream to the null device, including buffered text that is written when Python ends."""
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            self._stream.flush()


class Progress:
    """Display of steps/s, items/s and the remaining time: a bar on a terminal, otherwise plain lines.

    Args:
      start: number of steps done before.
      total: total number of steps.
      items: examples per step.
      unit: name of a step.
    """

    def __init__(self, start: int, total: int, *, items: int, unit: str = "step"):
        self._start, self._total, self._items, self._unit = start, total, items, unit
        self._since = time.monotonic()
        self._shown = -math.inf
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(initial=start, total=total, unit=unit, dynamic_ncols=True)

    def rate(self, step: int) -> float:
        """Return the steps per second since the start; call `restart` after the first step to exclude compilation."""
        return (step - self._start) / max(time.monotonic() - self._since, 1e-9)

    def restart(self, step: int) -> None:
        self._start, self._since = step, time.monotonic()

    def show(self, step: int, text: str) -> None:
        """Report that `step` steps are done. Lines are printed at most once per second."""
        rate = self.rate(step)
        if self._bar is not None:
            self._bar.n = step
            self._bar.set_postfix_str(text)
            self._bar.refresh()
            return
        if step < self._total and time.monotonic() - self._shown < 1:
            return
        self._shown = time.monotonic()
        if not rate:  # the first step, whose time was compilation
            print(f"{self._unit} {step}/{self._total}  {text}", flush=True)
            return
        speed = f"{rate:.3g} {self._unit}s/s"
        if self._items > 1:
            speed += f"  {rate * self._items:.4g} images/s"
        print(
            f"{self._unit} {step}/{self._total}  {text}  {speed}  ETA {_clock((self._total - step) / rate)}", flush=True
        )

    def say(self, text: str) -> None:
        """Print a separate line."""
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
