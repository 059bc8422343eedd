"""CIFAR-10, DDPM++, VE (Song et al. 2021; hyperparameters as published, continuous training).

python -m scoresde.train --config configs/cifar10_ddpmpp_ve.py --config.data.source=npz:PATH/cifar10.npz
The published VE models are NCSN++ (FID 2.38 for 1.3 M steps of 128, with a corrector); this is DDPM++ with their recipe:
data in [0, 1] (fed as they are, where theirs is shifted to [-1, 1] first), sum over dimensions, EMA 0.999, Fourier embedding of log sigma, output divided by sigma.
"""

from scoresde.config import default


def get_config():
    c = default()
    c.sde.name = "ve"
    c.data.source, c.data.image_size, c.data.channels, c.data.levels = "npz:cifar10.npz", 32, 3, 256
    c.data.random_flip = True
    c.training.time_law = "uniform"
    c.data.centered, c.training.reduce_mean = False, False
    c.model.preconditioning, c.model.embedding, c.model.dropout = "score", "fourier", 0.1
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention = 128, (1, 2, 2, 2), 4, (16,)
    c.training.steps, c.training.batch_size, c.training.ema = 1_300_000, 128, (0.999,)
    c.optim.learning_rate, c.optim.warmup, c.optim.grad_clip = 2e-4, 5000, 1.0
    c.sampling.sampler, c.sampling.steps, c.sampling.grid = "predictor_corrector", 1000, "uniform"
    c.sampling.predictor, c.sampling.corrector, c.sampling.snr = "reverse_diffusion", "langevin", 0.16
    c.likelihood.tolerance, c.likelihood.dequantizations = 1e-5, 5
    return c
