"""Every name that a configuration may hold, with every kind of record: it builds, or the experiment refuses it in one
line."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from commands import ROOT

from scoresde.errors import ConfigError
from scoresde.experiment import Experiment, kinds
from scoresde.experiment.component import arguments, resolve
from scoresde.experiment.config import default, load_config, override
from scoresde.nets import POSITIONS, REMAT, UNET_CHOICES
from scoresde.sample import denoised_draw
from scoresde.sde import KERNELS

SMALL = {
    "unet": ["channels=32", "multipliers=(1,2)", "blocks=1", "attention=(4,)"],
    "edm2": ["channels=32", "multipliers=(1,2)", "blocks=1", "attention=(4,)", "head_channels=8"],
    "dit": ["width=24", "depth=1", "head_channels=12"],
    "fno": ["width=16", "depth=1", "modes=2"],
    "ufno": ["width=16", "multipliers=(1,2)", "modes=2"],
    "mlp": ["width=16", "depth=1"],
}
# Size and channels of a kind of record, and a network for it.
RECORDS = {
    "vectors": ("0", 2, "mlp"),
    "curves": ("(8,)", 2, "fno"),
    "images": ("8", 3, "unet"),
    "volumes": ("(4,4,8)", 1, "fno"),
}
CHOICES = {
    "sde.name": kinds.PROCESS.names,
    "sde.basis": kinds.BASIS.names,
    "sde.kernel": KERNELS,
    "model.name": kinds.NETWORK.names,
    "model.boundary": ("even", "periodic"),
    "model.embedding": ("positional", "sinusoidal", "fourier"),
    **{f"model.{name}": words for name, words in UNET_CHOICES.items()},
    "model.positions": POSITIONS,
    "model.dtype": ("float32", "bfloat16"),
    "preconditioning.name": kinds.PRECONDITIONING.names,
    "training.weighting": kinds.WEIGHTING.names,
    "training.time_law": kinds.TIME_LAW.names,
    "training.remat": REMAT,
    "training.watch_sampler": ("", *kinds.SAMPLER.names),
    "optim.name": kinds.OPTIMIZER.names,
    "sampling.name": kinds.SAMPLER.names,
    "sampling.grid": kinds.GRID.names,
    "sampling.solver": kinds.SOLVER.names,
    "sampling.predictor": kinds.PREDICTOR.names,
    "sampling.corrector": kinds.CORRECTOR.names,
    "sampling.variant": ("bh1", "bh2"),
    "sampling.variable": ("log_rho", "rho", "t"),
    "likelihood.method": ("flow", "elbo", "vlb"),
    "likelihood.estimator": kinds.TRACE.names,
    "likelihood.dequantization": kinds.DEQUANTIZATION.names,
    "likelihood.vlb_variance": ("beta", "beta_tilde"),
}
# What must be set beside a field for it to be read.
BESIDE = {
    "sde.basis": ["sde.name=coloured_vp", "sde.index=2.5"],
    "sde.kernel": ["sde.name=coloured_vp", "sde.basis=kernel"],
    "sampling.grid": ["sampling.name=ddim"],
    "sampling.predictor": ["sampling.name=predictor_corrector"],
    "sampling.corrector": ["sampling.name=predictor_corrector"],
    "sampling.variant": ["sampling.name=unipc"],
    "sampling.variable": ["sampling.name=deis"],
    "likelihood.estimator": ["likelihood.probes=6"],
    "likelihood.vlb_variance": ["likelihood.method=vlb", "likelihood.vlb_steps=3"],
    "likelihood.dequantization": ["data.levels=4"],
}
NETWORK_OF = {"model.boundary": "ufno", "model.positions": "dit", **{f"model.{name}": "unet" for name in UNET_CHOICES}}
# What has no meaning for a kind of record, and a word of the line that says so. Everything else must build.
NO_GRID = {"vectors": "expected a grid"}
NO_FUNCTIONS = {"vectors": r"expected a shape \(\*points per axis"}
NO_SPACE = {"vectors": "expected curves .*, images .* or volumes .*, got vectors"}
NO_IMAGES = {"vectors": "expected images", "curves": "expected images", "volumes": "expected images"}
NO_CURVES = {"vectors": "expected a grid", "images": "expected curves", "volumes": "expected curves"}
IN_MODES = ("coloured_vp", "coloured_ve", "coloured_cosine", "heat", "blur", "inverse_heat", "pixelate", "fade")
REFUSED = {
    **{("sde.name", name): NO_GRID for name in IN_MODES},
    **{("sde.basis", name): NO_GRID for name in kinds.BASIS.names},
    ("sde.basis", "kernel"): NO_CURVES,
    **{("sde.kernel", name): NO_CURVES for name in KERNELS},
    **{("model.name", name): NO_FUNCTIONS for name in ("fno", "ufno")},
    **{("model.name", name): NO_SPACE for name in ("unet", "dit")},
    ("model.name", "edm2"): NO_IMAGES,
    **{("model.boundary", name): NO_FUNCTIONS for name in ("even", "periodic")},
    **{("model.positions", name): NO_SPACE for name in POSITIONS},
    **{(f"model.{field}", name): NO_SPACE for field, words in UNET_CHOICES.items() for name in words},
}


def configured(record: str, field: str, choice: str) -> Experiment:
    """The experiment of one choice, beside what makes it matter."""
    size, channels, network = RECORDS[record]
    network = NETWORK_OF.get(field, network if field.startswith("model.") else "mlp")
    network = choice if field == "model.name" else network
    beside = list(BESIDE.get(field, []))
    if field == "sampling.solver":
        euler = choice in ("euler", "heun", "sea", "shark", "sra1", "slowrk")
        beside.append("sampling.name=reverse_sde" if euler else "sampling.name=probability_flow")
    if (field, choice) == ("likelihood.dequantization", "none"):
        beside.append("likelihood.method=elbo")  # the flow has no decoder
    if field == "sde.name" and choice in IN_MODES and "index" in _fields(choice):
        beside.append("sde.index=2.5")  # above half the dimensions of a volume, so that coloured noise has a trace
    config = default()
    shape = [f"data.image_size={size}", f"data.channels={channels}"]
    small = [f"model.name={network}", *(f"model.{text}" for text in SMALL[network])]
    steps = [f"sampling.{text}" for text in ("steps=2",) if field == "sampling.name" and _takes_steps(choice)]
    levels = [] if field == "likelihood.dequantization" else ["data.levels=0"]
    override(config, [*shape, *small, *steps, *levels, *beside, f"{field}={choice}"])
    return Experiment.from_config(config)


def _fields(name: str) -> set[str]:
    own = arguments(kinds.PROCESS, resolve(kinds.PROCESS, name, "sde.name"))
    inner = arguments(kinds.COVARIANCE, resolve(kinds.COVARIANCE, "power_law", "")) if "covariance" in own else {}
    return {*own, *inner}


def _takes_steps(name: str) -> bool:
    own = arguments(kinds.SAMPLER, resolve(kinds.SAMPLER, name, "sampling.name"))
    return bool("steps" in own and own["steps"].default)


def trace_training(e: Experiment) -> None:
    """The loss traced, with its gradient where that differs, and the optimizer's state. Nothing is computed."""
    model = e.score(e.network)
    network = dataclasses.replace(model.network, remat=e.training.remat)
    process = model.sde.started_from(jnp.zeros((1, *e.shape))) if model.sde.needs_data else model.sde

    def loss(params, x, key):
        score = dataclasses.replace(model, network=dataclasses.replace(network, params=params), key=key)
        return e.objective(dataclasses.replace(score, sde=process), x, batch_key=key, key=key, rank=jnp.float32(0.5))

    x, key = jax.ShapeDtypeStruct(e.shape, jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
    traced = loss if network.remat == "none" else lambda *inputs: jax.value_and_grad(loss)(*inputs)[0]
    assert jax.eval_shape(traced, network.params, x, key).shape == ()
    jax.eval_shape(e.optimizer.init, network.params)


def trace_drawing(e: Experiment) -> None:
    """A draw traced."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    drawn = jax.eval_shape(
        lambda score, keys: denoised_draw(e.sampler(), score, e.shape, keys=keys), e.score(e.network), keys
    )
    assert drawn.x.shape == (2, *e.shape) and drawn.ok.shape == (2,)


def check_likelihood(e: Experiment) -> None:
    assert e.trace is not None
    if e.likelihood.method == "vlb":
        assert len(e.chain(e.sde).times) == e.likelihood.vlb_steps + 1


USE = {"sampling": trace_drawing, "likelihood": check_likelihood}
# A process and a network know the shape of a record, the others hardly do: one kind of record for those in the fast
# suite.
KNOW_SHAPES = ("sde", "model")
CASES = [
    pytest.param(field, choice, record,
    marks=[] if record == ("images" if field.startswith("model.") else "vectors") or field in ("sde.name", "model.name")
    else pytest.mark.slow)
    for field, choices in CHOICES.items() for choice in choices for record in RECORDS
]  # fmt: skip


@pytest.mark.parametrize("field, choice, record", CASES, ids=lambda text: text or "own")
def test_every_choice_builds_or_is_refused(field, choice, record):
    reason = REFUSED.get((field, choice), {}).get(record)
    if reason:
        with pytest.raises(ConfigError, match=reason):
            configured(record, field, choice)
        return
    experiment = configured(record, field, choice)
    USE.get(field.split(".")[0], trace_training)(experiment)


def test_an_operator_takes_the_levels_of_the_configuration():
    """Levels and blocks of `ufno` are those of `model.multipliers` and `model.blocks`, as in a U-Net."""
    config = load_config(
        str(ROOT / "configs" / "quadratic_heat.py"), ["model.name=ufno", "model.multipliers=(1,2,2)", "model.blocks=2"]
    )
    params = Experiment.from_config(config).network.params
    assert (len(params["encoder"]), len(params["decoder"]), len(params["encoder"][0])) == (3, 2, 2)


@pytest.mark.parametrize(
    "texts, line",
    [
        (["model.name=ufno", "model.modes=2", "model.multipliers=(1,1,1,1)"], "at least 16 points per axis for 4 levels"),
        (["model.name=fno", "model.boundary=periodic", "model.modes=5"], "expected 1 to 4 modes"),
        (["model.name=fno", "model.modes=9"], "expected 1 to 8 modes"),
    ],
)  # fmt: skip
def test_what_the_grid_does_not_hold_is_refused(texts, line):
    config = default()
    override(config, ["data.image_size=(8,)", "data.channels=1", "data.levels=0", *texts])
    with pytest.raises(ConfigError, match=line):
        Experiment.from_config(config)
