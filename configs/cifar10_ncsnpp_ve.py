"""CIFAR-10, NCSN++, VE, continuous training (Song et al. 2021, appendix H): 62,758,915 parameters.

python -m scoresde.train --config configs/cifar10_ncsnpp_ve.py --config.data.source=npz:PATH/cifar10.npz
1.3 M steps of 128: 166 M images. On 4 V100 theirs takes 0.20 s a step, three days (their README).
Published: FID 2.38, IS 9.83 (table 3; predictor-corrector, 2000 calls of the score). Not trained here.
"""

from scoresde.experiment.presets import score_sde


def get_config():
    return score_sde("ve", "ncsnpp_cifar10")
