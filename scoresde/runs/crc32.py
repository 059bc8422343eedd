"""CRC-32 of an array, computed from CRCs of its parts, each on the process that holds the part.

CRC-32 divides a message of n bytes, read as a polynomial m(x) over GF(2), by a fixed polynomial P. Apart from a
constant that depends on n alone, it is linear:

    crc(m) = linear(m) XOR crc(0^n),        linear(a XOR b) = linear(a) XOR linear(b),
    linear(m followed by k zero bytes) = x^(8k) linear(m) mod P.

A part of an array in C order consists of runs of consecutive bytes. Hence an array is the XOR of its parts, each padded
with zeros, and its CRC-32 follows from one integer per part, for any division into parts. zlib computes the CRC of a
run; this module adds the multiplication modulo P.

Polynomials are stored as in zlib: bit 31 is the coefficient of x^0, bit 0 that of x^31.
"""

import functools
import math
import zlib

import numpy as np

_P = 0xEDB88320  # the polynomial P without its leading term x^32 (IEEE 802.3, reflected)
_ONE, _X_TO_8 = 1 << 31, 1 << 23
_ONES = 0xFFFFFFFF  # the value with which zlib starts, and which it adds at the end


def part(array: np.ndarray, start: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Return the contribution of a part to the CRC-32 of the whole array.

    Args:
      array: values of the part.
      start: index of its first value in the whole array, one number per axis.
      shape: shape of the whole array.
    """
    if not array.size:
        return 0
    strides = [array.itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape))]
    axes = _axes_between_runs(array.shape, shape)
    crcs = _linear(array, axes)
    for axis in reversed(range(axes)):
        crcs = _join(crcs, strides[axis])
    last = sum((first + length - 1) * stride for first, length, stride in zip(start, array.shape, strides))
    return _multiply(_power(array.itemsize * math.prod(shape) - last - array.itemsize), int(crcs))


def whole(parts: int, size: int) -> int:
    """Return the CRC-32 of `size` bytes, as zlib computes it, from the XOR of the contributions of all parts."""
    return parts ^ _multiply(_power(size), _ONES) ^ _ONES


def _axes_between_runs(part: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Return the number of leading axes that enumerate runs of consecutive bytes: the axes before the last one that is
    cut."""
    cut = [axis for axis in range(len(shape)) if part[axis] != shape[axis]]
    return max(cut, default=0)


def _linear(array: np.ndarray, axes: int) -> np.ndarray:
    """Return the linear part of the CRC of each run, [*shape of the first `axes` axes]."""
    leading = array.shape[:axes]
    length = array.nbytes // math.prod(leading)
    data = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    # zlib adds 2^32 - 1 to the value from which it continues, and to its result.
    crcs = [zlib.crc32(data[first : first + length], _ONES) ^ _ONES for first in range(0, len(data), length)]
    return np.array(crcs, np.uint32).reshape(leading)


def _join(crcs: np.ndarray, stride: int) -> np.ndarray:
    """Join the CRCs of runs along the last axis, first in pairs and then in pairs of pairs; their ends are `stride`
    bytes apart."""
    while crcs.shape[-1] > 1:
        if crcs.shape[-1] % 2:
            crcs = np.concatenate([np.zeros_like(crcs[..., :1]), crcs], axis=-1)
        crcs = _shift(crcs[..., ::2], stride) ^ crcs[..., 1::2]
        stride *= 2
    return crcs[..., 0]


def _shift(crcs: np.ndarray, size: int) -> np.ndarray:
    """Return x^(8 size) times each polynomial, modulo P, as the sum of the products of its four bytes."""
    table = _products(size)
    low = table[0, crcs & 255] ^ table[1, crcs >> 8 & 255]
    return low ^ table[2, crcs >> 16 & 255] ^ table[3, crcs >> 24]


@functools.lru_cache(maxsize=1024)
def _products(size: int) -> np.ndarray:
    """Return x^(8 size) times every polynomial with at most one nonzero byte, as [byte, value]."""
    values = np.arange(256, dtype=np.uint32)
    return _multiply(_power(size), np.stack([values << shift for shift in (0, 8, 16, 24)]))


@functools.lru_cache(maxsize=4096)
def _power(size: int) -> int:
    """Return x^(8 size) modulo P, by repeated squaring."""
    result, square = _ONE, _X_TO_8
    while size:
        if size & 1:
            result = _multiply(square, result)
        square = _multiply(square, square)
        size >>= 1
    return result


def _multiply(a: int, b):
    """Return a b modulo P, where `b` is an integer or an array of uint32."""
    product = b & 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product = product ^ b
        b = (b >> 1) ^ _P * (b & 1)  # multiplication by x
    return product
