"""Restoration by a trained score against a baseline and linear methods: python benchmarks/restoration.py --workdir RUN

PSNR = 10 log10(range^2 / mean squared error), over all pixels of the first test records, in model coordinates. A draw
of
x_0 given y has twice the squared error of the posterior mean, 3 dB less, if the law is right: so the mean of several
draws is looked at as well. The linear methods are posterior means of Gaussians fitted to the training records: with one
variance per mode, all that `Posterior` knows besides its score; and with the full covariance, the best that a linear
method can do, which `JointPosterior` knows as well.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from record import record

from scoresde.data.picture import image_grid
from scoresde.experiment.load import load_run
from scoresde.guide import deblur, inpaint, mode_covariance, mode_variances, replace, restore, super_resolution
from scoresde.sample import DPMSolverPP, SDEDPMSolverPP

_RECORDS, _SHOWN = 128, 12
_NOISE = 0.05  # at a point, of data in [-1, 1]
# The first one is shown; means are of its draws.
_SAMPLERS = {"sde_dpmpp, 50 steps": SDEDPMSolverPP(50), "dpmpp, 20 steps": DPMSolverPP(20)}


def operators(grid: tuple[int, ...]) -> dict:
    seen = np.random.default_rng(0).permutation(np.arange(np.prod(grid)) < np.prod(grid) / 2).reshape(grid)
    return {
        f"deblur, 1 pixel, noise {_NOISE}": deblur(grid, 1.0, sigma_y=_NOISE),
        f"super-resolution x2, noise {_NOISE}": super_resolution(grid, 2, sigma_y=_NOISE),
        f"super-resolution x4, noise {_NOISE}": super_resolution(grid, 4, sigma_y=_NOISE),
        f"inpaint, half hidden, noise {_NOISE}": inpaint(seen, sigma_y=_NOISE),
        "inpaint, half hidden, no noise": inpaint(seen),
    }


def linear(observation, known: np.ndarray, y: np.ndarray, full: bool) -> np.ndarray:
    """The posterior mean, as fields, of the Gaussian with mean and (co)variance of the fields `known`."""
    shape, many = known.shape[1:], jax.vmap(observation.basis.to_modes)
    c = np.asarray(many(jnp.asarray(known))).reshape(len(known), -1).astype(np.float64)
    h = np.broadcast_to(observation.h, shape).reshape(-1).astype(np.float64)
    mean, noise = c.mean(0), observation.deviation**2 + 1e-10
    covariance = np.cov(c.T) if full else np.diag(c.var(0))
    gain = covariance * h @ np.linalg.inv(h[:, None] * covariance * h + noise * np.eye(len(h)))
    found = mean + (y.reshape(len(y), -1) - h * mean) @ gain.T
    return np.asarray(jax.vmap(observation.basis.from_modes)(jnp.asarray(found.reshape(-1, *shape), jnp.float32)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument(
        "--picture", type=pathlib.Path, default=pathlib.Path(__file__).parents[1] / "docs" / "restoration.png"
    )
    found = parser.parse_args()
    trained = load_run(found.workdir)
    dataset, score = trained.dataset, trained.score
    x0 = jnp.asarray(dataset.encode(dataset.test.rows(np.arange(_RECORDS))[0]))
    known = jnp.asarray(dataset.encode(dataset.train.rows(np.arange(len(dataset.train)))[0]))
    span = 2.0 if dataset.centered else 1.0
    psnr = lambda x: round(float(10 * np.log10(span**2 / np.mean((np.asarray(x) - np.asarray(x0)) ** 2))), 2)
    table, rows = {}, [x0[:_SHOWN]]
    for name, observation in operators(trained.shape[:-1]).items():
        keys = jax.random.split(jax.random.key(0), (found.draws + 1, _RECORDS))
        y = jax.vmap(lambda x, key: observation.observe(x, key=key))(x0, keys[-1])
        degraded = jax.vmap(observation.picture)(y)
        figures = {
            "degraded": psnr(degraded),
            "linear, a variance per mode": psnr(linear(observation, np.asarray(known), np.asarray(y), False)),
            "linear, full covariance": psnr(linear(observation, np.asarray(known), np.asarray(y), True)),
        }
        spreads = {
            "Posterior": mode_variances(observation.basis, known),
            "JointPosterior": mode_covariance(observation.basis, known),
        }
        shown = [degraded]
        for label, sampler in _SAMPLERS.items():
            first = len(shown) == 1
            draws = found.draws if first else 1
            for guide, spread in spreads.items():
                drawn = [restore(sampler, score, observation, spread, y, keys=k).x for k in keys[:draws]]
                figures[f"{guide}, {label}"] = psnr(drawn[0])
                if draws > 1:
                    figures[f"{guide}, {label}, mean of {draws}"] = psnr(sum(drawn) / draws)
                shown += [drawn[0]] if first else []
            by_replacement = replace(sampler, score, observation, y, keys=keys[0]).x
            figures[f"Replacement, {label}"] = psnr(by_replacement)
            shown += [by_replacement] if first else []
        rows += [part[:_SHOWN] for part in shown if "no noise" not in name]
        table[name] = figures
        print(name, *(f"  {value:6.2f}  {label}" for label, value in figures.items()), sep="\n", flush=True)
    image_grid(np.asarray(dataset.images(jnp.concatenate(rows))), _SHOWN).save(found.picture)
    record("restoration", {"records": _RECORDS, "step": trained.step, "psnr": table})


if __name__ == "__main__":
    main()
