"""transformers' DINOv2 for dinov2_parity.py, run by it with a Python that has torch, transformers and pillow.

python benchmarks/dinov2_reference.py FOLDER WIDTH DEPTH

FOLDER/images.npy holds uint8 [N, H, W, 3]. FOLDER/model.safetensors gets random weights, all of them far from their
values at the start of training, so that each counts; FOLDER/features.npz the class tokens with positions as
transformers samples them (`plain`) and as the authors' code does (`published`: torch's own bicubic interpolation with
their scale factor). Nothing of scoresde is used here.
"""

import importlib.metadata
import json
import pathlib
import sys

import numpy as np
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model


def prepared(images: np.ndarray) -> torch.Tensor:
    resized = np.stack([np.asarray(Image.fromarray(image).resize((224, 224), Image.BICUBIC)) for image in images])
    x = (resized / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32))


def published(model: Dinov2Model) -> torch.Tensor:
    table = model.embeddings.position_embeddings
    side = round((table.shape[1] - 1) ** 0.5)
    grid = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    moved = torch.nn.functional.interpolate(grid, scale_factor=(16.1 / side, 16.1 / side), mode="bicubic")
    assert moved.shape[2:] == (16, 16)
    return torch.cat([table[:, :1], moved.permute(0, 2, 3, 1).reshape(1, 256, -1)], dim=1)


def main(folder: pathlib.Path, width: int, depth: int) -> None:
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    config = Dinov2Config(hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 64, image_size=518)
    model = Dinov2Model(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter += 0.2 * torch.randn_like(parameter)
        elif "token" in name or "position" in name:
            parameter.copy_(0.5 * torch.randn_like(parameter))
        else:
            parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    model.save_pretrained(folder)
    x = prepared(np.load(folder / "images.npy", allow_pickle=False))
    plain = model(x).pooler_output.numpy()
    table = published(model)
    model.embeddings.interpolate_pos_encoding = lambda *_: table
    np.savez(folder / "features.npz", plain=plain, published=model(x).pooler_output.numpy())
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy", "pillow")}
    (folder / "versions.json").write_text(json.dumps(versions))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
