"""What a program must do at the least, counted from its jaxpr: the operations and the bytes of its products and
convolutions.

A product [m, k] x [k, n] takes 2 m k n operations. A convolution takes 2 per element of the result and tap of the
kernel, those on padding included, as papers count; of the input gradient of a strided convolution only the taps that
are not zeros. Bytes: each operand read once and each result written once, everything else fused into them. Compilers
count differently: XLA leaves out the padding and adds elementwise work, and a call to cuDNN counts for nothing there.
"""

import math

import jax


def _inner(value):
    """The jaxprs within a parameter of an equation."""
    if hasattr(value, "eqns"):
        yield value
    elif hasattr(value, "jaxpr"):
        yield from _inner(value.jaxpr)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _inner(part)


def _convolution(equation) -> int:
    numbers = equation.params["dimension_numbers"]
    kernel, result = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    taps = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    zeros = math.prod(equation.params["lhs_dilation"])
    return 2 * math.prod(result) * taps // zeros


def _product(equation) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)


_COUNTS = {"conv_general_dilated": _convolution, "dot_general": _product}


def least_work(traced: jax.stages.Traced) -> dict:
    """{"flops", "bytes"} of the products and convolutions of `jax.jit(function).trace(*arguments)`."""
    return _sum(traced.jaxpr.jaxpr)


def _sum(jaxpr) -> dict:
    total = {"flops": 0, "bytes": 0}
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in _COUNTS:
            total["flops"] += _COUNTS[name](equation)
            total["bytes"] += sum(v.aval.size * v.aval.dtype.itemsize for v in (*equation.invars, *equation.outvars))
            continue
        parts = [_sum(inner) for value in equation.params.values() for inner in _inner(value)]
        if name == "cond" and parts:  # one of them runs, such as that of the device
            parts = [max(parts, key=lambda part: part["flops"])]
        repeats = equation.params["length"] if name == "scan" else 1
        total = {key: total[key] + repeats * sum(part[key] for part in parts) for key in total}
    return total
