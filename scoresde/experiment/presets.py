"""Settings that the configurations of one paper share, so that a file in `configs/` contains only the differences.

score_sde  Song et al. 2021, appendix H and their configurations: CIFAR-10 and CelebA 64 x 64
edm        Karras et al. 2022, table 1, appendix F and the table of options in their README
"""

from ml_collections import ConfigDict

from scoresde.experiment.component import component
from scoresde.experiment.config import default
from scoresde.nets import PUBLISHED


def score_sde(process: str, network: str) -> ConfigDict:
    """Return the configuration for CIFAR-10 with continuous times; `process` is vp, subvp or ve, `network` is a name of
    `scoresde.nets.PUBLISHED`.

    It has 1.3 M steps of 128 images, and 0.95 M for the deep networks. VE has data in [0, 1], the sum over dimensions,
    EMA 0.999, the network's output divided by sigma, and a corrector whose norms are means over the batch.
    """
    c = default()
    c.sde = component(process)
    c.model = component(**({"name": "unet"} | PUBLISHED[network].fields))
    c.data.source, c.data.random_flip = "npz:cifar10.npz", True
    c.training.time_law = "uniform"
    c.training.steps, c.training.batch_size = 950_000 if PUBLISHED[network].fields["blocks"] == 8 else 1_300_000, 128
    c.optim.learning_rate, c.optim.warmup, c.optim.grad_clip = 2e-4, 5000, 1.0
    c.sampling.steps, c.sampling.grid = 1000, "uniform"
    c.likelihood.tolerance, c.likelihood.dequantizations = 1e-5, 5
    if process == "ve":
        c.data.centered, c.training.reduce_mean, c.training.ema = False, False, (0.999,)
        c.preconditioning = component("score")
        c.model.embedding, c.model.center_input = "fourier", True
        c.sampling.name = "predictor_corrector"
        c.sampling.predictor = component("reverse_diffusion")
        c.sampling.corrector = component("langevin", snr=0.16, norm="batch")
    else:
        c.training.ema, c.preconditioning = (0.9999,), component("eps")
    return c


def edm(network: str, *, images: int, batch_size: int, augment: float) -> ConfigDict:
    """Return the configuration of EDM's training of `network` with EDM's preconditioning, for a total of `images`;
    `augment` is the probability of its augmentations.

    The learning rate ramps up over 10 M images, the average has a half-life of 0.5 M images, and gradients are not
    clipped. The loss is half the sum over dimensions, and EDM's is the whole sum; the difference hardly matters for
    Adam. EDM's 18 steps are 17 Heun steps and a last Euler step to sigma = 0, with 35 calls of the network in all; here
    the last step is the final denoising.
    """
    c = default()
    c.sde = component("karras", sigma_min=0.002, sigma_max=80.0)
    c.model = component(**({"name": "unet"} | PUBLISHED[network].fields))
    c.data.augment = augment
    c.preconditioning = component("edm", sigma_data=0.5)
    c.training.weighting, c.training.reduce_mean = "edm", False
    c.training.time_law = component("log_normal", mean=-1.2, std=1.2)
    c.training.steps, c.training.batch_size, c.training.ema = images // batch_size, batch_size, (500_000.0,)
    c.optim.learning_rate, c.optim.warmup, c.optim.grad_clip = 1e-3, 10_000_000 // batch_size, 0.0
    c.sampling.name, c.sampling.steps, c.sampling.grid = "heun_edm", 17, "karras"
    return c
