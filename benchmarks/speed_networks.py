"""The networks of train_step.py and sample.py on both sides: our fields, and the same network of diffusers.

`as_score_sde`: diffusers.UNet2DModel has the blocks of DDPM++ but neither its 1/sqrt(2) in every sum, nor the 1 x 1
convolution beside its resampling, nor its single attention in a level of the decoder. speed_torch.py sets these on the
modules of diffusers. NCSN++ has the pyramids that diffusers has, input_skip and output_skip; for CIFAR-10 the published
one has a residual input.
"""

import dataclasses

from network_parity import ADM, dit_cases

from scoresde.nets import PUBLISHED

UNET, DIT = "diffusers.UNet2DModel", "diffusers.DiTTransformer2DModel"


@dataclasses.dataclass(frozen=True)
class Twin:
    """One network on both sides.

    Attributes:
        ours: fields of the section `model`.
        shape: [H, W, C] of one example.
        network, options: theirs, of network_reference.py.
        cpu, accelerator: batches to time.
        process: "vp", whose network predicts the noise, or "ve", whose network predicts minus the noise.
        as_score_sde: see the top of this file.
    """

    ours: dict
    shape: tuple[int, int, int]
    network: str
    options: dict
    cpu: tuple[int, ...]
    accelerator: tuple[int, ...]
    process: str = "vp"
    as_score_sde: bool = False

    @property
    def told(self) -> dict:
        return dataclasses.asdict(self)


def _ddpmpp(widths: list[int], attention: list[bool], blocks: int, size: int) -> dict:
    down = ["AttnDownBlock2D" if attends else "ResnetDownsampleBlock2D" for attends in attention]
    up = ["AttnUpBlock2D" if attends else "ResnetUpsampleBlock2D" for attends in attention[::-1]]
    return dict(
        sample_size=size, block_out_channels=widths, layers_per_block=blocks, attention_head_dim=None, dropout=0.1,
        norm_eps=1e-6,
        norm_num_groups=min(widths[0] // 4, 32), flip_sin_to_cos=False, freq_shift=1, mid_block_scale_factor=2**0.5,
        down_block_types=down, up_block_types=up, downsample_type="resnet", upsample_type="resnet",
    )  # fmt: skip


def _dit(name: str, heads: int, head: int, depth: int) -> tuple[dict, dict]:
    theirs = next(iter(dit_cases().values())).options | dict(
        num_attention_heads=heads, attention_head_dim=head, num_layers=depth, sample_size=32, num_embeds_ada_norm=1000
    )
    # diffusers' angles are those of the embedding that we call positional.
    return PUBLISHED[name].fields | dict(embedding="positional"), theirs


def twins() -> dict[str, Twin]:
    """name -> network, the smaller ones first."""
    small = PUBLISHED["ddpmpp_cifar10"].fields | dict(channels=64, multipliers=(1, 2), blocks=2)
    ncsnpp = PUBLISHED["ncsnpp_cifar10"].fields | dict(progressive_input="input_skip", progressive="output_skip")
    skip = dict(
        sample_size=32, block_out_channels=[128, 256, 256, 256], layers_per_block=4, time_embedding_type="fourier",
        dropout=0.1,
        attention_head_dim=None, norm_num_groups=None, norm_eps=1e-6, mid_block_scale_factor=2**0.5,
        down_block_types=["SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipDownBlock2D", "SkipDownBlock2D"],
        up_block_types=["SkipUpBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D"],
    )  # fmt: skip
    adm = dict(
        sample_size=64, block_out_channels=[192, 384, 576, 768], layers_per_block=3, norm_eps=1e-5,
        attention_head_dim=64, dropout=0.1,
        num_class_embeds=1000, resnet_time_scale_shift="scale_shift", attn_norm_num_groups=32, downsample_type="resnet",
        upsample_type="resnet", down_block_types=["ResnetDownsampleBlock2D"] + ["AttnDownBlock2D"] * 3,
        up_block_types=["AttnUpBlock2D"] * 3 + ["ResnetUpsampleBlock2D"],
    )  # fmt: skip
    adm_ours = ADM | dict(dropout=0.1)
    dits = {
        name: _dit(name, *size)
        for name, size in {"dit_s2": (6, 64, 12), "dit_b2": (12, 64, 12), "dit_xl2": (16, 72, 28)}.items()
    }
    square = (32, 32, 3)
    return {
        "small": Twin(small, square, UNET, _ddpmpp([64, 128], [False, True], 2, 32), (32,), (128, 512),
        as_score_sde=True),
        "dit_s2": Twin(dits["dit_s2"][0], (32, 32, 4), DIT, dits["dit_s2"][1], (8,), (64, 256)),
        "ddpmpp_cifar10": Twin(
            PUBLISHED["ddpmpp_cifar10"].fields, square, UNET, _ddpmpp([128, 256, 256, 256], [False, True, False, False],
            4, 32),
            (8,), (64, 128, 256, 512), as_score_sde=True,
        ),
        "ncsnpp": Twin(ncsnpp, square, UNET, skip, (8,), (64, 128, 256, 512), process="ve"),
        "dit_b2": Twin(dits["dit_b2"][0], (32, 32, 4), DIT, dits["dit_b2"][1], (4,), (64, 256)),
        "adm_imagenet64": Twin(adm_ours, (64, 64, 3), UNET, adm, (2,), (16, 32, 64, 128)),
        "dit_xl2": Twin(dits["dit_xl2"][0], (32, 32, 4), DIT, dits["dit_xl2"][1], (1,), (32, 64, 128)),
    }  # fmt: skip
