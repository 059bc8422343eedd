"""CIFAR-10, DDPM++, VP or sub-VP, trained for likelihood: weight g^2, importance sampling uniform in log-SNR, no flips:
61,804,419 parameters.

python -m scoresde.train --config configs/cifar10_ddpmpp_vp_likelihood.py --config.data.source=npz:PATH/cifar10.npz
python -m scoresde.likelihood --workdir runs/cifar10_ddpmpp_vp_likelihood --dequantization variational
For sub-VP add --config.sde.name=subvp --workdir runs/cifar10_ddpmpp_subvp_likelihood to the first line.
After Song, Durkan, Murray and Ermon 2021 (ScoreFlow), with the network and optimizer of Song et al. 2021.
1.3 M steps of 128: 166 M images, meant for several accelerators. Not trained here.
Published: 2.83 bits/dim for the best of VP and sub-VP with the deep DDPM++ (twice the blocks), likelihood weighting,
importance sampling, flow, variational dequantization (their abstract). This network without likelihood training: 3.16,
sub-VP 3.02 (Song et al. 2021, table 2; flow, uniform dequantization). A number for this very setting: expected between
the two.
"""

from scoresde.experiment.presets import score_sde


def get_config():
    c = score_sde("vp", "ddpmpp_cifar10")
    c.data.random_flip, c.data.uniform_dequantization = False, True
    c.training.weighting, c.training.time_law = "likelihood", "log_snr"
    c.training.reduce_mean = False  # half the sum over dimensions: the loss is the bound, less its constant, in nats
    return c
