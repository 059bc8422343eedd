"""Metrics during training, from samples of fixed seeds, and the loss on fixed records with fixed noise.

| `training.watch` | metrics | definition |
|---|---|---|
| `sliced_wasserstein` | `sliced_wasserstein` | distance of the samples to test records (Bonneel et al. 2015), 256 directions |
| `moments` | `mean_error`, `deviation_error` | root mean square over the values of a record of the error of mean and deviation |
| `nearest` | `nearest` | median distance of a sample to its nearest training record, divided by that of a test record |
| `loss` | `train_loss`, `test_loss`, `..._loss@LEVEL` | the objective without dropout, at 8 levels of the reference log-SNR |

An entry module:attribute names a function (samples [n, *shape], test records [m, *shape]) -> number, or {name: number}.
It must be marked by `scoresde.config.constructor`.

The levels are the quantiles (k + 1/2)/8 of the distribution of t, so that their mean is the training loss. The gap
between train and test measures memorisation: records and noise are the same each time, and train and test share the
noise. If `nearest` is far below 1, the samples are copies. With few samples all distances have a lower limit, which is
the distance of the same number of training records. For a network with classes, the classes of the samples follow the
class frequencies of the training records, because the samples are compared with data. If test records lack labels,
there is no `test_loss`.

    WORKDIR/samples/STEP.png      the samples
    WORKDIR/watch/trajectory.png  E[x_0 | x_t] of a few seeds
    WORKDIR/watch/newest.npz      arrays from which the metrics are computed
    WORKDIR/watch/pairs.png       samples and nearest records
"""

import functools
import math
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from scoresde.data import Dataset
from scoresde.data.picture import picture, save_picture
from scoresde.errors import DataError
from scoresde.experiment.experiment import Experiment
from scoresde.experiment.load import TrainedModel
from scoresde.metrics.functions import moments, sliced_wasserstein
from scoresde.metrics.neighbours import nearest
from scoresde.runtime.files import replacing
from scoresde.runtime.sharding import batch_for_devices, local_copy, pad, shard
from scoresde.runtime.streams import fixed_stream
from scoresde.sample import Draw, trajectory
from scoresde.workflows.conditions import by_data, of_records, open_entries, sampled_conditions
from scoresde.workflows.generate import draw, sampler_of

QUANTILES = 8
RECORDS = 256  # records of each split for distances
LOSSES = 128  # records of each split for losses: 2048 calls of the score in all
SEARCHED = 10_000  # training records among which nearest records are searched
_VALUES = 2**26  # limit on the values of these records in total: 256 MiB
PAIRS = 12  # pairs shown, those closest to the training data first
_SEEDS, _STEPS, _SHOWN = 6, 28, 8  # trajectories, their steps, and how many points of them are shown
_POINTS = 256  # seeds where a sample is a point, because six points show nothing
_CELL = 200  # pixels of a picture in a strip of pictures


class Monitor:
    """Evaluation of a score with the same seeds, records and noise each time, which are prepared once.

    Args:
      experiment: experiment of the run.
      dataset: data set of the run.
      folder: run folder.
    """

    def __init__(self, experiment: Experiment, dataset: Dataset, folder: pathlib.Path):
        name = experiment.training.watch_sampler
        self.experiment = experiment.with_sampler(name) if name else experiment
        self.dataset, self.folder, self.names = dataset, pathlib.Path(folder), experiment.training.watch
        self._objective, self._prepare = experiment.objective, experiment.prepare(dataset)

    def __call__(self, trained: TrainedModel, path: pathlib.Path) -> dict[str, float]:
        """Save the picture of the samples at `path` and the files of WORKDIR/watch, and return the metrics.

        If `training.watch` is (), only the picture is saved. Call this on one process only.
        """
        trained = trained._replace(experiment=self.experiment, score=local_copy(trained.score))
        trained = by_data(trained) if open_entries(trained) else trained
        num = self.experiment.sampling.num
        seeds = np.arange(num, dtype=np.uint32)
        sampled = sampled_conditions(trained, seeds)
        drawn = draw(trained, sampler_of(trained), seeds, batch_for_devices(num, num), sampled)
        save_picture(self.dataset, drawn.x, path)
        if not self.names:
            return {}
        place = self.folder / "watch"
        place.mkdir(parents=True, exist_ok=True)
        figures, arrays = self._look(trained, drawn)
        arrays |= self._save_trajectory(trained, place / "trajectory.png")
        values = np.asarray(self.dataset.decode(np.nan_to_num(drawn.x)))
        _write(place / "newest.npz", step=trained.step, seeds=seeds, ok=drawn.ok, samples=values, **arrays)
        return figures

    def _look(self, trained: TrainedModel, drawn: Draw) -> tuple[dict[str, float], dict]:
        good = drawn.x[drawn.ok]
        figures, arrays = {}, {f"floor_{name}": value for name, value in self._floor.items()}
        if "sliced_wasserstein" in self.names:
            figures["sliced_wasserstein"] = _distance(good, self._test)
        if "moments" in self.names:
            figures |= _moment_errors(good, self._test)
        for name, metric in self.experiment.metrics.items():
            value = metric(good, self._test)
            figures |= value if isinstance(value, dict) else {name: float(value)}
        if "nearest" in self.names:
            found, unit = (
                nearest(drawn.x, self._searched),
                float(np.median(self._test_apart)) or 1.0,
            )  # a distance of 0 means that test records are training records
            figures["nearest"] = float(np.median(found.distance[drawn.ok]) / unit) if drawn.ok.any() else math.nan
            arrays |= {
                "nearest_index": found.index,
                "nearest": found.distance / unit,
                "nearest_of_test": self._test_apart / unit,
            }
            arrays |= self._save_pairs(drawn, found)
        if "loss" in self.names:
            levels, losses = self._losses(trained)
            for split, values in losses.items():
                figures[f"{split}_loss"] = float(values.mean())
                figures |= {f"{split}_loss@{level:.2f}": float(value) for level, value in zip(levels, values)}
            arrays |= {"log_snr": levels} | {f"{split}_loss": values for split, values in losses.items()}
        return figures, arrays

    # Fixed quantities

    @functools.cached_property
    def _test(self) -> np.ndarray:
        return self._records(self.dataset.test, RECORDS)

    @functools.cached_property
    def _train(self) -> np.ndarray:
        return self._records(self.dataset.train, RECORDS)

    @functools.cached_property
    def _floor(self) -> dict[str, float]:
        """Compute the metrics of training records, as many as there are samples."""
        few = self._train[: self.experiment.sampling.num]
        floor = {"sliced_wasserstein": _distance(few, self._test)} if "sliced_wasserstein" in self.names else {}
        return floor | (_moment_errors(few, self._test) if "moments" in self.names else {})

    @functools.cached_property
    def _searched(self) -> np.ndarray:
        return self._records(self.dataset.train, SEARCHED)

    @functools.cached_property
    def _test_apart(self) -> np.ndarray:
        """Return the distance of each test record to its nearest training record."""
        return nearest(self._test, self._searched).distance

    def _records(self, source, most: int) -> np.ndarray:
        """Return the model values of the first records."""
        most = min(most, len(source), max(2, _VALUES // math.prod(self.dataset.shape)))
        return np.asarray(self.dataset.encode(source.rows(np.arange(most))[0]), np.float32)

    # Losses

    def _losses(self, trained: TrainedModel) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the levels of log-SNR, and the loss at each level by split; a split that lacks labels is omitted."""
        sde = trained.score.sde
        times = jax.vmap(lambda u: self._objective.time_law.quantile(sde, u))((jnp.arange(QUANTILES) + 0.5) / QUANTILES)
        losses, root = {}, fixed_stream("monitor_loss")  # records of both splits have the same noise
        for split, source in (("train", self.dataset.train), ("test", self.dataset.test)):
            num = min(LOSSES, len(source))
            index = np.arange(num)
            try:
                conditions = of_records(trained, source, index, "records")
            except DataError:
                continue  # each record is evaluated under its condition, and some have none
            size = batch_for_devices(num, num)
            values, conditions = jax.tree.map(lambda part: pad(part, size), (source.rows(index)[0], conditions))
            keys = jax.vmap(lambda n: jax.random.fold_in(root, n))(np.arange(size))
            arrays = shard((values, conditions, keys))
            each = _losses(trained.score, self._objective, self._prepare, times, *arrays)
            losses[split] = np.asarray(each, np.float64)[:, :num].mean(axis=1)
        levels = np.asarray(jax.vmap(sde.reference_log_snr)(times))
        order = np.argsort(levels)
        return levels[order], {split: values[order] for split, values in losses.items()}

    # Pictures

    def _save_trajectory(self, trained: TrainedModel, path: pathlib.Path) -> dict:
        """Save a picture; for curves return the values, which the report plots. With classes, one class is used."""
        score = trained.score
        sde = score.sde
        seeds = _SEEDS if len(trained.shape) > 1 else _POINTS
        keys = jax.random.split(fixed_stream("monitor_trajectory"), batch_for_devices(seeds, seeds))
        x_T = jax.vmap(lambda key: sde.sample_prior(trained.shape, key=key))(shard(keys))
        one = sampled_conditions(trained, np.zeros(1, np.uint32))
        score = score.given({name: rows[0] for name, rows in one.items()})
        found = trajectory(score, x_T, _STEPS)
        shown = np.linspace(0, _STEPS, _SHOWN).round().astype(int)
        x0 = found.x0[shown, :seeds]  # [shown, seeds, ...]
        x0 = np.asarray(jax.vmap(sde.basis.from_modes)(x0.reshape(-1, *x0.shape[2:]))).reshape(x0.shape)
        levels = np.asarray(jax.vmap(sde.reference_log_snr)(found.t[shown]))
        if len(trained.shape) == 2 and trained.shape[-1] != 2:
            return {"trajectory": x0, "trajectory_log_snr": levels}
        if image := _strip(self.dataset, x0):
            with replacing(path) as scratch:
                image.save(scratch)
        return {"trajectory_log_snr": levels}

    def _save_pairs(self, drawn: Draw, found) -> dict:
        """Save the samples closest to the training data and the corresponding records, and return the arrays."""
        order = np.argsort(np.where(drawn.ok, found.distance, np.inf))[: min(PAIRS, int(drawn.ok.sum()))]
        pairs = np.stack([drawn.x[order], self._searched[found.index[order]]])  # [2, pairs, ...]
        if len(order) and len(self.dataset.shape) == 3:
            width = self.dataset.shape[-1] if self.dataset.shape[-1] not in (1, 3) else 1
            image = picture(self.dataset, pairs.reshape(-1, *pairs.shape[2:]), len(order) * width)
            with replacing(self.folder / "watch" / "pairs.png") as scratch:
                image.save(scratch)
        return {"pairs": np.asarray(self.dataset.decode(pairs)), "pairs_order": order}


@eqx.filter_jit
def _losses(score, objective, prepare, times, values, conditions, keys):
    """Compute the losses [levels, records] as in training, but without dropout."""

    def one(value, condition, key, k, t):
        data_key, noise_key = jax.random.split(key)
        x0, condition = prepare(value, condition, key=data_key)
        return objective.at(score.given(condition), x0, t, key=jax.random.fold_in(noise_key, k))

    def level(row):
        return jax.vmap(one, in_axes=(0, 0, 0, None, None))(values, conditions, keys, *row)

    return jax.lax.map(level, (jnp.arange(len(times)), times))


def _functions(x: np.ndarray) -> np.ndarray:
    """Reshape vectors to curves of one channel, as the metrics of functions require."""
    return x[..., None] if x.ndim == 2 else x


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    return sliced_wasserstein(_functions(x), _functions(y)) if len(x) > 1 else math.nan


def _moment_errors(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    if min(len(x), len(y)) < 2:
        return {"mean_error": math.nan, "deviation_error": math.nan}
    (a, b), rms = (moments(_functions(z)) for z in (x, y)), lambda z: float(np.sqrt(np.mean(z**2)))
    return {"mean_error": rms(a.mean - b.mean), "deviation_error": rms(np.sqrt(a.variance) - np.sqrt(b.variance))}


def _strip(dataset: Dataset, x: np.ndarray) -> Image.Image | None:
    """Return the picture of [times, seeds, ...] with a row per seed if each seed has a cell, otherwise with a picture
    per time."""
    if len(dataset.shape) == 3 and dataset.shape[-1] in (1, 3) or len(dataset.shape) == 2 and dataset.shape[-1] == 2:
        return picture(dataset, np.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), len(x))
    parts = [picture(dataset, each) for each in x]
    if parts[0] is None:
        return None
    size = (_CELL, round(_CELL * parts[0].height / parts[0].width))
    sheet = Image.new("RGB", (len(parts) * _CELL, size[1]), "white")
    for k, part in enumerate(parts):
        sheet.paste(part.convert("RGB").resize(size, Image.Resampling.LANCZOS), (k * _CELL, 0))
    return sheet


def _write(path: pathlib.Path, **arrays) -> None:
    with replacing(path) as scratch:
        np.savez_compressed(scratch, **arrays)
