"""ImageNet at 64 x 64 with classes, ADM's network in EDM's training and preconditioning (Karras et al. 2022):
295,900,035 parameters.

python -m scoresde.train --config configs/imagenet64_edm.py --config.data.source=folder:DIR
DIR holds `train` and `val` with a folder for each class, at any size: the largest centred square is scaled as in their
README.
610,351 steps of 4096: 2500 M images. Theirs takes 13 days on 32 A100 in float16 (their README); raise
training.accumulation where a batch does not fit. Here activations are bfloat16.
Published: FID 1.36 at 511 calls with noise (table 5: churn 40 between sigma 0.05 and 50, noise 1.003). Not trained
here.
"""

from scoresde.experiment.presets import edm


def get_config():
    c = edm("adm_imagenet64", images=2_500_000_000, batch_size=4096, augment=0.0)
    c.data.source, c.data.image_size = "folder:imagenet", 64
    c.model.dtype = "bfloat16"
    c.training.ema, c.optim.learning_rate = (50_000_000.0,), 1e-4
    c.sampling.steps, c.sampling.churn, c.sampling.s_noise = 255, 40.0, 1.003
    c.sampling.s_min, c.sampling.s_max = 0.05, 50.0
    return c
