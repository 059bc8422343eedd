"""CIFAR-10, deep NCSN++ (8 blocks a level), VE, continuous training (Song et al. 2021, appendix H): 107,587,075
parameters.

python -m scoresde.train --config configs/cifar10_ncsnpp_deep_ve.py --config.data.source=npz:PATH/cifar10.npz
0.95 M steps of 128: 122 M images, meant for several accelerators; no time is published.
Published: FID 2.20, IS 9.89 (table 3; predictor-corrector, 2000 calls of the score). Not trained here.
"""

from scoresde.experiment.presets import score_sde


def get_config():
    return score_sde("ve", "ncsnpp_deep_cifar10")
