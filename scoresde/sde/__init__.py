"""What noise does to data: forward processes as two formulas."""

from scoresde.sde.base import AbstractSDE
from scoresde.sde.basis import DCT, AbstractBasis, Fourier, Haar, Pixel, resample
from scoresde.sde.cold import Cold, Fade, InverseHeat, Mask, Pixelate
from scoresde.sde.covariance import AbstractCovariance, Gram, PowerLaw
from scoresde.sde.discrete import DiscreteVP, TabulatedVP, cosine_betas
from scoresde.sde.isotropic import VE, VP, Cosine, Karras, SubVP
from scoresde.sde.kernel import Kernel, exponential, matern, rbf
from scoresde.sde.spectral import AbstractSpectral, Blur, Coloured, ColouredVE, ColouredVP, Heat

__all__ = [
    "AbstractSDE", "VP", "SubVP", "VE", "Cosine", "Karras", "DiscreteVP", "TabulatedVP", "cosine_betas",
    "AbstractSpectral", "Coloured", "ColouredVP", "ColouredVE", "Heat", "Blur", "Cold", "InverseHeat", "Fade", "Mask",
    "Pixelate",
    "AbstractBasis", "Pixel", "DCT", "Fourier", "Haar", "Kernel", "resample",
    "AbstractCovariance", "PowerLaw", "Gram", "rbf", "matern", "exponential",
]  # fmt: skip
