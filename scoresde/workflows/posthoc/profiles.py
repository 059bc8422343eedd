"""Averages by power functions as weights over time, and their approximation by combinations of others (Karras et al.
2024, section 3.2).

The average of exponent gamma at time t weighs the parameters of time tau by

    p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1)  for 0 < tau < t,  else 0.

It is linear in the parameters. If the profile p of an average that was not tracked is approximately sum_i x_i p_i, with
the p_i of the stored snapshots, then that average is approximately sum_i x_i snapshot_i: its error is the integral of
(p - sum_i x_i p_i) times the parameters. The x_i solve a least-squares problem with inner products in closed form
(their appendix C): for t_a <= t_b

    <p_a, p_b> = (gamma_a + 1) (gamma_b + 1) / (gamma_a + gamma_b + 1) (t_a / t_b)^gamma_b / t_b.

Two changes extend the published solution. First, the x_i sum to 1, so that the part of the parameters that does not
change is exact. Unconstrained least squares would scale this part, by 0.96 for width 0.15 from four snapshots of
widths 0.05 and 0.1.
The constraint hardly affects the profile, and the error of a run's parameters falls by a factor of 6 to 60
(`benchmarks/averages.py`). Second, the rounding error of the snapshots, NOISE, counts as an error, which bounds the x_i
where profiles are nearly equal.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# Relative rounding error of a float32 average: 2^-25 at each of the 1e5 steps of a long memory, with random signs.
NOISE = 1e-5
_Numbers = np.ndarray | float


class Fit(NamedTuple):
    coefficients: Float[np.ndarray, " n"]  # x_i, with sum 1
    residual: float  # |p - sum_i x_i p_i| / |p|, accurate to 1e-8


def inner(t_a: _Numbers, gamma_a: _Numbers, t_b: _Numbers, gamma_b: _Numbers) -> np.ndarray | np.floating:
    """Return <p_a, p_b> in float64, elementwise with broadcasting; times are in steps, inner products per step."""
    early, late = np.minimum(t_a, t_b), np.maximum(t_a, t_b)
    later = np.where(np.less_equal(t_a, t_b), gamma_b, gamma_a)
    return (gamma_a + 1.0) * (gamma_b + 1.0) / (gamma_a + gamma_b + 1.0) * (early / late) ** later / late


def fit(t: Float[np.ndarray, " n"], gamma: Float[np.ndarray, " n"], wanted_t: float, wanted_gamma: float) -> Fit:
    """Approximate the profile of (wanted_t, wanted_gamma) by the profiles of the n snapshots.

    With y_i = x_i |p_i| / |p|, C the cosines between the p_i and b those with p, the solution minimises y C y - 2 b y +
    NOISE^2 |y|^2 under sum_i x_i = 1.
    """
    length, wanted = np.sqrt(inner(t, gamma, t, gamma)), np.sqrt(inner(wanted_t, wanted_gamma, wanted_t, wanted_gamma))
    cosines = inner(t[:, None], gamma[:, None], t, gamma) / (length[:, None] * length)
    b = inner(t, gamma, wanted_t, wanted_gamma) / (length * wanted)
    total = wanted / length  # sum_i x_i = total . y
    values, vectors = np.linalg.eigh(cosines)

    def solve(right):
        return vectors @ (vectors.T @ right / (np.maximum(values, 0.0) + NOISE**2))

    free, towards = solve(b), solve(total)
    y = free + (1 - total @ free) / (total @ towards) * towards
    residual = np.sqrt(max(1 - 2 * b @ y + y @ cosines @ y, 0.0))
    x = y * total
    return Fit(x / x.sum(), float(residual))
