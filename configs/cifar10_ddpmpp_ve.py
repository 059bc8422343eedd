"""CIFAR-10, DDPM++, VE: the recipe of Song et al. 2021 for NCSN++ with the cheaper network, 61,870,083 parameters.

python -m scoresde.train --config configs/cifar10_ddpmpp_ve.py --config.data.source=npz:PATH/cifar10.npz
1.3 M steps of 128: 166 M images, meant for several accelerators.
No number is published: the VE models are NCSN++ (`cifar10_ncsnpp_ve.py`, FID 2.38). Not trained here.
"""

from scoresde.experiment.presets import score_sde


def get_config():
    return score_sde("ve", "ddpmpp_cifar10")
