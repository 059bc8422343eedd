"""Likelihood of a data set, as arrays per record, as JSON and as a short text.

Signs: `nats` are log p, for which larger is better; bits/dim are -(log_prob - log_q) / (D log 2), for which smaller is
better.
"""

import dataclasses
import json
import math
import pathlib

import numpy as np

from scoresde.runtime.files import replacing, write_text

SIGNS = (
    "log_prob is log p in nats, larger is better; bits_per_dim = -(log_prob - log_q) / (dimensions log 2), smaller is "
    "better; log_q is log q(x | v), that is -log_jacobian for uniform dequantization, and 0 where log_prob is log P(v)"
)

_DENSITY = {
    "flow": "log p(x) at t_min by the probability flow",
    "elbo": "continuous-time bound <= log p(x_0) at time 0, Gaussian decoder of deviation sigma / alpha at t_min",
    "vlb": "discrete-time bound <= log p(x_0) at time 0, Gaussian decoder",
}
_PROBABILITY = {
    "elbo": "continuous-time bound <= log P(v), x_0 at the bin's centre, categorical decoder",
    "vlb": "discrete-time bound <= log P(v), x_0 at the bin's centre, discretized Gaussian decoder",
}


def meaning(method: str, *, density: bool) -> str:
    """Return the definition of log_prob for a method: log of a density, or of the probability of integers."""
    return (_DENSITY if density else _PROBABILITY)[method]


@dataclasses.dataclass(frozen=True)
class DataLikelihood:
    """Likelihood of the records of a data set, with everything that the number depends on.

    Arrays have the shape [N] per record, or [N, K] with K dequantizations. `report` is JSON.
    """

    index: np.ndarray
    log_prob: np.ndarray  # [N, K], nats, see SIGNS
    log_q: np.ndarray  # [N, K], nats
    standard_error: np.ndarray  # [N, K], nats: error of the trace estimate, or of the samples of a bound
    nfe: np.ndarray
    ok: np.ndarray
    bits_per_dim: np.ndarray | None  # [N], None for continuous data
    report: dict

    def save(self, path: pathlib.Path) -> None:
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "report"}
        with replacing(path) as scratch:
            np.savez(scratch, **{name: array for name, array in arrays.items() if array is not None})

    def text(self) -> str:
        r = self.report
        lines = []
        if self.bits_per_dim is not None:
            lines.append(f"{r['bits_per_dim']:.4f} +- {_error(r['bits_per_dim_error'])} bits/dim")
        lines.append(f"{r['nats']:.4f} +- {_error(r['nats_error'])} nats per example, {r['quantity']}")
        if "nats_relative_to_prior" in r:
            relative = f"{r['nats_relative_to_prior']:.4f} +- {_error(r['nats_relative_to_prior_error'])}"
            lines.append(
                f"{relative} nats relative to the prior, a Gaussian measure: this one has a meaning for functions"
            )
        if r["method"] == "flow":
            how = (
                f"tolerance {r['tolerance']:g}, probes {r['probes'] or 'none (exact trace)'}, estimator "
                f"{r['estimator']}"
            )
        else:
            how = f"samples {r['samples']}" + (f", steps {r['vlb_steps']}" if r["method"] == "vlb" else "")
        if self.bits_per_dim is not None:
            how += (
                f", dequantization {r['dequantization']}, dequantizations {r['dequantizations']}, "
                f"log-Jacobian {r['log_jacobian']:.4f} nats"
            )
        lines.append(
            f"{r['num']} {r['split']} examples, +- is one standard error over them; method {r['method']}, NFE "
            f"{r['nfe']:.1f} (largest {r['nfe_largest']}), t_min {r['t_min']:g}, {how}, {r['dimensions']} dimensions, "
            f"parameters {r['parameters_crc32']}, solver ok for {r['ok']} of {r['solves']}"
        )
        return "\n".join(lines)


def write(report: dict, path: pathlib.Path) -> None:
    write_text(path, json.dumps(report, indent=1, allow_nan=False) + "\n")


def without_nan(report: dict) -> dict:
    """Replace NaN by null, because a single record has no spread, and JSON has no NaN."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in report.items()}


def _error(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
