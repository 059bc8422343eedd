"""Eight Gaussians on a circle: vectors, a small MLP, nats.

python -m scoresde.train --config configs/mixture_2d.py
2 CPU cores, about a minute.
"""

from scoresde.config import default


def get_config():
    c = default()
    c.data.source, c.data.image_size, c.data.channels, c.data.levels = "gaussian_mixture", 0, 2, 0
    c.model.name, c.model.width, c.model.depth, c.model.dropout, c.preconditioning.sigma_data = "mlp", 128, 3, 0.0, 1.0
    c.training.steps, c.training.batch_size, c.training.ema = 4000, 512, (0.999,)
    c.training.log_every, c.training.checkpoint_every, c.training.sample_every = 200, 2000, 2000
    c.optim.learning_rate, c.optim.warmup, c.optim.decay_steps = 2e-3, 200, 4000
    c.sampling.steps, c.sampling.grid, c.sampling.num = 250, "log_snr", 1000
    c.likelihood.probes, c.likelihood.tolerance = 0, 1e-5
    c.evaluate.num = 1000
    return c
