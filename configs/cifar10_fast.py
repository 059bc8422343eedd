"""CIFAR-10 with its ten classes in 20 minutes on one H200: EDM's training (Karras et al. 2022), shortened. 39,395,971
parameters.

python -m scoresde.train --config configs/cifar10_fast.py --config.data.source=npz:PATH/cifar10.npz
python -m scoresde.sample --workdir runs/cifar10_fast
python -m scoresde.evaluate --workdir runs/cifar10_fast --metrics fid,kid,prdc,bpd --network fid_inception_2015.npz

33,000 steps of 256: 8.4 M images, 169 epochs. 39.3 GFLOP per image forward and backward, 3.3e17 in total: 18 minutes at
39 % of 790 TFLOP/s in bfloat16, and two minutes for compilation, pictures and checkpoints. For another device measure
first, with --config.training.steps=2000 --workdir runs/try. Then give the first command --config.training.steps=N,
where N is 1080 times the last steps_per_second in runs/try/metrics.jsonl. The length of the decay follows.

The third command generates 50,000 images of random classes and computes a bound on the bits/dim of all 10,000 test
images. No number is published for so few images, and the configuration has not been trained here. The nearest numbers
are those of a conditional EDM after 50 M images, FID 5.76 (Wu et al. 2023, FDM, their baseline); of a user's EDM2 after
50 M images, about 2.4; and of the full recipe with 200 M images, 1.79 (`cifar10_edm_conditional.py`).

docs/choosing.md, "Twenty minutes", explains the choices.
"""

from scoresde.config import component
from scoresde.experiment.presets import edm


def get_config():
    c = edm("edm_ddpmpp_cifar10", images=8_448_000, batch_size=256, augment=0.0)
    c.data.source, c.data.random_flip = "npz:cifar10.npz", True
    c.conditions["class"] = component("class", num_classes=10)
    c.model.multipliers, c.model.blocks, c.model.dropout = (1, 2, 2, 2), 2, 0.05
    c.model.dtype = "bfloat16"
    c.training.reduce_mean, c.training.ema = True, (200_000.0, 400_000.0)
    c.training.checkpoint_every, c.training.sample_every = 16_500, 16_500
    c.optim.learning_rate, c.optim.warmup, c.optim.beta2, c.optim.grad_clip = 1e-3, 1000, 0.99, 1.0
    c.optim.decay_steps = (
        c.training.get_ref("steps") * 3 // 2
    )  # follows training.steps; at the last one the rate is at 27 %
    c.sampling.name, c.sampling.steps, c.sampling.grid = "unipc", 19, "karras"
    c.likelihood.method, c.likelihood.dequantization = "elbo", "none"
    return c
