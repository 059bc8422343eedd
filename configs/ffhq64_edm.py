"""FFHQ at 64 x 64, DDPM++ in EDM's training and preconditioning (Karras et al. 2022): 61,805,571 parameters.

python -m scoresde.train --config configs/ffhq64_edm.py --config.data.source=folder:DIR
DIR holds the 70,000 images at any size. 781,250 steps of 256: 200 M images. Theirs takes four days on 8 V100 (their
README).
Published: FID 2.39 at 79 calls (table 2), trained and measured on all 70,000 images; here a tenth is for testing unless
DIR has parts. Not trained here.
"""

from scoresde.experiment.presets import edm


def get_config():
    c = edm("ddpmpp_cifar10", images=200_000_000, batch_size=256, augment=0.15)
    c.data.source, c.data.image_size, c.model.dropout = "folder:ffhq", 64, 0.05
    c.optim.learning_rate, c.sampling.steps = 2e-4, 39
    return c
