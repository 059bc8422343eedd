"""MNIST, 28 x 28, from an NPZ with x_train, x_test (uint8 [N, 28, 28, 1]).

python -m scoresde.train --config configs/mnist_vp.py --config.data.source=npz:PATH/mnist.npz
20,000 steps of 64: 1.28 M images, 21 epochs; minutes on an accelerator, a day on 2 CPU cores. It has not been trained
to its end here: after half an epoch half of the samples are digits, 1.73 +- 0.06 bits/dim on 24 test images
(docs/results.md). 1,259,393 parameters.
"""

from scoresde.config import component, default


def get_config():
    c = default()
    c.data.source, c.data.image_size, c.data.channels, c.data.levels = "npz:mnist.npz", 28, 1, 256
    c.data.uniform_dequantization = True
    c.preconditioning.sigma_data, c.model.dropout = 0.6, 0.05
    c.model.channels, c.model.multipliers, c.model.blocks, c.model.attention = 32, (1, 2, 2), 1, (7,)
    c.training.weighting = "edm"
    c.training.time_law = component("log_normal", mean=-1.5, std=1.6)
    c.training.steps, c.training.batch_size, c.training.ema = 20_000, 64, (0.999,)
    c.training.log_every, c.training.checkpoint_every, c.training.sample_every = 50, 500, 1000
    c.optim.learning_rate, c.optim.warmup = 2e-3, 200
    c.sampling.steps, c.sampling.grid = 250, "log_snr"
    c.likelihood.tolerance, c.likelihood.batch_size, c.evaluate.num = 1e-4, 64, 256
    return c
