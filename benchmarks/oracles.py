"""The likelihood against exact answers, for every process.

JAX_ENABLE_X64=1 python benchmarks/oracles.py

- mixture: 64 points of a 5-dimensional mixture with full covariances; exact trace, tolerance 1e-6, float64. The prior
  is replaced by the exact terminal density at the latent; what that replaces is the prior mismatch, a column of its
  own.
- gaussian: 8 points of a 3072-dimensional Gaussian; exact trace, tolerance 1e-5, float32; bits/dim.
- coverage: how often log p +- 1.96 standard errors (24 probes) covers the exact value, 200 repetitions.
"""

import jax
import jax.numpy as jnp
import numpy as np
from record import record

from scoresde import VE, VP, Cosine, GaussianScore, Karras, MixtureScore, SubVP
from scoresde.likelihood import log_likelihood

DIMENSIONS = 3072


def mixture(sde, seed: int = 0) -> MixtureScore:
    random = np.random.default_rng(seed)
    factor = 0.5 * random.normal(size=(3, 5, 5))
    return MixtureScore(sde, random.normal(size=(3, 5)), factor @ factor.mT + 0.05 * np.eye(5), [0.5, 0.3, 0.2])


def draws(score, sde, num: int):
    return jax.vmap(lambda key: score.sample(sde.t_min, key=key))(jax.random.split(jax.random.key(1), num))


def corrected(score, result):
    """log p with the exact terminal density in the prior's place."""
    sde = score.sde
    exact = jax.vmap(lambda z: score.log_prob(z, sde.t_max))(result.latent)
    return result.log_prob - jax.vmap(sde.log_prior)(result.latent) + exact


def figures(sde, points: int = 64, repetitions: int = 200, dimensions: int = DIMENSIONS) -> dict:
    """One row of the table."""
    score = mixture(sde)
    x = draws(score, sde, points)
    exact = jax.vmap(lambda z: score.log_prob(z, sde.t_min))(x)
    result = log_likelihood(score, x, key=jax.random.key(2), probes=None, tolerance=1e-6)
    error = float(jnp.abs(corrected(score, result) - exact).max())
    mismatch = float(jnp.abs(result.log_prob - exact).mean())

    repeated = jnp.repeat(x[:1], repetitions, axis=0)
    probed = log_likelihood(score, repeated, key=jax.random.key(3), probes=24, tolerance=1e-6)
    off = jnp.abs(corrected(score, probed) - exact[0])
    coverage = float(jnp.mean(off < 1.96 * probed.standard_error))

    random = np.random.default_rng(0)
    wide = GaussianScore(sde, 0.2 * random.normal(size=dimensions), random.uniform(0.02, 0.5, dimensions))
    rows = draws(wide, sde, 8)
    truth = jax.vmap(lambda z: wide.log_prob(z, sde.t_min))(rows)
    with jax.enable_x64(False):
        wide32 = GaussianScore(sde, np.asarray(wide.mean), np.asarray(wide.variances))
        rows32 = jnp.asarray(np.asarray(rows), jnp.float32)
        result = log_likelihood(wide32, rows32, key=jax.random.key(2), probes=None, tolerance=1e-5)
        found = np.asarray(corrected(wide32, result), np.float64)
    bits = float(np.abs(found - np.asarray(truth)).max() / dimensions / np.log(2))
    return {
        "mixture_nats": error,
        "prior_mismatch_nats": mismatch,
        "gaussian_bits_per_dim": bits,
        "coverage": coverage,
    }


def main():
    assert jax.config.jax_enable_x64, "run with JAX_ENABLE_X64=1"
    table = {}
    print(f"{'process':8} {'mixture, nats':>14} {'prior mismatch':>15} {'gaussian, bits/dim':>19} {'coverage':>9}")
    for sde in (VP(), SubVP(), VE(), Cosine(), Karras()):
        name = type(sde).__name__
        table[name] = row = figures(sde)
        error, mismatch, bits, coverage = row.values()
        print(f"{name:8} {error:14.1e} {mismatch:15.1e} {bits:19.1e} {coverage:9.3f}")
    record("oracles", {"processes": table})


if __name__ == "__main__":
    main()
