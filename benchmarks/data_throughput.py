"""Images/s of the data pipeline, over what the training steps of the digits and of CIFAR-10 take on the same machine.

python benchmarks/data_throughput.py --npz cifar10.npz
About fifteen minutes on two cores, most of it compilation of the CIFAR-10 network. Folders of 32 x 32 PNG and of 256 x
256 JPEG are written from CIFAR-10 into a temporary folder. Rates are the best of several repeats, since the machine may
be shared; processor time per image, of all threads together, hardly depends on who shares it.
"""

import argparse
import contextlib
import io
import itertools
import pathlib
import tempfile
import time
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image
from record import record

from scoresde.data import Dataset, ImageOptions, load
from scoresde.experiment import Experiment
from scoresde.experiment.config import load_config
from scoresde.runtime.sharding import data_mesh, state_sharding
from scoresde.train.batch_iterator import BatchIterator
from scoresde.train.step import init_state, make_step

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
BATCH, BATCHES, REPEATS = 128, 40, 3
PNGS, JPEGS = 4000, 1500
RATIO = 3.0


class Rate(NamedTuple):
    """Images a second, and processor milliseconds an image: the least of several repeats each."""

    images_per_second: float
    cpu_ms: float


def measured(work: Callable[[], object], images: int) -> Rate:
    """The rate of `work`, which handles so many images."""
    walls, cpus = [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Rate(images / min(walls), 1000 * min(cpus) / images)


def stream_rate(dataset: Dataset, batches: int = BATCHES) -> Rate:
    """Of batches of 128, read as training does, once the threads have started."""
    stream = dataset.stream(0, BATCH)
    for _ in range(5):
        next(stream)
    rate = measured(lambda: list(map(len, itertools.islice(stream, batches))), BATCH * batches)
    stream.close()
    return rate


def step_rate(config_name: str, overrides: list[str], steps: int) -> Rate:
    """Of the training step alone, on one batch that is there already."""
    config = load_config(str(CONFIGS / config_name), overrides)
    dataset, score, batch_size = (
        Experiment.from_config(config).dataset(),
        Experiment.from_config(config).score(),
        config.training.batch_size,
    )
    optimizer, mesh = Experiment.from_config(config).optimizer, data_mesh()
    start = lambda p: init_state(p, optimizer, Experiment.from_config(config).averages, jax.random.key(0))  # noqa: E731
    state = jax.jit(start, out_shardings=state_sharding(mesh, jax.eval_shape(start, score.network.params)))(
        score.network.params
    )
    step = make_step(
        score,
        Experiment.from_config(config).objective,
        optimizer,
        prepare=Experiment.from_config(config).prepare(dataset),
        state=state,
        mesh=mesh,
    )
    feed = BatchIterator(dataset, 0, batch_size, mesh)
    batch = feed.put(next(feed.read(0, [1])))
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)

    def work():
        nonlocal state
        for _ in range(steps):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return measured(work, batch_size * steps)


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
        Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC).save(
            folder / "jpeg" / f"{k}.jpg", quality=90
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--npz", required=True)
    found = parser.parse_args()
    arrays = f"npz:{pathlib.Path(found.npz).resolve()}"
    declared = dict(shape=(32, 32, 3), levels=256, centered=True)
    rates = {
        "digits, memory": stream_rate(
            Experiment.from_config(load_config(str(CONFIGS / "digits_vp.py"), [])).dataset(), 2000
        )
    }
    cifar = load(arrays, **declared)
    rates["cifar10, npz, memory"] = stream_rate(cifar, 1000)
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stderr(io.StringIO()):
        folder = pathlib.Path(place)
        write_images(cifar.train.values, folder)
        for name, source in (
            ("folder of PNG 32 x 32", f"folder:{folder}/png"),
            ("zip of PNG 32 x 32", f"zip:{folder}/png.zip"),
            ("folder of JPEG 256 x 256", f"folder:{folder}/jpeg"),
        ):
            for kind, memory, batches in (("memory", 2.0, 1000), ("streamed", 0.0, BATCHES)):
                rates[f"{name}, {kind}"] = stream_rate(
                    load(source, images=ImageOptions(memory=memory), **declared), batches
                )
    consumed = {
        "digits": step_rate("digits_vp.py", [], 20),
        "cifar10": step_rate("cifar10_ddpmpp_vp.py", [f"data.source={arrays}", "training.batch_size=8"], 2),
    }
    of = {name: consumed["digits" if name.startswith("digits") else "cifar10"] for name in rates}
    ratios = {name: rate.images_per_second / of[name].images_per_second for name, rate in rates.items()}
    cpu_ratios = {name: of[name].cpu_ms / rate.cpu_ms for name, rate in rates.items()}
    for name, rate in rates.items():
        print(
            f"{name:36} {rate.images_per_second:12,.0f} images/s {rate.cpu_ms:9.3f} ms {ratios[name]:10,.1f} x "
            f"{cpu_ratios[name]:10,.1f} x"
        )
    print("consumed:", consumed)
    record(
        "data_throughput",
        {
            "batch_size": BATCH,
            "images_per_second": {name: round(rate.images_per_second) for name, rate in rates.items()},
            "cpu_ms_per_image": {name: round(rate.cpu_ms, 4) for name, rate in rates.items()},
            "consumed_images_per_second": {name: round(rate.images_per_second, 2) for name, rate in consumed.items()},
            "consumed_cpu_ms_per_image": {name: round(rate.cpu_ms, 2) for name, rate in consumed.items()},
            "consumed_by": "training steps of configs/digits_vp.py (batch 64) and configs/cifar10_ddpmpp_vp.py (batch "
            "8)",
            "ratios": {name: round(ratio, 1) for name, ratio in ratios.items()},
            "ratios_of_cpu_time": {name: round(ratio, 1) for name, ratio in cpu_ratios.items()},
            "least_ratio": round(min(ratios.values()), 1),
        },
    )
    assert min(ratios.values()) >= RATIO, ratios


if __name__ == "__main__":
    main()
