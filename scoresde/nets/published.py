"""Published networks, each as fields of the section `model` of a configuration.

    c.model.update(PUBLISHED["ncsnpp_cifar10"].fields)

The table of `docs/networks.md` has a row for each, and the tests count the parameters. Sources: Ho et al. 2020 (DDPM,
appendix B); Song et al. 2021 (DDPM++, NCSN++, appendix H and their configurations); Kingma et al. 2021 (VDM, their
configuration); Dhariwal and Nichol 2021 (ADM, section 3 and appendix); Karras et al. 2022 (EDM, table 7); Karras et al.
2024 (EDM2, ImageNet-512 latents); Peebles and Xie 2023 (DiT, table 1).
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
    """One published network.

    Attributes:
        fields: fields of the section `model`.
        shape: [H, W, C] of one example.
        parameters: published number of parameters; "" if none is known.
        source: source of this number.
    """

    fields: dict
    shape: tuple[int, int, int]
    parameters: str = ""
    source: str = ""


_CIFAR10 = dict(channels=128, multipliers=(1, 2, 2, 2), blocks=4, attention=(16,), dropout=0.1)
_DDPM = _CIFAR10 | dict(blocks=2, decoder_attention="block", resampling="conv", skip_rescale=False)
_NCSNPP = _CIFAR10 | dict(embedding="fourier", fourier_scale=16.0, resample_filter="fir", progressive_input="residual")
_NCSNPP_256 = _NCSNPP | dict(
    multipliers=(1, 1, 2, 2, 2, 2, 2), blocks=2, dropout=0.0, progressive_input="input_skip", progressive="output_skip"
)
_EDM = dict(multipliers=(2, 2, 2), dropout=0.13)
_ADM = dict(
    channels=256, blocks=2, attention=(32, 16, 8), head_channels=64, dropout=0.0, embedding="sinusoidal",
    decoder_attention="block",
    modulation="scale_shift", resample_skip="identity", skip_rescale=False, norm_epsilon=1e-5, num_classes=1000,
)  # fmt: skip
_DIT = dict(name="dit", patch=2, positions="sincos", embedding="sinusoidal", dropout=0.0, num_classes=1000)

_EDM2 = dict(
    name="edm2", multipliers=(1, 2, 3, 4), blocks=3, attention=(16, 8), head_channels=64, dropout=0.0, num_classes=1000
)
# One level with 32 blocks in the encoder and 33 in the decoder. The published noise label is 1000 t with DDPM's
# frequencies; here it is the log-SNR with Fourier frequencies.
_VDM = dict(
    channels=128,
    multipliers=(1,),
    blocks=32,
    attention=(),
    dropout=0.1,
    skip_rescale=False,
    input_fourier=(6, 8),
    embedding="fourier",
)
_SMALL, _MIDDLE, _LARGE, _LATENTS = (32, 32, 3), (64, 64, 3), (256, 256, 3), (32, 32, 4)

PUBLISHED = {
    "ddpm": Published(
        _DDPM, _SMALL, "35,746,307", "weights google/ddpm-cifar10-32; Ho et al. 2020, appendix B: 35.7 M"
    ),
    "ddpm_256": Published(
        _DDPM | dict(multipliers=(1, 1, 2, 2, 4, 4), dropout=0.0), _LARGE, "114 M", "Ho et al. 2020, appendix B"
    ),
    "ddpmpp_cifar10": Published(_CIFAR10, _SMALL, "61.8 M", "Song et al. 2021, weights"),
    "ddpmpp_deep_cifar10": Published(_CIFAR10 | dict(blocks=8), _SMALL),
    "ncsnpp_cifar10": Published(_NCSNPP, _SMALL),
    "ncsnpp_deep_cifar10": Published(_NCSNPP | dict(blocks=8), _SMALL),
    "ncsnpp_256": Published(_NCSNPP_256, _LARGE, "65,574,549", "diffusers, configuration google/ncsnpp-celebahq-256"),
    "edm_ddpmpp_cifar10": Published(
        _CIFAR10 | _EDM, _SMALL, "55.7 M", "Geng et al. 2024 (ECT), which has this network"
    ),
    "edm_ncsnpp_cifar10": Published(
        _NCSNPP | _EDM, _SMALL, "56.4 M", "Song and Dhariwal 2024 (iCT), which has this network"
    ),
    "vdm_cifar10": Published(_VDM, _SMALL),
    "adm_imagenet64": Published(
        _ADM | dict(channels=192, multipliers=(1, 2, 3, 4), blocks=3, dropout=0.1),
        _MIDDLE,
        "296 M",
        "Dhariwal and Nichol 2021, appendix",
    ),
    "adm_imagenet128": Published(
        _ADM | dict(multipliers=(1, 1, 2, 3, 4)), (128, 128, 3), "422 M", "Dhariwal and Nichol 2021, appendix"
    ),
    "adm_imagenet256": Published(
        _ADM | dict(multipliers=(1, 1, 2, 2, 4, 4)), _LARGE, "554 M", "Dhariwal and Nichol 2021, appendix"
    ),
    "edm2_xs": Published(_EDM2 | dict(channels=128), (64, 64, 4), "124.7 M", "Karras et al. 2024"),
    "edm2_s": Published(_EDM2 | dict(channels=192), (64, 64, 4), "280.2 M", "Karras et al. 2024"),
    "edm2_m": Published(_EDM2 | dict(channels=256, dropout=0.1), (64, 64, 4), "497.8 M", "Karras et al. 2024"),
    "edm2_l": Published(_EDM2 | dict(channels=320, dropout=0.1), (64, 64, 4), "777.5 M", "Karras et al. 2024"),
    "dit_s2": Published(_DIT | dict(width=384, depth=12, head_channels=64), _LATENTS, "33 M", "Peebles and Xie 2023"),
    "dit_b2": Published(_DIT | dict(width=768, depth=12, head_channels=64), _LATENTS, "130 M", "Peebles and Xie 2023"),
    "dit_l2": Published(_DIT | dict(width=1024, depth=24, head_channels=64), _LATENTS, "458 M", "Peebles and Xie 2023"),
    "dit_xl2": Published(
        _DIT | dict(width=1152, depth=28, head_channels=72), _LATENTS, "675 M", "Peebles and Xie 2023"
    ),
}
