"""Suppression of messages that Orbax and tensorstore print about a failed write or read in addition to their exception.

When one array of a checkpoint fails, Orbax raises and closes its event loop while the other arrays are still being
processed. Each of them then finds the loop closed, in a thread of tensorstore, or is collected as a future or a
coroutine whose result is never read. Each prints a traceback: 36 of them for a network of 80,000 parameters on a full
disk. The exception itself is caught in checkpoint.py, which reports it in one line.
"""

import functools
import logging
import sys
import traceback

_LOOP_CLOSED = "Event loop is closed"
_THEIRS = ("orbax", "tensorstore", "OCDBT", "zarr", _LOOP_CLOSED)


@functools.cache  # called once per process
def leave_out_late_reports() -> None:
    """Suppress these reports from now on; all others are printed."""
    # Orbax logs every step, and the tracebacks of failed writes as errors.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_is_not_theirs)
    except_hook, unraisable_hook = sys.excepthook, sys.unraisablehook

    def excepthook(kind, value, trace):
        if str(value) != _LOOP_CLOSED:
            except_hook(kind, value, trace)

    def unraisablehook(report):
        if not _is_theirs(f"{report.object!r} {report.exc_value}"):
            unraisable_hook(report)

    sys.excepthook, sys.unraisablehook = excepthook, unraisablehook


def _is_not_theirs(record: logging.LogRecord) -> bool:
    """Return whether a report of asyncio concerns work other than reading or writing a checkpoint."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    text = record.getMessage() + ("".join(traceback.format_exception(error)) if error else "")
    return not _is_theirs(text)


def _is_theirs(text: str) -> bool:
    return any(word.lower() in text.lower() for word in _THEIRS)
