"""Quadratic curves under a stochastic heat equation (Lim et al. 2023, "HDM"), with a Fourier neural operator.

python -m scoresde.train --config configs/quadratic_heat.py
2 CPU cores, about six minutes; a two-sample test with 100 curves rejects the samples in 3 +- 2 % of the cases (chance:
5 %).
"""

from scoresde.config import default


def get_config():
    c = default()
    c.data.source, c.data.image_size, c.data.channels, c.data.levels = "quadratic", (64,), 1, 0
    c.sde.name, c.sde.length, c.sde.index, c.sde.screening = "heat", 10.0, 0.5, 1.0
    c.model.name, c.model.width, c.model.depth, c.model.modes = "fno", 64, 4, 16
    c.preconditioning.sigma_data, c.preconditioning.data_index, c.model.dropout = 0.9, 2.0, 0.0
    c.training.weighting, c.training.time_law = "edm", "log_snr"
    c.training.steps, c.training.batch_size, c.training.ema = 6000, 128, (0.999,)
    c.training.log_every, c.training.checkpoint_every, c.training.sample_every = 200, 2000, 2000
    c.optim.learning_rate, c.optim.warmup, c.optim.decay_steps = 2e-3, 200, 6000
    c.sampling.name, c.sampling.steps, c.sampling.grid = "dpmpp", 60, "log_snr"
    c.likelihood.tolerance, c.evaluate.num = 1e-4, 100
    return c
