"""CIFAR-10, DDPM++ in EDM's training and preconditioning (Karras et al. 2022, config F of table 2): 55,733,891
parameters.

python -m scoresde.train --config configs/cifar10_edm.py --config.data.source=npz:PATH/cifar10.npz
390,625 steps of 512: 200 M images. Theirs takes two days on 8 V100 (their README).
Published: FID 1.97 at 35 calls, the best of three sets of seeds; 1.98 for the NCSN++ of their VE column, here
"edm_ncsnpp_cifar10". Others who trained it again report 2.04 to 2.08. Not trained here.
"""

from scoresde.experiment.presets import edm


def get_config():
    c = edm("edm_ddpmpp_cifar10", images=200_000_000, batch_size=512, augment=0.12)
    c.data.source = "npz:cifar10.npz"
    return c
