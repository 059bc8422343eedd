"""Where a matrix product is the faster cosine transform: python benchmarks/transforms.py

Forward and back of 64 curves with one channel, and of 8 square fields, in float32; medians of pairs run side by side.
"""

import statistics
import time

import jax
from record import record

from scoresde.sde import DCT, basis

_PAIRS = 15


def both(grid: tuple[int, ...], batch: int):
    """(matrix, fast): compiled functions of one batch."""
    x = jax.random.normal(jax.random.key(0), (batch, *grid, 1))
    compiled = []
    for largest in (10**9, 0):
        basis.LARGEST_MATRIX = largest
        dct = DCT(grid)
        compiled.append(jax.jit(jax.vmap(lambda x, dct=dct: dct.from_modes(dct.to_modes(x)))).lower(x).compile())
    return x, compiled


def seconds(function, x) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(x))
    return time.perf_counter() - start


def main() -> None:
    table = {}
    for grid, batch in [((n,), 64) for n in (64, 128, 256, 512, 1024, 2048)] + [
        ((n, n), 8) for n in (32, 64, 128, 256, 512)
    ]:
        x, (matrix, fast) = both(grid, batch)
        times = [(seconds(matrix, x), seconds(fast, x)) for _ in range(_PAIRS + 2)][2:]
        ratio = statistics.median(a / b for a, b in times)
        name = " x ".join(map(str, grid))
        table[name] = {"matrix_over_fast": ratio, "matrix_ms": 1e3 * statistics.median(a for a, _ in times)}
        print(f"{name:10s} matrix / fast {ratio:.2f}, matrix {table[name]['matrix_ms']:.2f} ms", flush=True)
    record("transforms", table)


if __name__ == "__main__":
    main()
