"""CIFAR-10 with its ten classes, DDPM++ in EDM's training and preconditioning (Karras et al. 2022, config F of table
2): 55,739,523 parameters.

python -m scoresde.train --config configs/cifar10_edm_conditional.py --config.data.source=npz:PATH/cifar10.npz
python -m scoresde.sample --workdir runs/cifar10_edm_conditional --label 3
390,625 steps of 512: 200 M images. Theirs takes two days on 8 V100 (their README).
Published: FID 1.79 at 35 calls, the best of three sets of seeds, with classes drawn at random. Not trained here.
"""

from scoresde.config import component
from scoresde.experiment.presets import edm


def get_config():
    c = edm("edm_ddpmpp_cifar10", images=200_000_000, batch_size=512, augment=0.12)
    c.data.source = "npz:cifar10.npz"
    c.conditions["class"] = component("class", num_classes=10)
    return c
