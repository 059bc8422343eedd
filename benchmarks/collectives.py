"""The collectives of a compiled program, read from its HLO text: `compiled.as_text()`.

    collectives(text) -> one `Collective` for each instruction, with the times it runs

| kind               | bytes N                              | bytes that leave a device on a ring of n          |
|--------------------|--------------------------------------|---------------------------------------------------|
| all-reduce         | the array, the same on every device  | 2 N (n - 1) / n: a reduce-scatter, an all-gather  |
| all-gather         | the result, the whole array          | N (n - 1) / n                                     |
| reduce-scatter     | the whole array, before it is split  | N (n - 1) / n                                     |
| all-to-all         | the array of one device              | N (n - 1) / n                                     |
| collective-permute | the array of one device              | N                                                 |

Thakur, Rabenseifner and Gropp 2005, section 4, for the rings; they are what a bandwidth-bound collective cannot do
without.

Followed from the entry: loops with their trip counts, calls, branches and fusions. Asynchronous forms count once, at
their start. TPU programs have a reduce-scatter as a fusion called "all-reduce-scatter" of an all-reduce and a slice: it
is counted as a reduce-scatter. They run a collective in steps beside other work, each step a fusion that has it again,
on one channel: it counts once.
"""

import dataclasses
import math
import re
from collections import Counter, defaultdict

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*-> .*\{$")
_INSTRUCTION = re.compile(r"(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\]")
_LAYOUT = re.compile(r"\]\{[\d:][^}]*\}|\]\{\}")
_COMMENT = re.compile(r"/\*.*?\*/")
_CALLED = re.compile(r"(?:calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction.

    Attributes:
        kind: of `KINDS`.
        arrays: (type, shape) of each whole array, as the table above has N.
        devices: that take part, n; 1 where nothing moves.
        times: it runs in one call of the program.
        counted: False inside a loop whose trip count the program does not state; `times` then counts one round.
        name: of the operation of the source, as JAX wrote it.
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    devices: int
    times: int
    counted: bool
    name: str

    @property
    def bytes(self) -> int:
        """N of one run, in bytes."""
        return sum(bits(kind) * math.prod(shape) for kind, shape in self.arrays) // 8

    @property
    def wire_bytes(self) -> float:
        """What one device sends in one run on a ring, in bytes."""
        share = (self.devices - 1) / self.devices
        return self.bytes * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)


def collectives(text: str) -> list[Collective]:
    """All collectives of a compiled program that a device takes part in with another, in the order of the text."""
    entry, computations = computations_of(text)
    partitions = int((re.search(r"num_partitions=(\d+)", text) or ["", "1"])[1])
    replicas = int((re.search(r"replica_count=(\d+)", text) or ["", "1"])[1])
    found: list[Collective] = []
    channels: set[str] = set()  # of collectives inside fusions

    def follow(name: str, times: int, counted: bool, fused: bool = False) -> None:
        scatters = "all-reduce-scatter" in name
        for line in computations.get(name, ()):
            kind, result, rest = operation(line)
            base = kind.removesuffix("-start")
            if base in KINDS:
                devices = _devices(rest, partitions * replicas)
                arrays = _whole(base, _results(base, kind, result, rest), devices, rest)
                base = "reduce-scatter" if scatters and base == "all-reduce" else base
                source = (re.search(r'op_name="([^"]*)"', rest) or ["", ""])[1]
                channel = (re.search(r"channel_id=(\d+)", rest) or ["", ""])[1]
                if devices > 1 and not (fused and channel and channel in channels):
                    found.append(Collective(base, arrays, devices, times, counted, source))
                if fused:
                    channels.add(channel)
                continue
            for called, trips, known in followed(kind, rest, times):
                follow(called, trips, counted and known, fused or kind == "fusion")

    follow(entry, 1, True)
    return found


def totals(found: list[Collective]) -> dict[str, dict[str, float]]:
    """{kind: {"count", "bytes", "wire_bytes"}} of one call of the program, on one device."""
    sums: dict = defaultdict(Counter)
    for one in found:
        sums[one.kind].update(count=one.times, bytes=one.times * one.bytes, wire_bytes=one.times * one.wire_bytes)
    return {kind: dict(sums[kind]) for kind in KINDS if kind in sums}


def by_group(found: list[Collective]) -> dict[int, dict]:
    """`totals` of the collectives over each number of devices."""
    sizes = sorted({one.devices for one in found})
    return {size: totals([one for one in found if one.devices == size]) for size in sizes}


def computations_of(text: str) -> tuple[str, dict[str, list[str]]]:
    """The name of the entry, and the instructions of each computation."""
    entry, current, computations = "", None, {}
    for line in text.splitlines():
        line = _LAYOUT.sub("]", _COMMENT.sub("", line)).strip()
        if current is None and (head := _COMPUTATION.match(line)):
            current = head[2]
            computations[current] = []
            entry = current if head[1] else entry
        elif line == "}" or line.startswith("}, "):
            current = None
        elif current is not None:
            computations[current].append(line)
    return entry, computations


def operation(line: str) -> tuple[str, str, str]:
    """(opcode, text of the result's type, the rest) of an instruction; empty for anything else."""
    match = _INSTRUCTION.match(line)
    if not match:
        return "", "", ""
    text, end = match[2], 0
    if text.startswith("("):  # a tuple, perhaps of tuples
        depth = 0
        for end, character in enumerate(text):
            depth += (character == "(") - (character == ")")
            if depth == 0:
                break
        end += 1
    else:
        end = text.find(" ")
    opcode, _, rest = text[end:].strip().partition("(")
    return opcode, text[:end], rest


def followed(kind: str, rest: str, times: int) -> list[tuple[str, int, bool]]:
    """(computation, times, whether that is known) of all that an instruction runs. A reduction's holds no
    collective."""
    if kind in ("reduce", "reduce-window", "scatter", "sort"):
        return []
    branches = _BRANCHES.search(rest)
    names = [name.strip().removeprefix("%") for name in branches[1].split(",")] if branches else []
    trips = _TRIPS.search(rest) if kind == "while" else None
    return [
        (name, times * int(trips[1]) if trips else times, trips is not None or kind != "while")
        for name in names + _CALLED.findall(rest)
    ]


def operands_of(rest: str) -> list[str]:
    """Names of the operands, from the text after the opcode's bracket."""
    depth = 1
    for end, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            break
    return re.findall(r"%([\w.\-]+)", rest[:end])


def arrays_of(text: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((kind, tuple(int(n.strip("<=")) for n in dims.split(",") if n)) for kind, dims in _ARRAY.findall(text))


def _parts(text: str) -> list[str]:
    """The elements of the text of a tuple."""
    parts, depth, inside = [""], 0, text[1:-1]
    for character in inside:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _results(base: str, kind: str, result: str, rest: str) -> tuple:
    """The arrays that come out. A start has (operands, results, flags...), but that of an all-reduce may have the
    results alone."""
    if kind.endswith("-start") and base != "all-reduce" and result.startswith("("):
        return arrays_of(_parts(result)[1])
    arrays = arrays_of(result)
    count = len(operands_of(rest))
    return arrays[count:] if kind.endswith("-start") and len(arrays) == 2 * count else arrays


def _whole(base: str, arrays: tuple, devices: int, rest: str) -> tuple:
    """Arrays as the table has N: those of a reduce-scatter before it split them along `dimensions`."""
    if base != "reduce-scatter":
        return arrays
    axis = int((re.search(r"dimensions=\{(\d+)\}", rest) or ["", "0"])[1])
    return tuple((kind, tuple(n * devices if i == axis else n for i, n in enumerate(shape))) for kind, shape in arrays)


def _devices(rest: str, everyone: int) -> int:
    """How many devices are in one group."""
    if "source_target_pairs=" in rest:
        pairs = re.findall(r"\{(\d+),(\d+)\}", rest.partition("source_target_pairs=")[2].partition("}}")[0] + "}")
        return len({device for pair in pairs for device in pair}) if any(a != b for a, b in pairs) else 1
    groups = rest.partition("replica_groups=")[2]
    if listed := re.match(r"\{\{([\d,]*)\}", groups):
        return listed[1].count(",") + 1
    if counted := re.match(r"\[(\d+),(\d+)\]<=", groups):
        return int(counted[2])
    if named := re.match(r"mesh\[([^\]]*)\][^{]*\{([^}]*)\}", groups):
        sizes = {axis: int(size) for axis, size in re.findall(r"'([^']*)'=(\d+)", named[1])}
        # An axis, or n of its devices as 'axis':(k)n.
        axes = re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part) if part else sizes[axis] for axis, part in axes)
    return everyone


def bits(kind: str) -> int:
    """Of one element: bf16 has 16, pred a byte; tokens and opaque values none."""
    digits = re.search(r"\d+", kind)
    return int(digits[0]) if digits else 8 * (kind == "pred")
