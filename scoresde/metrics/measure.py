"""Features of fakes and of reals -> named numbers.

Names: with Inception features and 50,000 fakes `fid`, with any other number N of them `fid@N`: the distance is too
large by some tr(C) D/(4 N), so that numbers at different N are different quantities, and only one of them is FID. Other
feature spaces name
themselves: `fd_pixels`, `kid_pixels`, `precision_pixels`.
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
    """One number, its standard error (None: unknown), and what it depends on besides the features."""

    metric: str
    value: float
    standard_error: float | None
    asked: str  # the name by which it is asked for
    details: dict


class Reals(NamedTuple):
    """The reference: its moments, and its features unless only moments are known."""

    moments: Moments
    features: np.ndarray | None


def check(wanted: tuple[str, ...], space: Features, *, features_known: bool = True) -> None:
    """Whether these metrics exist in this feature space; before any work.

    Raises:
        ConfigError: they do not.
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
    """Which of the metrics take the features of the reference, and not their moments alone."""
    return [name for name in wanted if name in ("kid", "prdc")]


def measure(wanted: tuple[str, ...], fake: np.ndarray, real: Reals | None, space: Features) -> list[Measured]:
    """The metrics of `wanted` that are taken of features.

    Args:
        fake: [N, dimensions + classes].
        real: None: `wanted` is the Inception Score alone.

    Raises:
        DataError: too few features. NumericError: a number is not finite.
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
    """Moments of features that `extract` keeps, computed once and kept beside them."""
    file = pathlib.Path(features.filename).with_name("moments.npz")
    try:
        stored = read_npz(file)
        return Moments(stored["mean"], stored["covariance"], int(stored["num"]))
    except MissingError:
        pass
    except (UnreadableError, KeyError, TypeError, ValueError):
        raise DataError(f"{file} is damaged; delete it to compute the moments anew") from None
    found = moments(features[:, :dimensions])
    with replacing(file) as scratch:  # another process may be at the same
        np.savez(scratch, **found._asdict())
    return found


def _needed(real: Reals) -> np.ndarray:
    assert real.features is not None, "check() refuses what needs them"
    return real.features
