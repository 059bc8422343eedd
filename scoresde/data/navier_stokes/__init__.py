"""Vorticity fields of the Navier-Stokes equations, which `python -m scoresde.data.navier_stokes` writes; see
`solver`."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {"solver": "initial spectrum solve SHIFT POWER PUBLISHED"})
