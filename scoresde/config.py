"""What an experiment file needs: `default()` returns a complete configuration, to be changed field by field."""

from scoresde.experiment.config import default

__all__ = ["default"]
