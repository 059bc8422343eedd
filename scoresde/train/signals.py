"""SIGTERM and SIGINT: finish the step, save, leave.

One process keeps a flag. Several processes must stop at the same step: there JAX's own preemption service takes the
SIGTERM, and `reached_preemption_sync_point` is true at one step, the same on all of them.
"""

import os
import signal

import jax
from jax.experimental import multihost_utils


class StopRequest:
    """A context in which a first signal asks to stop and a second one of the same kind stops at once."""

    def __init__(self):
        self.asked = False
        self._before = {}

    def __enter__(self):
        if jax.process_count() > 1:
            # SIGTERM belongs to JAX's preemption service; Ctrl-C is passed on to it.
            self._before[signal.SIGINT] = signal.signal(
                signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM)
            )
        else:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, _frame):
        self.asked = True
        signal.signal(number, signal.SIG_DFL)

    def reached(self, step: int) -> bool:
        """Whether to stop after `step`. To be asked once after every step, on every process."""
        if jax.process_count() > 1:
            self.asked = self.asked or multihost_utils.reached_preemption_sync_point(step)
        return self.asked
