"""What an experiment file needs.

`default()` returns a configuration to change. `component` names a part and its arguments, and `constructor` marks a
function of yours as one that a configuration may call.
"""

from scoresde.experiment.component import component, constructor
from scoresde.experiment.config import default

__all__ = ["component", "constructor", "default"]
