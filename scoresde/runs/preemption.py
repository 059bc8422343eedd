"""SIGTERM and the other signals of `errors.STOPS`: finish the step, save, leave.

One process keeps a flag. Several processes must stop at the same step: there JAX's own preemption service takes the
SIGTERM, and `reached_preemption_sync_point` is true at one step, the same on all of them. The other signals are passed
on to it.
"""

import os
import signal

import jax
from jax._src import distributed
from jax.experimental import multihost_utils

from scoresde.errors import STOPS


class StopRequest:
    """A context in which a first signal asks to stop and a second one of the same kind stops at once.

    A signal that is ignored when the context is entered stays ignored: `nohup` asks for that with SIGHUP.
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
            # Only now, as `peers.join` asked for: before the first step nothing would answer its SIGTERM.
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
        """Whether to stop after `step`. To be asked once after every step, on every process."""
        if jax.process_count() > 1:
            self.asked = self.asked or multihost_utils.reached_preemption_sync_point(step)
        return self.asked


def _pass_on(_number, _frame):
    os.kill(os.getpid(), signal.SIGTERM)
