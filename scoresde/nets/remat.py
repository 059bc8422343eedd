"""Rematerialisation: what the backward pass computes again rather than keep (Chen et al. 2016).

    none      keep every intermediate result that the gradient needs
    products  of each block keep the results of convolutions and matrix products; compute norms, activations, dropout
    again block     of each block keep its input alone; compute the block again but for its last product: a fifth more
    work

A block is a residual, attention, transformer or Fourier block: whatever is marked `@rematerialised`. Which it is
belongs to the `Network`, which passes it to its blocks while it is traced.
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
    """Within it, blocks that are traced keep what `remat`, a name of `REMAT`, says."""
    token = _kept.set(remat)
    try:
        yield
    finally:
        _kept.reset(token)


def rematerialise(call: Callable) -> Callable:
    """Marks the `__call__` of a block."""

    @functools.wraps(call)
    def traced(*args, **kwargs):
        policy = REMAT[_kept.get()]
        if policy is None:
            return call(*args, **kwargs)
        # All that it reads, parameters too, comes through the closure: some of it is no array.
        return jax.checkpoint(lambda: call(*args, **kwargs), policy=policy)()

    return traced
