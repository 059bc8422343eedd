"""Images/s of the data pipeline, over what the training steps of the digits and of CIFAR-10 take on the same machine.

python benchmarks/data_throughput.py --npz cifar10.npz
About fifteen minutes on two cores, most of it compilation of the CIFAR-10 network. Folders of 32 x 32 PNG and of 256 x 256 JPEG are
written from CIFAR-10 into a temporary folder. Rates are the best of several repeats, since the machine may be shared.
"""

import argparse
import contextlib
import io
import itertools
import pathlib
import tempfile
import time
import zipfile

import jax
import numpy as np
from PIL import Image
from record import record

from scoresde.build import build_dataset, build_objective, build_optimizer, build_prepare, build_score
from scoresde.config import load_config
from scoresde.data import Dataset, ImageOptions, load
from scoresde.devices import data_mesh, shardings
from scoresde.train.step import init_state, make_step

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
BATCH, BATCHES, REPEATS = 128, 40, 3
PNGS, JPEGS = 4000, 1500
RATIO = 3.0


def stream_rate(dataset: Dataset, batches: int = BATCHES) -> float:
    """Images/s of batches of 128, read as training does; the first batches, while threads start, are not counted."""
    best = 0.0
    for repeat in range(REPEATS):
        stream = dataset.stream(repeat, BATCH)
        for _ in range(5):
            next(stream)
        began = time.perf_counter()
        for _ in itertools.islice(stream, batches):
            pass
        best = max(best, BATCH * batches / (time.perf_counter() - began))
        stream.close()
    return best


def step_rate(config_name: str, overrides: list[str], steps: int) -> float:
    """Images/s of the training step alone, on one batch that is there already."""
    config = load_config(str(CONFIGS / config_name), overrides)
    dataset, score, batch_size = build_dataset(config), build_score(config), config.training.batch_size
    optimizer, mesh = build_optimizer(config), data_mesh()
    replicated, split = shardings(mesh)
    start = jax.jit(lambda p: init_state(p, optimizer, tuple(config.training.ema), jax.random.key(0)), out_shardings=replicated)
    state = start(score.network.params)
    step = make_step(score, build_objective(config), optimizer, prepare=build_prepare(config, dataset), accumulation=1, mesh=mesh)
    batch = {name: jax.device_put(array, split) for name, array in next(dataset.stream(0, batch_size)).items()}
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    best = 0.0
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(steps):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        best = max(best, batch_size * steps / (time.perf_counter() - began))
    return best


def write_images(x: np.ndarray, folder: pathlib.Path) -> None:
    """png/ and jpeg/ below `folder`, and png.zip."""
    (folder / "png").mkdir()
    (folder / "jpeg").mkdir()
    with zipfile.ZipFile(folder / "png.zip", "w") as archive:
        for k, image in enumerate(x[:PNGS]):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            (folder / "png" / f"{k}.png").write_bytes(file.getvalue())
            archive.writestr(f"{k}.png", file.getvalue())
    for k, image in enumerate(x[:JPEGS]):
        Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC).save(folder / "jpeg" / f"{k}.jpg", quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--npz", required=True)
    found = parser.parse_args()
    arrays = f"npz:{pathlib.Path(found.npz).resolve()}"
    declared = dict(shape=(32, 32, 3), levels=256, centered=True)
    rates = {"digits, memory": stream_rate(build_dataset(load_config(str(CONFIGS / "digits_vp.py"), [])), 2000)}
    cifar = load(arrays, **declared)
    rates["cifar10, npz, memory"] = stream_rate(cifar, 1000)
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stderr(io.StringIO()):
        folder = pathlib.Path(place)
        write_images(cifar.train.values, folder)
        for name, source in (("folder of PNG 32 x 32", f"folder:{folder}/png"), ("zip of PNG 32 x 32", f"zip:{folder}/png.zip"), ("folder of JPEG 256 x 256", f"folder:{folder}/jpeg")):
            for kind, memory, batches in (("memory", 2.0, 1000), ("streamed", 0.0, BATCHES)):
                rates[f"{name}, {kind}"] = stream_rate(load(source, images=ImageOptions(memory=memory), **declared), batches)
    consumed = {"digits": step_rate("digits_vp.py", [], 20), "cifar10": step_rate("cifar10_ddpmpp_vp.py", [f"data.source={arrays}", "training.batch_size=8"], 2)}
    ratios = {name: rate / consumed["digits" if name.startswith("digits") else "cifar10"] for name, rate in rates.items()}
    for name, rate in rates.items():
        print(f"{name:36} {rate:12,.0f} images/s  {ratios[name]:10,.1f} x")
    print({name: round(rate, 2) for name, rate in consumed.items()}, "images/s are consumed")
    record(
        "data_throughput",
        {
            "batch_size": BATCH,
            "images_per_second": {name: round(rate) for name, rate in rates.items()},
            "consumed": {name: round(rate, 2) for name, rate in consumed.items()},
            "consumed_with": "training steps of configs/digits_vp.py (batch 64) and configs/cifar10_ddpmpp_vp.py (batch 8)",
            "ratios": {name: round(ratio, 1) for name, ratio in ratios.items()},
            "least_ratio": round(min(ratios.values()), 1),
        },
    )
    assert min(ratios.values()) >= RATIO, ratios


if __name__ == "__main__":
    main()
