"""Readers of SOURCE: fields of the configuration, and parameters for the complete configuration."""

import pathlib
from collections.abc import Callable

from scoresde.convert import diffusers, exporting, guided, reading, recipes, score_sde
from scoresde.convert.copying import Copy
from scoresde.errors import CheckpointError, ConfigError
from scoresde.experiment.experiment import Experiment

# Fields of the configuration, and the parameters for the configuration that came of them.
Read = tuple[dict[str, dict], Callable[[Experiment], Copy]]
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def read(source: pathlib.Path, network: str | None) -> Read:
    """Return the fields and parameters of `source`.

    Args:
        source: a folder of diffusers, a file of --export, or a file of weights.
        network: name of the network of a file of weights; None for other sources.

    Raises:
        CheckpointError: the weights are of an unknown kind, or a pickle.
        ConfigError: `network` is missing or not needed, or a package is missing.
    """
    if source.is_dir():
        if network:
            raise ConfigError("--network: a folder of diffusers says its network itself; leave it out")
        return _diffusers(source)
    if source.suffix == ".safetensors":
        fields, ours = exporting.exported_arrays(source)
        return fields, lambda _: Copy({}, ours)
    reading.refuse_by_name(source)
    if network is None:
        raise ConfigError(
            f"--network: {source.name} does not say its network; give one of {', '.join(recipes.NETWORKS)}"
        )
    fields = recipes.fields(network)
    loaded = reading.of_torch(source) if source.suffix in reading.TORCH else reading.of_flax(source)
    if network in recipes.GUIDED:
        arrays, kinds_first = reading.as_arrays(loaded), network == "adm_imagenet64"
        return fields, lambda e: copied(source, lambda: guided.from_guided(arrays, e.model, e.shape, kinds_first))
    in_torch = source.suffix in reading.TORCH
    arrays = score_sde.average_of_torch(loaded, reading.as_arrays) if in_torch else score_sde.average_of_flax(loaded)
    name = score_sde.in_a_list if in_torch else score_sde.by_class
    return fields, lambda e: copied(source, lambda: score_sde.from_score_sde(arrays, e.model, e.shape[0], name()))


def _diffusers(folder: pathlib.Path) -> Read:
    """Read a folder of diffusers; the network is in the folder or in unet/, its scheduler in the folder or in
    scheduler/.

    Raises:
        CheckpointError: the folder has no network of diffusers.
    """
    network = folder / "unet" if (folder / "unet").is_dir() else folder
    weights = next((network / name for name in _WEIGHTS if (network / name).is_file()), None)
    if weights is None or not (network / "config.json").is_file():
        raise CheckpointError(
            f"{folder}: expected config.json and {' or '.join(_WEIGHTS)} in it or in unet/; a run folder goes with "
            "--export"
        )
    config = reading.json_of(network / "config.json")
    schedulers = [
        place
        for place in (folder / "scheduler_config.json", folder / "scheduler" / "scheduler_config.json")
        if place.is_file()
    ]
    fields = diffusers.fields(config, reading.json_of(schedulers[0]) if schedulers else None)
    arrays = reading.weights(weights)
    return fields, lambda e: copied(weights, lambda: diffusers.from_diffusers(arrays, len(e.model.multipliers)))


def copied(where: pathlib.Path, collect: Callable[[], Copy]) -> Copy:
    """Return collect(), with an error for missing parameters.

    Raises:
        CheckpointError: a parameter of the network is missing.
    """
    try:
        return collect()
    except KeyError as error:
        raise CheckpointError(f"{where} is not of this network: {error.args[0]} is missing") from None
