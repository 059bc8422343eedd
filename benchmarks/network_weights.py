"""Parameters of public PyTorch networks under the names of scoresde/nets: {path: array}, for network_parity.py.

A convolution is [out, in, h, w] there and [h, w, in, out] here, a dense layer [out, in] and [in, out].
"""

import numpy as np


class Copy:
    """Collects parameters. `parameters`: their names and arrays."""

    def __init__(self, parameters: dict):
        self.theirs = parameters
        self.ours = {}

    def has(self, name: str) -> bool:
        return any(path.startswith(name + ".") for path in self.theirs)

    def layer(self, ours: str, theirs: str) -> None:
        """A convolution, or a dense layer."""
        w = self.theirs[f"{theirs}.weight"]
        self.ours[f"{ours}/kernel"] = w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T
        self.ours[f"{ours}/bias"] = self.theirs[f"{theirs}.bias"]

    def norm(self, ours: str, theirs: str) -> None:
        self.ours[f"{ours}/scale"] = self.theirs[f"{theirs}.weight"]
        self.ours[f"{ours}/bias"] = self.theirs[f"{theirs}.bias"]

    def residual(self, ours: str, theirs: str, names: tuple[str, ...]) -> None:
        """`names`: of norm_1, conv_1, dense, norm_2, conv_2, skip there."""
        norm_1, conv_1, dense, norm_2, conv_2, skip = (f"{theirs}.{name}" for name in names)
        self.norm(f"{ours}/norm_1", norm_1)
        self.norm(f"{ours}/norm_2", norm_2)
        for name, path in (("conv_1", conv_1), ("dense", dense), ("conv_2", conv_2)):
            self.layer(f"{ours}/{name}", path)
        if self.has(skip):
            self.layer(f"{ours}/skip", skip)


# diffusers

_DIFFUSERS_BLOCK = ("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut")


def _diffusers_attention(copy: Copy, ours: str, theirs: str) -> None:
    copy.norm(f"{ours}/norm", f"{theirs}.group_norm")
    for name, path in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("out", "to_out.0")):
        copy.layer(f"{ours}/{name}", f"{theirs}.{path}")


def _diffusers_level(copy: Copy, ours: str, theirs: str, attention: str, resample: str) -> None:
    """`attention`, `resample`: names of the lists or modules of our level."""
    for j in range(sum(copy.has(f"{theirs}.resnets.{j}") for j in range(16))):
        copy.residual(f"{ours}/blocks/{j}", f"{theirs}.resnets.{j}", _DIFFUSERS_BLOCK)
        if copy.has(f"{theirs}.attentions.{j}"):
            _diffusers_attention(copy, f"{ours}/{attention}".format(j=j), f"{theirs}.attentions.{j}")
    for name in (f"{theirs}.{resample}samplers.0", f"{theirs}.resnet_{resample}"):
        if copy.has(f"{name}.norm1"):
            copy.residual(f"{ours}/{resample}", name, _DIFFUSERS_BLOCK)
        elif copy.has(f"{name}.conv"):
            copy.layer(f"{ours}/{resample}/conv", f"{name}.conv")
            if resample == "up":
                copy.ours[f"{ours}/up/bias"] = copy.ours.pop(f"{ours}/up/conv/bias")
    if copy.has(f"{theirs}.skip_conv"):
        copy.layer(f"{ours}/pyramid/conv", f"{theirs}.skip_conv")
    if copy.has(f"{theirs}.skip_norm"):
        copy.norm(f"{ours}/pyramid/norm", f"{theirs}.skip_norm")


def from_diffusers(parameters: dict, levels: int) -> dict:
    """UNet2DModel with any of its DDPM, ADM and NCSN++ blocks."""
    copy = Copy(parameters)
    copy.layer("conv_in", "conv_in")
    copy.layer("conv_out", "conv_out")
    copy.norm("norm_out", "conv_norm_out")
    copy.layer("conditioning/dense_1", "time_embedding.linear_1")
    copy.layer("conditioning/dense_2", "time_embedding.linear_2")
    if "time_proj.weight" in parameters:
        copy.ours["conditioning/embedding/frequencies"] = parameters["time_proj.weight"]
    if "class_embedding.weight" in parameters:
        table = parameters["class_embedding.weight"]
        copy.ours["conditioning/classes/embedding"] = np.concatenate([table, np.zeros_like(table[:1])])  # and a null class
    for i in range(levels):
        _diffusers_level(copy, f"encoder/{i}", f"down_blocks.{i}", "attention/{j}", "down")
        once = copy.has(f"up_blocks.{i}.attentions.0") and not copy.has(f"up_blocks.{i}.attentions.1")
        _diffusers_level(copy, f"decoder/{i}", f"up_blocks.{i}", "attention" if once else "block_attention/{j}", "up")
    for j in (0, 1):
        copy.residual(f"middle_{j + 1}", f"mid_block.resnets.{j}", _DIFFUSERS_BLOCK)
    _diffusers_attention(copy, "middle_attention", "mid_block.attentions.0")
    return copy.ours


# score-models

_BIGGAN_BLOCK = ("GroupNorm_0", "Conv_0.conv", "Dense_0", "GroupNorm_1", "Conv_1.conv", "Conv_2.conv")


def _score_models_block(copy: Copy, ours: str, theirs: str) -> None:
    copy.residual(ours, theirs, _BIGGAN_BLOCK)
    if copy.has(f"{theirs}.NIN_0"):
        copy.ours[f"{ours}/skip/kernel"] = copy.theirs[f"{theirs}.NIN_0.W"].T[None, None]
        copy.ours[f"{ours}/skip/bias"] = copy.theirs[f"{theirs}.NIN_0.b"]


def _score_models_resampling(copy: Copy, ours: str, theirs: str) -> None:
    """A block, or a convolution with or without a filter."""
    if copy.has(f"{theirs}.GroupNorm_0"):
        return _score_models_block(copy, ours, theirs)
    name = next(name for name in ("Conv1d_0", "Conv_0.conv", "Conv_0") if f"{theirs}.{name}.weight" in copy.theirs)
    copy.layer(f"{ours}/conv", f"{theirs}.{name}")
    if name == "Conv1d_0":
        # score_sde reverses height and width of this kernel before a transposed convolution, which undoes it. score-models
        # reverses the channels in their place.
        copy.ours[f"{ours}/conv/kernel"] = copy.ours[f"{ours}/conv/kernel"][::-1, ::-1, ::-1, ::-1]
    if ours.endswith("up"):
        copy.ours[f"{ours}/bias"] = copy.ours.pop(f"{ours}/conv/bias")


def _score_models_conditioning(copy: Copy, modules) -> None:
    """Their Fourier embedding has nf features, ours 2 nf: the frequencies that they have not are multiplied by nothing."""
    frequencies = copy.theirs[f"{next(modules)}.W"]
    copy.layer("conditioning/dense_1", next(modules))
    copy.layer("conditioning/dense_2", next(modules))
    copy.ours["conditioning/embedding/frequencies"] = np.concatenate([frequencies, np.zeros_like(frequencies)])
    sine, cosine = np.split(copy.ours["conditioning/dense_1/kernel"], 2)
    nothing = np.zeros_like(sine)
    copy.ours["conditioning/dense_1/kernel"] = np.concatenate([sine, nothing, cosine, nothing])


def from_score_models(parameters: dict, options: dict) -> dict:
    """NCSNpp and DDPM without attention: their modules are one list, in the order of the calls."""
    copy = Copy(parameters)
    modules = (f"all_modules.{i}" for i in range(10_000))
    levels, blocks = len(options["ch_mult"]), options["num_res_blocks"]
    inputs, outputs = options.get("progressive_input", "none"), options.get("progressive", "none")
    _score_models_conditioning(copy, modules)
    copy.layer("conv_in", f"{next(modules)}.conv")
    return _score_models_levels(copy, modules, levels, blocks, inputs, outputs)


def _score_models_levels(copy: Copy, modules, levels: int, blocks: int, inputs: str, outputs: str) -> dict:
    for i in range(levels):
        for j in range(blocks):
            _score_models_block(copy, f"encoder/{i}/blocks/{j}", next(modules))
        if i < levels - 1:
            _score_models_resampling(copy, f"encoder/{i}/down", next(modules))
            if inputs == "input_skip":
                copy.layer(f"encoder/{i}/pyramid/conv", f"{next(modules)}.Conv_0.conv")
            elif inputs == "residual":
                _score_models_resampling(copy, f"encoder/{i}/pyramid/down", next(modules))
    _score_models_block(copy, "middle_1", next(modules))
    _score_models_block(copy, "middle_2", next(modules))
    for i in range(levels):
        for j in range(blocks + 1):
            _score_models_block(copy, f"decoder/{i}/blocks/{j}", next(modules))
        if outputs == "residual" and i:
            _score_models_resampling(copy, f"decoder/{i}/pyramid/up", next(modules))
        elif outputs == "residual" or (outputs == "output_skip" and i < levels - 1):
            copy.norm(f"decoder/{i}/pyramid/norm", next(modules))
            copy.layer(f"decoder/{i}/pyramid/conv", f"{next(modules)}.conv")
        if i < levels - 1:
            _score_models_resampling(copy, f"decoder/{i}/up", next(modules))
    copy.norm("norm_out", next(modules))
    copy.layer("conv_out", f"{next(modules)}.conv")
    return copy.ours


def from_dit(parameters: dict, options: dict) -> dict:
    """DiTTransformer2DModel. Its noise embedding is [cos, sin] of the frequencies of our "positional", which is [sin, cos]."""
    copy = Copy(parameters)
    embedding = "transformer_blocks.0.norm1.emb"
    copy.layer("conditioning/dense_1", f"{embedding}.timestep_embedder.linear_1")
    copy.layer("conditioning/dense_2", f"{embedding}.timestep_embedder.linear_2")
    cosine, sine = np.split(copy.ours["conditioning/dense_1/kernel"], 2)
    copy.ours["conditioning/dense_1/kernel"] = np.concatenate([sine, cosine])
    copy.ours["conditioning/classes/embedding"] = parameters[f"{embedding}.class_embedder.embedding_table.weight"]
    copy.layer("dense_in", "pos_embed.proj")
    kernel = copy.ours["dense_in/kernel"]
    copy.ours["dense_in/kernel"] = kernel.reshape(-1, kernel.shape[-1])
    for j in range(options["num_layers"]):
        ours, theirs = f"blocks/{j}", f"transformer_blocks.{j}"
        for name, path in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("out", "to_out.0")):
            copy.layer(f"{ours}/{name}", f"{theirs}.attn1.{path}")
        for name, path in (("modulation", "norm1.linear"), ("dense_1", "ff.net.0.proj"), ("dense_2", "ff.net.2")):
            copy.layer(f"{ours}/{name}", f"{theirs}.{path}")
    copy.layer("modulation", "proj_out_1")
    copy.layer("dense_out", "proj_out_2")
    return copy.ours
