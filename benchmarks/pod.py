"""The training step on pods that are not there: compiled ahead of time for TPU slices and H200 nodes, and what follows
from it.

    python benchmarks/pod.py [--only TEXT] [--again] [--table] [--tpu-python PATH] [--cuda-python PATH]

Needs no accelerator: the compilers for TPU and GPU run on a CPU (`benchmarks/pod_step.py`), in environments that this
makes unless a Python with `jax[tpu]` or `jax[cuda13]` is given. What is measured is what the compilers say: memory,
FLOPs, every collective with its bytes. Times are rooflines (`benchmarks/chips.py`) from published rates; nothing ran.
Each case is written as it is done, and a case that is there is skipped unless --again; --only takes those whose name
has TEXT.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile

from chips import CHIPS, Slice, roofline
from environment import environment
from record import FOLDER, commit, record

ROOT = pathlib.Path(__file__).parents[1]
NAME = "pod"
GIB, GB = 2**30, 1e9
PATIENCE = 5400  # seconds for one case


@dataclasses.dataclass(frozen=True)
class Case:
    """One program: a network on a slice in a layout; `fsdp` as training.fsdp, 0: all chips; `per_chip`: examples."""

    network: str
    chip: str
    axes: tuple[int, ...]
    fsdp: int
    per_chip: int
    remat: str = "none"
    accumulation: int = 1

    @property
    def name(self) -> str:
        layout = {0: "sharded", 1: "data"}.get(self.fsdp, f"sharded over {self.fsdp}")
        extra = [f"remat {self.remat}"] * (self.remat != "none") + [f"{self.accumulation} parts"] * (
            self.accumulation > 1
        )
        return ", ".join(
            [self.network, f"{self.chip} {'x'.join(map(str, self.axes))}", layout, f"{self.per_chip} a chip", *extra]
        )


V5E, V5P, V5P_256, NODE, NODES = (
    ("v5e", (16, 16)),
    ("v5p", (4, 4, 4)),
    ("v5p", (4, 8, 8)),
    ("H200", (1, 8)),
    ("H200", (2, 8)),
)
PER_CHIP = {
    "DDPM++": {V5E: 64, V5P: 256, NODE: 512, NODES: 512},
    "ADM": {V5E: 16, V5P: 64, NODE: 128, NODES: 128},  # 4096 in all is published
    "DiT-XL/2": {V5E: 16, V5P: 64, V5P_256: 64, NODE: 128, NODES: 128},
}
# Chips that hold one copy of the state: 1 is data parallelism, 0 all chips, and between them an axis of a TPU slice or
# a node.
GROUPS = {
    "DDPM++": {V5E: (1,), V5P: (1,), NODE: (1, 0), NODES: (1, 8)},  # on a TPU, 0.9 GiB of state is not worth splitting
    "ADM": {V5E: (16,), V5P: (16,), NODE: (1, 0), NODES: (1, 8)},
    "DiT-XL/2": {V5E: (1, 16, 0), V5P: (1, 16), V5P_256: (8,), NODE: (1, 0), NODES: (1, 8)},
}
CASES = [
    Case(network, *where, fsdp, PER_CHIP[network][where])
    for where in (NODE, V5E, V5P, NODES, V5P_256)
    for network in PER_CHIP
    for fsdp in GROUPS[network].get(where, ())
] + [
    Case(network, *NODE, 1, PER_CHIP[network][NODE], remat)
    for network in ("DDPM++", "ADM")
    for remat in ("products", "block")
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--again", action="store_true", help="also cases that are there")
    parser.add_argument("--table", action="store_true", help="print the table and compile nothing")
    parser.add_argument("--tpu-python", type=pathlib.Path, help="a Python with jax[tpu] and the package's dependencies")
    parser.add_argument("--cuda-python", type=pathlib.Path, help="the same with jax[cuda13]")
    args = parser.parse_args()
    given = {"tpu": args.tpu_python, "cuda13": args.cuda_python}
    for case in [] if args.table else [case for case in CASES if args.only in case.name]:
        if args.again or case.name not in stored():
            kind = "cuda13" if case.chip == "H200" else "tpu"
            given[kind] = given[kind] or _environment(kind)
            print(f"compiling {case.name}", flush=True)
            of = {"commit": commit()}  # cases of one file may be of several days
            found = of | _compile(case, given[kind], kind)
            record(NAME, {"cases": stored() | {case.name: dataclasses.asdict(case) | found}})
    print("\n".join(table(stored())))


def stored() -> dict:
    path = FOLDER / f"{NAME}.json"
    return json.loads(path.read_text())["cases"] if path.exists() else {}


def _environment(kind: str) -> pathlib.Path:
    return environment(FOLDER.parent / f".environment-{kind}", [f"{ROOT}[{kind}]"], ["--editable", str(ROOT)])


def _compile(case: Case, python: pathlib.Path, kind: str) -> dict:
    """The figures of one case, from a process with the compiler."""
    variables = {
        # The compiler is locked to one process for the sake of chips, and there are none.
        "tpu": {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"},
        # No kernel can be timed where there is no GPU.
        "cuda13": {
            "JAX_PLATFORMS": "cpu,cuda",
            "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
            "XLA_FLAGS": "--xla_gpu_autotune_level=0",
        },
    }[kind]
    with tempfile.TemporaryDirectory() as folder:
        given, out = pathlib.Path(folder) / "case.json", pathlib.Path(folder) / "out.json"
        given.write_text(json.dumps(dataclasses.asdict(case)))
        line = [python, pathlib.Path(__file__).parent / "pod_step.py", given, out]
        environment = os.environ | variables | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(line, env=environment, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
        if done.returncode:
            raise SystemExit(f"{case.name}: the compiler ended with {done.returncode}\n{done.stderr[-3000:]}")
        return json.loads(out.read_text())


def bounds(one: dict) -> dict[str, float]:
    """The roofline of a stored case. Its FLOPs are those of the products; its bytes XLA's count, or ours by the same
    convention."""
    sent = {int(size): sum(kind["wire_bytes"] for kind in kinds.values()) for size, kinds in one["collectives"].items()}
    moved = one["bytes_accessed"] or one["bytes_of_text"]
    return roofline(Slice(one["chip"], tuple(one["axes"])), one["flops_of_products"], moved, sent)


def table(cases: dict) -> list[str]:
    lines = [
        "| case | arguments + temporaries = peak, GiB a chip | of | TFLOP a chip | sent, GB a chip | "
        "compute / memory / network, ms | step, ms: overlapped to one after another | share of peak | examples/s, all "
        "chips |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    order = [case.name for case in CASES if case.name in cases]
    for name in order + sorted(cases.keys() - set(order)):
        lines.append(_row(name, cases[name]))
    return lines


def _remedy(one: dict, room: float, temporaries: float) -> str:
    """What would fit, by the rule that temporaries go with the examples of a micro-batch."""
    if room <= 0:
        return "the state alone is too large; split it with training.fsdp"
    parts = one["accumulation"]
    while temporaries * one["accumulation"] / parts > room and parts < one["per_chip"]:
        parts *= 2
    remat = "training.remat = 'block', or " if one["remat"] == "none" else ""
    return f"take {remat}training.accumulation = {parts}"


def _row(name: str, one: dict) -> str:
    limit = CHIPS[one["chip"]].memory / GIB
    if "does_not_fit" in one:
        said = f"**does not fit**: {one['does_not_fit']}; take training.remat = 'block' or training.accumulation"
        return f"| {name} | {said} | {limit:.1f} | {one['flops_of_products'] / 1e12:.2f} | | | | | |"
    time = bounds(one)
    stays, temporaries = one["arguments"] / GIB, one["temporaries"] / GIB
    verdict = "" if stays + temporaries <= limit else f" **does not fit**: {_remedy(one, limit - stays, temporaries)}"
    sent = sum(kind["wire_bytes"] for kinds in one["collectives"].values() for kind in kinds.values()) / GB
    fast, slow = time["overlapped"], time["one_after_another"]
    rows = one["per_chip"] * Slice(one["chip"], tuple(one["axes"])).devices
    return (
        f"| {name} | {stays:.2f} + {temporaries:.2f} = {stays + temporaries:.2f}{verdict} | {limit:.1f} | "
        f"{one['flops_of_products'] / 1e12:.2f} | "
        f"{sent:.2f} | {1e3 * time['compute']:.0f} / {1e3 * time['memory']:.0f} / {1e3 * time['network']:.1f} | "
        f"{1e3 * fast:.0f} to {1e3 * slow:.0f} | "
        f"{time['of_peak_overlapped']:.0%} to {time['of_peak_one_after_another']:.0%} | {rows / slow:,.0f} to "
        f"{rows / fast:,.0f} |"
    )


if __name__ == "__main__":
    main()
