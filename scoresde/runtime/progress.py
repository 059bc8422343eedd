"""How far long work is: a bar on a terminal, plain lines elsewhere; and output that may end before the work does."""

import contextlib
import math
import os
import sys
import time


class Lasting:
    """Standard output or error that may lose its reader: writing goes on, without output.

    The reader of a pipe ends, as in `... | head -n 1`, or a terminal is closed. The files that a command writes are
    worth more than its lines.
    """

    def __init__(self, stream):
        self._stream = stream

    @classmethod
    def of(cls, stream) -> "Lasting":
        """None: the descriptor was closed from the start."""
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
        """From now on it all goes to the null device, also what the stream still holds and writes when Python ends."""
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            self._stream.flush()


class Progress:
    """Steps/s, items/s and the time left: a bar on a terminal, plain lines elsewhere.

    Args:
      start, total: steps done before, and in all.
      items: examples a step. unit: what a step is called.
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
        """Steps a second since the start, compilation left out: call `restart` after the first step."""
        return (step - self._start) / max(time.monotonic() - self._since, 1e-9)

    def restart(self, step: int) -> None:
        self._start, self._since = step, time.monotonic()

    def show(self, step: int, text: str) -> None:
        """Report that `step` steps are done. Lines come at most once a second."""
        rate = self.rate(step)
        if self._bar is not None:
            self._bar.n = step
            self._bar.set_postfix_str(text)
            self._bar.refresh()
            return
        if step < self._total and time.monotonic() - self._shown < 1:
            return
        self._shown = time.monotonic()
        if not rate:  # the first step: its time was compilation
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
