"""What the configurations of one paper share, so that a file in `configs/` says what it has of its own.

    score_sde  Song et al. 2021, appendix H and their configurations: CIFAR-10 and CelebA 64 x 64
"""

from ml_collections import ConfigDict

from scoresde.config import default
from scoresde.nets import PUBLISHED


def score_sde(process: str, network: str) -> ConfigDict:
    """CIFAR-10 with continuous times: `process` is vp, subvp or ve, `network` a name of `scoresde.nets.PUBLISHED`.

    1.3 M steps of 128 images, 0.95 M for the deep networks. VE has data in [0, 1], the sum over dimensions, EMA 0.999, the network's
    output divided by sigma, and a corrector whose norms are means over the batch.
    """
    c = default()
    c.sde.name = process
    c.model.update(PUBLISHED[network].fields)
    c.data.source, c.data.random_flip = "npz:cifar10.npz", True
    c.training.time_law = "uniform"
    c.training.steps, c.training.batch_size = 950_000 if c.model.blocks == 8 else 1_300_000, 128
    c.optim.learning_rate, c.optim.warmup, c.optim.grad_clip = 2e-4, 5000, 1.0
    c.sampling.steps, c.sampling.grid = 1000, "uniform"
    c.likelihood.tolerance, c.likelihood.dequantizations = 1e-5, 5
    if process == "ve":
        c.data.centered, c.training.reduce_mean, c.training.ema = False, False, (0.999,)
        c.model.preconditioning, c.model.embedding, c.model.center_input = "score", "fourier", True
        c.sampling.sampler, c.sampling.norm, c.sampling.snr = "predictor_corrector", "batch", 0.16
        c.sampling.predictor, c.sampling.corrector = "reverse_diffusion", "langevin"
    else:
        c.training.ema, c.model.preconditioning = (0.9999,), "eps"
        c.sampling.sampler = "reverse_sde"
    return c
