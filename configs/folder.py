"""Own images: any folder of image files, 32 x 32 RGB, a small U-Net.

python -m scoresde.train --config configs/folder.py --config.data.source=folder:DIR
python -m scoresde.data inspect folder:DIR     says what is in it, and sigma_data and sizes to put here
About half a second of processor time a step, so 10 to 20 minutes on 2 CPU cores. On a GPU raise model.channels,
training.batch_size and training.steps. Some thousand images give new ones; a few dozen are learned by heart.
"""

from scoresde.config import default


def get_config():
    c = default()
    c.data.source, c.data.image_size, c.data.channels, c.data.levels = "folder:images", 32, 3, 256
    c.data.random_flip = True
    c.preconditioning.sigma_data, c.model.dropout = 0.5, 0.05
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention = 32, (1, 2, 2), 1, (8,)
    c.training.weighting, c.training.time_law = "edm", "log_normal"
    c.training.steps, c.training.batch_size, c.training.ema = 2000, 16, (0.998,)
    c.training.log_every, c.training.checkpoint_every, c.training.sample_every = 50, 500, 500
    c.optim.learning_rate, c.optim.warmup, c.optim.decay_steps = 2e-3, 100, 2000
    c.sampling.name, c.sampling.num = "unipc", 36
    c.likelihood.tolerance, c.likelihood.batch_size = 1e-4, 32
    return c
