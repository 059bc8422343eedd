"""Handling of SIGTERM and the other signals of `errors.STOPS`: finish the step, save, exit.

A single process sets a flag. Several processes must stop at the same step: JAX's preemption service then handles
SIGTERM, and `reached_preemption_sync_point` is true at the same step on all of them. The other signals are forwarded
to it.
"""

import os
import signal

import jax
from jax._src import distributed
from jax.experimental import multihost_utils

from scoresde.errors import STOPS


class StopRequest:
    """Context in which a first signal requests a stop and a second one of the same kind stops immediately.

    A signal that is ignored when the context is entered stays ignored, as SIGHUP is under `nohup`.
    """

    def __init__(self):
        self.asked = False
        self._before = {}

    def __enter__(self):
        numbers = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.getsignal(number) for number in numbers}
        several = jax.process_count() > 1
        for number in numbers:
            signal.signal(number, _pass_on if several and number != signal.SIGTERM else self._ask)
        if several and distributed.global_state.preemption_sync_manager is None:
            # The service is not started earlier, because before the first step nothing would handle its SIGTERM; see
            # `peers.join`.
            jax.config.update("jax_enable_preemption_service", True)
            distributed.global_state.initialize_preemption_sync_manager()
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, _frame):
        self.asked = True
        signal.signal(number, signal.SIG_DFL)

    def reached(self, step: int) -> bool:
        """Return whether to stop after `step`. Call this once after every step, on every process."""
        if jax.process_count() > 1:
            self.asked = self.asked or multihost_utils.reached_preemption_sync_point(step)
        return self.asked


def _pass_on(_number, _frame):
    os.kill(os.getpid(), signal.SIGTERM)
