r"""Simulators with a known posterior: theta ~ p(theta), x ~ p(x | theta), and exact draws from p(theta | x).

`linear_gaussian`: theta ~ N(0, I_2) and x = H theta + s e in R^3, e ~ N(0, I), s = 1/2. The posterior is
N(S H^T x/s^2, S) with S = (I + H^T H/s^2)^-1.

`two_moons`: theta ~ U[-1, 1]^2, x = p + (-|theta_1 + theta_2|, theta_2 - theta_1)/sqrt(2) with
p = (r cos a + 1/4, r sin a), a ~ U(-pi/2, pi/2), r ~ N(0.1, 0.01^2) (Greenberg, Nonnenmacher and Macke 2019;
Lueckmann et al. 2021, T.8). The map from theta to (u, v) = (theta_1 + theta_2, theta_2 - theta_1)/sqrt(2) is a
rotation, so that given x the points p = x + (|u|, -v) have their own law restricted to p_1 >= x_1: the sign of u is a
fair coin, and points outside the square are rejected. The density of p is N(r; 0.1, 0.01^2)/(pi r) where p_1 > 1/4.
The package sbibm leaves out the factor 1/(pi r) of the likelihood and the restriction p_1 >= x_1 of its draws.

`slcp`: theta ~ U[-3, 3]^5, x = four independent points of N((theta_1, theta_2), S) in the plane with standard
deviations s_1 = theta_3^2, s_2 = theta_4^2 and correlation rho = tanh theta_5 (Papamakarios, Sterratt and Murray 2019;
Lueckmann et al. 2021, T.3). See `_slcp_posterior` for its posterior. Neither sign of theta_3 and theta_4 can be seen in
x.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scoresde.errors import DataError

DESIGN, NOISE = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, -1.0]]), 0.5  # H and s of linear_gaussian
OFFSET, RADIUS, WIDTH = 0.25, 0.1, 0.01  # two_moons: shift of the half circle, mean and standard deviation of r
POINTS, SLCP_BOUND = 4, 3.0  # slcp: points of an observation, end of the prior
_MOST = 10**7  # proposals per accepted one, over which an observation counts as impossible; about 5 s
_FEWEST, _AT_ONCE = 256, 2**18  # proposals made at once


class Simulator(NamedTuple):
    """Prior, simulator and exact posterior of a problem of inference.

    Attributes:
        theta_shape: shape of the parameters, (d,).
        x_shape: shape of an observation, (m,).
        bounds: ends (low, high) of the prior, [d] each; None: the prior has no ends.
        prior: function (num, rng) -> parameters, float64 [num, d].
        simulate: function (theta [num, d], rng) -> observations, float64 [num, m].
        log_likelihood: function (theta [num, d], x [num, m] or [m]) -> log p(x | theta) in nats, [num].
        posterior: function (x [m], num, rng) -> independent exact draws from p(theta | x), float64 [num, d]. It raises
            a DataError if x has another shape or is not finite, or if no parameters could be found that generate it.
    """

    theta_shape: tuple[int, ...]
    x_shape: tuple[int, ...]
    bounds: tuple[np.ndarray, np.ndarray] | None
    prior: Callable[[int, np.random.Generator], np.ndarray]
    simulate: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    log_likelihood: Callable[[np.ndarray, np.ndarray], np.ndarray]
    posterior: Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def linear_gaussian_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean [2] and covariance [2, 2] of the posterior of `linear_gaussian` given x, [3]."""
    covariance = np.linalg.inv(np.eye(2) + DESIGN.T @ DESIGN / NOISE**2)
    return covariance @ DESIGN.T @ _observation(x, 3) / NOISE**2, covariance


def _linear_gaussian_prior(num: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((num, 2))


def _linear_gaussian(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return theta @ DESIGN.T + NOISE * rng.standard_normal((len(theta), 3))


def _linear_gaussian_log_likelihood(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    square = np.sum(((x - theta @ DESIGN.T) / NOISE) ** 2, axis=-1)
    return -0.5 * square - 1.5 * math.log(2 * math.pi * NOISE**2)


def _linear_gaussian_posterior(x: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    mean, covariance = linear_gaussian_moments(x)
    return mean + rng.standard_normal((num, 2)) @ np.linalg.cholesky(covariance).T


def _uniform(bound: float, dimension: int) -> Callable[[int, np.random.Generator], np.ndarray]:
    return lambda num, rng: rng.uniform(-bound, bound, (num, dimension))


def _half_circle(num: int, rng: np.random.Generator) -> np.ndarray:
    angle, radius = rng.uniform(-np.pi / 2, np.pi / 2, num), rng.normal(RADIUS, WIDTH, num)
    return np.stack([radius * np.cos(angle) + OFFSET, radius * np.sin(angle)], axis=-1)


def _rotated(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return u and v of `two_moons`; the same rotation of (u, -v) inverts it."""
    return (theta[..., 0] + theta[..., 1]) / math.sqrt(2), (theta[..., 1] - theta[..., 0]) / math.sqrt(2)


def _two_moons(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u, v = _rotated(theta)
    return _half_circle(len(theta), rng) + np.stack([-np.abs(u), v], axis=-1)


def _two_moons_log_likelihood(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    u, v = _rotated(theta)
    across, up = x[..., 0] + np.abs(u) - OFFSET, x[..., 1] - v
    radius = np.hypot(across, up)
    with np.errstate(divide="ignore"):
        log_density = -0.5 * ((radius - RADIUS) / WIDTH) ** 2 - np.log(
            math.pi * radius * WIDTH * math.sqrt(2 * math.pi)
        )
    return np.where(across > 0, log_density, -np.inf)


def _two_moons_posterior(x: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    x = _observation(x, 2)

    def propose(size: int) -> np.ndarray:
        p = _half_circle(size, rng)
        u, v = p[:, 0] - x[0], x[1] - p[:, 1]
        # u < 0 is no |u|. Its reflection would be a point where the density is another one.
        sign = np.where(rng.random(size) < 0.5, -1, 1)[u >= 0]
        u, v = sign * u[u >= 0], v[u >= 0]
        theta = np.stack([u - v, u + v], axis=-1) / math.sqrt(2)
        return theta[np.abs(theta).max(axis=-1, initial=0) <= 1]

    return _accepted(propose, num, "two_moons")


def _slcp(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    e, f = rng.standard_normal((2, len(theta), POINTS))
    mean, (s1, s2), rho = theta[:, :2, None], np.square(theta[:, 2:4, None]).transpose(1, 0, 2), np.tanh(theta[:, 4:])
    points = np.stack([s1 * e, s2 * (rho * e + f * np.sqrt(1 - rho**2))], axis=-1) + mean.transpose(0, 2, 1)
    return points.reshape(len(theta), 2 * POINTS)


def _slcp_log_likelihood(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    offset = np.reshape(x, (*np.shape(x)[:-1], POINTS, 2)) - theta[..., None, :2]
    s1, s2, rho = theta[..., 2] ** 2, theta[..., 3] ** 2, np.tanh(theta[..., 4])
    a, b = offset[..., 0] / s1[..., None], offset[..., 1] / s2[..., None]
    rest = 1 - rho**2
    square = np.sum(a**2, axis=-1) + np.sum((b - rho[..., None] * a) ** 2, axis=-1) / rest
    return -0.5 * square - POINTS * (np.log(2 * math.pi * s1 * s2) + 0.5 * np.log(rest))


def _slcp_posterior(x: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    r"""Draw from the posterior of `slcp` by rejection.

    Let A be the scatter matrix of the four points around their mean y, and S = [[a, a k], [a k, c + a k^2]], whose
    second variance is b = c + a k^2. The density of (theta_3, theta_4, theta_5), which is uniform, is proportional to
    (a b)^(-1/4)/|S| in the entries of S; |S| = a c, and the entries have the Jacobian a. Integrated over the mean, the
    likelihood is |S|^(-3/2) exp(-tr(S^-1 A)/2), and so the density of (a, k, c) is proportional to

        a^(-7/4) exp(-A_11/(2 a))  c^(-1/2) exp(-A_11 (k - A_12/A_11)^2/(2 c))  c^(-9/4) exp(-B/(2 c))  (c/b)^(1/4)

    with B = A_22 - A_12^2/A_11. The first three factors are inverse gamma, normal and inverse gamma, with the shapes
    3/4 and 5/4, and the fourth, which is at most 1, is the probability of acceptance. Given S the mean is N(y, S/4).
    Parameters outside the prior are rejected. Half of the simulated observations accept more than a tenth of the
    proposals, one in a hundred fewer than 2e-4, and one in a thousand about 1e-5.
    """
    points = _observation(x, 2 * POINTS).reshape(POINTS, 2)
    centre = points.mean(axis=0)
    scatter = (points - centre).T @ (points - centre)
    if not scatter[0, 0] > 0 or not (rest := scatter[1, 1] - scatter[0, 1] ** 2 / scatter[0, 0]) > 0:
        raise DataError("slcp: expected points that do not lie on one line, got x on a line; simulate it")

    def propose(size: int) -> np.ndarray:
        a = scatter[0, 0] / 2 / rng.gamma(3 / 4, size=size)
        c = rest / 2 / rng.gamma(5 / 4, size=size)
        k = scatter[0, 1] / scatter[0, 0] + np.sqrt(c / scatter[0, 0]) * rng.standard_normal(size)
        b = c + a * k**2
        most, least = SLCP_BOUND**4, 1 / math.cosh(SLCP_BOUND) ** 2  # of the variances, and of c/b = 1 - rho^2
        kept = (a <= most) & (b <= most) & (c >= least * b) & (rng.random(size) ** 4 < c / b)
        a, b, c, k = a[kept], b[kept], c[kept], k[kept]
        e, f = rng.standard_normal((2, len(a))) / math.sqrt(POINTS)
        mean = centre + np.stack([np.sqrt(a) * e, k * np.sqrt(a) * e + np.sqrt(c) * f], axis=-1)
        signs = np.where(rng.random((2, len(a))) < 0.5, -1, 1)
        theta = np.column_stack([mean, signs[0] * a**0.25, signs[1] * b**0.25, np.arctanh(k * np.sqrt(a / b))])
        return theta[np.abs(theta).max(axis=-1, initial=0) <= SLCP_BOUND]

    return _accepted(propose, num, "slcp")


def _accepted(propose: Callable[[int], np.ndarray], num: int, name: str) -> np.ndarray:
    """Return the first `num` accepted proposals; `propose` makes a number of them and returns those it accepts."""
    found = [propose(2 * num)]
    count, made = len(found[0]), 2 * num
    while count < num and made < _MOST * max(count, 1):
        size = min(max(made, _FEWEST), _AT_ONCE)
        found.append(propose(size))
        count, made = count + len(found[-1]), made + size
    if count < num:
        raise DataError(
            f"{name}: expected an observation that parameters of the prior generate, got one for which {count} of "
            f"{made} proposals are in the prior; simulate x"
        )
    return np.concatenate(found)[:num]


def _observation(x: np.ndarray, size: int) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.shape != (size,) or not np.isfinite(x).all():
        raise DataError(
            f"x: expected one observation of {size} finite numbers, got {list(x.shape)}; give one at a time"
        )
    return x


SIMULATORS = {
    "linear_gaussian": Simulator(
        (2,), (3,), None, _linear_gaussian_prior, _linear_gaussian, _linear_gaussian_log_likelihood,
        _linear_gaussian_posterior,
    ),
    "two_moons": Simulator(
        (2,), (2,), (-np.ones(2), np.ones(2)), _uniform(1, 2), _two_moons, _two_moons_log_likelihood,
        _two_moons_posterior,
    ),
    "slcp": Simulator(
        (5,), (2 * POINTS,), (np.full(5, -SLCP_BOUND), np.full(5, SLCP_BOUND)), _uniform(SLCP_BOUND, 5), _slcp,
        _slcp_log_likelihood, _slcp_posterior,
    ),
}  # fmt: skip
