"""CIFAR-10, DDPM++, VP, continuous training (Song et al. 2021, appendix H): 61,804,419 parameters.

python -m scoresde.train --config configs/cifar10_ddpmpp_vp.py --config.data.source=npz:PATH/cifar10.npz
1.3 M steps of 128: 166 M images, meant for several accelerators; no time is published.
Published: FID 2.55 (table 3; predictor alone), 3.16 bits/dim (table 2; flow, uniform dequantization). Not trained here.
"""

from scoresde.experiment.presets import score_sde


def get_config():
    return score_sde("vp", "ddpmpp_cifar10")
