"""torch-fidelity for metrics_parity.py, run by it with a Python that has torch and torch-fidelity (torchvision is not
needed).

python benchmarks/metrics_reference.py FOLDER

FOLDER/inputs.npz holds the path of the Inception weights (`weights`), `images` uint8 [N, H, W, 3], and `features` as
{real,fake}_NAME of sets to compare; FOLDER/reference.npz gets torch-fidelity's features of the images,
FOLDER/reference.json its FID, KID, precision and recall of each pair, and FOLDER/port.npz its state dict. Nothing of
scoresde is used here: weights go into torch-fidelity's module in the order in which it declares its convolutions.
"""

import importlib.metadata
import json
import pathlib
import sys
from unittest import mock

import numpy as np
import torch

for name in ("", ".datasets", ".models", ".transforms", ".transforms.functional"):
    try:
        __import__("torchvision" + name)
    except Exception:  # absent, or built for other hardware: what is compared here does not use it
        sys.modules["torchvision" + name] = mock.MagicMock()

from torch_fidelity import feature_extractor_inceptionv3 as inception  # noqa: E402
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric  # noqa: E402
from torch_fidelity.metric_isc import isc_features_to_metric  # noqa: E402
from torch_fidelity.metric_kid import kid_features_to_metric  # noqa: E402
from torch_fidelity.metric_prc import prc_features_to_metric  # noqa: E402


def extractor(weights: str):
    """torch-fidelity's own module, its parameters replaced by those of the NPZ file."""
    with (
        mock.patch.object(inception, "load_state_dict_from_url", return_value={}),
        mock.patch.object(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None),
    ):
        module = inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    convolutions = [m for m in module.modules() if isinstance(m, inception.BasicConv2d)]
    with np.load(weights, allow_pickle=False) as archive:
        names = [name.removesuffix(".weight") for name in archive.files if name.endswith(".weight")]
        assert len(names) == len(convolutions) == 94
        for name, layer in zip(names, convolutions, strict=True):
            for part, of in (
                ("weight", layer.conv.weight),
                ("beta", layer.bn.bias),
                ("mean", layer.bn.running_mean),
                ("var", layer.bn.running_var),
            ):
                of.data.copy_(torch.from_numpy(archive[f"{name}.{part}"]))
            layer.bn.weight.data.fill_(1)
    return module.eval()


def compared(real: np.ndarray, fake: np.ndarray) -> dict:
    """Of two sets of one size, so that one KID subset is all of both."""
    real, fake = torch.from_numpy(real), torch.from_numpy(fake)
    statistics = [fid_features_to_statistics(f) for f in (fake, real)]
    subsets = dict(kid_subsets=1, kid_subset_size=len(real), rng_seed=2020, verbose=False)
    kid = kid_features_to_metric(
        fake,
        real,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        **subsets,
    )
    prc = prc_features_to_metric(fake, real, prc_neighborhood=3, prc_batch_size=10000, save_cpu_ram=True, verbose=False)
    score = isc_features_to_metric(fake, splits=10, shuffle=False)
    return fid_statistics_to_metric(*statistics, verbose=False) | kid | prc | score


def main(folder: pathlib.Path) -> None:
    torch.set_grad_enabled(False)
    with np.load(folder / "inputs.npz", allow_pickle=False) as archive:
        inputs = {name: archive[name] for name in archive.files}
    module, images = extractor(str(inputs["weights"])), torch.from_numpy(inputs["images"].transpose(0, 3, 1, 2).copy())
    features = np.concatenate([module(part)[0].numpy() for part in images.split(16)])
    torch.save(module.state_dict(), folder / "port.pth")  # the same weights as the published port has them
    state = torch.load(folder / "port.pth", weights_only=True)
    np.savez(folder / "port.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    pairs = sorted(name.removeprefix("real_") for name in inputs if name.startswith("real_"))
    found = {name: compared(inputs[f"real_{name}"], inputs[f"fake_{name}"]) for name in pairs}
    np.savez(folder / "reference.npz", features=features)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torch-fidelity", "numpy")}
    (folder / "reference.json").write_text(json.dumps({"versions": versions, "metrics": found}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
