"""The public PyTorch networks for network_parity.py, run by it in an environment of their own: diffusers and
score-models.

python benchmarks/network_reference.py FOLDER

FOLDER/cases.json says which network is built with which options. Every parameter is drawn anew, so that no bias is zero
and no scale is one. FOLDER/NAME.npz gets the parameters, the inputs and the output. Nothing of scoresde is used here.

What is changed in score-models, so that it is the published network that is compared:
- its DDPM has no nonlinearity between the two layers of the conditioning (Ho et al. 2020 and score_sde have one): it is
put there;
- its attention has neither a normalization nor a rescaled sum: it is left out on both sides.
"""

import importlib.metadata
import json
import math
import pathlib
import sys

import numpy as np
import torch


def draw(model: torch.nn.Module, seed: int) -> None:
    """Weights of variance 1/fan_in; biases and scales moved by 0.2 z; fixed frequencies stay."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        z = torch.randn(p.shape, generator=generator)
        if name.endswith(("time_proj.weight", "all_modules.0.W")):
            continue
        p.data = z / math.sqrt(p[0].numel()) if p.ndim > 1 else p.data + 0.2 * z


def diffusers_network(options: dict):
    import diffusers

    model = diffusers.UNet2DModel(**options)

    def call(x, t, label):
        y = model(x, t, class_labels=label).sample
        # With Fourier features the model divides by t; that is the preconditioning's part.
        return y * t[:, None, None, None] if options.get("time_embedding_type") == "fourier" else y

    return model, call


def diffusers_dit(options: dict):
    import diffusers

    model = diffusers.DiTTransformer2DModel(**options)

    def call(x, t, label):
        # Every block has its own embedding of t and label there; the published network has one.
        first = model.transformer_blocks[0].norm1.emb
        for block in model.transformer_blocks:
            block.norm1.emb = first
        return model(x, t, class_labels=label).sample

    return model, call


def score_models_ncsnpp(options: dict):
    from score_models.architectures import NCSNpp

    model = NCSNpp(attention=False, **options)
    return model, lambda x, t, label: model(t, x)


def score_models_ddpm(options: dict):
    from score_models.architectures import DDPM

    model = DDPM(attention=False, **options)

    def call(x, t, label):
        layers = list(model.all_modules)
        corrected = torch.nn.Sequential(torch.nn.SiLU(), layers[2])
        model.all_modules = torch.nn.ModuleList([*layers[:2], corrected, *layers[3:]])
        return model(t, x)

    return model, call


NETWORKS = {
    "diffusers.UNet2DModel": diffusers_network,
    "diffusers.DiTTransformer2DModel": diffusers_dit,
    "score_models.NCSNpp": score_models_ncsnpp,
    "score_models.DDPM": score_models_ddpm,
}


def run(name: str, case: dict, folder: pathlib.Path) -> None:
    torch.manual_seed(0)
    model, call = NETWORKS[case["network"]](case["options"])
    model.eval()
    draw(model, seed=1)
    parameters = {f"p/{path}": p.detach().numpy() for path, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, *case["shape"], generator=generator)
    t = torch.tensor(case["t"])
    label = torch.tensor([1, 4]) if case["classes"] else None
    with torch.no_grad():
        y = call(x, t, label)
    np.savez(folder / f"{name}.npz", x=x.numpy(), t=t.numpy(), y=y.numpy(), **parameters)


def main():
    folder = pathlib.Path(sys.argv[1])
    torch.set_num_threads(2)
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        run(name, case, folder)
    versions = {p: importlib.metadata.version(p) for p in ("torch", "diffusers", "score-models")}
    (folder / "versions.json").write_text(json.dumps(versions))


if __name__ == "__main__":
    main()
