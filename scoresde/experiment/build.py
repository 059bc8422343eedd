"""Construction of the objects that a configuration names."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from scoresde import data, likelihood, nets, sample, score, sde, train
from scoresde.errors import DataError
from scoresde.experiment.processes import build_sde, data_covariance, give_prior_data
from scoresde.runtime.places import local
from scoresde.runtime.streams import stream

# Factor of the learning rate from `optim.decay_steps` on, so that a prolonged run continues to learn.
_LAST_RATE = 0.01
# Fields of `model` that are arguments of the U-Net by the same name.
UNET_FIELDS = (
    "skip_rescale", "head_channels", "decoder_attention", "modulation", "resampling", "resample_filter",
    "resample_skip",
    "progressive_input", "progressive", "combine", "center_input", "input_fourier", "norm_epsilon",
)  # fmt: skip
# Number of records from which a prior of degraded data samples.
NUM_PRIOR_RECORDS = 4096


def flatten(config: ConfigDict | dict) -> dict:
    """{"section.field": value}."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, (ConfigDict, dict)):
            flat.update({f"{name}.{field}": inner for field, inner in flatten(value).items()})
        else:
            flat[name] = value
    return flat


def image_shape(config: ConfigDict) -> tuple[int, ...]:
    """[H, W, C] of an image or field, [D, H, W, C] of a volume, [points, C] of a curve, [D] of a vector."""
    size = config.data.image_size
    grid = size if isinstance(size, tuple) else (size, size) if size else ()
    return (*grid, config.data.channels)


def build_dataset(config: ConfigDict) -> data.Dataset:
    c = config.data
    return data.load(
        c.source,
        shape=image_shape(config),
        levels=c.levels,
        centered=c.centered,
        keys=tuple(c.arrays),
        data_dir=c.data_dir or None,
        images=data.ImageOptions(c.labels and local(c.labels), c.max_bad, c.max_pixels, c.memory),
    )


def build_preconditioning(config: ConfigDict) -> score.AbstractPreconditioning:
    preconditionings = {
        "edm": lambda: score.EDMPreconditioning(
            config.model.sigma_data, data_covariance(config, image_shape(config)[:-1])
        ),
        "eps": score.EpsPreconditioning,
        "score": score.ScorePreconditioning,
        "v": score.VPreconditioning,
    }
    return preconditionings[config.model.preconditioning]()


def build_network(config: ConfigDict) -> nets.Network:
    """Return the network with newly initialised parameters."""
    c, shape = config.model, image_shape(config)
    common = dict(
        dropout=c.dropout,
        embedding=c.embedding,
        fourier_scale=c.fourier_scale,
        num_classes=c.num_classes,
        dtype=jnp.dtype(c.dtype),
    )
    networks = {
        "unet": functools.partial(
            nets.UNet,
            shape,
            channels=c.channels,
            multipliers=tuple(c.multipliers),
            blocks=c.blocks,
            attention=tuple(c.attention),
            **{name: c[name] for name in UNET_FIELDS},
            augmentation=train.LABELS if config.data.augment else 0,
            **common,
        ),
        "edm2": functools.partial(
            nets.EDM2UNet,
            shape,
            **{name: c[name] for name in ("channels", "blocks", "head_channels", "dropout", "num_classes")},
            multipliers=tuple(c.multipliers),
            attention=tuple(c.attention),
            dtype=common["dtype"],
        ),
        "dit": functools.partial(
            nets.DiT,
            shape,
            patch=c.patch,
            width=c.width,
            depth=c.depth,
            head_channels=c.head_channels,
            positions=c.positions,
            **common,
        ),
        "fno": functools.partial(
            nets.FNO, shape, width=c.width, depth=c.depth, modes=c.modes, boundary=c.boundary, **common
        ),
        "ufno": functools.partial(
            nets.UFNO,
            shape,
            width=c.width,
            multipliers=tuple(c.multipliers),
            blocks=c.blocks,
            modes=c.modes,
            boundary=c.boundary,
            **common,
        ),
        "mlp": functools.partial(nets.MLP, shape, width=c.width, depth=c.depth, **common),
    }
    build = networks[c.name]
    return nets.Network.init(lambda rngs: build(rngs=rngs), key=stream(config.seed, "init"))


def abstract_network(config: ConfigDict) -> nets.Network:
    """Return the network with only the shapes of its parameters, without computing anything."""
    return jax.eval_shape(lambda: build_network(config))


def build_score(config: ConfigDict, network: nets.Network | None = None) -> score.NetworkScore:
    """Return the score of `network`, by default a newly initialised one."""
    network = build_network(config) if network is None else network
    # -1 is the null class; training puts each example's label in its place.
    label = jnp.asarray(-1) if config.model.num_classes else None
    return score.NetworkScore(
        build_sde(config, image_shape(config)[:-1]), network, build_preconditioning(config), label
    )


def with_prior_data(
    model: score.NetworkScore, config: ConfigDict, read: Callable[[], data.Dataset]
) -> score.NetworkScore:
    """Give the first training records to a score whose process has degraded data as its prior; return any other score
    unchanged.

    Args:
        read: returns the data set; it is not called where no record is needed.

    Raises:
        DataError: records are needed and missing.
    """

    def starts():
        try:
            dataset = read()
            return dataset.encode(dataset.train.rows(np.arange(min(NUM_PRIOR_RECORDS, len(dataset.train))))[0])
        except DataError as error:
            raise DataError(f"sde.name = '{config.sde.name}' starts from training records: {error}") from error

    process = give_prior_data(model.sde, config, starts)
    return dataclasses.replace(model, sde=process)


def build_objective(config: ConfigDict) -> train.Objective:
    c = config.training
    weightings = {
        "sigma2": train.SigmaSquared,
        "likelihood": train.LikelihoodWeighting,
        "edm": lambda: train.EDMWeighting(
            score.DataSpectrum(config.model.sigma_data, data_covariance(config, image_shape(config)[:-1]))
        ),
        "noise_field": train.NoiseField,
    }
    laws = {
        "uniform": train.UniformTime,
        "low_discrepancy": train.StratifiedTime,
        "log_snr": train.UniformLogSNR,
        "log_sigma": train.UniformLogSigma,
        "log_normal": lambda: train.LogNormalSigma(c.log_normal_mean, c.log_normal_std),
    }
    reduce = jnp.mean if c.reduce_mean else train.half_sum
    return train.Objective(weightings[c.weighting](), laws[c.time_law](), reduce)


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """Return the learning rate after a number of updates: linear warm-up, then constant or a cosine to a hundredth."""
    c = config.optim
    if c.decay_steps:
        return optax.warmup_cosine_decay_schedule(
            0.0, c.learning_rate, c.warmup, c.decay_steps, end_value=_LAST_RATE * c.learning_rate
        )
    # Without warm-up, optax stays at the initial value for ever.
    return optax.warmup_constant_schedule(0.0 if c.warmup else c.learning_rate, c.learning_rate, c.warmup)


def beyond_decay(config: ConfigDict) -> str:
    """Return a note for a run with steps after the end of its cosine, "" for any other."""
    steps, end = config.training.steps, config.optim.decay_steps
    if not 0 < end < steps:
        return ""
    return (
        f"training.steps = {steps} goes beyond optim.decay_steps = {end}: steps {end + 1} to {steps} have the learning "
        "rate "
        f"{_LAST_RATE * config.optim.learning_rate:g}, a hundredth of optim.learning_rate; to spread the decay over "
        "all steps set "
        f"optim.decay_steps = {steps}"
    )


def build_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Return Adam or AdamW after clipping by the global norm, at `learning_rate`."""
    c, schedule = config.optim, learning_rate(config)
    moments = dict(b1=c.beta1, b2=c.beta2, eps=c.eps)
    optimizers = {
        "adam": lambda: optax.adam(schedule, **moments),
        "adamw": lambda: optax.adamw(schedule, **moments, weight_decay=c.weight_decay, mask=_is_weight),
    }
    clip = optax.clip_by_global_norm(c.grad_clip) if c.grad_clip else optax.identity()
    forced = optax.stateless(_onto_unit_kernels) if config.model.name == "edm2" else None
    return optax.chain(clip, optimizers[c.optimizer](), *filter(None, [forced]))


def _onto_unit_kernels(updates, params):
    """Forced weight normalization (Karras et al. 2024, section 2.3): the step ends where every kernel has rms 1 per
    output."""
    moved = nets.unit_kernels(optax.apply_updates(params, updates))
    return jax.tree.map(jnp.subtract, moved, params)


def _is_weight(params):
    """Weight decay is for matrices and kernels: biases, norms and fixed frequencies have one axis."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def build_parallelism(config: ConfigDict) -> train.Parallelism:
    """Return the division of the work over devices, micro-batches and dispatches."""
    return train.Parallelism(
        **{field.name: config.training[field.name] for field in dataclasses.fields(train.Parallelism)}
    )


def build_averages(config: ConfigDict) -> tuple[str, ...]:
    """Return the names of the averages of the parameters; the first one is the default."""
    return (*map(train.average_name, config.training.ema), *map(train.power_name, config.training.power_ema))


def build_prepare(config: ConfigDict, dataset: data.Dataset) -> Callable:
    """Return (value, key=key) -> x0: one record in the coordinates of the process, with the augmentation of
    training."""
    basis = build_sde(config, image_shape(config)[:-1]).basis

    def prepare(value, *, key):
        level_key, flip_key = jax.random.split(key)
        u = jax.random.uniform(level_key, value.shape) if config.data.uniform_dequantization else 0.5
        x0 = dataset.encode(value, u)
        if config.data.random_flip:
            x0 = jnp.where(jax.random.bernoulli(flip_key), jnp.flip(x0, axis=1), x0)
        return basis.to_modes(x0)

    return prepare


def build_augment(config: ConfigDict) -> Callable | None:
    """Return (x0, key=key) -> (x0, label): the augmentation whose label is passed to the network, in the coordinates of
    the process."""
    if not config.data.augment:
        return None
    basis = build_sde(config, image_shape(config)[:-1]).basis

    def augment(x0, *, key):
        image, label = train.augment(basis.from_modes(x0), config.data.augment, key=key)
        return basis.to_modes(image), label

    return augment


def build_trace(config: ConfigDict) -> likelihood.AbstractTrace:
    c = config.likelihood
    estimators = {
        "rademacher": likelihood.Rademacher,
        "gaussian": likelihood.GaussianProbes,
        "hutchpp": likelihood.HutchPlusPlus,
    }
    return estimators[c.estimator](c.probes) if c.probes else likelihood.ExactTrace()


def build_chain(config: ConfigDict, process: sde.AbstractSDE) -> likelihood.Discretization:
    """Return the times of the discrete-time bound, with equal steps in log-SNR and a fixed variance."""
    variances = {"beta": likelihood.BetaVariance, "beta_tilde": likelihood.BetaTildeVariance}
    times = sample.uniform_log_snr(process, config.likelihood.vlb_steps)[::-1]
    return likelihood.Discretization(process, times, variances[config.likelihood.vlb_variance]())
