"""The compiled step, its memory on a device, and the settings that would fit if it is too large.

    need = state + batch + temporaries,    temporaries with a micro-batches: about those of the whole batch divided by a

The compiler reports these before the first step runs, so a batch that is too large costs a compilation and no run.
"""

import contextlib
import ctypes
import math
from collections.abc import Iterator

import jax
from jaxtyping import PyTree

from scoresde.errors import ResourceError
from scoresde.runtime.sharding import memory_limit
from scoresde.train.parallelism import Parallelism

GIB = 2**30


def compile_step(step, state: PyTree, batches: PyTree, layout: Parallelism) -> jax.stages.Compiled:
    """Compile `step` of `make_step` for these shapes, if the device has enough memory.

    Args:
      state, batches: arrays or ShapeDtypeStructs; the batches as [n, B, ...].

    Raises:
      ResourceError: it does not fit; the message states what would.
    """
    batch_size = jax.tree.leaves(batches)[0].shape[1]
    with memory_advice(batch_size, layout):
        program = step.lower(state, batches).compile()
    return_heap()
    limit, need = memory_limit(), memory(program)
    if limit is not None and need is not None and sum(need) > limit:
        raise ResourceError(too_large(*need, limit, batch_size, layout))
    return program


def return_heap() -> None:
    """Return freed memory to the system: otherwise glibc keeps that of the compiler, 0.75 of 2 gigabytes."""
    with contextlib.suppress(OSError, AttributeError):  # other C libraries
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def memory_advice(batch_size: int, layout: Parallelism) -> Iterator[None]:
    """A context that turns an out-of-memory error of a device into a ResourceError with advice."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        lines = [line for line in str(error).splitlines() if "RESOURCE_EXHAUSTED" in line or "Out of memory" in line]
        if not lines:
            raise
        said = " ".join(lines[0].split())[:200]
        ways = _ways(2 * layout.accumulation, max(batch_size // 2, 1), layout)
        raise ResourceError(
            f"a training step of {batch_size} examples does not fit in memory ({said}); {ways}"
        ) from error


def memory(program: jax.stages.Compiled) -> tuple[int, int] | None:
    """Return the bytes per device of (state and batch, temporaries), or None if the compiler does not report them."""
    found = program.memory_analysis()
    if found is None:
        return None
    stays = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return stays, found.temp_size_in_bytes


def too_large(stays: int, temporaries: int, limit: int, batch_size: int, layout: Parallelism) -> str:
    """Describe in one line a step that needs `stays` + `temporaries` of `limit` bytes per device, and what would
    fit."""
    kind, unit = jax.devices()[0].device_kind, jax.device_count() * layout.accumulation
    needed = (
        f"a training step of {batch_size} examples needs {(stays + temporaries) / GIB:.1f} GiB on each {kind} device "
        f"(state and batch {stays / GIB:.1f}, activations {temporaries / GIB:.1f}), and there are {limit / GIB:.1f}"
    )
    room = limit - stays
    if room <= 0:
        return (
            f"{needed}; the state alone does not fit: split it over more devices with training.fsdp, or take a "
            "smaller network"
        )
    each = batch_size // unit  # examples of a device at a time
    fitting = math.floor(each * room / temporaries)
    if fitting < 1:
        return f"{needed}; one example at a time does not fit: take {_remat(layout)}a smaller network or smaller images"
    times = next(k for k in range(math.ceil(each / fitting), each + 1) if each % k == 0)
    about = f" (about {(stays + temporaries / times) / GIB:.1f} GiB)"
    return f"{needed}; {_ways(layout.accumulation * times, fitting * unit, layout, about)}"


def _ways(accumulation: int, batch_size: int, layout: Parallelism, about: str = "") -> str:
    return f"take training.accumulation = {accumulation}{about}, {_remat(layout)}or training.batch_size = {batch_size}"


def _remat(layout: Parallelism) -> str:
    return "training.remat = 'block', " if layout.remat == "none" else ""
