"""Our samplers against diffusers, k-diffusion and azula: same x_T, same noise, same exact denoiser.

python benchmarks/parity.py [--env DIR]

DIR (default .parity-env) is the virtual environment of the other libraries; if it is not there it is made, and filled
with pip. To choose the build of torch, name it in a file and set PIP_CONSTRAINT to that file.

- data: a mixture of three Gaussians with full covariances in 8 dimensions; 16 examples; 20 steps; both in float64.
- difference: the largest |ours - theirs| / |theirs| over the examples, Euclidean norms, at the end of the grid, where
  sigma > 0. The limit is 1e-4; a case above it needs a note that explains it.
- as shipped: diffusers computes in float32. For the difference its float32 is read as float64; this is it unchanged.
- flow error: where the two differ and draw no noise, the distance of each from the exact probability flow.
- order: the same distance for the solvers with three points on finer grids, and the order from halved steps.
- law: for data N(1, 1/4) the result of an SDE sampler is Gaussian; its 2-Wasserstein distance from the exact law.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

os.environ["JAX_ENABLE_X64"] = "1"

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from environment import environment
from parity_cases import STEPS, Case, PublishedThree, cases, order_case, wrong_sign
from record import record

from scoresde import VP, Adaptive, GaussianScore, Karras, MixtureScore, ProbabilityFlow
from scoresde.sample import SDEDPMSolverPP, karras, uniform_log_snr
from scoresde.sample.base import noise
from scoresde.sde.base import AbstractSDE, as_time

LIMIT = 1e-4
EXAMPLES, DIMENSIONS = 16, 8
ORDER_STEPS = (20, 40, 80, 160, 320)
# What is used of k-diffusion and azula needs these; their own lists add gigabytes for other parts.
PACKAGES = ["torch", "diffusers", "einops", "pillow", "safetensors", "scipy", "torchdiffeq", "torchsde", "tqdm"]
WITHOUT_DEPENDENCIES = ["k-diffusion", "azula"]


class Table(AbstractSDE):
    """The VP process through a scheduler's table: log alpha is linear between its integer timesteps."""

    log_alphas: jax.Array
    t_min: float
    t_max: float

    def log_alpha(self, t):
        return jnp.interp(as_time(t), jnp.arange(len(self.log_alphas), dtype=float), self.log_alphas)

    def sigma(self, t):
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))


def mixture(seed: int = 0) -> dict:
    """Means, covariances and weights of the data."""
    random = np.random.default_rng(seed)
    factors = 0.5 * random.normal(size=(3, DIMENSIONS, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    covariances = factors @ factors.mT + 0.01 * np.eye(DIMENSIONS)
    return {
        "means": random.normal(size=(3, DIMENSIONS)),
        "covariances": covariances,
        "weights": np.array([0.5, 0.3, 0.2]),
    }


def inputs(keys) -> dict:
    """What both sides are given: the data, x_T / sigma_T, the noise of each key, and the grids."""
    shape = jnp.zeros(DIMENSIONS)
    arrays = {
        **mixture(),
        "z_T": jax.random.normal(jax.random.key(1), (EXAMPLES, DIMENSIONS)),
        "noise": jax.vmap(lambda i: jax.vmap(lambda key: noise(key, i, shape))(keys))(jnp.arange(2 * max(ORDER_STEPS))),
    }
    for name, (sde, times) in grids().items():
        arrays |= {f"{name}/alpha": jax.vmap(sde.alpha)(times), f"{name}/sigma": jax.vmap(sde.sigma)(times)}
    arrays["karras, 0/sigma"] = np.append(arrays["karras/sigma"], 0.0)
    return {name: np.asarray(array) for name, array in arrays.items()}


def grids() -> dict:
    """The processes and times that are ours to choose: EDM's grid, continuous VP, and finer ones for the order."""
    edm, vp = Karras(), VP(t_min=1e-3)
    order = {f"order {steps}": (edm, uniform_log_snr(edm, steps)) for steps in ORDER_STEPS}
    return {"karras": (edm, karras(edm, STEPS)), "vp": (vp, uniform_log_snr(vp, STEPS)), **order}


def process(case: Case, theirs: dict) -> tuple[AbstractSDE, np.ndarray, float]:
    """The process, the times and x_T / z_T of a case; where they choose the times, from their results."""
    if "alphas_cumprod" in theirs:
        times = theirs["times"]
        return Table(np.log(theirs["alphas_cumprod"]) / 2, float(times[-1]), float(times[0])), times, 1.0
    if "times" in theirs:
        times = theirs["times"]
        return Karras(float(times[-1]), float(times[0])), times, times[0]
    sde, times = grids()[case.theirs["grid"].removesuffix(", 0")]
    return sde, times, sde.sigma(times[0])


def run_ours(case: Case, theirs: dict, keys, z_T):
    """x at the end of the grid that their case went along."""
    sde, times, scale = process(case, theirs)
    score = MixtureScore(sde, **mixture())
    sampler = case.ours(len(times) - 1, lambda sde, steps: jnp.asarray(times))
    x = jax.jit(jax.vmap(lambda z, key: sampler(score, scale * z, key=key).x))(z_T, keys)
    if case.theirs.get("grid") == "karras, 0":
        x = jax.vmap(lambda x: score.denoise(x, sde.t_min))(x)
    return np.asarray(x)


def exact_flow(case: Case, theirs: dict, z_T):
    """The end of the probability flow: it depends on the ends of the grid alone, so it is solved for alpha = 1."""
    sde, times, scale = process(case, theirs)
    first, last = ((float(sde.alpha(t)), float(sde.sigma(t))) for t in (times[0], times[-1]))
    edm = Karras(last[1] / last[0], first[1] / first[0])
    solver = ProbabilityFlow(diffrax.Dopri8(), Adaptive(1e-12, max_steps=100_000))
    score = MixtureScore(edm, **mixture())
    solve = jax.jit(jax.vmap(lambda z: solver(score, scale / first[0] * z, key=jax.random.key(0)).x))
    return last[0] * np.asarray(solve(z_T))


def difference(ours, theirs) -> float:
    return float((np.linalg.norm(ours - theirs, axis=-1) / np.linalg.norm(theirs, axis=-1)).max())


def halvings(errors: list) -> dict:
    return {"errors": errors, "orders": np.log2(np.divide(errors[:-1], errors[1:])).round(2).tolist()}


def orders(results: dict, keys, z_T) -> dict:
    """Distances from the exact flow on grids with equal steps in lambda."""
    found = {"ours, DPMSolverPP 3": [], "k-diffusion sample_dpmpp_3m_sde, eta=0": [], "azula xEABSampler, order 3": []}
    truth = exact_flow(order_case(20, True), {}, z_T)
    for steps in ORDER_STEPS:
        ours = run_ours(order_case(steps, True), {}, keys, z_T)
        theirs = (results[f"order {steps} {published}"]["x"] for published in (True, False))
        for errors, x in zip(found.values(), (ours, *theirs)):
            errors.append(difference(x, truth))
    return {name: halvings(errors) for name, errors in found.items()}


def laws() -> dict:
    """The same for the laws of SDE solvers."""
    forms = {
        "ours, SDEDPMSolverPP 2": lambda steps: SDEDPMSolverPP(steps, uniform_log_snr, order=2),
        "ours, SDEDPMSolverPP 3": lambda steps: SDEDPMSolverPP(steps, uniform_log_snr, order=3),
        "k-diffusion's 3M SDE, as published": lambda steps: PublishedThree(steps, uniform_log_snr, 2.0, second="exact"),
        "diffusers' 3M SDE, as published": lambda steps: PublishedThree(steps, uniform_log_snr, 2.0, third=wrong_sign),
    }
    return {name: halvings([law_error(form(steps), steps) for steps in ORDER_STEPS]) for name, form in forms.items()}


def law_error(sampler, steps: int) -> float:
    """The distance of the sampler's law from N(1, 1/4 + sigma_min^2).

    On Gaussian data x is affine in x_T and the noise: unit inputs, in the place of keys, give the coefficients, and so
    the mean and the variance without sampling.
    """
    sde = Karras()
    score = GaussianScore(sde, np.ones(1), np.full((1, 1), 0.25))
    units = jnp.eye(steps + 2, steps + 1, k=-1)[:, :, None]  # nothing, then x_T, z_0, z_1, ...
    with mock.patch("scoresde.sample.multistep.noise", lambda key, i, x: key[i]):
        ends = jax.jit(jax.vmap(lambda z: sampler(score, z[0], key=z[1:]).x[0]))(units)
    gains = ends[1:] - ends[0]
    # The exact law of x_T enters, not the prior's.
    spread = jnp.linalg.norm(gains.at[0].mul(jnp.sqrt(0.25 + sde.sigma_max**2)))
    return float(jnp.hypot(ends[0] + gains[0] - 1, spread - jnp.sqrt(0.25 + sde.sigma_min**2)))


def run_theirs(python: pathlib.Path, told: dict, arrays: dict) -> tuple[dict, dict]:
    """The results of parity_reference.py by case, and its versions."""
    script = pathlib.Path(__file__).with_name("parity_reference.py")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "cases.json").write_text(json.dumps(told))
        np.savez(folder / "inputs.npz", **arrays)
        subprocess.run([python, script, folder], check=True)
        results = {name: {} for name in told}
        with np.load(folder / "results.npz") as saved:
            for path in saved:
                name, part = path.rsplit("/", 1)
                results[name][part] = saved[path]
        return results, json.loads((folder / "versions.json").read_text())


def told(listed: dict[str, Case]) -> dict:
    """What parity_reference.py runs: every case, diffusers' own float32, and the finer grids."""
    cases = {name: {**case.theirs, "dtype": "float64"} for name, case in listed.items()}
    for name, case in listed.items():
        if case.theirs["library"] == "diffusers":
            cases[f"{name} as shipped"] = {**case.theirs, "dtype": "float32"}
    for steps in ORDER_STEPS:
        for published in (True, False):
            cases[f"order {steps} {published}"] = {**order_case(steps, published).theirs, "dtype": "float64"}
    return cases


def compare(case: Case, theirs: dict, shipped: dict | None, keys, z_T) -> dict:
    """One row of the table."""
    ours = run_ours(case, theirs, keys, z_T)
    row = {"theirs": f"{case.theirs['library']} {case.theirs['function']}", "difference": difference(ours, theirs["x"])}
    if shipped is not None:
        row["as_shipped"] = difference(run_ours(case, shipped, keys, z_T), shipped["x"])
    if row["difference"] > LIMIT:
        row["note"] = case.note or "NOT EXPLAINED"
        again = run_ours(case, theirs, jnp.roll(keys, 1), z_T)
        if (again == ours).all():  # no noise drawn
            truth = exact_flow(case, theirs, z_T)
            row["flow_error"] = {"ours": difference(ours, truth), "theirs": difference(theirs["x"], truth)}
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=pathlib.Path, default=pathlib.Path(".parity-env"), help="their environment")
    python = environment(parser.parse_args().env, PACKAGES, WITHOUT_DEPENDENCIES)

    listed = cases()
    keys = jax.random.split(jax.random.key(0), EXAMPLES)
    arrays = inputs(keys)
    results, versions = run_theirs(python, told(listed), arrays)
    table = {}
    print(f"{'ours':34} {'theirs':28} {'difference':>10} {'as shipped':>10}  flow error: ours, theirs")
    for name, case in listed.items():
        row = compare(case, results[name], results.get(f"{name} as shipped"), keys, arrays["z_T"])
        table[name] = row
        shipped = f"{row['as_shipped']:10.1e}" if "as_shipped" in row else " " * 10
        flow = " ".join(f"{error:.1e}" for error in row.get("flow_error", {}).values())
        print(f"{name:34} {case.theirs['function']:28} {row['difference']:10.1e} {shipped}  {flow}")
    for note in sorted({row["note"] for row in table.values() if "note" in row}):
        print(f"\n{', '.join(name for name, row in table.items() if row.get('note') == note)}:\n  {note}")
    measured = {"order": orders(results, keys, arrays["z_T"]), "law": laws()}
    for what, samplers in measured.items():
        print(f"\n{what}, {ORDER_STEPS} steps")
        for name, values in samplers.items():
            print(f"  {name:38} {' '.join(f'{e:.1e}' for e in values['errors'])}  orders {values['orders']}")
    record("parity", {"limit": LIMIT, "theirs": versions, "cases": table, "order_steps": ORDER_STEPS, **measured})
    if any(row.get("note") == "NOT EXPLAINED" for row in table.values()):
        sys.exit("a difference above the limit has no explanation")


if __name__ == "__main__":
    main()
