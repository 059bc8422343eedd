"""Blurring diffusion on CIFAR-10 (Hoogeboom and Salimans 2023), in DDPM++: 61,804,419 parameters.

python -m scoresde.train --config configs/cifar10_blur.py --config.data.source=npz:cifar10.npz
1.3 M steps of 128: 166 M images, meant for several accelerators. Their blur and noise: sigma_B,max = 20 pixels, d_min =
0.001, log-SNR from 10 to -10, the noise predicted, 1000 ancestral steps. Network and optimizer are those of the other
CIFAR-10 experiments, not the paper's.
Published: FID 3.17 with a U-Net of their own (table 1, quoted from memory). Not trained here.
"""

from scoresde.config import default


def get_config():
    c = default()
    c.data.source, c.data.random_flip = "npz:cifar10.npz", True
    c.sde.name, c.sde.length, c.sde.blur_max, c.sde.min_scale = "blur", 0.0, 20.0, 1e-3
    c.sde.log_snr_min, c.sde.log_snr_max, c.sde.t_min = -10.0, 10.0, 0.0
    c.preconditioning.name = "eps"
    c.training.weighting, c.training.time_law = "noise_field", "low_discrepancy"
    c.sampling.name, c.sampling.steps, c.sampling.grid = "predictor_corrector", 1000, "uniform"
    c.sampling.predictor, c.sampling.corrector = "ancestral", "none"
    return c
