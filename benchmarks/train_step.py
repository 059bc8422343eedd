"""A training step of ours against the same one in PyTorch: images/s, memory, operations, share of the device's matrix
peak.

python benchmarks/train_step.py [--networks A,B] [--batches 8,32] [--dtype float32] [--python PYTHON] [--env DIR]
[--minutes 9]

PYTHON is that of an environment with torch and diffusers; without it, DIR (default .network-parity-env) is made and
filled with pip. Where one environment has all, name it, also that this program runs in.

- step: ours is `scoresde.train.step.make_step` with the objective, Adam, clipping and EMA that a configuration builds;
  theirs does the same work with a network of diffusers, eager and through torch.compile (speed_torch.py,
  speed_networks.py). Data are random bytes that are on the device already. Compilation is not in the times.
- check: both sides have the same parameters; output, loss and norm of the gradient of two examples agree to 1e-4 in
  full float32, or nothing is timed.
- times: three processes take turns, ours, eager, compiled, ours, ...; medians with quartiles, and the median of the
  ratios round by round. Also of processor time on a CPU, which other programs disturb less.
- operations: of products and convolutions, forward and backward (speed_count.py), beside the counts of XLA and of
  PyTorch. The share is of the largest rate of a square matrix product, of either side, measured in the same run on
  random data; both by processor time on a CPU.
- memory: the largest number of bytes in training, of the device on accelerators, of the process after its first steps
on a CPU.

Cases that results/train_step.json has are left out, unless --again: call it again to go on.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # this process needs nothing of the device

import jax  # noqa: E402
import speed  # noqa: E402
from environment import environment  # noqa: E402
from network_parity import PACKAGES, WITHOUT_DEPENDENCIES  # noqa: E402
from record import commit, record  # noqa: E402
from speed_networks import Twin, twins  # noqa: E402

LIMIT = 1e-4
CPU_NETWORKS, ACCELERATOR_NETWORKS = "small", "ddpmpp_cifar10,ncsnpp,adm_imagenet64,dit_b2,dit_xl2"
SQUARE = {"cpu": 2048}  # side of the matrices of the peak; 8192 on accelerators


def arguments(description: str) -> argparse.ArgumentParser:
    """The flags of train_step.py and sample.py."""
    parser = argparse.ArgumentParser(description=description)
    cpu = jax.default_backend() == "cpu"
    parser.add_argument(
        "--networks", default=CPU_NETWORKS if cpu else ACCELERATOR_NETWORKS, help=f"of {', '.join(twins())}"
    )
    parser.add_argument("--batches", default="", help="instead of those of speed_networks.py")
    parser.add_argument(
        "--dtype", default="float32" if cpu else "bfloat16", help="float32 or bfloat16; several with commas"
    )
    parser.add_argument("--sides", default="eager,compiled", help="of PyTorch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--python", type=pathlib.Path, help="Python of an environment with torch and diffusers")
    parser.add_argument(
        "--env", type=pathlib.Path, default=pathlib.Path(".network-parity-env"), help="environment to make"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="begin nothing new after this time")
    parser.add_argument("--again", action="store_true", help="also the cases that are measured already")
    return parser


def their_python(flags) -> pathlib.Path:
    return flags.python or environment(flags.env, PACKAGES, WITHOUT_DEPENDENCIES)


def start(twin: Twin, batch: int, dtype: str, flags, folder: str) -> tuple[dict[str, speed.Side], dict]:
    """The sides, ours first, with the same parameters; and what they say of themselves. Ends the program if they
    differ."""
    file, given = f"{folder}/parameters.npz", dict(told=twin.told, batch=batch, dtype=dtype)

    def begin() -> tuple[speed.Side, dict]:
        ours = speed.Side(sys.executable, "speed_jax.py")
        return ours, ours.ask("start", **given, file=file)

    # In processes of their own: what a comparison leaves in memory is no part of training.
    reference = speed.Side(their_python(flags), "speed_torch.py")
    reference.ask("start", **given, compiled=False)
    reference.ask("check", file=file)
    ours, about = begin()
    about["difference"] = ours.ask("check")
    speed.close_sides()
    if max(about["difference"].values()) > LIMIT:
        sys.exit(f"the two sides do not compute the same: {about['difference']}; nothing is timed")
    sides = {"ours": begin()[0]}
    os.remove(file)
    for name in flags.sides.split(","):
        sides[name] = speed.Side(their_python(flags), "speed_torch.py")
        about |= sides[name].ask("start", **given, compiled=name == "compiled")
    return sides, about


def measure(twin: Twin, batch: int, dtype: str, flags, deadline: float) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        sides, about = start(twin, batch, dtype, flags, folder)
    cost = sides["ours"].ask("compile", what="train")
    theirs = {name: side for name, side in sides.items() if name != "ours"}
    cost["train"]["torch_flops"] = next(iter(theirs.values())).ask("flops")["forward_backward"]
    size = SQUARE.get(about["platform"], 8192)
    peak = {
        name: side.ask("peak", size=size, dtype=dtype)["flops_per_s"]
        for name, side in sides.items()
        if name != "compiled"
    }
    row = (
        about
        | cost
        | {"dtype": dtype, "batch": batch, "matrix_peak_flops_per_s": {n: float(f"{p:.4g}") for n, p in peak.items()}}
    )
    repeats = 2 if about["platform"] == "cpu" else 5
    for what in ("train", "forward"):
        if what == "forward":
            row |= sides["ours"].ask("compile", what=what)
        found = speed.rounds(sides, flags.rounds, deadline, do="time", what=what, repeats=repeats)
        table = speed.figures(found, batch)
        for name, figures in table.items():
            spent = figures["cpu_ms"] if about["platform"] == "cpu" else figures["ms"]["median"]
            share = row[what]["flops"] / (spent / 1e3) / max(peak.values())
            figures["share_of_matrix_peak"] = float(f"{share:.3g}")
            if what == "train":
                figures["peak_bytes"] = sides[name].ask("memory")["peak_bytes"]
        row[f"{what}_times"] = table
    return row


def show(name: str, row: dict) -> None:
    for what in ("train", "forward"):
        operations = row[what]["flops"] / row["batch"] / 1e9
        print(f"{name}, {what}: {operations:.4g} GFLOP and {row[what]['bytes'] / row['batch'] / 1e6:.4g} MB an image")
        for side, f in row[f"{what}_times"].items():
            ratio = f"ours x {f['ours_over_theirs']['median']:.3g}" if "ours_over_theirs" in f else ""
            cpu = f", by CPU time {f['ours_over_theirs_by_cpu_time']['median']:.3g}" if ratio else ""
            memory = f"{f['peak_bytes'] / 2**30:.2f} GiB" if "peak_bytes" in f else ""
            print(
                f"  {side:9} {f['images_per_s']:9.4g} images/s {f['ms']['median']:9.4g} ms {f['ms']['quartiles']} "
                f"{f['share_of_matrix_peak']:6.1%} of the matrix peak  {memory} {ratio}{cpu}", flush=True,
            )  # fmt: skip


def run(name: str, flags, cases, measure, show) -> None:
    """Measure what results/NAME.json has not, recording after each: `cases` are (key, arguments of measure)."""
    begin, done = time.monotonic(), speed.stored(name)
    device = jax.devices()[0].device_kind
    for key, given in cases:
        key = f"{device}, jax {jax.__version__}, {key}"
        if (key in done and not flags.again) or time.monotonic() - begin > 60 * flags.minutes:
            print(f"{key}: {'measured already' if key in done else 'left for another call'}")
            continue
        try:
            done[key] = {"commit": commit()} | measure(*given, flags, begin + 60 * flags.minutes)
        except RuntimeError as error:  # a batch too large for the memory
            print(f"{key}: {error}")
            continue
        finally:
            speed.close_sides()
        show(key, done[key])
        record(name, {"limit": LIMIT, "cases": done})


def main():
    flags = arguments(__doc__.splitlines()[0]).parse_args()
    cases = []
    for network in flags.networks.split(","):
        twin = twins()[network]
        given = twin.cpu if jax.default_backend() == "cpu" else twin.accelerator
        for batch in [int(b) for b in flags.batches.split(",") if b] or given:
            cases += [(f"{network}, batch {batch}, {dtype}", (twin, batch, dtype)) for dtype in flags.dtype.split(",")]
    run("train_step", flags, cases, measure, show)


if __name__ == "__main__":
    main()
