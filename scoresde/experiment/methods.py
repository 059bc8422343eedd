"""Requirements of the sampler and the likelihood of a configuration on its process and its data."""

from ml_collections import ConfigDict

from scoresde import sample
from scoresde.errors import ConfigError
from scoresde.experiment import samplers
from scoresde.experiment.build import build_trace
from scoresde.experiment.processes import DEGRADED, PROCESSES


def with_sampler(config: ConfigDict, name: str) -> ConfigDict:
    """Return a copy with another sampler, which uses its default steps, grid and order."""
    changed = config.copy_and_resolve_references()
    changed.sampling.update(sampler=name, steps=0, grid="", order=0)
    return changed


def validate_sampling(config: ConfigDict) -> list[str]:
    c = config.sampling
    if c.sampler == "probability_flow" and c.ode_solver == "euler" and not c.steps:
        return ["sampling.ode_solver = 'euler' has no error estimate: give sampling.steps > 0, or tsit5"]
    if c.steps and not samplers.SAMPLERS[c.sampler].steps and c.sampler != "probability_flow":
        return [f"sampling.steps = {c.steps}: {c.sampler} chooses its steps by sampling.sde_tolerance; expected 0"]
    if c.grid == samplers.OPTIMISED and not 0 < samplers.steps_of(config) <= sample.CANDIDATES:
        steps = samplers.steps_of(config)
        return [f"sampling.grid = 'optimised': expected sampling.steps from 1 to {sample.CANDIDATES}, got {steps}"]
    if config.sde.name in PROCESSES and (problem := _wrong_for_modes(config)):
        return [problem]
    try:  # the sampler itself knows what it takes
        samplers.build_sampler(config)
    except ConfigError as error:
        return [f"sampling: {problem}" for problem in error.problems]
    return []


def _wrong_for_modes(config: ConfigDict) -> str:
    """Return why the sampler or grid does not support a process with one coefficient per mode, or ""."""
    name, c = config.sde.name, config.sampling
    entry = PROCESSES[name]
    if entry.modal_alpha and samplers.SAMPLERS[c.sampler].one_alpha:
        return (
            f"sampling.sampler = '{c.sampler}': expected a process with one alpha, and that of {name} differs by "
            "mode; use ddim, dpmpp or unipc"
        )
    if entry.spectral and (
        c.sampler in ("euler_edm", "heun_edm") and c.churn or c.sampler == "deis" and c.variable == "t"
    ):
        return (
            f"sampling.sampler = '{c.sampler}': churn and variable t need one log-SNR, and {name} has one per mode; "
            "use churn = 0 and log_rho"
        )
    if entry.spectral and c.grid in ("geometric", samplers.OPTIMISED):
        return f"sampling.grid = '{c.grid}': expected a process with one log-SNR, got {name}; use log_snr or uniform"
    return ""


def validate_likelihood(config: ConfigDict) -> list[str]:
    method, dequantization = config.likelihood.method, config.likelihood.dequantization
    spectral = config.sde.name in PROCESSES and PROCESSES[config.sde.name].spectral
    if spectral and config.data.levels and dequantization in ("none", "truncated_normal"):
        return [
            f"likelihood.dequantization = '{dequantization}': needs pixels for the coordinates of the process, and "
            "sde.name = "
            f"'{config.sde.name}' has modes; use uniform or variational"
        ]
    if spectral and PROCESSES[config.sde.name].starts and method == "flow" and config.evaluate.num:
        return [f"likelihood.method = 'flow': {DEGRADED.format(config.sde.name)}; use elbo, or evaluate.num = 0"]
    if dequantization == "none" and method == "flow":
        return [
            "likelihood.dequantization = 'none': flow has no decoder of integers; use uniform, or method elbo or vlb"
        ]
    if dequantization == "none" and config.likelihood.dequantizations > 1:
        return [
            f"likelihood.dequantizations = {config.likelihood.dequantizations}: nothing to draw if dequantization is "
            "none"
        ]
    if dequantization == "truncated_normal" and method != "flow":
        return [
            f"likelihood.dequantization = 'truncated_normal': its x is at t_min, and {method} bounds p at 0; use "
            "uniform"
        ]
    try:  # the estimator itself knows how many probes it takes
        build_trace(config)
    except ConfigError as error:
        return [f"likelihood.probes: {problem}" for problem in error.problems]
    return []
