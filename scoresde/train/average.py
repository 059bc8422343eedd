"""Averages of the parameters: a <- a + rate (p - a) after each step, with one of three formulas for the rate.

    decay d a step, below 1       rate = 1 - min(d, (1 + n) / (10 + n))        "0.999"
    half-life of H images         rate = 1 - 2^(-B / min(H, 0.05 n B))         "500000.0"
    power function of width s     rate = 1 - (1 - 1 / t)^(gamma + 1)           "power:0.05"

n counts the steps before this one, t = n + 1, B is the batch.

Decay: the warm-up is that of Song et al.'s PyTorch code, which short runs need (there n includes this step).

Half-life: the weight of a step halves every H images, independently of the batch size. The half-life is shorter at the
start, so that the first step gives p (Karras et al. 2022, their training loop).

Power function (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", section 3.1):
the average is

    (gamma + 1) / t^(gamma + 1) integral_0^t tau^gamma p(tau) dtau,   p(tau) = the parameters after step ceil(tau),

and the rate above gives it exactly: step i has the weight (i^(gamma + 1) - (i - 1)^(gamma + 1)) / t^(gamma + 1), and
the initial parameters have none. The average covers a fixed fraction of the run. The relative width, which is the
standard deviation of the weights divided by t, is

    s = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))),

so gamma is the largest root of gamma^3 + 7 gamma^2 + (16 - s^-2) gamma + 12 - s^-2 (their appendix C).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from scoresde.errors import ConfigError

POWER = "power:"
# Longest half-life of an average as a share of the images seen so far (Karras et al. 2022, in their configuration).
RAMP_UP = 0.05
# Relative width of gamma = 0, where all steps have the same weight.
WIDEST = 1 / math.sqrt(12)


def average_name(memory: float | str) -> str:
    """Return the name of an average in `TrainState.ema` for a number or a name: "0.999", "500000.0", "power:0.05".

    Raises:
      ConfigError: the argument is neither.
    """
    prefix, number = (POWER, str(memory).removeprefix(POWER)) if str(memory).startswith(POWER) else ("", memory)
    try:
        return prefix + str(float(number))
    except ValueError:
        raise ConfigError(
            f"ema: expected a decay such as 0.999, a half-life in images such as 500000, or {POWER}0.05, got {memory!r}"
        ) from None


def power_name(width: float) -> str:
    """Return the name of the power function of a relative width."""
    return average_name(f"{POWER}{width}")


def is_power(name: str) -> bool:
    return name.startswith(POWER)


def check_width(width: float) -> None:
    """Raise a ConfigError for a relative width that no power function with gamma > 0 has."""
    if not 0 < width < WIDEST:
        raise ConfigError(
            f"expected a relative width above 0 and below {WIDEST:.4f} (the mean of all steps), got {width:g}"
        )


def check_averages(ema: tuple[float, ...], power_ema: tuple[float, ...], batch_size: int) -> list[str]:
    """Return the problems with the fields of a configuration, one line each."""
    problems = []
    if not ema and not power_ema:
        problems.append("ema = (): expected at least one decay, such as (0.999,), or a width in training.power_ema")
    if between := [memory for memory in ema if 1 <= memory < batch_size]:
        problems.append(
            f"ema = {ema!r}: expected a decay less than 1, or a half-life in images, at least training.batch_size = "
            f"{batch_size}; got {between[0]}"
        )
    for width in power_ema:
        try:
            check_width(width)
        except ConfigError as error:
            problems.append(f"power_ema = {power_ema!r}: {error}")
    for name, memories in (("ema", ema), ("power_ema", power_ema)):
        if len(set(memories)) < len(memories):
            problems.append(f"{name} = {memories!r}: expected each once")
    return problems


def exponent(width: float) -> float:
    """Return gamma for a relative width, in float64.

    Raises:
      ConfigError: the width is not between 0 and 0.2887.
    """
    check_width(width)
    square = float(width) ** -2
    return float(np.roots([1, 7, 16 - square, 12 - square]).real.max())


def relative_width(gamma: float) -> float:
    """Return the standard deviation of the weights divided by t; the inverse of `exponent`."""
    return math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))


def update(
    averages: dict[str, PyTree[Array]], params: PyTree[Array], step: Int[Array, ""], batch_size: int
) -> dict[str, PyTree[Array]]:
    """Return the averages by name after a step to `params`. `step` counts the steps before it."""
    return {name: _moved(average, params, rate(name, step, batch_size)) for name, average in averages.items()}


def rate(name: str, step: Int[Array, ""], batch_size: int) -> Float[Array, ""]:
    """Return the rate at which an average moves towards the parameters, see above."""
    if is_power(name):
        gamma = exponent(float(name.removeprefix(POWER)))
        return -jnp.expm1((gamma + 1) * jnp.log1p(-1.0 / (step + 1)))
    memory = float(name)
    if memory < 1:
        return 1 - jnp.minimum(memory, (1.0 + step) / (10.0 + step))
    return -jnp.expm1(-math.log(2) / jnp.minimum(memory / batch_size, RAMP_UP * step))


def _moved(average: PyTree[Array], params: PyTree[Array], rate: Float[Array, ""]) -> PyTree[Array]:
    return jax.tree.map(lambda a, p: a + rate * (p - a), average, params)
