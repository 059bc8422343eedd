"""Data: sources by name, the map between records and the model's variable, and the stream of training batches."""

from scoresde.data.collection import ImageOptions
from scoresde.data.dataset import ArraySource, Dataset, Source
from scoresde.data.sources import SOURCES, digits, load
from scoresde.data.toys import Mixture, mixture

__all__ = ["SOURCES", "ArraySource", "Dataset", "ImageOptions", "Mixture", "Source", "digits", "load", "mixture"]
