"""Handwritten digits with their classes, p(x | class), and the null class for p(x): the digits of `digits_vp`.

python -m scoresde.train --config configs/digits_classes.py
python -m scoresde.sample --workdir runs/digits_classes --label 3
2 CPU cores, about five minutes.

One example in ten is trained under the null class, so that the same network is the score of all digits as well, for
`--config.sampling.labels=null` and for the tasks encode, interpolate and restore without --label.
"""

from scoresde.config import component, default


def get_config():
    c = default()
    c.data.source, c.data.image_size, c.data.channels, c.data.levels = "digits", 8, 1, 17
    c.data.uniform_dequantization = True
    c.conditions["class"], c.training.condition_dropout = component("class", num_classes=10), 0.1
    c.preconditioning.sigma_data, c.model.dropout = 0.7, 0.05
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention = 32, (1, 2), 1, (4,)
    c.training.weighting = "edm"
    c.training.time_law = component("log_normal", mean=-1.0, std=1.4)
    c.training.steps, c.training.batch_size, c.training.ema = 1300, 64, (0.998,)
    c.training.log_every, c.training.checkpoint_every, c.training.sample_every = 50, 500, 500
    c.training.watch_sampler = "dpmpp"  # 21 calls a sample while training instead of 251
    c.optim.learning_rate, c.optim.warmup, c.optim.decay_steps = 4e-3, 100, 1300
    c.sampling.steps, c.sampling.grid = 250, "log_snr"
    c.likelihood.tolerance, c.likelihood.batch_size, c.evaluate.num = 1e-4, 297, -1
    return c
