"""What a posterior mode by mode misses where modes depend on each other: JAX_ENABLE_X64=1 python
benchmarks/imputation.py

A Gaussian process on 64 points, every second one hidden, with its exact score: root mean square of the error of the
mean of 1024 draws at the hidden points, and their deviation over that of the exact posterior, for samplers with and
without corrections.
"""

import jax
import jax.numpy as jnp
import numpy as np
from record import record

from scoresde.guide import ModeCovariance, inpaint, replace, restore
from scoresde.sample import Ancestral, DPMSolverPP, Langevin, PredictorCorrector, SDEDPMSolverPP, uniform_log_snr
from scoresde.score import GaussianScore
from scoresde.sde import VP

_POINTS, _DRAWS, _NOISE = 64, 1024, 0.1
_SAMPLERS = {
    "DPMSolverPP(64)": DPMSolverPP(64),
    "SDEDPMSolverPP(128)": SDEDPMSolverPP(128),
    "PredictorCorrector(200, uniform_log_snr, Ancestral(), Langevin(0.16, 2))": PredictorCorrector(
        200, uniform_log_snr, Ancestral(), Langevin(0.16, 2)
    ),
}


def main() -> None:
    s = np.arange(_POINTS) / _POINTS
    covariance, hidden = np.exp(-2 * abs(s[:, None] - s)), np.arange(_POINTS) % 2 == 1
    sde = VP(t_min=1e-4)
    score = GaussianScore(sde, np.zeros((_POINTS, 1)), covariance)
    observation = inpaint(~hidden, sigma_y=_NOISE)
    y = observation.observe(jnp.sin(6 * s)[:, None], key=jax.random.key(0))
    inverse = np.linalg.inv(covariance[np.ix_(~hidden, ~hidden)] + _NOISE**2 * np.eye((~hidden).sum()))
    gain = covariance[np.ix_(hidden, ~hidden)] @ inverse
    mean = gain @ np.asarray(y)[~hidden, 0]
    deviation = np.sqrt(np.diag(covariance)[hidden] - np.sum(gain * covariance[np.ix_(hidden, ~hidden)], axis=1))
    many, keys = jnp.broadcast_to(y, (_DRAWS, _POINTS, 1)), jax.random.split(jax.random.key(1), _DRAWS)
    rms = lambda x: round(float(np.sqrt(np.mean(x**2))), 4)
    table = {}
    for name, sampler in _SAMPLERS.items():
        ways = {
            "Posterior": restore(sampler, score, observation, 1.0, many, keys=keys),
            "JointPosterior": restore(sampler, score, observation, ModeCovariance(covariance), many, keys=keys),
            "Replacement": replace(sampler, score, observation, many, keys=keys),
        }
        for way, drawn in ways.items():
            x = np.asarray(drawn.x)[:, hidden, 0]
            figures = {
                "error of the mean": rms(x.mean(0) - mean),
                "deviation": round(float(np.mean(x.std(0) / deviation)), 3),
            }
            table[f"{way}, {name}"] = figures
            print(way, name, figures, flush=True)
    record("imputation", {"mean": rms(mean), "hidden points": table})


if __name__ == "__main__":
    main()
