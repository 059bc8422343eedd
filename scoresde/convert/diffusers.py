"""Folders of diffusers with a UNet2DModel: config.json, the weights, and a scheduler that defines the process.

The network's configuration names its blocks: DownBlock2D and AttnDownBlock2D are those of DDPM, SkipDownBlock2D and
AttnSkipDownBlock2D those of NCSN++, ResnetDownsampleBlock2D those of ADM. Options that `scoresde.nets.UNet` does not
have are refused.

DDPM's 1000 linear betas beta_1 to beta_N are the VP process with beta_min = N beta_1 and beta_max = N beta_N (Song et
al. 2021, appendix B). Cosine betas ("squaredcos_cap_v2", Nichol and Dhariwal 2021) are kept as a table, whose step
n + 1 has the label n. ScoreSdeVeScheduler has the two sigmas of VE. The network predicts the noise ("epsilon") or v
("v_prediction").
"""

from scoresde.convert.copying import Arrays, Copy
from scoresde.errors import CheckpointError
from scoresde.nets.blocks import num_groups

_BLOCK = ("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut")
_STEPS = 1000  # number of steps in the noise label 999 t
_SIGMAS = dict(sigma_min=0.01, sigma_max=1348.0)  # the defaults of ScoreSdeVeScheduler
_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}
# Allowed values in a scheduler of DDPM; the first is the default. Settings of sampling are ignored.
_KNOWN = {
    "num_train_timesteps": (_STEPS,), "beta_schedule": ("linear", "squaredcos_cap_v2"),
    "prediction_type": tuple(_PREDICTIONS),
    "trained_betas": (None,), "rescale_betas_zero_snr": (False,),
}  # fmt: skip
_KNOWN_FIRST = {name: known[0] for name, known in _KNOWN.items()}
# Class of block -> (pyramids, kind of resampling; None: see downsample_type or upsample_type).
_KINDS = {
    "DownBlock2D": (False, "conv"), "AttnDownBlock2D": (False, None), "ResnetDownsampleBlock2D": (False, "resnet"),
    "UpBlock2D": (False, "conv"), "AttnUpBlock2D": (False, None), "ResnetUpsampleBlock2D": (False, "resnet"),
    "SkipDownBlock2D": (True, "fir"), "AttnSkipDownBlock2D": (True, "fir"),
    "SkipUpBlock2D": (True, "fir"), "AttnSkipUpBlock2D": (True, "fir"),
}  # fmt: skip
_EMBEDDINGS = {
    ("fourier", None): "fourier",
    ("positional", (False, 1)): "positional",
    ("positional", (True, 0)): "sinusoidal",
}


def fields(config: dict, scheduler: dict | None) -> dict[str, dict]:
    """Return {section: {field: value}} of a run, from the contents of config.json and scheduler_config.json.

    Raises:
        CheckpointError: the network or the process is not supported.
    """
    try:
        model = _model(config)
    except (KeyError, TypeError, IndexError, ZeroDivisionError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"config.json: expected that of a UNet2DModel, got {type(error).__name__} at {error}"
        ) from None
    variance_exploding = model["embedding"] == "fourier"
    process, predicted = _ve(scheduler) if variance_exploding else _vp(scheduler)
    size, classes = config["sample_size"], {}
    model |= dict(preconditioning=predicted)
    if config.get("num_class_embeds"):
        classes = dict(num_classes=config["num_class_embeds"])
    data = dict(
        image_size=size if isinstance(size, int) else tuple(size),
        channels=config["in_channels"],
        centered=not (variance_exploding or model["center_input"]),
    )
    return {"model": model | classes, "sde": process, "data": data}


def _model(config: dict) -> dict:
    widths, downs, ups = config["block_out_channels"], config["down_block_types"], config["up_block_types"]
    size = config["sample_size"] if isinstance(config["sample_size"], int) else config["sample_size"][0]
    kinds = [_kind(name, config, i == len(types) - 1) for types in (downs, ups) for i, name in enumerate(types)]
    resampling = {how for _, how in kinds if how} or {"conv"}
    skip = any(pyramids for pyramids, _ in kinds)
    attention = [name.startswith("Attn") for name in downs]
    attended = [width for width, attends in zip(widths, attention) if attends]  # NCSN++ always has 32 groups here
    rescale = config.get("mid_block_scale_factor", 1)
    time = config.get("time_embedding_type", "positional")
    shape = (config.get("flip_sin_to_cos", True), config.get("freq_shift", 0)) if time == "positional" else None
    groups = config.get("norm_num_groups", 32)
    checks = {
        "block_out_channels": not any(width % widths[0] for width in widths) and len(widths) == len(downs) == len(ups),
        "down_block_types": len(resampling) == 1 and len({pyramids for pyramids, _ in kinds}) == 1,
        "up_block_types": [name.startswith("Attn") for name in ups] == attention[::-1],
        "time_embedding_type": (time, shape) in _EMBEDDINGS,
        "norm_num_groups": groups == num_groups(min(widths)) == 32
        or (skip and groups is None and min(attended, default=128) >= 128),
        "attn_norm_num_groups": config.get("attn_norm_num_groups") in (None, groups),
        "mid_block_scale_factor": abs(rescale - (2**0.5 if skip else 1)) < 1e-6,
        "downsample_padding": resampling != {"conv"} or config.get("downsample_padding", 1) in (0, 1),
        "act_fn": config.get("act_fn", "silu") in ("silu", "swish"),
        "add_attention": config.get("add_attention", True),
        "class_embed_type": config.get("class_embed_type") is None,
        "resnet_time_scale_shift": config.get("resnet_time_scale_shift", "default") in ("default", "scale_shift"),
    }
    if wrong := [f"{name} = {config.get(name)!r}" for name, good in checks.items() if not good]:
        raise CheckpointError(f"config.json: our U-Net has no such thing: {', '.join(wrong)}; see docs/networks.md")
    return dict(
        name="unet",
        channels=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks=config.get("layers_per_block", 2),
        attention=tuple(size // 2**i for i, attends in enumerate(attention) if attends),
        head_channels=config.get("attention_head_dim", 8) or 0,
        dropout=float(config.get("dropout", 0.0)),
        embedding=_EMBEDDINGS[time, shape],
        decoder_attention="level" if skip else "block",
        modulation="scale_shift" if config.get("resnet_time_scale_shift") == "scale_shift" else "shift",
        resampling="conv" if resampling == {"conv"} else "block",
        resample_filter="fir"
        if skip
        else "box_padded"
        if resampling == {"conv"} and config.get("downsample_padding", 1)
        else "box",
        resample_skip="identity" if resampling == {"resnet"} else "conv",
        progressive_input="input_skip" if skip else "none",
        progressive="output_skip" if skip else "none",
        skip_rescale=skip,
        center_input=bool(config.get("center_input_sample", False)),
        norm_epsilon=float(config.get("norm_eps", 1e-5)),
    )


def _kind(name: str, config: dict, last: bool) -> tuple[bool, str | None]:
    """Return whether a block has pyramids, and its kind of resampling, which is None for the last block.

    Raises:
        CheckpointError: the block is not supported.
    """
    if name not in _KINDS:
        raise CheckpointError(f"config.json: our U-Net has no {name}; there are {', '.join(_KINDS)}")
    pyramids, how = _KINDS[name]
    how = how or config.get("downsample_type" if "Down" in name else "upsample_type", "conv")
    return pyramids, None if last else how


def _vp(scheduler: dict | None) -> tuple[dict, str]:
    """Return the section `sde`, and the quantity that the network predicts.

    Raises:
        CheckpointError: the scheduler is not supported.
    """
    given = {"beta_start": 1e-4, "beta_end": 0.02} | _KNOWN_FIRST | (scheduler or {})
    if wrong := [
        f"{name} = {given[name]!r}, expected {' or '.join(map(repr, known))}"
        for name, known in _KNOWN.items()
        if given[name] not in known
    ]:
        raise CheckpointError(f"scheduler_config.json: {'; '.join(wrong)}")
    processes = {
        "linear": dict(name="vp", beta_min=_STEPS * given["beta_start"], beta_max=_STEPS * given["beta_end"]),
        "squaredcos_cap_v2": dict(name="ddpm_cosine"),
    }
    return processes[given["beta_schedule"]], _PREDICTIONS[given["prediction_type"]]


def _ve(scheduler: dict | None) -> tuple[dict, str]:
    given = _SIGMAS | (scheduler or {})
    return dict(name="ve", sigma_min=float(given["sigma_min"]), sigma_max=float(given["sigma_max"])), "score"


def from_diffusers(parameters: Arrays, levels: int) -> Copy:
    """Copy the parameters of a UNet2DModel with DDPM, ADM or NCSN++ blocks."""
    copy = Copy(parameters)
    copy.layer("conv_in", "conv_in")
    copy.layer("conv_out", "conv_out")
    copy.norm("norm_out", "conv_norm_out")
    copy.layer("conditioning/dense_1", "time_embedding.linear_1")
    copy.layer("conditioning/dense_2", "time_embedding.linear_2")
    for name in ("time_proj.W", "time_proj.weight"):  # one array under two names
        if name in parameters:
            copy.ours["conditioning/embedding/frequencies"] = copy.take(name)
    if "class_embedding.weight" in parameters:
        copy.classes("class_embedding.weight")
    for i in range(levels):
        _level(copy, f"encoder/{i}", f"down_blocks.{i}", "attention/{j}", "down")
        once = copy.has(f"up_blocks.{i}.attentions.0") and not copy.has(f"up_blocks.{i}.attentions.1")
        _level(copy, f"decoder/{i}", f"up_blocks.{i}", "attention" if once else "block_attention/{j}", "up")
    for j in (0, 1):
        copy.residual(f"middle_{j + 1}", f"mid_block.resnets.{j}", _BLOCK)
    _attention(copy, "middle_attention", "mid_block.attentions.0")
    return copy


def _attention(copy: Copy, ours: str, theirs: str) -> None:
    """Copy an attention block with current names, or with the names of early versions, which some published folders
    have."""
    copy.norm(f"{ours}/norm", f"{theirs}.group_norm")
    for name, path, first in (
        ("query", "to_q", "query"),
        ("key", "to_k", "key"),
        ("value", "to_v", "value"),
        ("out", "to_out.0", "proj_attn"),
    ):
        copy.layer(f"{ours}/{name}", f"{theirs}.{path if copy.has(f'{theirs}.{path}') else first}")


def _level(copy: Copy, ours: str, theirs: str, attention: str, resample: str) -> None:
    """Copy a level; `attention` and `resample` are the names of the modules of the level in `scoresde.nets`."""
    for j in range(sum(copy.has(f"{theirs}.resnets.{j}") for j in range(16))):
        copy.residual(f"{ours}/blocks/{j}", f"{theirs}.resnets.{j}", _BLOCK)
        if copy.has(f"{theirs}.attentions.{j}"):
            _attention(copy, f"{ours}/{attention}".format(j=j), f"{theirs}.attentions.{j}")
    for name in (f"{theirs}.{resample}samplers.0", f"{theirs}.resnet_{resample}"):
        if copy.has(f"{name}.norm1"):
            copy.residual(f"{ours}/{resample}", name, _BLOCK)
        elif copy.has(f"{name}.conv"):
            copy.layer(f"{ours}/{resample}/conv", f"{name}.conv")
            if resample == "up":
                copy.ours[f"{ours}/up/bias"] = copy.ours.pop(f"{ours}/up/conv/bias")
    if copy.has(f"{theirs}.skip_conv"):
        copy.layer(f"{ours}/pyramid/conv", f"{theirs}.skip_conv")
    if copy.has(f"{theirs}.skip_norm"):
        copy.norm(f"{ours}/pyramid/norm", f"{theirs}.skip_norm")
