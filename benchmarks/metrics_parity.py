"""Metrics against torch-fidelity: python benchmarks/metrics_parity.py --python PATH --weights FILE.npz --images
FILE.npz

PATH is a Python that has torch and torch-fidelity (`pip install torch` and `pip install --no-deps torch-fidelity tqdm`;
not needed for anything else here); metrics_reference.py runs under it. FILE.npz of images has x_train and x_test, uint8
[N, 32, 32, 3] (CIFAR-10).

1. Features of --num images of x_test by the Flax Inception and by torch-fidelity's, the same weights: largest
difference. 2. On these features, halves against each other; on Gaussian features with a shift; and on those of
   --features FILE.npz (arrays fake and real, equally many) if it is given: FID, KID, precision and recall (k = 3),
   Inception Score of both packages: relative difference, or absolute where a number is near 0.

KID is compared on whole sets, since the packages draw different subsets. Fails (exit 1) beyond the bounds stated in
BOUNDS. Writes results/metrics_parity.json.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from record import record

from scoresde.metrics.frechet import frechet_distance, moments
from scoresde.metrics.inception_score import inception_score
from scoresde.metrics.kid import polynomial_mmd2
from scoresde.metrics.prdc import prdc
from scoresde.workflows.feature_extractors import feature_network

BOUNDS = {"features": 1e-3, "metrics": 1e-2}
NAMES = {
    "fid": "frechet_inception_distance", "kid": "kernel_inception_distance_mean", "precision": "precision",
    "recall": "recall",
    "is": "inception_score_mean",
}  # fmt: skip


def ours(real: np.ndarray, fake: np.ndarray) -> dict:
    numbers = prdc(fake, real, neighbours=3)
    return {
        "fid": frechet_distance(moments(fake), moments(real)), "kid": polynomial_mmd2(fake, real),
        "precision": numbers.precision, "recall": numbers.recall, "is": inception_score(fake)[0],
    }  # fmt: skip


def pairs(features: np.ndarray, file: str | None) -> dict:
    """{name: (real, fake)}. Fewer images than 2048 have singular covariances; the Gaussian features have not."""
    half = len(features) // 2
    random = np.random.default_rng(0)
    mix = random.standard_normal((64, 64)) / 8
    real, fake = (random.standard_normal((2000, 64)) @ mix + shift for shift in (0, 0.2))
    found = {"images": (features[:half], features[half : 2 * half])}
    if file:
        with np.load(file, allow_pickle=False) as archive:
            found[f"{len(archive['real'])} + {len(archive['fake'])} features"] = (archive["real"], archive["fake"])
    return {
        name: tuple(np.ascontiguousarray(x, np.float32) for x in pair)
        for name, pair in (found | {"gaussian": (real, fake)}).items()
    }


def reference(python: str, folder: pathlib.Path, **inputs) -> tuple[np.ndarray, dict]:
    np.savez(folder / "inputs.npz", **inputs)
    subprocess.run([python, str(pathlib.Path(__file__).with_name("metrics_reference.py")), str(folder)], check=True)
    with np.load(folder / "reference.npz", allow_pickle=False) as archive:
        return archive["features"], json.loads((folder / "reference.json").read_text())


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--python", "--weights", "--images"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--num", type=int, default=256)
    parser.add_argument("--features")
    found = parser.parse_args(arguments)
    with np.load(found.images, allow_pickle=False) as archive:
        images = archive["x_test"][: found.num]
    network = feature_network(found.weights, images.shape[1:])
    features = network(images)
    compared = pairs(features, found.features)
    sides = {
        f"{side}_{name}": x for name, pair in compared.items() for side, x in zip(("real", "fake"), pair, strict=True)
    }
    with tempfile.TemporaryDirectory() as folder:
        theirs, about = reference(
            found.python, pathlib.Path(folder), weights=np.array(found.weights), images=images, **sides
        )
        port = feature_network(str(pathlib.Path(folder) / "port.npz"), images.shape[1:])
        from_port = np.abs(port(images[:8])[:, : port.dimensions] - features[:8]).max()
    worst = float(np.abs(features - theirs).max())
    table, largest = {}, 0.0
    for name, (real, fake) in compared.items():
        mine, table[name] = ours(real, fake), {}
        for metric, key in NAMES.items():
            a, b = mine[metric], about["metrics"][name][key]
            difference = abs(a - b) / max(abs(b), 1e-3)
            table[name][metric] = {"scoresde": a, "torch-fidelity": b, "difference": difference}
            largest = max(largest, difference)
            print(f"{name:20} {metric:9} {a:.8g} {b:.8g} {difference:.2g}")
    print(
        f"features of {len(images)} images: largest difference {worst:.2g} (largest feature {theirs.max():.3g}); by "
        f"the port's names {from_port:.2g}"
    )
    record("metrics_parity", {
        "images": len(images), "weights_sha256": hashlib.sha256(pathlib.Path(found.weights).read_bytes()).hexdigest(),
        "features": {"largest_difference": worst, "largest": float(theirs.max()), "port_file": float(from_port),
        "bound": BOUNDS["features"]},
        "metrics": table, "bound": BOUNDS["metrics"], "reference": about["versions"],
    })  # fmt: skip
    if worst > BOUNDS["features"] or largest > BOUNDS["metrics"]:
        sys.exit("beyond the bounds")


if __name__ == "__main__":
    main(sys.argv[1:])
