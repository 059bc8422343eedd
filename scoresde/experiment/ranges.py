"""The allowed values of each field of a configuration."""

import difflib
import math

from scoresde.experiment import samplers
from scoresde.experiment.processes import BASES, KERNELS, PROCESSES
from scoresde.nets import POSITIONS, REMAT, UNET_CHOICES
from scoresde.runs.trackers import TRACKERS

# Metrics of `scoresde.workflows.monitor`, and those that may select a checkpoint: lower must be better.
WATCHES = ("sliced_wasserstein", "moments", "nearest", "loss")
BEST = {
    "sliced_wasserstein": ("sliced_wasserstein",),
    "moments": ("mean_error", "deviation_error"),
    "loss": ("test_loss",),
}

CHOICES = {
    "sde.name": tuple(PROCESSES),
    "sde.basis": BASES,
    "sde.kernel": tuple(KERNELS),
    "model.name": ("unet", "edm2", "dit", "fno", "ufno", "mlp"),
    "model.boundary": ("even", "periodic"),
    "model.preconditioning": ("edm", "eps", "score", "v"),
    "model.embedding": ("positional", "sinusoidal", "fourier"),
    **{f"model.{name}": words for name, words in UNET_CHOICES.items()},
    "model.positions": POSITIONS,
    "model.dtype": ("float32", "bfloat16"),
    "training.remat": tuple(REMAT),
    "training.weighting": ("sigma2", "noise_field", "likelihood", "edm"),
    "training.time_law": ("uniform", "low_discrepancy", "log_snr", "log_sigma", "log_normal"),
    "training.watch": WATCHES,
    "training.watch_sampler": ("", *samplers.SAMPLERS),
    "training.keep_best": ("", *(name for names in BEST.values() for name in names)),
    "training.trackers": tuple(TRACKERS),
    "optim.optimizer": ("adam", "adamw"),
    "sampling.sampler": tuple(samplers.SAMPLERS),
    "sampling.grid": ("", *samplers.GRIDS, samplers.OPTIMISED),
    "sampling.sde_solver": tuple(samplers.SDE_SOLVERS),
    "sampling.ode_solver": tuple(samplers.ODE_SOLVERS),
    "sampling.predictor": tuple(samplers.PREDICTORS),
    "sampling.corrector": tuple(samplers.CORRECTORS),
    "sampling.norm": ("image", "batch"),
    "sampling.labels": ("uniform", "data", "null"),
    "sampling.variant": ("bh1", "bh2"),
    "sampling.variable": ("log_rho", "rho", "t"),
    "likelihood.method": ("flow", "elbo", "vlb"),
    "likelihood.estimator": ("rademacher", "gaussian", "hutchpp"),
    "likelihood.dequantization": ("uniform", "truncated_normal", "variational", "none"),
    "likelihood.vlb_variance": ("beta", "beta_tilde"),
}

# Smallest value allowed, and whether it is allowed itself.
_AT_LEAST = {
    "seed": 0, "data.image_size": 0, "data.augment": 0, "data.channels": 1, "data.levels": 0, "data.max_bad": -1,
    "data.max_pixels": 1, "data.memory": 0,
    "model.dropout": 0, "model.num_classes": 0, "model.channels": 1, "model.multipliers": 1, "model.blocks": 1,
    "model.attention": 1, "model.head_channels": 0, "model.patch": 1, "model.width": 2, "model.depth": 1,
    "model.modes": 1, "sde.length": 0, "sde.jitter": 0, "model.data_index": 0,
    "training.steps": 1, "training.batch_size": 1, "training.accumulation": 1, "training.fsdp": 0,
    "training.steps_per_dispatch": 1, "training.ema": 0,
    "training.log_every": 1, "training.checkpoint_every": 1, "training.snapshot_every": 1, "training.sample_every": 1,
    "optim.beta1": 0, "optim.beta2": 0, "optim.weight_decay": 0, "optim.warmup": 0, "optim.decay_steps": 0,
    "optim.grad_clip": 0,
    "sampling.steps": 0, "sampling.order": 0, "sampling.corrections": 1,
    "sampling.churn": 0, "sampling.s_min": 0, "sampling.s_max": 0, "sampling.eta": 0, "sampling.tau": 0,
    "sampling.tau_low": 0, "sampling.tau_high": 0, "sampling.num": 1, "sampling.batch_size": 1,
    "likelihood.probes": 0, "likelihood.dequantizations": 1, "likelihood.batch_size": 1,
    "likelihood.samples": 1, "likelihood.vlb_steps": 2, "likelihood.variational_steps": 1,
    "likelihood.variational_batch_size": 1, "likelihood.variational_width": 1, "likelihood.variational_depth": 1,
    "evaluate.num": -1,
}  # fmt: skip
_POSITIVE = (
    "sde.variance", "sde.length_scale", "sde.noise", "model.sigma_data", "model.data_screening", "model.fourier_scale",
    "model.norm_epsilon", "optim.learning_rate", "optim.eps", "training.log_normal_std",
    "sampling.tolerance", "sampling.sde_tolerance", "sampling.absolute_tolerance", "sampling.snr", "sampling.step_size",
    "sampling.s_noise", "likelihood.tolerance", "likelihood.variational_rate",
)  # fmt: skip
_BELOW_ONE = (
    "data.augment", "model.dropout", "optim.beta1", "optim.beta2", "sampling.tolerance", "sampling.sde_tolerance",
    "likelihood.tolerance",
)  # fmt: skip


# Counted on the host alone, in 64 bits; `validation` has the limit of the seed. Devices count in int32.
_ON_HOST = ("seed", "data.max_bad", "data.max_pixels")


def _whole_limit(name: str) -> int:
    return 2**63 if name in _ON_HOST else 2**31


def check_field(name: str, value) -> str | None:
    """Return the problem with the value of a field, for example "training.steps", in one line, or None."""
    values = value if isinstance(value, tuple) else (value,)
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    expected = None
    if name in CHOICES and (wrong := [v for v in values if v not in CHOICES[name]]):
        near = difflib.get_close_matches(str(wrong[0]), CHOICES[name], 1, cutoff=0.0)
        expected = f"one of {', '.join(filter(None, CHOICES[name]))}; did you mean {near[0]}?"
    elif not all(map(math.isfinite, numbers)):
        expected = "a finite number"
    elif any(isinstance(v, int) and v >= _whole_limit(name) for v in numbers):
        expected = f"less than 2^{_whole_limit(name).bit_length() - 1}"
    elif name in _AT_LEAST and any(v < _AT_LEAST[name] for v in numbers):
        expected = f"at least {_AT_LEAST[name]}"
    elif name in _POSITIVE and any(v <= 0 for v in numbers):
        expected = "a number above 0"
    elif name in _BELOW_ONE and any(v >= 1 for v in numbers):
        expected = "less than 1"
    return f"{name} = {value!r}: expected {expected}" if expected else None
