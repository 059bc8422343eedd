"""CIFAR-10, DDPM++, VE, trained for likelihood: weight g^2, importance sampling uniform in log-SNR, no flips.

python -m scoresde.train --config configs/cifar10_ddpmpp_ve_likelihood.py --config.data.source=npz:PATH/cifar10.npz
python -m scoresde.likelihood --workdir runs/cifar10_ddpmpp_ve_likelihood --method elbo --dequantization none
After Song, Durkan, Murray and Ermon 2021 (ScoreFlow), with the network and optimizer of Song et al. 2021, 1.3 M steps.
No number is published for VE: at t_min its noise of 0.01 covers 2.6 grey levels, so the flow gives the likelihood of
blurred data. Quote the bound on integers, which includes the way back: --method elbo --dequantization none.
"""

from scoresde.config import default


def get_config():
    c = default()
    c.sde.name = "ve"
    c.data.source, c.data.image_size, c.data.channels, c.data.levels = "npz:cifar10.npz", 32, 3, 256
    c.data.uniform_dequantization = False
    c.training.weighting, c.training.time_law = "likelihood", "log_snr"
    c.data.centered = False
    c.model.preconditioning, c.model.embedding, c.model.dropout = "score", "fourier", 0.1
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention = 128, (1, 2, 2, 2), 4, (16,)
    c.training.reduce_mean = False  # half the sum over dimensions: the loss is the bound, less its constant, in nats
    c.training.steps, c.training.batch_size, c.training.ema = 1_300_000, 128, (0.999,)
    c.optim.learning_rate, c.optim.warmup, c.optim.grad_clip = 2e-4, 5000, 1.0
    c.sampling.sampler, c.sampling.steps, c.sampling.grid = "reverse_sde", 1000, "uniform"
    c.likelihood.method, c.likelihood.dequantization = "elbo", "none"
    return c
