"""Fields of the configuration that checkpoints of score_sde and guided-diffusion do not contain, by the name of the
network.

- VE: sigma is from 0.01 to 50 for CIFAR-10 and to 348 for CelebA-HQ (Song and Ermon 2020, technique 1), and data are in
  [0, 1].
- VP: beta is from 0.1 to 20 (Song et al. 2021, appendix C). Sub-VP weights need --config.sde.name=subvp.
- ADM: the process is VP with DDPM's betas, which are the same; for ImageNet-64 it is the cosine schedule, alpha =
  cos(pi/2 (t + s)/(1 + s)) with s = 0.008 (Nichol and Dhariwal 2021), so log-SNR starts at -2 log tan(pi/2 s/(1 + s)).
  Their schedule is limited by the largest beta, and here by the least log-SNR of the process.
"""

import math

from scoresde.nets.published import PUBLISHED

SCORE_SDE = ("ncsnpp_cifar10", "ncsnpp_deep_cifar10", "ncsnpp_256", "ddpmpp_cifar10", "ddpmpp_deep_cifar10")
GUIDED = ("adm_imagenet64", "adm_imagenet128", "adm_imagenet256")
NETWORKS = (*SCORE_SDE, *GUIDED)
_OFFSET = 0.008
_VE = dict(name="ve", sigma_min=0.01, sigma_max=50.0)
_VP = dict(name="vp", beta_min=0.1, beta_max=20.0)
_COSINE = dict(name="cosine", log_snr_max=-2 * math.log(math.tan(math.pi / 2 * _OFFSET / (1 + _OFFSET))))


def fields(name: str) -> dict[str, dict]:
    """Return {section: {field: value}} of a run with the network `name`, one of `SCORE_SDE` or `GUIDED`."""
    network = PUBLISHED[name]
    exploding = name.startswith("ncsnpp")
    process = _VE if exploding else _COSINE if name == "adm_imagenet64" else _VP
    if name == "ncsnpp_256":
        process = process | dict(sigma_max=348.0)
    model = dict(preconditioning="score" if exploding else "eps", center_input=exploding)
    data = dict(image_size=network.shape[0], channels=network.shape[2], centered=not exploding)
    return {"model": network.fields | model, "sde": process, "data": data}
