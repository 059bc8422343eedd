"""Experiments: configurations, the parts that they name, and the run folders that they produce."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__, {"experiment": "Experiment", "load": "load_run TrainedModel", "saving": "save_run"}
)
