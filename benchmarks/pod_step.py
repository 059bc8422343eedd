"""Compile the training step of one case for accelerators that are not there, and write its figures: one JSON object.

    python benchmarks/pod_step.py CASE.json OUT.json        benchmarks/pod.py starts it, in an environment with the compiler

JAX's compilers for TPU and GPU want a description of the machine, not the machine (`jax.experimental.topologies`). That
of an H200 is `h200.txtpb`, after openxla/xla's.
"""

import json
import pathlib
import sys
import time

import jax
from abstract_step import abstract_step
from collectives import by_group, collectives
from jax.experimental import topologies
from ml_collections import ConfigDict
from scaling import gathers
from speed_count import least_work
from traffic import memory_traffic

from scoresde.experiment.config import default, load_config
from scoresde.nets import PUBLISHED
from scoresde.runtime.versions import versions

HERE = pathlib.Path(__file__).parent
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


def main() -> None:
    case, out = json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
    out.write_text(json.dumps(figures(case)))


def figures(case: dict) -> dict:
    """What the compiler says of one case; `case` as in `pod.CASES`."""
    on_gpu = case["chip"] == "H200"
    devices = topology(case["chip"], tuple(case["axes"])).devices
    config = network_config(case["network"])
    config.training.batch_size = case["per_chip"] * len(devices)
    config.training.fsdp, config.training.remat, config.training.accumulation = (
        case["fsdp"],
        case["remat"],
        case["accumulation"],
    )
    step = abstract_step(config, list(devices))
    about = {
        "parameters": sum(p.size for p in step.params),
        "flops_of_products": least_work(step.traced)["flops"] / len(devices),
        "versions": versions("libtpu", "jax-cuda13-plugin"),
    }
    began = time.monotonic()
    try:
        compiled = step.traced.lower(lowering_platforms=("cuda" if on_gpu else "tpu",)).compile()
    except jax.errors.JaxRuntimeError as error:
        if OUT_OF_MEMORY not in str(error):
            raise
        return about | {"does_not_fit": next(line for line in str(error).splitlines() if OUT_OF_MEMORY in line)[:300]}
    memory, text = compiled.memory_analysis(), compiled.as_text()
    cost = compiled.cost_analysis() or {}
    found = collectives(text)
    return about | {
        "compile_seconds": round(time.monotonic() - began),
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "peak": memory.peak_memory_in_bytes,
        "flops": cost.get("flops"),
        "bytes_accessed": cost.get("bytes accessed"),
        "bytes_of_text": memory_traffic(text),
        "fused_attentions": text.count('custom_call_target="__cudnn$fmha'),
        "branches": text.count(" conditional("),
        "collectives": by_group(found),
        "gathers": gathers([p.shape for p in step.params if not p.sharding.is_fully_replicated], found),
    }


def topology(chip: str, axes: tuple[int, ...]):
    """Descriptions of the devices of a slice: of TPUs by its torus, of GPUs by (nodes, GPUs of a node)."""
    if chip == "H200":
        described = (HERE / "h200.txtpb").read_text()
        return topologies.get_topology_desc(
            platform="cuda", target_config=described, topology="x".join(map(str, (*axes, 1)))
        )
    return topologies.get_topology_desc(platform="tpu", topology_name=f"{chip}:{'x'.join(map(str, axes))}")


def network_config(name: str) -> ConfigDict:
    """A configuration with activations in bfloat16 and parameters in float32."""
    configs = HERE.parent / "configs"
    files = {"DDPM++": "cifar10_ddpmpp_vp.py", "ADM": "imagenet64_edm.py"}
    config = load_config(str(configs / files[name]), []) if name in files else _dit()
    config.model.dtype = "bfloat16"
    return config


def _dit() -> ConfigDict:
    """DiT-XL/2 on latents of 256 x 256 images (Peebles and Xie 2023), with the objective of this package's VP
    default."""
    published, config = PUBLISHED["dit_xl2"], default()
    config.model.update(published.fields)
    config.data.image_size, config.data.channels, config.data.levels = published.shape[0], published.shape[2], 0
    config.optim.optimizer, config.optim.learning_rate = "adamw", 1e-4
    return config


if __name__ == "__main__":
    main()
