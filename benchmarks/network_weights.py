"""Parameters of score-models' networks and of diffusers' DiT under the names of scoresde/nets: {path: array}, for
network_parity.py.

Those of diffusers.UNet2DModel are copied as `python -m scoresde.convert` does.
"""

import dataclasses
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from scoresde.convert.copying import Copy
from scoresde.convert.score_sde import from_score_sde, in_a_list
from scoresde.nets import Network


def placed(network: Network, copied: dict) -> Network:
    """The network with those parameters, {path: array}; every one is set, and none is left over."""
    left = dict(copied)

    def value(path, p):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        array = left.pop(name)
        if array.shape != p.shape:
            sys.exit(f"{name}: theirs is {array.shape}, ours {p.shape}")
        return jnp.asarray(array, p.dtype)

    params = jax.tree_util.tree_map_with_path(value, network.params)
    if left:
        sys.exit(f"not placed: {', '.join(left)}")
    return dataclasses.replace(network, params=params)


def from_score_models(parameters: dict, ours: dict) -> dict:
    """NCSNpp and DDPM without attention, whose modules are one list as in score_sde. `ours`: fields of our U-Net."""
    theirs = dict(_as_in_score_sde(name, array) for name, array in parameters.items())
    fields = SimpleNamespace(**{"progressive_input": "none", "progressive": "none"} | ours)
    copy = from_score_sde(theirs, fields, 1, in_a_list(), middle_attention=False)
    # Their Fourier embedding has nf features, ours 2 nf: the frequencies that they have not are multiplied by nothing.
    frequencies = copy.ours["conditioning/embedding/frequencies"]
    copy.ours["conditioning/embedding/frequencies"] = np.concatenate([frequencies, np.zeros_like(frequencies)])
    sine, cosine = np.split(copy.ours["conditioning/dense_1/kernel"], 2)
    nothing = np.zeros_like(sine)
    copy.ours["conditioning/dense_1/kernel"] = np.concatenate([sine, nothing, cosine, nothing])
    return copy.ours


def _as_in_score_sde(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    if name.endswith("NIN_0.W"):
        return name, array.T
    if "Conv1d_0.weight" in name:
        # score_sde reverses height and width of this kernel before a transposed convolution, which undoes it.
        # score-models
        # reverses the channels in their place.
        array = array[::-1, ::-1, ::-1, ::-1]
    return name.replace("Conv1d_0", "Conv2d_0").replace(".conv.", "."), array


def from_dit(parameters: dict, options: dict) -> dict:
    """DiTTransformer2DModel. Its noise embedding is [cos, sin] of the frequencies of our "positional", which is [sin,
    cos]."""
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
