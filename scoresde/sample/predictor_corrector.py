"""The samplers of Song et al. 2021: predictors, Langevin correctors, and annealed Langevin dynamics alone.

The published discretisations are formulas in the transition between neighbouring grid points: with h = l' - l > 0 from
t to the next, less noisy t', the forward process takes x_{t'} to

    x_t = r x_{t'} + omega z,   r = alpha / alpha',   omega^2 = sigma^2 - r^2 sigma'^2 = sigma^2 (1 - e^{-2h})

For DDPM's discrete VP r = sqrt(1 - beta_i), omega^2 = beta_i; for VE r = 1, omega^2 = sigma_i^2 -
sigma_{i-1}^2. score_sde steps by 1/N on a grid with spacing (T - eps)/(N - 1), which agree only for N = 1000; this
module uses the grid itself.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import AbstractVar

from scoresde.errors import ConfigError
from scoresde.sample.base import BATCH_AXIS, AbstractSampler, draw_without_error_estimate, noise
from scoresde.sample.grid import uniform_log_snr
from scoresde.sample.schedule_on_grid import ScheduleOnGrid, one_alpha, schedule_on_grid
from scoresde.score.base import AbstractScore
from scoresde.sde.base import at_least, check_parameters
from scoresde.types import Coef, State


class Transition(eqx.Module):
    """Transition of one step of a grid: its two ends, r and omega."""

    here: ScheduleOnGrid
    there: ScheduleOnGrid

    @property
    def r(self):
        return jnp.exp(self.here.log_alpha - self.there.log_alpha)

    @property
    def omega2(self):
        return -(self.here.sigma**2) * jnp.expm1(-2 * (self.there.half_log_snr - self.here.half_log_snr))


class AbstractPredictor(eqx.Module):
    """Predictor: x_t -> x_{t'} by one call of the score and one standard normal."""

    @abc.abstractmethod
    def __call__(self, score: AbstractScore, transition: Transition, x: State, z: State) -> State: ...


class ReverseDiffusion(AbstractPredictor):
    """Reverse-diffusion predictor x' = (2 - r) x + omega^2 s + omega z (Song et al. 2021, eq. 46); no arguments.

    It expands 1 / r for r near 1. A mode without signal, r = 0, keeps x and gains omega z in each step; `Ancestral`
    leaves the variance of the mode unchanged.
    """

    def __call__(self, score, transition, x, z):
        omega2 = transition.omega2
        return (2 - transition.r) * x + omega2 * score(x, transition.here.t) + jnp.sqrt(omega2) * z


class Ancestral(AbstractPredictor):
    """Ancestral predictor x' = (x + omega^2 s) / r + std z (Ho et al. 2020, eq. 11).

    The mean is that of x_{t'} given x_t and x_0 = D = E[x_0 | x_t]. It is computed as
    r (sigma'/sigma)^2 x + alpha' (omega/sigma)^2 D, because r may be close to 0.

    Args:
      variance: variance of the step. "posterior": std = sigma' omega / sigma, that of x_{t'} given x_t and x_0 (DDPM's
        beta-tilde; Song et al. for VE, eq. 47). "transition": std = omega (DDPM's beta; Song et al. for VP, eq. 4).

    Raises:
      ConfigError: another variance.
    """

    variance: str = eqx.field(static=True, default="posterior")

    def __check_init__(self):
        if self.variance not in ("posterior", "transition"):
            raise ConfigError(f"Ancestral: variance = {self.variance!r}, expected posterior or transition")

    def __call__(self, score, transition, x, z):
        omega2, here, there = transition.omega2, transition.here, transition.there
        shrink = there.sigma / here.sigma if self.variance == "posterior" else 1.0
        mean = transition.r * (there.sigma / here.sigma) ** 2 * x + there.alpha * (
            omega2 / here.sigma**2
        ) * score.denoise(x, here.t)
        return mean + shrink * jnp.sqrt(omega2) * z


class AbstractCorrector(eqx.Module):
    """Langevin step x + e s + sqrt(2e) z at (x, t), which leaves p_t unchanged in the limit of small e.

    With one coefficient per mode e is one number times the covariance of the noise, C_k = sigma_k^2 / mean of sigma^2:
    then C s and C^{1/2} z are functions (Lim et al. 2023), and where alpha is one number high modes move as far as low
    modes. a = r^2 in the step sizes is DDPM's 1 - beta_i for VP and 1 for VE (Song et al. 2021, algorithms 4 and 5),
    computed on the sampling grid; score_sde reads it from the 1000 training levels, which is wrong for another number
    of steps.
    """

    snr: AbstractVar[float]
    repeats: AbstractVar[int]

    @property
    def couples_batch(self) -> bool:
        """Whether a step depends on the other examples of the batch."""
        return False

    @abc.abstractmethod
    def step_size(self, transition: Transition, score: State, z: State) -> Coef: ...


class Langevin(AbstractCorrector):
    """Langevin corrector with e = 2 a (snr |z| / |C^{1/2} s|)^2 C (Song et al. 2021, algorithms 4 and 5, with C = 1).

    Use it for images. The step depends on x through |s|, which hardly varies in hundreds of dimensions. In few
    dimensions steps are long where the score is small, and the distribution is biased at any number of steps: in 6
    dimensions with snr = 0.16 variances are up to 5.9 times the true ones after 1000 calls, where `AnnealedLangevin`
    has 1.03.

    Args:
      snr: signal-to-noise ratio of a step, above 0; published values are 0.16 (VP, VE on CIFAR-10) and 0.01 to 0.2.
      repeats: corrector steps at each point of the grid, at least 1.
      norm: norms |z| and |s| in the step size. "image": those of each image, so that a sample does not depend on its
        batch. "batch": means over the batch, as for the published numbers.

    Raises:
      ConfigError: a parameter out of range; norm = "batch" outside `draw`, `denoised_draw` or `sample`, which name the
        axis of the batch.
    """

    snr: float = eqx.field(static=True, default=0.16)
    repeats: int = eqx.field(static=True, default=1)
    norm: str = eqx.field(static=True, default="image")

    def __check_init__(self):
        _check_corrector(self)
        if self.norm not in ("image", "batch"):
            raise ConfigError(f"Langevin: norm = {self.norm!r}, expected image or batch")

    @property
    def couples_batch(self):
        return self.norm == "batch"

    def step_size(self, transition, score, z):
        variance = transition.here.sigma**2
        covariance = variance / jnp.mean(variance)
        sizes = [jnp.sqrt(jnp.sum(part)) for part in (z**2, covariance * score**2)]
        if self.norm == "batch":
            try:
                sizes = [jax.lax.pmean(size, BATCH_AXIS) for size in sizes]
            except NameError:
                raise ConfigError(
                    "Langevin: norm = 'batch' needs a batch; call draw or sample, or use norm = 'image'"
                ) from None
        return 2 * transition.r**2 * (self.snr * sizes[0] / sizes[1]) ** 2 * covariance


class AnnealedLangevin(AbstractCorrector):
    """Corrector by annealed Langevin dynamics with e = 2 a (snr sigma)^2 (Song et al. 2021, appendix G).

    Args:
      snr: signal-to-noise ratio of a step, above 0; step sizes are relative to sigma.
      repeats: corrector steps at each point of the grid, at least 1.

    Raises:
      ConfigError: a parameter is out of range.
    """

    snr: float = eqx.field(static=True, default=0.16)
    repeats: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        _check_corrector(self)

    def step_size(self, transition, score, z):
        return 2 * transition.r**2 * (self.snr * transition.here.sigma) ** 2


class PredictorCorrector(AbstractSampler):
    """Predictor-corrector sampler: at each grid point the corrector, then the predictor (Song et al. 2021, alg. 1).

    The order is that of their code. The sampler makes steps (repeats + 1) calls of the score. `sample` adds the final
    denoising.

    Args:
      steps: number of steps from t_max to t_min, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      predictor: `Ancestral(...)` or `ReverseDiffusion()` (published); None for the corrector alone.
      corrector: `AnnealedLangevin(...)` or `Langevin(...)` (published); None for the predictor alone.

    Raises:
      ConfigError: a parameter is out of range, or neither a predictor nor a corrector.
    """

    steps: int = eqx.field(static=True)
    grid: Callable = uniform_log_snr
    predictor: AbstractPredictor | None = Ancestral()
    corrector: AbstractCorrector | None = None

    def __check_init__(self):
        check_parameters("PredictorCorrector", steps=at_least(self.steps, 1))
        if self.predictor is None and self.corrector is None:
            raise ConfigError("PredictorCorrector: expected a predictor or a corrector, got neither")

    @property
    def couples_batch(self):
        return self.corrector is not None and self.corrector.couples_batch

    def __call__(self, score, x_T, *, key):
        sde = score.sde
        levels = schedule_on_grid(sde, self.grid, self.steps, x_T.dtype)
        repeats = 0 if self.corrector is None else self.corrector.repeats
        moves = 0 if self.predictor is None else 1

        def step(x, row):
            i, transition = row

            def correct(j, x):
                z = noise(key, i * (repeats + 1) + j, x)
                s = score(x, transition.here.t)
                size = self.corrector.step_size(transition, s, z)
                return (x + size * s + jnp.sqrt(2 * size) * z).astype(x.dtype)

            if repeats:
                x = jax.lax.fori_loop(0, repeats, correct, x)
            if moves:
                z = noise(key, i * (repeats + 1) + repeats, x)
                x = self.predictor(score, transition, x, z).astype(x.dtype)
            return x, None

        transitions = Transition(levels[:-1], levels[1:])
        x, _ = jax.lax.scan(step, x_T, (jnp.arange(self.steps), transitions))
        return draw_without_error_estimate(x, self.steps * (repeats + moves))


class LangevinDynamics(AbstractSampler):
    """Annealed Langevin dynamics without a predictor (Song and Ermon 2019, algorithm 1).

    At each noise level the sampler makes `repeats` steps

        x <- x + (e/2) sigma^2 s + sqrt(e) sigma z,

    and then x <- (alpha'/alpha) x to reach the next level. The levels are the points of the grid except t_max, where
    x_T already follows the prior; the last level is t_min.

    Args:
      steps: number of noise levels, at least 1.
      grid: function (sde, steps) -> times, such as `uniform_log_snr` or `karras`; see `scoresde.sample.grid`.
      repeats: Langevin steps per noise level, at least 1.
      step_size: e, the step in units of sigma^2, between 0 and 4; the paper has 2e-5 / 0.01^2 = 0.2.

    Raises:
      ConfigError: a parameter is out of range, or a process whose alpha differs between modes.
    """

    steps: int = eqx.field(static=True)
    grid: Callable = uniform_log_snr
    repeats: int = eqx.field(static=True, default=100)
    step_size: float = eqx.field(static=True, default=0.2)

    def __check_init__(self):
        check_parameters(
            "LangevinDynamics",
            steps=at_least(self.steps, 1),
            repeats=at_least(self.repeats, 1),
            step_size=(self.step_size, 0 < self.step_size < 4, "between 0 and 4, above which the iteration diverges"),
        )

    def __call__(self, score, x_T, *, key):
        sde = score.sde
        one_alpha(
            sde,
            "LangevinDynamics",
            "the factor alpha'/alpha would blow up noise in modes that have no signal yet; use DDIM",
        )
        levels = schedule_on_grid(sde, self.grid, self.steps, x_T.dtype)

        def level(x, row):
            i, here, there = row

            def move(j, x):
                drift = 0.5 * self.step_size * there.sigma**2 * score(x, there.t)
                spread = jnp.sqrt(self.step_size) * there.sigma
                return (x + drift + spread * noise(key, i * self.repeats + j, x)).astype(x.dtype)

            x = (there.alpha / here.alpha * x).astype(x.dtype)
            return jax.lax.fori_loop(0, self.repeats, move, x), None

        x, _ = jax.lax.scan(level, x_T, (jnp.arange(self.steps), levels[:-1], levels[1:]))
        return draw_without_error_estimate(x, self.steps * self.repeats)


def _check_corrector(corrector: AbstractCorrector) -> None:
    snr = (corrector.snr, corrector.snr > 0, "above 0")
    check_parameters(type(corrector).__name__, snr=snr, repeats=at_least(corrector.repeats, 1))
