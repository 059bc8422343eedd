"""Bytes that a compiled program moves to and from memory, from its HLO text: `compiled.as_text()`.

    sum over instructions of the entry and of loops, times their trips, of (bytes of the operands + bytes of the result)

A fusion counts as one instruction: what is inside it stays on the chip. This is the convention of XLA's own "bytes
accessed", which programs compiled for an absent GPU do not have. An operand that is already on the chip counts, and a
whole
array of which a fusion reads a part, where XLA counts the part: up to half more than XLA's on TPU programs, the same on
small programs. Instructions that move nothing (tuples, views, parameters) do not count.
"""

import math

from collectives import arrays_of, bits, computations_of, followed, operands_of, operation

FREE = frozenset(
    (
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "while",
        "conditional",
        "call",
        "partition-id",
    )
)


def memory_traffic(text: str) -> int:
    """Bytes of one call of the program on one device."""
    entry, computations = computations_of(text)

    def count(name: str, times: int) -> int:
        total, size = 0, {}
        for line in computations.get(name, ()):
            kind, result, rest = operation(line)
            if not kind:
                continue
            own = line.removeprefix("ROOT ").split(" = ")[0].lstrip("%")
            size[own] = sum(bits(t) * math.prod(shape) for t, shape in arrays_of(result)) // 8
            if kind in ("while", "call", "conditional"):
                total += sum(count(called, trips) for called, trips, _ in followed(kind, rest, times))
            elif kind not in FREE and not kind.endswith("-done"):
                total += times * (size[own] + sum(size.get(operand, 0) for operand in operands_of(rest)))
        return total

    return count(entry, 1)
