"""ADM of guided-diffusion (Dhariwal and Nichol 2021): a state dict of its UNetModel.

Its output has twice the channels of an image: the noise, and the parameters of the variance, which are left out. Query,
key and value are one convolution, whose channels are ordered by head and then by kind, or for ImageNet-64 by kind and
then by head.
"""

import numpy as np

from scoresde.convert.copying import Arrays, Copy

_BLOCK = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3", "skip_connection")


def from_guided(parameters: Arrays, model, shape: tuple[int, int, int], kinds_first: bool) -> Copy:
    """Copy the parameters of ADM.

    Args:
        parameters: state dict of their UNetModel.
        model: section `model` of the configuration.
        shape: [H, W, C] of an image.
        kinds_first: order of the channels of query, key and value (`use_new_attention_order` in their code).
    """
    copy = Copy(parameters)
    heads = lambda width: width // model.head_channels if model.head_channels else 1  # noqa: E731

    def block(ours, theirs):
        copy.residual(ours, theirs, _BLOCK)

    def attention(ours, theirs):
        _attention(copy, ours, theirs, heads, kinds_first)

    copy.layer("conditioning/dense_1", "time_embed.0")
    copy.layer("conditioning/dense_2", "time_embed.2")
    if copy.has("label_emb"):
        copy.classes("label_emb.weight")
    copy.layer("conv_in", "input_blocks.0.0")
    attends = [shape[0] // 2**i in tuple(model.attention) for i in range(len(model.multipliers))]
    k = 1
    for i, attend in enumerate(attends):
        for j in range(model.blocks):
            block(f"encoder/{i}/blocks/{j}", f"input_blocks.{k}.0")
            if attend:
                attention(f"encoder/{i}/attention/{j}", f"input_blocks.{k}.1")
            k += 1
        if i < len(attends) - 1:
            block(f"encoder/{i}/down", f"input_blocks.{k}.0")
            k += 1
    block("middle_1", "middle_block.0")
    attention("middle_attention", "middle_block.1")
    block("middle_2", "middle_block.2")
    k = 0
    for i, attend in enumerate(attends[::-1]):
        for j in range(model.blocks + 1):
            block(f"decoder/{i}/blocks/{j}", f"output_blocks.{k}.0")
            if attend:
                attention(f"decoder/{i}/block_attention/{j}", f"output_blocks.{k}.1")
            k += 1
        if i < len(attends) - 1:
            block(f"decoder/{i}/up", f"output_blocks.{k - 1}.{2 if attend else 1}")
    copy.norm("norm_out", "out.0")
    copy.layer("conv_out", "out.2")
    copy.ours["conv_out/kernel"] = copy.ours["conv_out/kernel"][..., : shape[2]]
    copy.ours["conv_out/bias"] = copy.ours["conv_out/bias"][: shape[2]]
    return copy


def _attention(copy: Copy, ours: str, theirs: str, heads, kinds_first: bool) -> None:
    copy.norm(f"{ours}/norm", f"{theirs}.norm")
    kernel, bias = copy.take(f"{theirs}.qkv.weight"), copy.take(f"{theirs}.qkv.bias")
    width = kernel.shape[1]
    shape = (3, heads(width), -1) if kinds_first else (heads(width), 3, -1)
    rows = np.arange(3 * width).reshape(shape)
    rows = (rows if kinds_first else rows.swapaxes(0, 1)).reshape(3, width)
    for name, chosen in zip(("query", "key", "value"), rows, strict=True):
        copy.ours[f"{ours}/{name}/kernel"] = kernel.reshape(3 * width, width)[chosen].T
        copy.ours[f"{ours}/{name}/bias"] = bias[chosen]
    copy.ours[f"{ours}/out/kernel"] = copy.take(f"{theirs}.proj_out.weight").reshape(width, width).T
    copy.ours[f"{ours}/out/bias"] = copy.take(f"{theirs}.proj_out.bias")
