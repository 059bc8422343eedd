"""CelebA at 64 x 64, NCSN++, VE (Song et al. 2021): 62,758,915 parameters.

python -m scoresde.train --config configs/celeba64_ncsnpp_ve.py --config.data.source=folder:DIR
DIR holds the aligned faces; theirs are cut to the central 140 x 140 first, here to the largest centred square: cut them
before to compare. 1.3 M steps of 128: 166 M images, meant for several accelerators; no time is published.
Published: FID about 2.5 for this network with the predictor and corrector of their table 1. The largest sigma is 90 and
the corrector's ratio 0.17, as in their configuration; the network is that of CIFAR-10. Theirs is trained at 1000 noise
levels and told their index; here times are continuous, as in their later models of CIFAR-10. Not trained here.
"""

from scoresde.experiment.presets import score_sde


def get_config():
    c = score_sde("ve", "ncsnpp_cifar10")
    c.data.source, c.data.image_size = "folder:celeba", 64
    c.sde.sigma_max, c.sampling.snr = 90.0, 0.17
    return c
