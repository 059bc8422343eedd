"""Metrics of the features of fakes and reals, with their names.

With Inception features and 50,000 fakes the name is `fid`, with any other number N of fakes `fid@N`: the distance is
too large by about tr(C) D/(4 N), so that the numbers at different N are different quantities, and only that at 50,000
is FID. The names of other feature spaces are appended: `fd_pixels`, `kid_pixels`, `precision_pixels`.
"""

import math
import pathlib
from typing import NamedTuple

import numpy as np

from scoresde.errors import ConfigError, DataError, NumericError
from scoresde.metrics.features import Features, InceptionFeatures
from scoresde.metrics.frechet import Moments, frechet_with_error, moments
from scoresde.metrics.inception_score import SPLITS, inception_score
from scoresde.metrics.kid import kid
from scoresde.metrics.prdc import NEIGHBOURS, prdc
from scoresde.runtime.arrays import read_npz
from scoresde.runtime.files import MissingError, UnreadableError, replacing

FID_NUM = 50_000


class Measured(NamedTuple):
    """One number, its standard error (None: unknown), and its parameters besides the features."""

    metric: str
    value: float
    standard_error: float | None
    asked: str  # name of the metric in commands
    details: dict


class Reals(NamedTuple):
    """Reference: its moments, and its features unless only moments are known."""

    moments: Moments
    features: np.ndarray | None


def check(wanted: tuple[str, ...], space: Features, *, features_known: bool = True) -> None:
    """Check that these metrics exist in this feature space, before any work.

    Raises:
        ConfigError: a metric does not exist in this feature space.
    """
    if "fid" in wanted and space.name != InceptionFeatures.name:
        raise ConfigError(
            f"fid: is defined on the features of the 2015 Inception, got those of {space.name}; ask for fd, or give "
            "its file to --network"
        )
    if "is" in wanted and not space.classes:
        raise ConfigError(
            "is: the Inception Score needs logits, which these features have not; give the PyTorch port to --network, "
            "which has "
            "a last layer, or features with an array fake_logits"
        )
    if not features_known and (needy := needs_features(wanted)):
        raise ConfigError(
            f"{needy[0]}: needs the features of the reference, and mu and sigma are all that is there; give images to "
            "--reference"
        )


def needs_features(wanted: tuple[str, ...]) -> list[str]:
    """Return the metrics that need the features of the reference and not only their moments."""
    return [name for name in wanted if name in ("kid", "prdc")]


def measure(wanted: tuple[str, ...], fake: np.ndarray, real: Reals | None, space: Features) -> list[Measured]:
    """Return the metrics of `wanted` that are computed from features.

    Args:
        wanted: names of metrics.
        fake: features and logits of the fakes, [N, dimensions + classes].
        real: reference; None if `wanted` is only the Inception Score.
        space: feature space.

    Raises:
        DataError: there are too few features.
        NumericError: a number is not finite.
    """
    features, logits = fake[:, : space.dimensions], fake[:, space.dimensions :]
    inception = space.name == InceptionFeatures.name
    suffix = "" if inception else f"_{space.name}"
    found = []
    if "fid" in wanted or "fd" in wanted:
        value, error = frechet_with_error(moments(features), real.moments, features)
        name = ("fid" if len(fake) == FID_NUM else f"fid@{len(fake)}") if inception else f"fd{suffix}"
        found.append(Measured(name, value, error, "fid" if "fid" in wanted else "fd", {}))
    if "kid" in wanted:
        result = kid(features, _needed(real))
        found.append(
            Measured(
                f"kid{suffix}",
                result.value,
                result.standard_error,
                "kid",
                {"subsets": result.subsets, "subset_size": result.size},
            )
        )
    if "prdc" in wanted:
        numbers = prdc(features, _needed(real))
        for name, error in numbers.errors.items():
            found.append(Measured(f"{name}{suffix}", getattr(numbers, name), error, "prdc", {"neighbours": NEIGHBOURS}))
    if "is" in wanted:
        found.append(Measured(f"is{suffix}", *inception_score(logits), "is", {"splits": SPLITS}))
    if lost := [part.metric for part in found if not math.isfinite(part.value)]:
        largest = float(np.abs(features).max())
        raise NumericError(
            f"{lost[0]}: the number is not finite; features of up to {largest:.3g} are too large: scale them"
        )
    return found


def stored_moments(features: np.memmap, dimensions: int) -> Moments:
    """Return the moments of features that `extract` stored; they are computed once and stored beside the features.

    Raises:
        DataError: the file of the moments is damaged.
    """
    file = pathlib.Path(features.filename).with_name("moments.npz")
    try:
        stored = read_npz(file)
        return Moments(stored["mean"], stored["covariance"], int(stored["num"]))
    except MissingError:
        pass
    except (UnreadableError, KeyError, TypeError, ValueError):
        raise DataError(f"{file} is damaged; delete it to compute the moments anew") from None
    found = moments(features[:, :dimensions])
    with replacing(file) as scratch:  # another process may write the same file
        np.savez(scratch, **found._asdict())
    return found


def _needed(real: Reals) -> np.ndarray:
    assert real.features is not None, "check() refuses what needs them"
    return real.features
