"""Checks of the input of metrics: functions [N, *grid, channels], vectors [N, d], posterior draws [N, L, d], seeds."""

from typing import Any

import numpy as np

from scoresde.errors import ConfigError, DataError


def functions(x: Any, what: str, least: int = 2) -> np.ndarray:
    """Return x as float64 [N, *grid, channels].

    Args:
        x: real numbers.
        what: name of x in messages.
        least: smallest number of functions.

    Raises:
        DataError: x has another number of axes, fewer than `least` functions, or values that are not finite.
    """
    x = np.asarray(x)
    if not 3 <= x.ndim <= 5 or x.dtype.kind not in "fiub" or x.size == 0:
        raise DataError(
            f"{what}: expected real numbers [N, *grid, channels] with 1 to 3 grid axes, got {x.dtype} {list(x.shape)}; "
            "give one channel an axis of its own"
        )
    if len(x) < least:
        raise DataError(f"{what}: expected at least {least} functions, got {len(x)}; give more")
    x = x.astype(np.float64)
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{what}: expected finite values, got NaN or infinity in {(~finite).sum()} of {len(x)} functions, the "
            "first in "
            f"number {int(np.argmin(finite))}; leave those out, and report how many"
        )
    return x


def pair(x: Any, y: Any, names: tuple[str, str] = ("x", "y"), least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of functions on one grid as float64.

    Raises:
        DataError: as for `functions`, or the grids or channels differ.
    """
    x, y = functions(x, names[0], least), functions(y, names[1], least)
    if x.shape[1:] != y.shape[1:]:
        raise DataError(
            f"{names[0]} and {names[1]}: expected one grid, got records of shape {x.shape[1:]} and {y.shape[1:]}; "
            "project one of them first"
        )
    return x, y


def vectors(x: Any, what: str, least: int = 2) -> np.ndarray:
    """Return x as float64 [N, d].

    Args:
        x: real numbers.
        what: name of x in messages.
        least: smallest N.

    Raises:
        DataError: x has another number of axes, fewer than `least` rows, or values that are not finite.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.dtype.kind not in "fiub" or x.size == 0:
        raise DataError(f"{what}: expected real numbers [N, d], got {x.dtype} {list(x.shape)}; reshape it to two axes")
    if len(x) < least:
        raise DataError(f"{what}: expected at least {least} rows, got {len(x)}; give more")
    x = x.astype(np.float64)
    _all_finite(x, what)
    return x


def posterior_draws(truths: Any, draws: Any, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Return truths [N, d] and their draws [N, L, d], L >= 1, as float64.

    Raises:
        DataError: as for `vectors`, or the shapes do not fit.
    """
    truths, draws = vectors(truths, "truths", least), np.asarray(draws)
    wanted = f"[{len(truths)}, L, {truths.shape[1]}]"
    if draws.ndim != 3 or draws.dtype.kind not in "fiub" or draws.shape[::2] != truths.shape or draws.size == 0:
        raise DataError(
            f"draws: expected real numbers {wanted} with L from 1, got {draws.dtype} {list(draws.shape)}; give L draws "
            "for each truth, in its order"
        )
    draws = draws.astype(np.float64)
    _all_finite(draws, "draws")
    return truths, draws


def random_generator(seed: int) -> np.random.Generator:
    """Return the generator of a seed.

    Raises:
        ConfigError: the seed is negative.
    """
    if seed < 0:
        raise ConfigError(f"seed: expected at least 0, got {seed}")
    return np.random.Generator(np.random.Philox(key=seed))


def _all_finite(x: np.ndarray, what: str) -> None:
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{what}: expected finite values, got NaN or infinity in {(~finite).sum()} of {len(x)} rows, the first in "
            f"number {int(np.argmin(finite))}; leave those out, and report how many"
        )
