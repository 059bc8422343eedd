"""One process out of several, chosen by a number: what is compiled for it serves them all."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from scoresde.sde import AbstractSDE


class AnyProcess(AbstractSDE):
    """The process `processes[index]`, its time scaled linearly to [0, 1]: t = t_min + u (t_max - t_min)."""

    index: Int[Array, ""]
    processes: tuple[AbstractSDE, ...]
    t_min: float = 0.0
    t_max: float = 1.0

    def log_alpha(self, u):
        return self._of("log_alpha", u)

    def sigma(self, u):
        return self._of("sigma", u)

    def reference_log_snr(self, u):
        return self._of("reference_log_snr", u)

    def _of(self, name, u):
        u = jnp.asarray(u, jnp.result_type(u, float))
        branches = [lambda u, p=p: getattr(p, name)(p.t_min + u * (p.t_max - p.t_min)) for p in self.processes]
        shape = jnp.broadcast_shapes(*(jax.eval_shape(branch, u).shape for branch in branches))
        return jax.lax.switch(self.index, [lambda u, b=b: jnp.broadcast_to(b(u), shape) for b in branches], u)


def each_process(processes: dict) -> dict:
    """{name: AnyProcess}: objects that differ in the index alone."""
    together = tuple(processes.values())
    return {name: AnyProcess(jnp.asarray(i), together) for i, name in enumerate(processes)}
