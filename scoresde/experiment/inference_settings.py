"""Plain fields of a configuration for the use of a trained score; `settings` contains the others."""

import dataclasses
from typing import Any

from scoresde.experiment.limits import Limits, Settings


@dataclasses.dataclass(frozen=True)
class Sampling(Settings):
    """Settings of sampling other than those of the sampler.

    Attributes:
      labels: distribution from which each seed samples its class in a network with classes: uniform, or data (the class
        frequencies of the training records, which evaluate uses by default); null, the null class, is refused until it
        can be trained.
      num: number of samples in a picture.
      batch_size: number of samples generated at once.
    """

    labels: str = "uniform"
    num: int = 64
    batch_size: int = 256

    section = "sampling"
    limits = {"labels": Limits(words=("uniform", "data", "null")), "num": Limits(1), "batch_size": Limits(1)}


@dataclasses.dataclass(frozen=True)
class Likelihood(Settings):
    """Settings of the likelihood of records.

    Attributes:
      method: flow: probability flow; elbo, vlb: bounds in continuous and in discrete time.
      tolerance: flow: relative and absolute error of a step.
      probes: flow: number of probes of the trace estimator; 0: exact trace.
      estimator: flow: rademacher, gaussian, hutchpp (3 probes or more), or a component.
      dequantization: integers: uniform, variational, truncated_normal (flow), none (elbo, vlb), or a component.
      dequantizations: integers: number of dequantization samples per image.
      samples: elbo, vlb: number of calls of the score per image.
      vlb_steps: vlb: number of steps of the chain, equal in log-SNR.
      vlb_variance: vlb: variance of the reverse steps, beta or beta_tilde.
      batch_size: number of records evaluated at once.
    """

    method: str = "flow"
    tolerance: float = 1e-5
    probes: int = 1
    estimator: Any = "rademacher"
    dequantization: Any = "uniform"
    dequantizations: int = 1
    samples: int = 128
    vlb_steps: int = 1000
    vlb_variance: str = "beta"
    batch_size: int = 256

    section = "likelihood"
    limits = {
        "method": Limits(words=("flow", "elbo", "vlb")), "tolerance": Limits(above=0, below=1), "probes": Limits(0),
        "dequantizations": Limits(1), "samples": Limits(1), "vlb_steps": Limits(2),
        "vlb_variance": Limits(words=("beta", "beta_tilde")), "batch_size": Limits(1),
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Evaluate(Settings):
    """Settings of the evaluation when training ends.

    Attributes:
      num: number of test examples whose likelihood is computed; 0: none, -1: all.
    """

    num: int = 0

    section = "evaluate"
    limits = {"num": Limits(-1)}
