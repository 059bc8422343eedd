"""DINOv2 features against transformers: python benchmarks/dinov2_parity.py --python PATH [--space dinov2_vits14] [--num
8]

PATH is a Python that has torch, transformers and pillow (not needed for anything else here); dinov2_reference.py runs
under it and writes a file of random weights of the size of --space, which is read here as a user's file is. Images are
random, 32 x 32, uint8, some darker than others; each side resizes and normalizes them itself. Compared are features
with positions as the authors' code samples them (what the package computes), and as transformers does; and how far
these two, and the images, are apart: largest difference over the largest feature. Fails (exit 1) beyond BOUND. Writes
results/dinov2_parity.json.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import jax
import numpy as np
from record import record
from safetensors.numpy import load_file

from scoresde.metrics import features
from scoresde.metrics.dinov2 import SPACES
from scoresde.nets import dinov2
from scoresde.workflows.feature_extractors import feature_network

BOUND = 1e-4


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True)
    parser.add_argument("--space", default="dinov2_vits14", choices=SPACES.values())
    parser.add_argument("--num", type=int, default=8)
    found = parser.parse_args(arguments)
    features._BATCH_CPU = min(found.num, 8)  # batches are padded, and ViT-L takes a second an image
    width, depth = next(size for size, name in SPACES.items() if name == found.space)
    images = (
        np.random.default_rng(0)
        .integers(0, np.linspace(256, 32, found.num)[:, None, None, None], (found.num, 32, 32, 3))
        .astype(np.uint8)
    )
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        np.save(place / "images.npy", images)
        subprocess.run(
            [
                found.python,
                str(pathlib.Path(__file__).with_name("dinov2_reference.py")),
                folder,
                str(width),
                str(depth),
            ],
            check=True,
        )
        with np.load(place / "features.npz", allow_pickle=False) as archive:
            plain, published = archive["plain"], archive["published"]
        versions = json.loads((place / "versions.json").read_text())
        network = feature_network(str(place / "model.safetensors"), images.shape[1:])
        table = load_file(place / "model.safetensors")["embeddings.position_embeddings"][0]
    ours = network(images)
    network._params = network._params | {"positions": jax.numpy.asarray(dinov2.positions(table, offset=0))}
    largest = np.abs(published).max()
    differences = {
        "published positions": np.abs(ours - published).max() / largest,
        "positions of transformers": np.abs(network(images) - plain).max() / largest,
        "between the two": np.abs(plain - published).max() / largest, "between images": np.ptp(published,
        axis=0).max() / largest,
    }  # fmt: skip
    differences = {name: float(value) for name, value in differences.items()}
    print(found.space, {name: f"{value:.2g}" for name, value in differences.items()}, f"largest feature {largest:.3g}")
    record(
        "dinov2_parity",
        {
            "space": found.space,
            "images": found.num,
            "relative_differences": differences,
            "bound": BOUND,
            "reference": versions,
        },
    )
    if max(differences["published positions"], differences["positions of transformers"]) > BOUND:
        sys.exit("beyond the bound")


if __name__ == "__main__":
    main(sys.argv[1:])
