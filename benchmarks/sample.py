"""Sampling at a fixed number of calls against the same update in PyTorch, and the adaptive probability flow against
score_sde's way.

python benchmarks/sample.py [--workdir runs/digits_vp] [--networks A,B] [--batches 4] [--python PYTHON] [--minutes 9]

The flags are those of train_step.py, and so are the sides, their turns and their parameters.

- fixed: DDIM with 20 calls, DPM-Solver++ 2M with 20, Euler on the probability flow with 50. Ours is the sampler of
  scoresde, one compiled program; theirs a plain loop over the network of diffusers, whose coefficients are ready before
  it starts. Both start from the same x_T on the same times, and first draw the same samples in full float32.
- adaptive: 16 samples of a trained run (digits) by the probability flow at tolerance 1e-5: ours, diffrax with steps of
  its own for each image, against SciPy's RK45 driven from the host, in float64 with one step size for the batch, around
  the same compiled drift, as in score_sde. `likelihood_cost.py` has the same of likelihoods. Without --workdir it is
  left out.

Cases that results/sample.json has are left out, unless --again.
"""

import dataclasses
import sys
import tempfile

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import speed
from scipy.integrate import solve_ivp
from speed_networks import twins
from train_step import arguments, run, start

import scoresde.sample as s
from scoresde.experiment.load import load_run

SAMPLERS = {"ddim": 20, "dpmpp_2m": 20, "euler": 50}
CPU_BATCHES, ACCELERATOR_BATCHES = (4,), (256,)
LIMIT = 1e-3  # of samples; the network multiplies the differences of its outputs, step after step
IMAGES, TOLERANCE, PAIRS = 16, 1e-5, 5


def fixed(twin, batch: int, dtype: str, flags, deadline: float) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        # The samples are compared in float32, with a network of its own if another dtype is timed.
        sides, about = start(twin, batch, "float32", flags, folder)
        differences = {what: compare(sides, what, folder) for what in SAMPLERS}
        if dtype != "float32":
            speed.close_sides()
            sides, about = start(twin, batch, dtype, flags, folder)
        row = about | {"dtype": dtype, "batch": batch, "samplers": {}}
        for what, calls in SAMPLERS.items():
            file = f"{folder}/start.npz"
            sides["ours"].ask("grid", what=what, steps=calls, file=file)
            wanted = {
                name: _Drawing(side, {} if name == "ours" else {"what": what, "file": file})
                for name, side in sides.items()
            }
            found = speed.rounds(wanted, flags.rounds, deadline, do="draw", save="", repeats=1)
            row["samplers"][what] = {"calls": calls, "difference": differences[what]} | speed.figures(found, batch)
    return row


@dataclasses.dataclass(frozen=True)
class _Drawing:
    """A side with what it is told beside the common request."""

    side: speed.Side
    told: dict

    def ask(self, do: str, **arguments) -> dict:
        return self.side.ask(do, **self.told, **arguments)


def compare(sides: dict[str, speed.Side], what: str, folder: str) -> float:
    """The largest relative difference of a sample; ends the program above LIMIT."""
    file, theirs = f"{folder}/start.npz", next(name for name in sides if name != "ours")
    sides["ours"].ask("grid", what=what, steps=SAMPLERS[what], file=file)
    sides["ours"].ask("draw", save=f"{folder}/ours.npy", repeats=1, inner=0)
    sides[theirs].ask("draw", what=what, file=file, save=f"{folder}/theirs.npy", repeats=1, inner=0)
    a, b = (np.load(f"{folder}/{name}.npy").reshape(-1) for name in ("ours", "theirs"))
    difference = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    if not difference <= LIMIT:
        sys.exit(f"{what}: the samples of the two sides differ by {difference:.2g}; nothing is timed")
    return difference


def host_driven(score, x_T) -> tuple[np.ndarray, int]:
    """The probability flow of a batch as score_sde solves it."""
    sde, shape = score.sde, x_T.shape
    drift = jax.jit(lambda x, t: jax.vmap(lambda x: sde.f(t) * x - 0.5 * sde.g2(t) * score(x, t))(x))

    def slope(t, state):
        x = jnp.asarray(state.reshape(shape), jnp.float32)
        return np.asarray(drift(x, jnp.float32(t))).ravel().astype(np.float64)

    start = np.asarray(x_T, np.float64).ravel()
    solved = solve_ivp(slope, (sde.t_max, sde.t_min), start, rtol=TOLERANCE, atol=TOLERANCE, method="RK45")
    return solved.y[:, -1].reshape(shape), solved.nfev


def adaptive(workdir: str, flags, deadline: float) -> dict:
    trained = load_run(workdir)
    score = trained.score
    x_T = jax.random.normal(jax.random.key(0), (IMAGES, *trained.dataset.shape))
    solvers = {"tsit5": dfx.Tsit5(), "dopri5": dfx.Dopri5()}  # RK45 is Dormand and Prince's
    rows = {}
    for name, solver in solvers.items():
        sampler = s.ProbabilityFlow(solver, s.Adaptive(TOLERANCE))
        solve = jax.jit(lambda score, x: jax.vmap(lambda x: sampler(score, x, key=None))(x))  # noqa: B023
        mine, (theirs, calls) = solve(score, x_T), host_driven(score, x_T)
        assert mine.ok.all()
        ours, scipy = [], []
        for _ in range(PAIRS):
            ours.append(speed.timed(lambda: jax.block_until_ready(solve(score, x_T)), lambda: None, 1, 1))  # noqa: B023
            scipy.append(speed.timed(lambda: host_driven(score, x_T), lambda: None, 1, 1))
        table = speed.figures({"ours": ours, "scipy": scipy}, IMAGES)
        error = np.linalg.norm(np.asarray(mine.x) - theirs) / np.linalg.norm(theirs)
        rows[name] = table | {
            "ours_calls_mean": float(mine.nfe.mean()), "ours_calls_largest": int(mine.nfe.max()), "scipy_calls": calls,
            "difference": float(error), "images": IMAGES, "tolerance": TOLERANCE,
        }  # fmt: skip
    return {"samplers": rows}


def show(name: str, row: dict) -> None:
    for what, table in row["samplers"].items():
        print(f"{name}, {what}: samples differ by {table['difference']:.1e}")
        for side, f in table.items():
            if isinstance(f, dict):
                ratio = f"ours x {f['ours_over_theirs']['median']:.3g}" if "ours_over_theirs" in f else ""
                cpu = f", by CPU time {f['ours_over_theirs_by_cpu_time']['median']:.3g}" if ratio else ""
                print(
                    f"  {side:9} {f['images_per_s']:9.4g} images/s {f['ms']['median']:9.4g} ms {f['ms']['quartiles']} "
                    f"{ratio}{cpu}",
                    flush=True,
                )


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--workdir", help="a trained run of configs/digits_vp.py")
    flags = parser.parse_args()
    cpu = jax.default_backend() == "cpu"
    cases = [("digits, probability flow, adaptive", (adaptive, flags.workdir))] if flags.workdir else []
    for network in flags.networks.split(","):
        twin = twins()[network]
        if twin.process != "vp" or "UNet2DModel" in twin.network and twin.ours.get("num_classes"):
            continue  # the loops of speed_torch.py are for VP; diffusers' U-Net has no null class
        for batch in [int(b) for b in flags.batches.split(",") if b] or (CPU_BATCHES if cpu else ACCELERATOR_BATCHES):
            cases += [
                (f"{network}, batch {batch}, {dtype}", (fixed, twin, batch, dtype)) for dtype in flags.dtype.split(",")
            ]
    run("sample", flags, cases, lambda measure, *given: measure(*given), show)


if __name__ == "__main__":
    main()
