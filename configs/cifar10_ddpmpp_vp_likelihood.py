"""CIFAR-10, DDPM++, VP or sub-VP, trained for likelihood: weight g^2, importance sampling uniform in log-SNR, no flips.

python -m scoresde.train --config configs/cifar10_ddpmpp_vp_likelihood.py --config.data.source=npz:PATH/cifar10.npz
python -m scoresde.likelihood --workdir runs/cifar10_ddpmpp_vp_likelihood --dequantization variational
For sub-VP add --config.sde.name=subvp --workdir runs/cifar10_ddpmpp_subvp_likelihood to the first line.
After Song, Durkan, Murray and Ermon 2021 (ScoreFlow), with the network and optimizer of Song et al. 2021, 1.3 M steps.
Published: 2.83 bits/dim for the best of VP and sub-VP with the deep DDPM++ (twice the blocks), likelihood weighting,
importance sampling, flow, variational dequantization (their abstract). This network without likelihood training: 3.16,
sub-VP 3.02 (Song et al. 2021, table 2; flow, uniform dequantization). A number for this very setting: expected between the two.
"""

from scoresde.config import default


def get_config():
    c = default()
    c.sde.name = "vp"
    c.data.source, c.data.image_size, c.data.channels, c.data.levels = "npz:cifar10.npz", 32, 3, 256
    c.data.uniform_dequantization = True
    c.training.weighting, c.training.time_law = "likelihood", "log_snr"
    c.model.preconditioning, c.model.dropout = "eps", 0.1
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention = 128, (1, 2, 2, 2), 4, (16,)
    c.training.reduce_mean = False  # half the sum over dimensions: the loss is the bound, less its constant, in nats
    c.training.steps, c.training.batch_size, c.training.ema = 1_300_000, 128, (0.9999,)
    c.optim.learning_rate, c.optim.warmup, c.optim.grad_clip = 2e-4, 5000, 1.0
    c.sampling.sampler, c.sampling.steps, c.sampling.grid = "reverse_sde", 1000, "uniform"
    c.likelihood.tolerance, c.likelihood.dequantizations = 1e-5, 5
    return c
