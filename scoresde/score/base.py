"""Scores, callables (x, t) -> grad log p_t(x), and conversions between four equivalent quantities.

x and the score are in the coordinates of the process, see `scoresde.sde`: in function space one coefficient per mode.

With x_t = alpha x_0 + sigma eps, Tweedie's formula ties them together (all at one x_t and t):

    x_0   = (x_t + sigma^2 s) / alpha            posterior mean E[x_0 | x_t]
    eps   = -sigma s
    v     = alpha eps - sigma x_0                Salimans and Ho 2022, section 4
    score = s

Each conversion passes through the score. Converting a prediction (x_0, eps, v) to the score and back is accurate up to
rounding, also at t_min. Converting a score to x_0 and back is not, where sigma is small. Converting x_0 to the score
and back is not, where alpha is small, as in the high modes of a heat equation: s is then -x / sigma^2 to the last
digit, whatever x_0. A score that computes x_0 therefore overrides `denoise`.
"""

import abc
from collections.abc import Mapping
from typing import Any

import equinox as eqx

from scoresde.errors import ConfigError
from scoresde.sde import AbstractSDE
from scoresde.types import State, Time


class AbstractScore(eqx.Module):
    """Score s(x, t) = grad log p_t(x) for one example x and one time t, under the process `sde`."""

    sde: eqx.AbstractVar[AbstractSDE]

    @abc.abstractmethod
    def __call__(self, x: State, t: Time) -> State: ...

    def denoise(self, x: State, t: Time) -> State:
        """Return E[x_0 | x_t = x] = (x + sigma^2 s(x, t)) / alpha (Tweedie's formula, Efron 2011).

        A score that computes x_0 in another form overrides this method, because the division by alpha loses x_0 where
        alpha is small.
        """
        return x0_from_score(self.sde, x, t, self(x, t))

    @property
    def conditions(self) -> dict[str, Any]:
        """Return the kind of each entry of the condition that the score takes, by name."""
        return {}

    def given(self, condition: Mapping[str, Any] | None) -> "AbstractScore":
        """Return the score of p(x | y) for one example.

        Args:
          condition: values of entries of y by name, in the units of the data; None for one that is absent. Entries that
            are not there stay as they are. None or {} returns the score itself.

        Raises:
          ConfigError: the score does not take an entry, or the value has another shape or is out of range.
        """
        if not condition:
            return self
        raise ConfigError(f"condition: {type(self).__name__} takes no condition, got {', '.join(condition)}")


def x0_from_score(sde: AbstractSDE, x: State, t: Time, score: State) -> State:
    return (x + sde.sigma(t) ** 2 * score) / sde.alpha(t)


def score_from_x0(sde: AbstractSDE, x: State, t: Time, x0: State) -> State:
    return (sde.alpha(t) * x0 - x) / sde.sigma(t) ** 2


def eps_from_score(sde: AbstractSDE, x: State, t: Time, score: State) -> State:
    return -sde.sigma(t) * score


def score_from_eps(sde: AbstractSDE, x: State, t: Time, eps: State) -> State:
    return -eps / sde.sigma(t)


def v_from_score(sde: AbstractSDE, x: State, t: Time, score: State) -> State:
    """Return v = alpha eps - sigma x_0 = -(sigma / alpha) (x + (alpha^2 + sigma^2) s)."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    return -(sigma / alpha) * (x + (alpha**2 + sigma**2) * score)


def score_from_v(sde: AbstractSDE, x: State, t: Time, v: State) -> State:
    """Return s = -(x + (alpha / sigma) v) / (alpha^2 + sigma^2)."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    return -(x + (alpha / sigma) * v) / (alpha**2 + sigma**2)
