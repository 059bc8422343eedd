"""Constructors of preconditionings, weightings, optimizers and learning rates from numbers."""

import math
from collections.abc import Callable

import jax
import numpy as np
import optax

from scoresde import score, sde, train
from scoresde.errors import ConfigError
from scoresde.experiment.component import constructor

LAST_RATE = 0.01  # factor of the learning rate at the end of a cosine, which lets a prolonged run continue to learn


@constructor
def edm_preconditioning(
    sde: sde.AbstractSDE, sigma_data: float = 0.5, data_index: float = 0.0, data_screening: float = 1.0
) -> score.EDMPreconditioning:
    """Return EDM's preconditioning (Karras et al. 2022, table 1).

    Args:
      sde: process of the run, which the builder supplies.
      sigma_data: standard deviation of the data in model coordinates.
      data_index: exponent in function space: mode k of the data has a variance proportional to
        (data_screening + lambda_k)^-data_index; 0: the same variance in all modes. In a kernel basis the data have the
        covariance of the noise up to a factor.
      data_screening: number added to the eigenvalue of the Laplacian, in 1 / length^2.
    """
    _check_sigma_data(sigma_data)
    return score.EDMPreconditioning(sigma_data, _shares(sde, data_index, data_screening))


@constructor
def edm_weighting(
    sde: sde.AbstractSDE,
    preconditioning: score.AbstractPreconditioning,
    sigma_data: float | None = None,
    data_index: float | None = None,
    data_screening: float = 1.0,
) -> train.EDMWeighting:
    """Return EDM's weighting (Karras et al. 2022, table 1).

    Args:
      sde: process of the run, which the builder supplies.
      preconditioning: preconditioning of the run, which the builder supplies.
      sigma_data: standard deviation of the data; null: that of the preconditioning, or 0.5.
      data_index: exponent as in the preconditioning; null: that of the preconditioning, or 0.
      data_screening: number as in the preconditioning, used with data_index.
    """
    if sigma_data is None and data_index is None:
        return train.EDMWeighting(preconditioning.data_spectrum() or score.DataSpectrum(0.5, _shares(sde, 0.0, 1.0)))
    sigma_data = 0.5 if sigma_data is None else sigma_data
    _check_sigma_data(sigma_data)
    return train.EDMWeighting(score.DataSpectrum(sigma_data, _shares(sde, data_index or 0.0, data_screening)))


def _shares(process: sde.AbstractSDE, index: float, screening: float) -> sde.AbstractCovariance | None:
    """Return the shares of the modes in the variance of the data on the training grid, or None for equal shares."""
    if index < 0 or not screening > 0:
        raise ConfigError(f"expected data_index >= 0 and data_screening > 0, got {index} and {screening}")
    if process.basis.own_covariance:
        if index:
            raise ConfigError(
                f"data_index = {index}: expected 0 for a kernel basis, where data are taken to vary as the noise"
            )
        return sde.Gram()
    if index and not process.per_mode:
        raise ConfigError(f"data_index = {index}: expected 0 for a process that has no modes")
    return sde.PowerLaw.normalised(process.basis, index, screening) if index else None


def _check_sigma_data(sigma_data: float) -> None:
    tiny, largest = map(float, (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
    if not (sigma_data > 0 and math.isfinite(sigma_data)):
        raise ConfigError(f"sigma_data = {sigma_data}, expected a number above 0")
    if not tiny <= sigma_data**2 <= largest:
        raise ConfigError(
            f"sigma_data = {sigma_data:g}: expected a square within float32, got sigma_data^2 = {sigma_data**2:.3g}"
        )


@constructor
def adam(learning_rate: Callable, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8):
    """Return Adam (Kingma and Ba 2015).

    Args:
      learning_rate: learning rate as a function of the step, which the builder supplies.
      beta1: decay of the first moment, at least 0 and below 1.
      beta2: decay of the second moment, at least 0 and below 1.
      eps: number added to the root of the second moment, above 0.
    """
    _check_moments(beta1, beta2, eps)
    return optax.adam(learning_rate, b1=beta1, b2=beta2, eps=eps)


@constructor
def adamw(
    learning_rate: Callable, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0
):
    """Return Adam with decoupled weight decay of matrices and kernels (Loshchilov and Hutter 2019).

    Args:
      learning_rate: learning rate as a function of the step, which the builder supplies.
      beta1: decay of the first moment, at least 0 and below 1.
      beta2: decay of the second moment, at least 0 and below 1.
      eps: number added to the root of the second moment, above 0.
      weight_decay: share of a weight that a step removes, divided by the learning rate, at least 0. Biases, scales of
        norms and fixed frequencies, which have one axis, do not decay.
    """
    _check_moments(beta1, beta2, eps)
    if not weight_decay >= 0:
        raise ConfigError(f"weight_decay = {weight_decay}: expected at least 0")
    return optax.adamw(learning_rate, b1=beta1, b2=beta2, eps=eps, weight_decay=weight_decay, mask=_is_weight)


def _is_weight(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _check_moments(beta1: float, beta2: float, eps: float) -> None:
    problems = [
        f"{name} = {value}: expected at least 0 and less than 1"
        for name, value in (("beta1", beta1), ("beta2", beta2))
        if not 0 <= value < 1
    ]
    if not (eps > 0 and math.isfinite(eps)):
        problems.append(f"eps = {eps}: expected a number above 0")
    if problems:
        raise ConfigError(*problems)


@constructor
def warmup_cosine(learning_rate: float, warmup: int, decay_steps: int) -> optax.Schedule:
    """Return a linear warm-up, then a constant rate or a cosine to a hundredth."""
    if 0 < decay_steps <= warmup:
        raise ConfigError(f"optim.decay_steps = {decay_steps}: expected 0 or more than optim.warmup = {warmup}")
    if decay_steps:
        return optax.warmup_cosine_decay_schedule(
            0.0, learning_rate, warmup, decay_steps, end_value=LAST_RATE * learning_rate
        )
    # Without warm-up, optax would keep the initial value forever.
    return optax.warmup_constant_schedule(0.0 if warmup else learning_rate, learning_rate, warmup)
