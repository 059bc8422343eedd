"""What a training step computes, keeps and sends as devices are added: from the compiled program, on simulated CPU
devices.

    python benchmarks/scaling.py [--again] [--table]

The step of `scoresde.train` is compiled for 1, 2, 4 and 8 simulated devices with a fixed share of the batch, as data
parallelism and fully sharded, and for 8 devices in two processes that find each other over the loopback. For each:
FLOPs and memory of a device, and every collective with its bytes (`benchmarks/collectives.py`). Twice the batch on 8
devices tells what of that belongs
to examples: traffic of parameters does not grow, traffic of activations does. No time is taken: the devices are threads
of one CPU.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from collections import Counter

ROOT = pathlib.Path(__file__).parents[1]
NAME = "scaling"
PATIENCE = 3600  # seconds for one case
NETWORKS = {
    "U-Net": ["model.channels=32", "model.multipliers=(1,2)", "model.blocks=2", "model.attention=(4,)"],
    "DiT": ["model.name=dit", "model.width=192", "model.depth=4", "model.head_channels=64", "model.patch=2"],
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One program; `fsdp` as training.fsdp; `each`: examples of a device."""

    network: str
    devices: int
    fsdp: int = 1
    processes: int = 1
    each: int = 8

    @property
    def name(self) -> str:
        parts = [self.network, f"{self.devices} devices", "data" if self.fsdp == 1 else "sharded", f"{self.each} each"]
        return ", ".join(parts + [f"{self.processes} processes"] * (self.processes > 1))


# What answers most comes first: all of it takes about half an hour on two cores.
CASES = [
    case
    for network in reversed(NETWORKS)
    for case in (
        Case(network, 1),
        *(Case(network, 8, fsdp, each=each) for fsdp in (0, 1) for each in (8, 16)),
        *(Case(network, 8, fsdp, processes=2) for fsdp in (0, 1)),
        *(Case(network, devices, fsdp) for devices in (2, 4) for fsdp in (0, 1)),
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", action="store_true", help="also cases that are there")
    parser.add_argument("--table", action="store_true", help="print the table and compile nothing")
    args = parser.parse_args()
    from record import FOLDER, commit, record

    path = FOLDER / f"{NAME}.json"
    cases = json.loads(path.read_text())["cases"] if path.exists() else {}
    for case in [] if args.table else CASES:
        if args.again or case.name not in cases:
            print(f"compiling {case.name}", flush=True)
            cases[case.name] = dataclasses.asdict(case) | {"commit": commit()} | _run(case)
            record(NAME, {"cases": cases})
    print("\n".join(table(cases)))


def _run(case: Case) -> dict:
    """The figures of a case, from the first of its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={case.devices // case.processes}",
        "PYTHONPATH": str(ROOT),
    }
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.json"
        line = [sys.executable, __file__, "--worker", json.dumps(dataclasses.asdict(case)), str(out), address]
        processes = [subprocess.Popen([*line, str(rank)], env=environment) for rank in range(case.processes)]
        codes = [process.wait(PATIENCE) for process in processes]
        if any(codes):
            raise SystemExit(f"{case.name}: the processes ended with {codes}")
        return json.loads(out.read_text())


def worker(case: Case, out: pathlib.Path, address: str, rank: int) -> None:
    """Compile one case in this process, whose environment has the devices."""
    import jax

    if case.processes > 1:
        jax.distributed.initialize(address, case.processes, rank)
    figures = figures_of(case)
    if rank == 0:
        out.write_text(json.dumps(figures))


def figures_of(case: Case) -> dict:
    """What the compiler says of the step of a case on the devices of this process and its companions."""
    import jax
    from abstract_step import abstract_step
    from collectives import collectives, totals
    from speed_count import least_work

    from scoresde.experiment.config import load_config

    size = [f"training.batch_size={case.each * case.devices}", f"training.fsdp={case.fsdp}"]
    config = load_config(str(ROOT / "configs" / "digits_vp.py"), NETWORKS[case.network] + size)
    step = abstract_step(config, jax.devices())
    compiled = step.traced.lower().compile()
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    found = collectives(compiled.as_text())
    whole = [p for p in step.params if p.sharding.is_fully_replicated]
    return {
        "parameter_bytes": sum(p.size * p.dtype.itemsize for p in step.params),
        "whole_parameter_bytes": sum(p.size * p.dtype.itemsize for p in whole),
        "flops": cost["flops"],
        "flops_of_products": least_work(step.traced)["flops"] / case.devices,
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "totals": totals(found),
        "gathers": gathers([p.shape for p in step.params if not p.sharding.is_fully_replicated], found),
    }


def gathers(split: list[tuple[int, ...]], found: list) -> dict:
    """What is gathered: parameters, by their shapes up to the order of axes and axes of length 1, how often at most,
    and all else."""
    shape = lambda dims: tuple(sorted(n for n in dims if n != 1))  # noqa: E731
    wanted, got = Counter(map(shape, split)), Counter()
    for one in found:
        for _, dims in one.arrays if one.kind == "all-gather" else ():
            got[shape(dims)] += one.times
    times = [got[dims] / count for dims, count in wanted.items()]
    other = [list(dims) for dims in got if dims not in wanted]
    return {"split": len(split), "least": min(times, default=0), "most": max(times, default=0), "other": other}


def growth(one: dict, twice: dict) -> dict[str, float]:
    """Bytes by which the collectives of each kind grow when a device has twice the examples."""
    kinds = one["totals"].keys() | twice["totals"].keys()
    bytes_of = lambda case, kind: case["totals"].get(kind, {"bytes": 0})["bytes"]  # noqa: E731
    return {kind: more for kind in sorted(kinds) if (more := bytes_of(twice, kind) - bytes_of(one, kind))}


def table(cases: dict) -> list[str]:
    lines = [
        "| case | MFLOP a device | arguments, temporaries, MB a device | collectives: number, MB | over the "
        "parameters' bytes | grows with the batch by |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES:
        if case.name not in cases:
            continue
        one = cases[case.name]
        sums = [f"{kind} {t['count']}: {t['bytes'] / 1e6:.3f}" for kind, t in one["totals"].items()]
        over = [f"{kind} {t['bytes'] / one['parameter_bytes']:.4f}" for kind, t in one["totals"].items()]
        twice = cases.get(dataclasses.replace(case, each=2 * case.each).name)
        more = ""
        if twice:
            more = ", ".join(f"{kind} {n:.0f} bytes" for kind, n in growth(one, twice).items()) or "nothing"
        lines.append(
            f"| {case.name} | {one['flops'] / 1e6:.0f} | {one['arguments'] / 1e6:.2f}, {one['temporaries'] / 1e6:.2f} "
            "| "
            f"{', '.join(sums) or 'none'} | {', '.join(over)} | {more} |"
        )
    return lines


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(Case(**json.loads(sys.argv[2])), pathlib.Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
    else:
        main()
