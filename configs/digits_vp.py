"""Handwritten digits, 8 x 8, 17 grey levels: the whole line on two CPU cores.

python -m scoresde.train --config configs/digits_vp.py
"""

from scoresde.config import default


def get_config():
    c = default()
    c.data.source, c.data.image_size, c.data.channels, c.data.levels = "digits", 8, 1, 17
    c.data.uniform_dequantization = True
    c.model.sigma_data = 0.7
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention = 32, (1, 2), 2, (4,)
    c.training.steps, c.training.batch_size, c.training.ema = 1000, 128, (0.998,)
    c.training.log_every, c.training.checkpoint_every, c.training.sample_every = 50, 500, 500
    c.optim.learning_rate, c.optim.warmup, c.optim.decay_steps = 2e-3, 100, 1000
    c.sampling.steps, c.sampling.grid = 250, "log_snr"
    c.likelihood.tolerance, c.evaluate.num = 1e-4, -1
    return c
