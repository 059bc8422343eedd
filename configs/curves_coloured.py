"""Curves of a day, such as half-hourly electricity demand, under coloured noise (Lim et al. 2023, "DDO"; Kerrigan et
al. 2023).

python -m scoresde.train --config configs/curves_coloured.py --config.data.source=functions:FILE.npz \\
    --config.data.arrays=NAME
python -m scoresde.train --config configs/curves_coloured.py --config.data.source=gp_mixture \\
    --config.data.arrays='()' --config.data.image_size='(64,)' \\
    --config.preconditioning.data_index=3 --config.preconditioning.data_screening=100
FILE contains an array NAME [N, 48]. The second command trains on a mixture of two Gaussian processes, which needs no
file: 2 CPU cores, about five minutes; a two-sample test with 100 curves rejects the samples in 4 +- 2 % of the cases
(chance: 5 %).
"""

from scoresde.config import default


def get_config():
    c = default()
    c.data.source, c.data.arrays = "functions:curves.npz", ("curves",)
    c.data.image_size, c.data.channels, c.data.levels = (48,), 1, 0
    c.sde.name, c.sde.index, c.sde.screening = "coloured_cosine", 1.0, 25.0
    c.sde.log_snr_min, c.sde.log_snr_max, c.sde.t_min = -10.0, 14.0, 0.0
    c.model.name, c.model.width, c.model.depth, c.model.modes = "fno", 64, 4, 24
    c.preconditioning.sigma_data, c.preconditioning.data_index, c.preconditioning.data_screening, c.model.dropout = (
        1.0,
        1.5,
        10.0,
        0.0,
    )
    c.training.weighting, c.training.time_law = "edm", "log_snr"
    c.training.steps, c.training.batch_size, c.training.ema = 4000, 128, (0.999,)
    c.training.log_every, c.training.checkpoint_every, c.training.sample_every = 200, 2000, 2000
    c.optim.learning_rate, c.optim.warmup, c.optim.decay_steps = 2e-3, 200, 4000
    c.sampling.name, c.sampling.steps, c.sampling.grid = "dpmpp", 60, "log_snr"
    c.likelihood.tolerance, c.evaluate.num = 1e-4, -1
    return c
