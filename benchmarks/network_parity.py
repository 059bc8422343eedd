"""Our networks against public PyTorch ones: the same parameters and inputs, the outputs compared in float32.

python benchmarks/network_parity.py [--python PYTHON] [--env DIR] [--only NAME]

PYTHON is that of an environment with torch, diffusers and score-models. Without it, DIR (default .network-parity-env)
is made and filled with pip; to choose the build of torch, name it in a file and set PIP_CONSTRAINT to that file.

- cases: published networks, with their own configuration where it fits a small machine (the 256 x 256 NCSN++ runs on
  images of 64 x 64, which its seven levels still divide), else fewer channels.
- parameters: drawn anew by network_reference.py, biases and scales too, and renamed by scoresde.convert and
network_weights.py.
- difference: |ours - theirs| / |theirs|, Euclidean norms of each output, the larger of two examples; worst: the largest
  difference of a component over the largest component. The limit is 1e-4 for the former.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from environment import environment
from flax import nnx
from network_weights import from_dit, from_score_models, placed
from record import record

from scoresde.convert.diffusers import from_diffusers
from scoresde.nets import PUBLISHED, ClassCondition, DiT, Network, UNet

LIMIT = 1e-4
PACKAGES = ["torch", "diffusers", "safetensors", "scipy", "tqdm"]
WITHOUT_DEPENDENCIES = ["score-models", "torch-ema"]  # theirs add torchvision and more for other parts

DDPM = PUBLISHED["ddpm"].fields
NCSNPP_256 = PUBLISHED["ncsnpp_256"].fields
ADM = PUBLISHED["adm_imagenet64"].fields


@dataclasses.dataclass(frozen=True)
class Case:
    """One network on both sides.

    Attributes:
        network, options: of network_reference.py.
        ours: arguments of our network; the shape [H, W, C] is that of the input.
        shape: [C, H, W] of the input.
        t: what their network is called with; log_t: ours is called with log t.
    """

    network: str
    options: dict
    ours: dict
    shape: tuple[int, int, int]
    t: tuple[float, float] = (3.0, 700.0)
    log_t: bool = False

    @property
    def told(self) -> dict:
        return dict(
            network=self.network,
            options=self.options,
            shape=self.shape,
            t=self.t,
            classes=self.ours.get("num_classes", 0),
        )


class Nothing(nnx.Module):
    """In the place of an attention block that the other side has not."""

    def __call__(self, h):
        return h


def diffusers_cases() -> dict[str, Case]:
    name = "diffusers.UNet2DModel"
    ddpm = dict(
        sample_size=32, block_out_channels=[128, 256, 256, 256], layers_per_block=2, downsample_padding=0,
        attention_head_dim=None,
        flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
        down_block_types=["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    )  # fmt: skip
    ncsnpp = dict(
        sample_size=64, block_out_channels=[128, 128, 256, 256, 256, 256, 256], layers_per_block=2,
        time_embedding_type="fourier",
        attention_head_dim=None, norm_num_groups=None, norm_eps=1e-6, mid_block_scale_factor=2**0.5,
        down_block_types=["SkipDownBlock2D"] * 4 + ["AttnSkipDownBlock2D"] + ["SkipDownBlock2D"] * 2,
        up_block_types=["SkipUpBlock2D"] * 2 + ["AttnSkipUpBlock2D"] + ["SkipUpBlock2D"] * 4,
    )  # fmt: skip
    adm = dict(
        sample_size=16, block_out_channels=[128, 256], layers_per_block=2, norm_eps=1e-5, attention_head_dim=64,
        num_class_embeds=10,
        resnet_time_scale_shift="scale_shift", attn_norm_num_groups=32, downsample_type="resnet",
        upsample_type="resnet",
        down_block_types=["ResnetDownsampleBlock2D", "AttnDownBlock2D"], up_block_types=["AttnUpBlock2D",
        "ResnetUpsampleBlock2D"],
    )  # fmt: skip
    small = dict(
        center_input_sample=True, block_out_channels=[128, 128], down_block_types=["DownBlock2D", "AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D", "UpBlock2D"],
    )  # fmt: skip
    small_adm = ADM | dict(channels=128, multipliers=(1, 2), blocks=2, attention=(8,), num_classes=10)
    return {
        "DDPM, google/ddpm-cifar10-32": Case(name, ddpm, DDPM, (3, 32, 32)),
        "DDPM, data in [0, 1], two levels": Case(
            name, ddpm | small, DDPM | dict(multipliers=(1, 1), center_input=True), (3, 32, 32)
        ),
        # Attention at level 4, which is 16 pixels high for images of 256 and 4 here.
        "NCSN++, google/ncsnpp-celebahq-256": Case(
            name, ncsnpp, NCSNPP_256 | dict(attention=(4,)), (3, 64, 64), (0.05, 40.0), True
        ),
        "ADM, 128 channels": Case(name, adm, small_adm, (3, 16, 16)),
    }


def score_models_cases() -> dict[str, Case]:
    """score_sde's options one against another; 32 channels."""
    theirs = dict(channels=3, nf=32, ch_mult=[1, 2, 2], num_res_blocks=2)
    ours = dict(channels=32, multipliers=(1, 2, 2), blocks=2, attention=(), embedding="fourier")
    cases = {}
    for fir, inputs, outputs, combine in [
        (True, "residual", "none", "sum"),  # NCSN++ for CIFAR-10
        (True, "input_skip", "output_skip", "sum"),  # NCSN++ for larger images
        (True, "input_skip", "residual", "cat"),
        (False, "residual", "residual", "sum"),
        (False, "none", "none", "sum"),  # DDPM++
    ]:
        options = theirs | dict(fir=fir, progressive_input=inputs, progressive=outputs, combine_method=combine)
        mine = ours | dict(
            resample_filter="fir" if fir else "box", progressive_input=inputs, progressive=outputs, combine=combine
        )
        name = f"{'NCSN++' if fir else 'DDPM++'}, input {inputs}, output {outputs}, {combine}"
        cases[name] = Case("score_models.NCSNpp", options, mine, (3, 16, 16), (0.3, 0.9))
    ddpm = DDPM | ours
    cases["DDPM, score-models"] = Case(
        "score_models.DDPM", theirs | dict(activation_type="swish"), ddpm, (3, 16, 16), (0.3, 0.9)
    )
    return cases


def dit_cases() -> dict[str, Case]:
    theirs = dict(
        num_attention_heads=6, attention_head_dim=64, num_layers=3, patch_size=2, sample_size=16, in_channels=4,
        out_channels=4,
        num_embeds_ada_norm=10, norm_eps=1e-6,
    )  # fmt: skip
    ours = PUBLISHED["dit_s2"].fields | dict(depth=3, num_classes=10, embedding="positional")
    return {"DiT, 3 of 12 blocks of DiT-S/2": Case("diffusers.DiTTransformer2DModel", theirs, ours, (4, 16, 16))}


def parameters(case: Case, theirs: dict) -> dict:
    """Theirs under our names."""
    if case.network.startswith("score_models"):
        return from_score_models(theirs, case.ours)
    if "DiT" in case.network:
        return from_dit(theirs, case.options)
    return from_diffusers(theirs, len(case.options["block_out_channels"])).ours


def filled(case: Case, copied: dict) -> Network:
    """Our network with those parameters; every one is set, and none is left over."""
    channels, height, width = case.shape

    def build(rngs):
        ours = dict(case.ours)
        if classes := ours.pop("num_classes", 0):
            ours["conditions"] = {"class": ClassCondition(classes)}
        kind = {"unet": UNet, "dit": DiT}[ours.pop("name", "unet")]
        module = kind((height, width, channels), **ours | dict(dropout=0.0), rngs=rngs)
        if case.network.startswith("score_models"):
            module.middle_attention = Nothing()
        return module

    return placed(jax.eval_shape(lambda key: Network.init(build, key=key), jax.random.key(0)), copied)


def compare(case: Case, saved) -> dict:
    theirs = {name.removeprefix("p/"): saved[name] for name in saved if name.startswith("p/")}
    network = filled(case, parameters(case, theirs))
    c_noise = np.log(saved["t"]) if case.log_t else saved["t"]
    given = {"class": jnp.array([1, 4])} if case.ours.get("num_classes") else None
    x = jnp.asarray(saved["x"].transpose(0, 2, 3, 1))
    ours = np.asarray(jax.jit(lambda net, x: net(x, jnp.asarray(c_noise), given))(network, x)).transpose(0, 3, 1, 2)
    y = saved["y"]
    error = np.linalg.norm((ours - y).reshape(len(y), -1), axis=1) / np.linalg.norm(y.reshape(len(y), -1), axis=1)
    return {
        "theirs": case.network,
        "parameters": sum(p.size for p in theirs.values()),
        "difference": float(error.max()),
        "worst": float(np.abs(ours - y).max() / np.abs(y).max()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--python", type=pathlib.Path, help="Python of an environment with torch, diffusers and score-models"
    )
    parser.add_argument(
        "--env", type=pathlib.Path, default=pathlib.Path(".network-parity-env"), help="environment to make"
    )
    parser.add_argument("--only", default="", help="cases whose name contains this; nothing is recorded")
    flags = parser.parse_args()
    python = flags.python or environment(flags.env, PACKAGES, WITHOUT_DEPENDENCIES)
    cases = {n: case for n, case in (diffusers_cases() | score_models_cases() | dit_cases()).items() if flags.only in n}

    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "cases.json").write_text(json.dumps({str(i): case.told for i, case in enumerate(cases.values())}))
        subprocess.run([python, pathlib.Path(__file__).with_name("network_reference.py"), folder], check=True)
        versions = json.loads((folder / "versions.json").read_text())
        print(f"{'network':48} {'theirs':32} {'parameters':>12} {'difference':>10} {'worst':>8}")
        for i, (name, case) in enumerate(cases.items()):
            with np.load(folder / f"{i}.npz") as saved:
                rows[name] = row = compare(case, dict(saved))
            print(
                f"{name:48} {row['theirs']:32} {row['parameters']:12,} {row['difference']:10.1e} {row['worst']:8.1e}",
                flush=True,
            )
    if not flags.only:
        record("network_parity", {"limit": LIMIT, "theirs": versions, "cases": rows})
    if any(row["difference"] > LIMIT for row in rows.values()):
        sys.exit("a difference is above the limit")


if __name__ == "__main__":
    main()
