"""Metrics of samples: distances of features, nearest records, random functions (`functions`), posterior samplers."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "classifier": "C2ST Calibration c2st c2st_calibration",
        "ecdf": "Band ecdf_band",
        "expected_coverage": "TARP conditional_references tarp",
        "ranks": "SBC sbc",
    },
)
