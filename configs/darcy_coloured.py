"""Fields of Darcy flow under coloured noise, with a Fourier neural operator: train at 16 x 16, sample at any
resolution.

python -m scoresde.train --config configs/darcy_coloured.py --config.data.source=functions:FILE.npz \\
    --config.data.arrays=NAME
FILE contains an array NAME [N, 16, 16], or one with a multiple of 16 points along each axis. 2 CPU cores, some six
minutes.
"""

from scoresde.config import default


def get_config():
    c = default()
    c.data.source, c.data.arrays = "functions:darcy.npz", ("y",)
    c.data.image_size, c.data.channels, c.data.levels = 16, 1, 0
    c.sde.name, c.sde.index, c.sde.screening = "coloured_cosine", 2.0, 50.0
    c.sde.log_snr_min, c.sde.log_snr_max, c.sde.t_min = -10.0, 14.0, 0.0
    c.model.name, c.model.width, c.model.depth, c.model.modes = "fno", 32, 4, 8
    c.preconditioning.sigma_data, c.preconditioning.data_index, c.preconditioning.data_screening, c.model.dropout = (
        1.0,
        2.5,
        20.0,
        0.0,
    )
    c.training.weighting, c.training.time_law = "edm", "log_snr"
    c.training.steps, c.training.batch_size, c.training.ema = 4000, 32, (0.999,)
    c.training.log_every, c.training.checkpoint_every, c.training.sample_every = 200, 2000, 2000
    c.optim.learning_rate, c.optim.warmup, c.optim.decay_steps = 1e-3, 200, 4000
    c.sampling.name, c.sampling.steps, c.sampling.grid, c.sampling.num = "dpmpp", 60, "log_snr", 36
    c.likelihood.tolerance = 1e-4
    return c
