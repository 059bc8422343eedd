"""Published rates of accelerators, and the time that a compiled step cannot go below on them (roofline, Williams et al.
2009).

    t_compute = FLOPs / peak,    t_memory = bytes to and from memory / bandwidth,    t_network = sum of bytes sent / rate of the links

all of one chip. A step whose parts all run at once takes the largest of the three, one whose parts all wait for each
other their sum. FLOPs and bytes sent are what must be done; bytes to and from memory are the compiler's count for each
kernel, of which caches and on-chip memory spare some. Rates are published peaks: kernels reach less. So these are
estimates to compare layouts and batches by, the compute and network times alone are bounds.

Links. A collective over g chips of a TPU slice runs over as many axes of the torus as g covers, counted from the last,
each with two links; a slice wraps around, so rings close. GPUs of one node reach each other through switches at the
full rate of a GPU. Across nodes the rings leave through the network cards, one for each GPU; a group of as many GPUs as
there are nodes has one of each. Latency is left out: a few microseconds a collective.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published rates of one chip.

    Attributes:
        flops: peak of dense bfloat16 products, per second.
        memory: bytes that programs may use.
        bandwidth: of the memory, bytes per second.
        link: bytes per second that it sends over all its links, one way.
        outside: the same to other nodes; 0 where there are none.
        source: of the figures.
    """

    flops: float
    memory: float
    bandwidth: float
    link: float
    outside: float
    source: str


CHIPS = {
    # 16 GB, of which the compiler gives programs 15.75 GiB; 400 and 1200 GB/s are published for both directions
    # together.
    "v5e": Chip(197e12, 15.75 * 2**30, 819e9, 200e9, 0.0, "cloud.google.com/tpu/docs/v5e"),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9, 0.0, "cloud.google.com/tpu/docs/v5p"),
    "H200": Chip(
        989e12, 141e9, 4.8e12, 450e9, 50e9, "NVIDIA H200 and DGX H200 data sheets: SXM, NVLink, 400 Gb/s a GPU"
    ),
}
GPUS_OF_A_NODE = 8


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that work together. `axes`: of the torus of a TPU slice; of GPUs, (nodes, GPUs of a node)."""

    chip: str
    axes: tuple[int, ...]

    @property
    def devices(self) -> int:
        return math.prod(self.axes)

    def rate(self, group: int) -> float:
        """Bytes per second that a chip sends in a ring over `group` chips, the last axes first."""
        chip = CHIPS[self.chip]
        if chip.outside:
            if 1 < self.axes[0] >= group:  # one GPU of each node, with its own card
                return chip.outside
            return chip.link if group <= GPUS_OF_A_NODE else min(chip.link, chip.outside * GPUS_OF_A_NODE)
        covered, used = 1, 0
        for size in reversed(self.axes):
            if covered < group:
                covered, used = covered * size, used + 1
        return chip.link * max(used, 1) / len(self.axes)


def roofline(where: Slice, flops: float, memory_bytes: float, sent: dict[int, float]) -> dict[str, float]:
    """Seconds of one step, and the share of the chip's peak that its products then have.

    Args:
        flops, memory_bytes: of one chip.
        sent: bytes that leave a chip in rings over so many chips.
    """
    chip = CHIPS[where.chip]
    compute, memory = flops / chip.flops, memory_bytes / chip.bandwidth
    network = sum(count / where.rate(group) for group, count in sent.items())
    fastest, slowest = max(compute, memory, network), compute + memory + network
    return {
        "compute": compute,
        "memory": memory,
        "network": network,
        "overlapped": fastest,
        "one_after_another": slowest,
        "of_peak_overlapped": compute / fastest,
        "of_peak_one_after_another": compute / slowest,
        # Against one chip with the same share of the batch, which sends nothing.
        "scaling_overlapped": max(compute, memory) / fastest,
        "scaling_one_after_another": (compute + memory) / slowest,
    }
