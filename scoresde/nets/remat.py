"""Rematerialisation: recomputation in the backward pass instead of storage (Chen et al. 2016).

    none      store every intermediate result that the gradient needs
    products  store the results of convolutions and matrix products of each block; recompute norms, activations and
              dropout
    block     store only the input of each block; recompute the block except its last product: a fifth more work

A block is a residual, attention, transformer or Fourier block: every call that is decorated with `@rematerialise`. The
choice is a field of `Network`, which passes it to its blocks while it is traced.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import jax

_PRODUCTS = ("conv_general_dilated", "dot_general")

REMAT = {
    "none": None,
    "products": lambda primitive, *_, **__: primitive.name in _PRODUCTS,
    "block": jax.checkpoint_policies.nothing_saveable,
}

_kept = contextvars.ContextVar("kept", default="none")


@contextlib.contextmanager
def rematerialising(remat: str) -> Iterator[None]:
    """Return a context in which traced blocks store the results that `remat`, a name in `REMAT`, selects."""
    token = _kept.set(remat)
    try:
        yield
    finally:
        _kept.reset(token)


def rematerialise(call: Callable) -> Callable:
    """Decorate the `__call__` of a block for rematerialisation."""

    @functools.wraps(call)
    def traced(*args, **kwargs):
        policy = REMAT[_kept.get()]
        if policy is None:
            return call(*args, **kwargs)
        # The closure holds all inputs, including parameters, because some of them are not arrays.
        return jax.checkpoint(lambda: call(*args, **kwargs), policy=policy)()

    return traced
