r"""Scores given an observation, with which a sampler samples x_0 given y instead of x_0.

`Posterior` approximates the distribution of x_0 given x_t by a Gaussian. Its mean is the D = E[x_0 | x_t] of the score.
Its variance in mode k of the basis of the observation is the one for Gaussian data with variance c_k^2 in this mode:

    r_k^2 = c_k^2 sigma_k^2 / (alpha_k^2 c_k^2 + sigma_k^2)
    E[x_0 | x_t, y] = D_k + r_k^2 h_k / (h_k^2 r_k^2 + sigma_y^2) (y_k - h_k D_k),   sigma_y per coefficient
    Var[x_0 | x_t, y] = r_k^2 sigma_y^2 / (h_k^2 r_k^2 + sigma_y^2)
    grad log p(x_t | y) = (alpha_k E[x_0 | x_t, y] - x_t) / sigma_k^2,               Tweedie's formula for p(x_0 | y)

All four are exact for Gaussian data that are independent in this basis, for any process. The rounding error of y is
added to sigma_y and c_k (`with_rounding`), so that a mode in which h x_0 is below it counts as not observed.

A path ends at t_min, where E[x_0 | x_t, y] alone has hardly any spread in modes that are known to better than
sigma(t_min) / alpha. The last step therefore samples x_0 from N(E[x_0 | x_t, y], Var[x_0 | x_t, y]); see `draw`.

The Gaussian is that of Song et al. 2023 ("Pi-GDM", section 3.2), and the computation mode by mode is that of Kawar et
al. 2022 ("DDRM"). Pi-GDM moves D by its Jacobian times the residual, D + (dD/dx)^T ..., which spreads an observation to
modes that were not observed, and costs a backward pass of the network. Here an observed mode changes only itself, the
other modes follow through the network at the next step, and no derivative is needed. DDRM has no c_k^2 and a single
sigma; r_k^2 = sigma^2 / alpha^2 is its limit for flat data.

`Replacement` is an older method (Song et al. 2021, section 5; Lim et al. 2023 for the low modes of a field) and serves
as a baseline: observed modes are overwritten by the observation with noise of level t, and the other modes are not
adjusted to them.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoresde.errors import ConfigError
from scoresde.guide.observation import Observation, with_rounding
from scoresde.score.base import AbstractScore, score_from_x0
from scoresde.sde import AbstractBasis, AbstractSDE
from scoresde.types import Coef, Key, State, Time


class AbstractGuided(AbstractScore):
    """Score given an observation, in the coordinates of the process; modes are processed in those of the
    observation."""

    score: eqx.AbstractVar[AbstractScore]
    observation: eqx.AbstractVar[Observation]

    @property
    def sde(self) -> AbstractSDE:
        return self.score.sde

    def __call__(self, x: State, t: Time) -> State:
        return score_from_x0(self.sde, x, t, self.denoise(x, t))

    def given(self, condition):
        return eqx.tree_at(lambda guided: guided.score, self, self.score.given(condition))

    @abc.abstractmethod
    def draw(self, x: State, t: Time, *, key: Key) -> State:
        """Return a sample of x_0 given x_t = x and y, which is the last step of a path."""

    def _own(self) -> bool:
        """Return whether observation and process have the same coordinates."""
        return self.sde.basis.same_as(self.observation.basis)

    def _to_modes(self, x: State) -> State:
        return x if self._own() else self.observation.basis.to_modes(x)

    def _from_modes(self, c: State) -> State:
        return c if self._own() else self.observation.basis.from_modes(c)

    def _sigma(self, t: Time) -> Coef:
        """Return sigma in the coordinates of the observation; white noise has standard deviation `white` in every
        orthonormal basis."""
        sigma = self.sde.sigma(t)
        return sigma if self._own() else sigma * self.observation.basis.white

    def __check_init__(self):
        check_coordinates(type(self).__name__, self.sde, self.observation.basis)
        check_given(type(self).__name__, self.observation)


class Posterior(AbstractGuided):
    """Posterior score grad log p(x_t | y), by the formulas of this module. It works with any sampler; the observation
    enters through `denoise`.

    Args:
      score: score of the data.
      observation: observation with its y.
      variances: variances c_k^2 of the data in the basis of the observation, broadcasting to [*modes, channels]: the
        `mode_variances` of some data, or the single number (sigma_data * basis.white)**2.

    Raises:
      ConfigError: a variance is negative or not finite, y is missing, or the process has coefficients per mode in
        another basis.
    """

    score: AbstractScore
    observation: Observation
    variances: Coef

    def __init__(self, score: AbstractScore, observation: Observation, variances):
        self.score, self.observation = score, observation
        self.variances = checked_variances(variances)

    def denoise(self, x: State, t: Time) -> State:
        """Return E[x_0 | x_t = x, y]."""
        return self._from_modes(self._mean(x, t))

    def draw(self, x: State, t: Time, *, key: Key) -> State:
        """Return a sample of N(E[x_0 | x_t, y], Var[x_0 | x_t, y]), by the formulas of this module."""
        y = self.observation.y
        mean, z = self._mean(x, t), jax.random.normal(key, jnp.shape(y), jnp.result_type(y, float))
        return self._from_modes(mean + jnp.sqrt(self.remainder(t)) * z)

    def gain(self, t: Time) -> Coef:
        """Return r^2 h / (h^2 r^2 + sigma_y^2), which is 0 where the mode is not observed or is already known."""
        return self._conditional(t)[0]

    def remainder(self, t: Time) -> Coef:
        """Return Var[x_0 | x_t, y] of a mode, r^2 sigma_y^2 / (h^2 r^2 + sigma_y^2)."""
        return self._conditional(t)[1]

    def _mean(self, x: State, t: Time) -> State:
        h, y = self.observation.h, self.observation.y
        mean = self._to_modes(self.score.denoise(x, t))
        return mean + self.gain(t) * (y - h * mean)

    def _conditional(self, t: Time) -> tuple[Coef, Coef]:
        """Return the gain and the remaining variance of a mode."""
        h, sigma2 = self.observation.h, self._sigma(t) ** 2
        noise2, data = with_rounding(self.observation.deviation, self.variances, self.observation.rounding)
        prior = data * (sigma2 / (self.sde.alpha(t) ** 2 * data + sigma2))
        total = h**2 * prior + noise2
        share = prior / jnp.where(total > 0, total, 1)  # total is 0 where both variances are 0 or underflow
        return jnp.where(total > 0, share * h, 0), jnp.where(total > 0, share * noise2, prior)


class Replacement(AbstractGuided):
    """Baseline that overwrites x_t by the observation with noise of level t before it calls the score.

        x_t <- alpha y / h + sigma z,   D <- y / h   where h > least

    Args:
      score: score of the data.
      observation: observation with its y.
      z: standard normal [*modes, channels], sampled once per example.
      least: modes with a smaller h count as not observed. The noise of y / h is sigma_y / h, at most sigma_y / least,
        and is not accounted for.

    Raises:
      ConfigError: z and y differ in shape, y is missing, or the process has coefficients per mode in another basis.
    """

    score: AbstractScore
    observation: Observation
    z: Float[Array, "*x"]
    least: float = eqx.field(static=True, default=0.1)

    def denoise(self, x: State, t: Time) -> State:
        h = self.observation.h
        seen = h > self.least
        known = jnp.where(seen, self.observation.y / jnp.where(seen, h, 1), 0)
        noisy = self.sde.alpha(t) * known + self._sigma(t) * self.z
        replaced = self._from_modes(jnp.where(seen, noisy, self._to_modes(x)).astype(x.dtype))
        mean = self._to_modes(self.score.denoise(replaced, t))
        return self._from_modes(jnp.where(seen, known, mean))

    def draw(self, x: State, t: Time, *, key: Key) -> State:
        """Return E[x_0 | x_t] with the observed modes overwritten; the baseline has no variance."""
        del key
        return self.denoise(x, t)

    def __check_init__(self):
        if jnp.shape(self.z) != jnp.shape(self.observation.y):
            raise ConfigError(
                f"Replacement: expected z of the shape of y, {jnp.shape(self.observation.y)}, got {jnp.shape(self.z)}"
            )


def mode_variances(basis: AbstractBasis, x: Float[Array, "N *x"]) -> Float[Array, "*x"]:
    """Return the variance of each coefficient of N fields [N, *grid, channels] about their mean.

    Raises:
      ConfigError: there are fewer than two fields, or the fields are on another grid.
    """
    if len(x) < 2:
        raise ConfigError(f"mode_variances: expected at least 2 fields, got {len(x)}")
    return jnp.var(to_modes(basis, x), axis=0)


def to_modes(basis: AbstractBasis, x: Float[Array, "N *x"]) -> Float[Array, "N *x"]:
    """Return the coefficients of many fields."""
    return eqx.filter_vmap(basis.to_modes)(jnp.asarray(x))


def check_given(name: str, observation: Observation) -> None:
    """Check that an observation has a y.

    Raises:
      ConfigError: the observation has no y.
    """
    if observation.y is None:
        raise ConfigError(f"{name}: expected an observation with its y; give it by observation.given(y)")


def check_coordinates(name: str, sde: AbstractSDE, basis: AbstractBasis) -> None:
    """Check that a process whose coefficients differ by mode has the same basis as the observation.

    Raises:
      ConfigError: the coefficients differ by mode, and the basis is another one.
    """
    if not (isotropic(sde) or sde.basis.same_as(basis) and _same_points(sde.basis, basis)):
        own = f"{type(sde.basis).__name__}{sde.basis.shape}"
        raise ConfigError(
            f"{name}: {type(sde).__name__} has one coefficient per mode of {own}; expected an observation in that "
            "basis, got "
            f"{type(basis).__name__}{basis.shape}; take such an operator, or a process like VP, which takes every basis"
        )


def isotropic(sde: AbstractSDE) -> bool:
    """Return whether the process has the same alpha and sigma at all points, and so in all modes of every orthonormal
    basis."""
    return sde.basis.pixelwise and not jnp.ndim(sde.log_alpha(sde.t_max)) and not jnp.ndim(sde.sigma(sde.t_max))


def checked_variances(variances) -> Coef:
    """Return the variances as an array.

    Raises:
      ConfigError: a variance is negative or not finite.
    """
    variances = jnp.asarray(variances, float)
    if not _traced(variances) and not bool(jnp.all((variances >= 0) & jnp.isfinite(variances))):
        raise ConfigError(
            "variances: expected finite numbers of at least 0, one per mode or one for all, got some that are not"
        )
    return variances


def _same_points(one: AbstractBasis, other: AbstractBasis) -> bool:
    """Return whether two bases have the same points. Traced points count as equal, so call this when a guided score is
    built."""
    here, there = one.sites(), other.sites()
    if here is None or _traced(here) or _traced(there):
        return True
    return bool(jnp.all(here == there))


def _traced(array) -> bool:
    return isinstance(array, jax.core.Tracer)
