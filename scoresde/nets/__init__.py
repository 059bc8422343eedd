"""Flax modules, and `Network`: a Flax module as a pure function of its parameters."""

from .coupling import CouplingFlow as CouplingFlow
from .coupling import push as push
from .dit import POSITIONS as POSITIONS
from .dit import DiT as DiT
from .dit import check_patches as check_patches
from .dit import check_transformer as check_transformer
from .edm2 import EDM2UNet as EDM2UNet
from .edm2 import unit_kernels as unit_kernels
from .embedding import FourierEmbedding as FourierEmbedding
from .embedding import PositionalEmbedding as PositionalEmbedding
from .embedding import check_fourier as check_fourier
from .fno import FNO as FNO
from .mlp import MLP as MLP
from .network import Network as Network
from .published import PUBLISHED as PUBLISHED
from .remat import REMAT as REMAT
from .spectral import check_modes as check_modes
from .spectral import per_axis as per_axis
from .ufno import UFNO as UFNO
from .ufno import check_levels as check_levels
from .unet import UNET_CHOICES as UNET_CHOICES
from .unet import UNet as UNet
from .unet import check_heads as check_heads
from .unet import check_image_size as check_image_size
