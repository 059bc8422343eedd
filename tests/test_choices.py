"""Every name that a configuration may hold, with every kind of record: it builds, or the configuration refuses it in
one line."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from commands import ROOT

from scoresde.errors import ConfigError
from scoresde.experiment import build, samplers
from scoresde.experiment.config import default, load_config, override
from scoresde.experiment.processes import PROCESSES
from scoresde.experiment.ranges import BEST, CHOICES
from scoresde.sample import denoised_draw

SMALL = [
    "model.channels=32", "model.multipliers=(1,2)", "model.blocks=1", "model.attention=(4,)", "model.head_channels=8",
    "model.width=16", "model.depth=1", "model.modes=2", "data.levels=0", "sampling.steps=2", "likelihood.vlb_steps=3",
    "sde.index=2.5",  # above half the dimensions of a volume, so that coloured noise has a trace
]  # fmt: skip
# Size and channels of a kind of record, and a network for it.
RECORDS = {
    "vectors": ("0", 2, "mlp"),
    "curves": ("(8,)", 2, "fno"),
    "images": ("8", 3, "unet"),
    "volumes": ("(4,4,8)", 1, "fno"),
}
# What must be set beside a field for it to be read.
BESIDE = {
    "sde.basis": ["sde.name=coloured_vp"],
    "sde.kernel": ["sde.name=coloured_vp", "sde.basis=kernel"],
    "model.boundary": ["model.name=ufno"],
    "model.positions": ["model.name=dit"],
    "sampling.grid": ["sampling.sampler=ddim"],
    "sampling.ode_solver": ["sampling.sampler=probability_flow"],
    "sampling.predictor": ["sampling.sampler=predictor_corrector"],
    "sampling.corrector": ["sampling.sampler=predictor_corrector"],
    "sampling.norm": ["sampling.sampler=predictor_corrector"],
    "sampling.variant": ["sampling.sampler=unipc"],
    "sampling.variable": ["sampling.sampler=deis"],
    "sampling.labels": ["model.num_classes=3"],
    "likelihood.estimator": ["likelihood.probes=6"],
    "likelihood.vlb_variance": ["likelihood.method=vlb"],
    "likelihood.dequantization": ["data.levels=4"],
}
# What has no meaning for a kind of record, and a word of the line that says so. Everything else must build.
NO_GRID = {"vectors": "expected a grid"}
NO_FUNCTIONS = {"vectors": "expected curves or fields"}
NO_IMAGES = {"vectors": "expected images", "curves": "expected images", "volumes": "expected images"}
NO_CURVES = {"vectors": "expected a grid", "images": "expected curves", "volumes": "expected curves"}
REFUSED = {
    **{("sde.name", name): NO_GRID for name, entry in PROCESSES.items() if entry.spectral and name != "fade"},
    **{("sde.basis", name): NO_GRID for name in CHOICES["sde.basis"]},
    ("sde.basis", "kernel"): NO_CURVES,
    **{("sde.kernel", name): NO_CURVES for name in CHOICES["sde.kernel"]},
    **{("model.name", name): NO_FUNCTIONS for name in ("fno", "ufno")},
    **{("model.name", name): NO_IMAGES for name in ("unet", "edm2", "dit")},
    **{("model.boundary", name): NO_FUNCTIONS for name in CHOICES["model.boundary"]},
    **{("model.positions", name): NO_IMAGES for name in CHOICES["model.positions"]},
}


def configured(record: str, field: str, choice: str):
    """The configuration of one choice, beside what makes it matter."""
    size, channels, network = RECORDS[record]
    beside = list(BESIDE.get(field, []))
    if field == "sampling.sampler" and not samplers.SAMPLERS[choice].steps:
        beside.append("sampling.steps=0")  # they choose them
    if (field, choice) == ("likelihood.dequantization", "none"):
        beside.append("likelihood.method=elbo")  # the flow has no decoder
    if field == "training.keep_best" and choice:
        beside.append(f"training.watch={next(watched for watched, figures in BEST.items() if choice in figures)}")
    config = default()
    about = [
        f"data.image_size={size}",
        f"data.channels={channels}",
        f"model.name={network if field.startswith('model.') else 'mlp'}",
    ]
    override(config, [*SMALL, *about, *beside, f"{field}={choice}"])
    return config


def build_training(config) -> None:
    """The loss traced, with its gradient where that differs, the optimizer's state, and the averages. Nothing is
    computed."""
    model, shape = build.build_score(config, build.abstract_network(config)), build.image_shape(config)
    network = dataclasses.replace(model.network, remat=config.training.remat)
    process = model.sde.started_from(jnp.zeros((1, *shape))) if PROCESSES[config.sde.name].starts else model.sde
    objective = build.build_objective(config)

    def loss(params, x, key):
        score = dataclasses.replace(model, network=dataclasses.replace(network, params=params), key=key)
        return objective(dataclasses.replace(score, sde=process), x, batch_key=key, key=key, rank=jnp.float32(0.5))

    x, key = jax.ShapeDtypeStruct(shape, jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
    assert jax.eval_shape(loss if network.remat == "none" else _with_gradient(loss), network.params, x, key).shape == ()
    jax.eval_shape(build.build_optimizer(config).init, network.params)
    build.build_parallelism(config), build.build_averages(config)


def _with_gradient(loss):
    return lambda *arguments: jax.value_and_grad(loss)(*arguments)[0]


def build_drawing(config) -> None:
    """A draw traced."""
    model, shape = build.build_score(config, build.abstract_network(config)), build.image_shape(config)
    sampler = samplers.build_sampler(config)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    drawn = jax.eval_shape(lambda score, keys: denoised_draw(sampler, score, shape, keys=keys), model, keys)
    assert drawn.x.shape == (2, *shape) and drawn.ok.shape == (2,)


def build_likelihood(config) -> None:
    trace, model = build.build_trace(config), build.build_score(config, build.abstract_network(config))
    assert trace is not None
    if config.likelihood.method == "vlb":
        assert len(build.build_chain(config, model.sde).times) == config.likelihood.vlb_steps + 1


BUILD = {"sampling": build_drawing, "likelihood": build_likelihood}
# These are looked at when the configuration is read, and their objects need a run.
READ_ALONE = ("training.watch", "training.watch_sampler", "training.keep_best", "training.trackers")
# A process and a network know the shape of a record, the others hardly do: one kind of record for those in the fast
# suite.
KNOW_SHAPES = ("sde", "model")
CASES = [
    pytest.param(field, choice, record,
    marks=[] if record == "vectors" or field.split(".")[0] in KNOW_SHAPES else pytest.mark.slow)
    for field, choices in CHOICES.items() for choice in choices for record in RECORDS
]  # fmt: skip


@pytest.mark.parametrize("field, choice, record", CASES, ids=lambda text: text or "own")
def test_every_choice_builds_or_is_refused_when_it_is_read(field, choice, record):
    reason = REFUSED.get((field, choice), {}).get(record)
    if reason:
        with pytest.raises(ConfigError, match=reason):
            configured(record, field, choice)
        return
    config = configured(record, field, choice)
    if field not in READ_ALONE:
        BUILD.get(field.split(".")[0], build_training)(config)


def test_an_operator_takes_the_levels_of_the_configuration():
    """Levels and blocks of `ufno` are those of `model.multipliers` and `model.blocks`, as in a U-Net."""
    config = load_config(
        str(ROOT / "configs" / "quadratic_heat.py"), ["model.name=ufno", "model.multipliers=(1,2,2)", "model.blocks=2"]
    )
    params = build.abstract_network(config).params
    assert (len(params["encoder"]), len(params["decoder"]), len(params["encoder"][0])) == (3, 2, 2)


@pytest.mark.parametrize(
    "texts, line",
    [
        (
            ["model.name=ufno", "model.multipliers=(1,1,1,1)"],
            "model.multipliers = .*at least 16 points per axis for 4 levels",
        ),
        (["model.name=fno", "model.boundary=periodic", "model.modes=5"], "model.modes = 5: expected 1 to 4 modes"),
        (["model.name=fno", "model.modes=9"], "model.modes = 9: expected 1 to 8 modes"),
    ],
)
def test_what_the_grid_does_not_hold_is_refused_when_it_is_read(texts, line):
    config = default()
    with pytest.raises(ConfigError, match=line):
        override(config, [*SMALL, "data.image_size=(8,)", "data.channels=1", *texts])
