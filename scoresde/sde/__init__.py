"""Forward processes, each defined by two formulas."""

from scoresde.sde.base import AbstractSDE
from scoresde.sde.basis import DCT, AbstractBasis, Fourier, Haar, Pixel
from scoresde.sde.cold import Cold, fade, inverse_heat, mask, pixelate
from scoresde.sde.covariance import AbstractCovariance, Gram, PowerLaw
from scoresde.sde.discrete import DiscreteVP, TabulatedVP, cosine_betas
from scoresde.sde.isotropic import VE, VP, Cosine, Karras, SubVP
from scoresde.sde.kernel import KERNELS, IntervalKernel, Kernel, exponential, matern, rbf
from scoresde.sde.resampling import resample
from scoresde.sde.spectral import AbstractSpectral, Blur, Coloured, Heat, coloured_ve, coloured_vp

__all__ = [
    "AbstractSDE", "VP", "SubVP", "VE", "Cosine", "Karras", "DiscreteVP", "TabulatedVP", "cosine_betas",
    "AbstractSpectral", "Coloured", "coloured_vp", "coloured_ve", "Heat", "Blur", "Cold", "inverse_heat", "fade",
    "mask",
    "pixelate",
    "AbstractBasis", "Pixel", "DCT", "Fourier", "Haar", "Kernel", "IntervalKernel", "KERNELS", "resample",
    "AbstractCovariance", "PowerLaw", "Gram", "rbf", "matern", "exponential",
]  # fmt: skip
