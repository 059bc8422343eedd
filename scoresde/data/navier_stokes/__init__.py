"""Vorticity fields of the Navier-Stokes equations, as `python -m scoresde.data.navier_stokes` writes them: see
`solver`."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {"solver": "initial spectrum solve SHIFT POWER PUBLISHED"})
