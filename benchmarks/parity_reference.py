"""The public samplers for parity.py, run by it in an environment of their own: diffusers, k-diffusion and azula.

python benchmarks/parity_reference.py FOLDER

FOLDER/cases.json says which sampler runs with which options; FOLDER/inputs.npz holds the mixture, x_T and the noise.
FOLDER/results.npz gets the x that each case ends with, and the times of diffusers' schedulers. Nothing of scoresde is
used here, and the denoiser is written out a second time: E[x_0 | x_t] of a Gaussian mixture, in float64.

diffusers computes in float32. A case with "dtype": "float64" reads every float32 of its module as float64, so that the
formulas are compared and not the rounding; with "float32" the module runs as it comes.
"""

import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import pathlib
import sys
import types

import numpy as np
import torch

# ipndm and sde_ve are driven by hand: one takes a velocity, the other has two kinds of steps.
SCHEDULERS = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepScheduler": "dpmsolver_multistep",
    "DPMSolverSinglestepScheduler": "dpmsolver_singlestep",
    "UniPCMultistepScheduler": "unipc_multistep",
    "DEISMultistepScheduler": "deis_multistep",
    "SASolverScheduler": "sasolver",
    "IPNDMScheduler": "ipndm",
    "ScoreSdeVeScheduler": "sde_ve",
}


class Mixture:
    """E[x_0 | x = alpha x_0 + sigma eps] for x_0 ~ sum_k w_k N(m_k, S_k), x of shape [batch, D]."""

    def __init__(self, means, covariances, weights):
        self.means, self.covariances, self.weights = (torch.from_numpy(a) for a in (means, covariances, weights))

    def __call__(self, x, alpha, sigma):
        given, alpha, sigma = x.dtype, *(torch.as_tensor(a, dtype=torch.float64) for a in (alpha, sigma))
        marginal = alpha**2 * self.covariances + sigma**2 * torch.eye(x.shape[-1], dtype=torch.float64)
        offset = x.double() - alpha * self.means[:, None]  # [K, batch, D]
        solved = torch.linalg.solve(marginal, offset.mT).mT
        joint = (
            torch.log(self.weights)[:, None] - 0.5 * (offset * solved).sum(-1) - 0.5 * torch.logdet(marginal)[:, None]
        )
        posterior = self.means[:, None] + alpha * solved @ self.covariances
        return (torch.softmax(joint, 0)[..., None] * posterior).sum(0).to(given)

    def score(self, x, sigma):
        return (self(x, 1.0, sigma) - x) / sigma**2


class Instead:
    """A module with some of its names replaced."""

    def __init__(self, module, **names):
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, name)


class Noise:
    """The next prepared noise [steps, batch, D], whatever the arguments: stands for randn_like and its kin."""

    def __init__(self, prepared):
        self.prepared = iter(torch.from_numpy(prepared))

    def __call__(self, *args, dtype=torch.float64, **kwargs):
        return next(self.prepared).to(dtype)


def k_diffusion(case, inputs, denoiser, noise):
    """A sample_* function on alpha = 1, sigma = t."""
    module = k_diffusion_sampling()
    module.torch = Instead(torch, randn_like=noise)
    function = getattr(module, case["function"])
    options = dict(case["options"], disable=True)
    if "noise_sampler" in inspect.signature(function).parameters:
        options["noise_sampler"] = noise
    grid = torch.from_numpy(inputs[f"{case['grid']}/sigma"])
    x = grid[0] * torch.from_numpy(inputs["z_T"])
    return {"x": function(lambda x, sigma, **_: denoiser(x, 1.0, sigma[0]), x, grid, **options)}


def azula(case, inputs, denoiser, noise):
    """A sampler class on any process: its schedule is looked up in the grid."""
    module = importlib.import_module("azula.sample")
    module.torch = Instead(torch, randn_like=noise)
    alpha, sigma = (torch.from_numpy(inputs[f"{case['grid']}/{name}"]) for name in ("alpha", "sigma"))

    class Scheduled(torch.nn.Module):
        def schedule(self, t):
            return alpha[t.long()], sigma[t.long()]

        def forward(self, x, t):
            return types.SimpleNamespace(mean=denoiser(x, *self.schedule(t)))

    class OnGrid(getattr(module, case["function"])):
        timesteps = property(lambda self: torch.arange(len(sigma)))

    x = sigma[0] * torch.from_numpy(inputs["z_T"])
    return {"x": OnGrid(Scheduled(), silent=True, **case["options"])(x)}


def diffusers(case, inputs, denoiser, noise):
    """A scheduler with its own table of alphas and its own timesteps, the last `skip` steps left out."""
    scheduler = make_scheduler(case, noise)
    if "tau" in case:
        scheduler.tau_func = lambda t: case["tau"]
    scheduler.set_timesteps(case["steps"])
    x = torch.from_numpy(inputs["z_T"]).to(getattr(torch, case["dtype"]))
    steps = case["steps"] - case.get("skip", 0)
    for t in scheduler.timesteps[:steps]:
        a = scheduler.alphas_cumprod[t].double()
        x = scheduler.step(denoiser(x, a**0.5, (1 - a) ** 0.5), t, x, **case.get("step_options", {})).prev_sample
    last = scheduler.timesteps[steps : steps + 1].tolist() or [0]
    times = np.array(scheduler.timesteps[:steps].tolist() + last, np.float64)
    return {"x": x, "times": times, "alphas_cumprod": scheduler.alphas_cumprod.double()}


def ipndm(case, inputs, denoiser, noise):
    """IPNDMScheduler, which takes a velocity alpha eps - sigma x_0 and, unless given its sigmas, ends at sigma = 0."""
    alpha, sigma = (inputs[f"{case['grid']}/{name}"] for name in ("alpha", "sigma"))
    scheduler = make_scheduler({**case, "options": {"trained_betas": sigma.tolist()}}, noise)
    scheduler.set_timesteps(len(sigma) - 1)
    x = sigma[0] * torch.from_numpy(inputs["z_T"])
    for i, t in enumerate(scheduler.timesteps):
        x_0 = denoiser(x, alpha[i], sigma[i])
        x = scheduler.step(alpha[i] * (x - alpha[i] * x_0) / sigma[i] - sigma[i] * x_0, t, x).prev_sample
    return {"x": x}


def sde_ve(case, inputs, denoiser, noise):
    """ScoreSdeVeScheduler: Langevin at sigma_i, then the predictor to sigma_{i+1}; one example at a time, because its
    Langevin step takes norms over the batch. The step to sigma = 0 is left out."""
    ends = []
    for b in range(len(inputs["z_T"])):
        own = Noise(inputs["noise"][:, b : b + 1])
        scheduler = make_scheduler(case, own)
        scheduler.set_timesteps(case["steps"] + 1)
        scheduler.set_sigmas(case["steps"] + 1)
        sigmas = scheduler.discrete_sigmas.flip(0)
        x = sigmas[0] * torch.from_numpy(inputs["z_T"][b : b + 1])
        for t, sigma in zip(scheduler.timesteps[: case["steps"]], sigmas):
            if case["correct"]:
                x = scheduler.step_correct(denoiser.score(x, sigma), x).prev_sample
            x = scheduler.step_pred(denoiser.score(x, sigma), t, x).prev_sample
        ends.append(x)
    return {"x": torch.cat(ends), "times": sigmas}


def make_scheduler(case, noise):
    name = case["function"]
    module = importlib.reload(importlib.import_module(f"diffusers.schedulers.scheduling_{SCHEDULERS[name]}"))
    module.randn_tensor = noise
    if case["dtype"] == "float64":
        module.torch = Instead(torch, float32=torch.float64)
        module.np = Instead(np, float32=np.float64)
    return getattr(module, name)(**case["options"])


def k_diffusion_sampling():
    """k_diffusion.sampling without the rest of the package, which wants torchvision for its pictures."""
    if "k_diffusion.sampling" in sys.modules:
        return sys.modules["k_diffusion.sampling"]
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(importlib.util.find_spec("k_diffusion").submodule_search_locations)
    transforms = types.ModuleType("torchvision.transforms")
    transforms.functional = None
    stubs = {"torchvision": types.ModuleType("torchvision"), "torchvision.transforms": transforms}
    sys.modules.update(stubs, k_diffusion=package)
    module = importlib.import_module("k_diffusion.sampling")
    for name in stubs:
        del sys.modules[name]
    return module


def main(folder: pathlib.Path):
    cases = json.loads((folder / "cases.json").read_text())
    inputs = dict(np.load(folder / "inputs.npz"))
    denoiser = Mixture(inputs["means"], inputs["covariances"], inputs["weights"])
    results = {}
    for name, case in cases.items():
        torch.set_default_dtype(getattr(torch, case["dtype"]))
        with torch.no_grad():
            ended = globals()[case["library"]](case, inputs, denoiser, Noise(inputs["noise"]))
        results |= {f"{name}/{key}": np.asarray(value, np.float64) for key, value in ended.items()}
    np.savez(folder / "results.npz", **results)
    versions = {p: importlib.metadata.version(p) for p in ("torch", "diffusers", "k-diffusion", "azula")}
    (folder / "versions.json").write_text(json.dumps(versions))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
