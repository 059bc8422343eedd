"""Flax modules, and `Network`: a Flax module as a pure function of its parameters."""

from scoresde.runtime.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "condition_kinds": "AugmentationCondition ClassCondition EncodedImageCondition ImageCondition "
        "SequenceCondition VectorCondition",
        "conditions": "AbstractCondition parse_condition",
        "coupling": "CouplingFlow push",
        "dit": "POSITIONS DiT check_patches check_transformer",
        "edm2": "EDM2UNet unit_kernels",
        "embedding": "FourierEmbedding PositionalEmbedding check_fourier",
        "fno": "FNO",
        "mlp": "MLP",
        "network": "Network",
        "published": "PUBLISHED",
        "remat": "REMAT",
        "spectral": "check_modes per_axis",
        "ufno": "UFNO check_levels",
        "unet": "UNET_CHOICES UNet check_halvings check_heads",
    },
)
