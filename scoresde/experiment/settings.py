"""Fields of a configuration that are not arguments of a component: their defaults, meanings and limits."""

import dataclasses
from typing import Any

from scoresde.experiment.limits import INT64, Limits, Settings
from scoresde.nets import REMAT
from scoresde.train.average import check_averages

# Metrics of `scoresde.workflows.monitor`.
WATCHES = ("sliced_wasserstein", "moments", "nearest", "loss")
# Metrics that may select a checkpoint, by the entry of `training.watch` that computes them: lower must be better.
BEST = {
    "sliced_wasserstein": ("sliced_wasserstein",),
    "moments": ("mean_error", "deviation_error"),
    "loss": ("test_loss",),
}


@dataclasses.dataclass(frozen=True)
class Data(Settings):
    """Settings of the records and their range.

    Attributes:
      source: digits, folder:PATH, zip:PATH, array_record:PATH, hf:NAME, npz:PATH, tfds:NAME, gaussian_mixture,
        two_moons, checkerboard, functions:PATH, gaussian_process, gp_mixture, quadratic, none (converted networks); or
        a component.
      codec: map between the records of a source that is a component and the model's variable: a name or a component.
      image_size: height and width, or (height, width); (points,) for curves; (depth, height, width) for volumes; 0:
        vectors of `channels` components.
      channels: number of channels of a record.
      levels: number of grey levels; 0: continuous values.
      centered: model range [-1, 1]; False: [0, 1].
      uniform_dequantization: train on v + u, u ~ U[0, 1), rather than on the centres of the bins.
      random_flip: mirror images left-right with probability 1/2.
      augment: augmentation whose label is passed to the network: a component, or the probability of EDM's, which
        includes horizontal flips; 0: none.
      arrays: npz: names of the arrays (train, labels, test, labels), () means x_train, y_train, x_test, y_test;
        functions: name of one array.
      data_dir: tfds: folder of the prepared sets; "" means TFDS_DATA_DIR.
      labels: folder, zip, array_record, hf: file of labels; "" uses the labels found, "none" uses no labels.
      max_bad: folder, zip, array_record, hf: number of damaged images that may be left out; -1: 0.1 % of the images, at
        least 10 and at most 100.
      max_pixels: folder, zip, array_record, hf: an image with more pixels is refused.
      memory: folder, zip, array_record, hf, tfds: GiB of decoded images kept in memory; a larger set is decoded as it
        is read.
    """

    source: Any = "digits"
    codec: Any = "standard"
    image_size: int | tuple[int, ...] = 32
    channels: int = 3
    levels: int = 256
    centered: bool = True
    uniform_dequantization: bool = False
    random_flip: bool = False
    augment: Any = 0.0
    arrays: tuple[str, ...] = ()
    data_dir: str = ""
    labels: str = ""
    max_bad: int = -1
    max_pixels: int = 80_000_000
    memory: float = 2.0

    section = "data"
    limits = {
        "image_size": Limits(0), "channels": Limits(1), "levels": Limits(0),
        "max_bad": Limits(-1, below=INT64), "max_pixels": Limits(1, below=INT64), "memory": Limits(0),
    }  # fmt: skip

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a record: [H, W, C] of an image or field, [D, H, W, C] of a volume, [points, C] of a
        curve, [D] of a vector."""
        size = self.image_size
        grid = size if isinstance(size, tuple) else (size, size) if size else ()
        return (*grid, self.channels)

    def together(self):
        found, size = [], f"data.image_size = {self.image_size}"
        if isinstance(self.image_size, tuple) and (0 in self.image_size or not 1 <= len(self.image_size) <= 3):
            found.append(f"{size}: expected one to three sizes above 0, or 0 for vectors")
        if self.random_flip and len(self.shape) != 3:
            found.append(f"data.random_flip = True: expected images, but {size}")
        if self.augment and len(self.shape) != 3:
            found.append(f"data.augment = {self.augment}: expected images, but {size}")
        if self.augment and self.random_flip:
            found.append(
                f"data.random_flip = True: expected False with data.augment = {self.augment}, which flips and says so "
                "to the network"
            )
        if self.levels == 1:
            found.append("data.levels = 1: expected at least 2 grey levels, or 0 for continuous values")
        if self.uniform_dequantization and not self.levels:
            found.append("data.uniform_dequantization = True: expected integer data, but data.levels = 0")
        return found


_INTERVALS = ("log_every", "checkpoint_every", "sample_every", "snapshot_every")


@dataclasses.dataclass(frozen=True)
class Training(Settings):
    """Settings of the training of the network.

    Attributes:
      steps: number of optimizer steps.
      batch_size: total over all devices.
      accumulation: number of micro-batches per step.
      remat: values that the backward pass recomputes instead of storing: none; products (all but convolutions and
        matrix products); block (whole blocks).
      fsdp: number of devices over which parameters, optimizer and averages are split; 1: a copy on each, 0: all
        devices.
      steps_per_dispatch: training steps per dispatch, for networks so small that the host is slower than a step.
      weighting: weighting of the loss: a name or a component.
      time_law: distribution of t: a name or a component.
      objective: objective that combines the weighting and the distribution of t: a name or a component.
      condition_dropout: probability with which the condition of an example is replaced by its learned null, all entries
        together; or {name: probability} for single entries.
      reduce_mean: mean over dimensions; False: half the sum.
      ema: averages of the parameters: a value below 1 is a decay per step, above 1 a half-life in images; pictures and
        commands use the first one.
      power_ema: relative widths, such as (0.05, 0.1): averages by power functions, from which python -m
        scoresde.average makes any other.
      log_every: steps between two lines of the log.
      checkpoint_every: steps between two checkpoints.
      snapshot_every: steps between two snapshots of the averages of power_ema, all of which are kept.
      sample_every: steps between two pictures, with the metrics of `watch`, and the report.
      watch: metrics of the samples in the pictures and of fixed records: sliced_wasserstein, moments, nearest, loss,
        module:attribute, or components; () for none.
      watch_sampler: sampler for these samples, with its default steps and grid; "": as in sampling.
      keep_best: sliced_wasserstein, mean_error, deviation_error, test_loss, or the name of a metric of `watch`: keep
        the checkpoint where this metric is lowest.
      trackers: services that also receive the metrics: wandb, mlflow, trackio, module:attribute, or components.
    """

    steps: int = 1_300_000
    batch_size: int = 128
    accumulation: int = 1
    remat: str = "none"
    fsdp: int = 1
    steps_per_dispatch: int = 1
    weighting: Any = "sigma2"
    time_law: Any = "low_discrepancy"
    objective: Any = "denoising"
    condition_dropout: float | dict = 0.0
    reduce_mean: bool = True
    ema: tuple[float, ...] = (0.9999,)
    power_ema: tuple[float, ...] = ()
    log_every: int = 50
    checkpoint_every: int = 10_000
    snapshot_every: int = 50_000
    sample_every: int = 50_000
    watch: tuple[str | dict, ...] = ("sliced_wasserstein", "moments", "nearest", "loss")
    watch_sampler: str = ""
    keep_best: str = ""
    trackers: tuple[str | dict, ...] = ()

    section = "training"
    limits = {
        "steps": Limits(1), "batch_size": Limits(1), "accumulation": Limits(1), "remat": Limits(words=tuple(REMAT)),
        "fsdp": Limits(0), "steps_per_dispatch": Limits(1), "ema": Limits(0),
        "log_every": Limits(1), "checkpoint_every": Limits(1), "snapshot_every": Limits(1), "sample_every": Limits(1),
    }  # fmt: skip

    def together(self):
        batch, parts, found = self.batch_size, self.accumulation, []
        if batch % parts:
            found.append(
                f"training.batch_size = {batch}: expected a multiple of training.accumulation = {parts}; "
                f"nearest: {_nearest(batch, parts)}"
            )
        each = self.steps_per_dispatch  # the state is visible to the host only between dispatches
        for name in _INTERVALS:
            value = getattr(self, name)
            if value % each and (name != "snapshot_every" or self.power_ema):  # otherwise there are no snapshots
                found.append(
                    f"training.{name} = {value}: expected a multiple of training.steps_per_dispatch = {each}; nearest: "
                    f"{_nearest(value, each)}"
                )
        found += [f"training.{text}" for text in check_averages(self.ema, self.power_ema, batch)]
        if self.keep_best:
            found += self._keep_best()
        return found

    def _keep_best(self) -> list[str]:
        own = tuple(short_name(entry) for entry in self.watch if entry not in WATCHES)
        needed = next((name for name, figures in BEST.items() if self.keep_best in figures), None)
        if self.keep_best in own or needed in self.watch:
            return []
        if needed is None:
            words = (*(figure for figures in BEST.values() for figure in figures), *own)
            return [Limits(words=words).problem("training.keep_best", self.keep_best)]
        return [f"training.keep_best = '{self.keep_best}': expected '{needed}' in training.watch, got {self.watch}"]


def short_name(entry: str | dict) -> str:
    """Return the name by which a metric or a tracker appears: the last part of its attribute."""
    return (entry if isinstance(entry, str) else entry["name"]).rpartition(":")[2]


def _nearest(value: int, unit: int) -> str:
    below = value // unit * unit
    return f"{below} or {below + unit}" if below else f"{unit}"


@dataclasses.dataclass(frozen=True)
class Optim(Settings):
    """Settings of the optimization other than those of the optimizer.

    Attributes:
      learning_rate: learning rate after the warm-up.
      warmup: steps of linear warm-up.
      decay_steps: 0: constant after the warm-up; otherwise a cosine decay to a hundredth at this step.
      schedule: learning rate as a function of the step: a name, or a component such as "optax:exponential_decay".
      grad_clip: maximum global norm of the gradient; 0: no clipping.
    """

    learning_rate: float = 2e-4
    warmup: int = 5000
    decay_steps: int = 0
    schedule: Any = "warmup_cosine"
    grad_clip: float = 1.0

    section = "optim"
    limits = {
        "learning_rate": Limits(above=0), "warmup": Limits(0), "decay_steps": Limits(0), "grad_clip": Limits(0),
    }  # fmt: skip
