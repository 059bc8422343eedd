"""CIFAR-10, DDPM++, VE, trained for likelihood: weight g^2, importance sampling uniform in log-SNR, no flips:
61,870,083 parameters.

python -m scoresde.train --config configs/cifar10_ddpmpp_ve_likelihood.py --config.data.source=npz:PATH/cifar10.npz
python -m scoresde.likelihood --workdir runs/cifar10_ddpmpp_ve_likelihood --method elbo --dequantization none
After Song, Durkan, Murray and Ermon 2021 (ScoreFlow), with the network and optimizer of Song et al. 2021.
1.3 M steps of 128: 166 M images, meant for several accelerators. Not trained here.
No number is published for VE: at t_min its noise of 0.01 covers 2.6 grey levels, so the flow gives the likelihood of
blurred data. Quote the bound on integers, which includes the way back: --method elbo --dequantization none.
"""

from scoresde.config import component
from scoresde.experiment.presets import score_sde


def get_config():
    c = score_sde("ve", "ddpmpp_cifar10")
    c.data.random_flip = False
    # With half the sum over dimensions: the bound in nats.
    c.training.weighting, c.training.time_law = "likelihood", "log_snr"
    c.sampling = component("reverse_sde", steps=1000, grid="uniform")
    c.likelihood.method, c.likelihood.dequantization, c.likelihood.dequantizations = "elbo", "none", 1
    return c
