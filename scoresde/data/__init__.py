"""Data: sources by name, the map between records and the model's variable, and the stream of training batches."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "codec": "Codec",
        "collection": "ImageOptions",
        "dataset": "ArraySource Dataset Source",
        "sources": "SOURCES digits load",
        "toys": "Mixture mixture",
    },
)
