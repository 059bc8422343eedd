import equinox as eqx
import jax
import jax.numpy as jnp

from scoresde.sample import AbstractSampler, Draw


class Ancestral(AbstractSampler):
    """Ancestral sampling with equal steps in t, from E[x_0 | x_t].

    Args:
      steps: number of steps.
    """

    steps: int = eqx.field(static=True, default=40)

    def __call__(self, score, x_T, *, key):
        sde, times = score.sde, jnp.linspace(score.sde.t_max, score.sde.t_min, self.steps + 1)

        def step(x, inputs):
            t, s, key = inputs
            ratio = jnp.exp(sde.log_alpha(t) - sde.log_alpha(s))
            variance = sde.sigma(t) ** 2 - (ratio * sde.sigma(s)) ** 2
            mean = ratio * (sde.sigma(s) / sde.sigma(t)) ** 2 * x
            mean += sde.alpha(s) * variance / sde.sigma(t) ** 2 * score.denoise(x, t)
            deviation = jnp.sqrt(variance) * sde.sigma(s) / sde.sigma(t)
            return mean + deviation * jax.random.normal(key, x.shape), None

        x, _ = jax.lax.scan(step, x_T, (times[:-1], times[1:], jax.random.split(key, self.steps)))
        return Draw(x, jnp.asarray(self.steps), jnp.all(jnp.isfinite(x)))
