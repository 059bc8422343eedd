"""The division of a run's work over devices and over time. It changes results only by rounding."""

import dataclasses

import jax
from jax.sharding import Mesh

from scoresde.errors import ConfigError
from scoresde.runtime.sharding import data_mesh


@dataclasses.dataclass(frozen=True)
class Parallelism:
    """Division of the same training over devices, micro-batches and dispatches.

    Attributes:
      accumulation: micro-batches per step, at least 1; the batch size is a multiple of devices times accumulation.
      remat: recomputation in the backward pass instead of storage: "none", "products" or "block", see `nets.REMAT`.
      fsdp: devices over which parameters, optimizer and averages are split; 1: a copy on each, 0: all devices.
      steps_per_dispatch: training steps in one call of the device, at least 1; a `Run` is called after the last one.
    """

    accumulation: int = 1
    remat: str = "none"
    fsdp: int = 1
    steps_per_dispatch: int = 1

    def mesh(self) -> Mesh:
        """Return the mesh of all devices, [data, fsdp].

        Raises:
          ConfigError: no group of `fsdp` chips lies along the axes of a TPU's torus.
        """
        try:
            return data_mesh(self.fsdp or jax.device_count())
        except NotImplementedError:
            raise ConfigError(
                f"training.fsdp = {self.fsdp}: expected a product of axes of the TPU slice (of 4x8x8: 4, 8, 32, 64), "
                "or 0 for all "
                f"{jax.device_count()} chips"
            ) from None

    def check(self, batch_size: int) -> None:
        """Check that every device gets the same number of examples in every micro-batch, and is in a group of `fsdp`
        devices.

        Raises:
          ConfigError: an uneven division; the message states the nearest numbers that fit.
        """
        count, unit = jax.device_count(), jax.device_count() * self.accumulation
        if self.fsdp and count % self.fsdp:
            fitting = ", ".join(str(n) for n in range(1, count + 1) if count % n == 0)
            raise ConfigError(
                f"training.fsdp = {self.fsdp}: expected a divisor of the {count} devices, one of {fitting}, or 0 for "
                "all of them"
            )
        if batch_size < 1 or batch_size % unit:
            below, above = batch_size // unit * unit, (batch_size // unit + 1) * unit
            nearest = f"{below} or {above}" if below > 0 else f"{above}"
            raise ConfigError(
                f"training.batch_size = {batch_size} is not divisible by {count} devices x {self.accumulation} "
                "accumulation "
                f"steps = {unit}; nearest: {nearest}"
            )

    def ends(self, start: int, steps: int) -> list[int]:
        """Yield the number of steps done after each dispatch: multiples of `steps_per_dispatch`, and the last step."""
        each = self.steps_per_dispatch
        return [*range(start // each * each + each, steps, each), steps] if start < steps else []
