"""CIFAR-10, deep DDPM++ (8 blocks a level), sub-VP, continuous training (Song et al. 2021, appendix H): 106,632,579
parameters.

python -m scoresde.train --config configs/cifar10_ddpmpp_deep_subvp.py --config.data.source=npz:PATH/cifar10.npz
0.95 M steps of 128: 122 M images, meant for several accelerators; no time is published.
Published: FID 2.41 (table 3; predictor alone), 2.99 bits/dim (table 2; flow, uniform dequantization). Not trained here.
"""

from scoresde.experiment.presets import score_sde


def get_config():
    return score_sde("subvp", "ddpmpp_deep_cifar10")
