"""CIFAR-10, DDPM++, VP (Song et al. 2021; hyperparameters as published, continuous training).

python -m scoresde.train --config configs/cifar10_ddpmpp_vp.py --config.data.source=npz:PATH/cifar10.npz
Published for 1.3 M steps of 128: FID 2.55 (predictor), 3.16 bits/dim (tables 2 and 3).
"""

from scoresde.config import default


def get_config():
    c = default()
    c.sde.name = "vp"
    c.data.source, c.data.image_size, c.data.channels, c.data.levels = "npz:cifar10.npz", 32, 3, 256
    c.data.random_flip = True
    c.training.time_law = "uniform"
    c.model.preconditioning, c.model.dropout = "eps", 0.1
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention = 128, (1, 2, 2, 2), 4, (16,)
    c.training.steps, c.training.batch_size, c.training.ema = 1_300_000, 128, (0.9999,)
    c.optim.learning_rate, c.optim.warmup, c.optim.grad_clip = 2e-4, 5000, 1.0
    c.sampling.sampler, c.sampling.steps, c.sampling.grid = "reverse_sde", 1000, "uniform"
    c.likelihood.tolerance, c.likelihood.dequantizations = 1e-5, 5
    return c
