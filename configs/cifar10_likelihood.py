"""CIFAR-10 for likelihood: VDM's network (Kingma et al. 2021) with the loss of i-DODE (Zheng et al. 2023). No
augmentation: 30,651,907 parameters.

python -m scoresde.train --config configs/cifar10_likelihood.py --config.data.source=npz:PATH/cifar10.npz
python -m scoresde.likelihood --workdir runs/cifar10_likelihood
python -m scoresde.likelihood --workdir runs/cifar10_likelihood --method elbo --dequantization none \\
    --out runs/cifar10_likelihood/elbo

The second command computes the likelihood of all 10,000 test images by the flow, with 5 samples of the truncated-normal
dequantization; try --num 1000 first. The third computes a bound on the likelihood of the integers.
6 M steps of 128: 768 M images, as i-DODE on 8 A40; VDM has 10 M steps. 154 GFLOP an image forward and backward, 1.2e20
in all: 4.3 days on one H200 at 40 % of 790 TFLOP/s in bfloat16, twice that in float32 as here, whose products are
TensorFloat-32.
Published: 2.56 bits/dim (i-DODE, VP), 2.65 (VDM, continuous time), both without augmentation. The aim is at most 2.6.
It has not been trained here.

The log-SNR falls from 13.3 to -5, with alpha^2 + sigma^2 = 1. With data of variance 1, EDM's preconditioning makes the
network predict the velocity, and the distribution log_sigma makes the weight of its error constant: i-DODE's loss, in
nats. The flow starts at the alpha and sigma of t_min, where the truncated normal fills the bins (tau = 3.02), so
training and evaluation use the same distribution. A learned schedule is not needed: in continuous time the bound
depends on the end points alone, and the schedule would only replace the distribution of t. Their second-order
fine-tuning is left out. In contrast to theirs, weight decay applies to kernels alone, as everywhere here; the mask in
VDM's code leaves out biases but not the scales of norms.
"""

from scoresde.config import default
from scoresde.nets import PUBLISHED


def get_config():
    c = default()
    c.data.source = "npz:cifar10.npz"
    c.sde.name, c.sde.log_snr_min, c.sde.log_snr_max, c.sde.t_min = "cosine", -5.0, 13.3, 0.0
    c.model.update(PUBLISHED["vdm_cifar10"].fields)
    c.preconditioning.name, c.preconditioning.sigma_data = "edm", 1.0
    c.training.weighting, c.training.time_law, c.training.reduce_mean = "likelihood", "log_sigma", False
    c.training.steps, c.training.batch_size, c.training.ema = 6_000_000, 128, (0.9999,)
    c.optim.name, c.optim.weight_decay, c.optim.beta2 = "adamw", 0.01, 0.99
    c.optim.learning_rate, c.optim.warmup, c.optim.grad_clip = 2e-4, 100, 0.0
    c.sampling.name, c.sampling.steps = "dpmpp", 50
    c.likelihood.dequantization, c.likelihood.dequantizations, c.likelihood.tolerance = "truncated_normal", 5, 1e-5
    return c
