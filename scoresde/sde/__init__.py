"""What noise does to data: forward processes as two formulas."""

from scoresde.sde.base import AbstractSDE
from scoresde.sde.discrete import DiscreteVP
from scoresde.sde.isotropic import VE, VP, Cosine, Karras, SubVP

__all__ = ["AbstractSDE", "VP", "SubVP", "VE", "Cosine", "Karras", "DiscreteVP"]
