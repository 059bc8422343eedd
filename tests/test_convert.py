"""Published weights: random ones, written in the formats of others, come out as runs that draw."""

import dataclasses
import json
import os
import pickle
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import call
from flax import nnx, serialization
from safetensors.numpy import load_file, save_file

from scoresde.convert import recipes
from scoresde.convert.diffusers import from_diffusers
from scoresde.convert.folder import configuration, load_into
from scoresde.convert.guided import from_guided
from scoresde.convert.score_sde import average_of_flax, average_of_torch, by_class, from_score_sde, in_a_list
from scoresde.experiment.config import from_json
from scoresde.experiment.load import load_run
from scoresde.nets.resampling import DownConv

DDPM = {
    "_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 3, "out_channels": 3, "block_out_channels": [128,
    128],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "downsample_padding": 0, "attention_head_dim": None, "flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6,
}  # fmt: skip
NCSNPP = {
    "_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 3, "out_channels": 3, "block_out_channels": [32,
    128],
    "down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"], "up_block_types": ["AttnSkipUpBlock2D",
    "SkipUpBlock2D"],
    "layers_per_block": 1, "attention_head_dim": None, "norm_num_groups": None, "norm_eps": 1e-6,
    "mid_block_scale_factor": 2**0.5, "time_embedding_type": "fourier",
}  # fmt: skip


class Writer:
    """Random arrays under names of PyTorch's: a convolution is [out, in, h, w], a dense layer [out, in]."""

    def __init__(self, seed: int = 0):
        self.random, self.arrays = np.random.default_rng(seed), {}

    def draw(self, name: str, *shape: int) -> None:
        self.arrays[name] = (0.1 * self.random.standard_normal(shape)).astype(np.float32)

    def conv(self, name: str, n: int, m: int, width: int = 3) -> None:
        self.draw(f"{name}.weight", m, n, width, width)
        self.draw(f"{name}.bias", m)

    def dense(self, name: str, n: int, m: int) -> None:
        self.draw(f"{name}.weight", m, n)
        self.draw(f"{name}.bias", m)

    def norm(self, name: str, n: int) -> None:
        self.draw(f"{name}.weight", n)
        self.draw(f"{name}.bias", n)


def diffusers_block(w: Writer, name: str, n: int, m: int, temb: int, skip: bool = False) -> None:
    w.norm(f"{name}.norm1", n)
    w.conv(f"{name}.conv1", n, m)
    w.dense(f"{name}.time_emb_proj", temb, m)
    w.norm(f"{name}.norm2", m)
    w.conv(f"{name}.conv2", m, m)
    if n != m or skip:
        w.conv(f"{name}.conv_shortcut", n, m, 1)


def diffusers_attention(w: Writer, name: str, n: int, names=("to_q", "to_k", "to_v", "to_out.0")) -> None:
    w.norm(f"{name}.group_norm", n)
    for layer in names:
        w.dense(f"{name}.{layer}", n, n)


def diffusers_weights(config: dict) -> dict:
    """Two levels of one block, attention at the second; DDPM's with the names of the first versions."""
    w, (a, b), skip = Writer(), config["block_out_channels"], "Skip" in config["down_block_types"][0]
    temb = 4 * a
    names = ("to_q", "to_k", "to_v", "to_out.0") if skip else ("query", "key", "value", "proj_attn")
    w.conv("conv_in", 3, a)
    w.conv("conv_out", a, 3)
    w.norm("conv_norm_out", a)
    w.dense("time_embedding.linear_1", 2 * a if skip else a, temb)
    w.dense("time_embedding.linear_2", temb, temb)
    if skip:
        w.draw("time_proj.weight", a)
    diffusers_block(w, "down_blocks.0.resnets.0", a, a, temb)
    diffusers_block(w, "down_blocks.1.resnets.0", a, b, temb)
    diffusers_attention(w, "down_blocks.1.attentions.0", b, names)
    for j in (0, 1):
        diffusers_block(w, f"mid_block.resnets.{j}", b, b, temb)
    diffusers_attention(w, "mid_block.attentions.0", b, names)
    for i, n, m, skips in ((0, b, b, (b, a)), (1, b, a, (a, a))):
        for j, extra in enumerate(skips):
            diffusers_block(w, f"up_blocks.{i}.resnets.{j}", (n if j == 0 else m) + extra, m, temb)
    for j in range(1 if skip else 2):
        diffusers_attention(w, f"up_blocks.0.attentions.{j}", b, names)
    if skip:
        diffusers_block(w, "down_blocks.0.resnet_down", a, a, temb, skip=True)
        w.conv("down_blocks.0.skip_conv", 3, a, 1)
        diffusers_block(w, "up_blocks.0.resnet_up", b, b, temb, skip=True)
        w.conv("up_blocks.0.skip_conv", b, 3)
        w.norm("up_blocks.0.skip_norm", b)
    else:
        w.conv("down_blocks.0.downsamplers.0.conv", a, a)
        w.conv("up_blocks.0.upsamplers.0.conv", b, b)
    return w.arrays


def diffusers_folder(folder, config: dict, scheduler: dict | None = None, weights: dict | None = None):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if scheduler:
        (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
    save_file(
        {n: np.ascontiguousarray(a) for n, a in (weights or diffusers_weights(config)).items()},
        folder / "diffusion_pytorch_model.safetensors",
    )
    return folder


def converted(source, out, *flags):
    result = call("convert", source, f"--out={out}", *flags)
    assert result.code == 0, result.err
    return load_run(out)


def refused(source, out, *words, flags=()):
    result = call("convert", source, f"--out={out}", *flags)
    assert result.code == 4 and all(word in result.err for word in words), result.err
    assert len(result.err.splitlines()) == 1 and not out.exists()


def test_ddpm_of_diffusers(tmp_path):
    scheduler = {"num_train_timesteps": 1000, "beta_start": 2e-4, "beta_end": 0.01, "beta_schedule": "linear"}
    trained = converted(diffusers_folder(tmp_path / "ddpm", DDPM, scheduler), tmp_path / "run")
    c = from_json(trained.experiment.config)
    assert (c.sde.name, c.sde.beta_max, c.preconditioning.name, c.data.centered) == ("vp", 10.0, "eps", True)
    assert (c.model.resampling, c.model.decoder_attention, c.model.attention) == ("conv", "block", (4,))
    params, theirs = trained.score.network.params, diffusers_weights(DDPM)
    np.testing.assert_array_equal(
        params["encoder"][1]["attention"][0]["query"]["kernel"], theirs["down_blocks.1.attentions.0.query.weight"].T
    )
    np.testing.assert_array_equal(params["conv_in"]["kernel"], theirs["conv_in.weight"].transpose(2, 3, 1, 0))


def test_the_training_example_of_diffusers(tmp_path):
    """Its UNet2DModel pads both sides of a strided convolution, and may have cosine betas and predict v.

    Against numpy from their formulas: alphas_cumprod of `betas_for_alpha_bar`, and of DDPMScheduler
    pred_epsilon = sqrt(alpha_prod) v + sqrt(1 - alpha_prod) x.
    """
    example = DDPM | {
        "downsample_padding": 1,
        "attention_head_dim": 8,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "norm_eps": 1e-5,
    }
    scheduler = {
        "num_train_timesteps": 1000,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "beta_start": 1e-4,
    }
    trained = converted(diffusers_folder(tmp_path / "example", example, scheduler), tmp_path / "run")
    c, score = from_json(trained.experiment.config), trained.score
    assert (c.model.resample_filter, c.preconditioning.name, c.sde.name, c.model.head_channels) == (
        "box_padded",
        "v",
        "ddpm_cosine",
        8,
    )
    bar = lambda u: np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2  # noqa: E731
    product = np.cumprod([1 - min(1 - bar((i + 1) / 1000) / bar(i / 1000), 0.999) for i in range(1000)])
    labels = np.array([0, 1, 17, 500, 997, 998, 999])
    found = np.asarray(jax.vmap(score.sde.log_alpha)(jnp.asarray(labels / 999, jnp.float32)))
    np.testing.assert_allclose(
        np.exp(2 * found), product[labels], rtol=2e-4
    )  # where it falls fastest, t is rounded to 1e-7 of 1
    x = np.random.default_rng(0).standard_normal((8, 8, 3)).astype(np.float32)
    for label in (17, 500, 998):
        v = np.asarray(score.network(jnp.asarray(x)[None], jnp.asarray([label], jnp.float32))[0])
        alpha, sigma = np.sqrt(product[label]), np.sqrt(1 - product[label])
        epsilon, x0 = alpha * v + sigma * x, alpha * x - sigma * v
        t = jnp.float32(label / 999)
        np.testing.assert_allclose(
            score(jnp.asarray(x), t), -epsilon / sigma, atol=2e-3
        )  # the label is rounded by 999 t too
        np.testing.assert_allclose(score.denoise(jnp.asarray(x), t), x0, atol=2e-3)


def test_a_strided_convolution_padded_on_both_sides():
    """Output (i, j) is the sum over input (2 i + a - 1, 2 j + b - 1), a and b from 0 to 2: torch's conv2d with stride 2
    and padding 1."""
    layer = DownConv(2, 3, "box_padded", axes=2, dtype=jnp.float32, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).standard_normal((6, 8, 2)).astype(np.float32)
    kernel, padded = np.asarray(layer.conv.kernel[...]), np.pad(x, ((1, 1), (1, 1), (0, 0)))
    expected = np.zeros((3, 4, 3))
    for i in range(3):
        for j in range(4):
            expected[i, j] = np.einsum("abn,abnm->m", padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3], kernel)
    np.testing.assert_allclose(layer(jnp.asarray(x)[None])[0], expected, atol=1e-5)


@pytest.fixture(scope="module")
def ncsnpp(tmp_path_factory):
    """(run folder, what load_run makes of it)."""
    folder = tmp_path_factory.mktemp("ncsnpp")
    return folder / "run", converted(diffusers_folder(folder / "theirs", NCSNPP), folder / "run")


def test_ncsnpp_of_diffusers_is_the_score_over_sigma(ncsnpp):
    """s(x, t) = F(x, log sigma) / sigma with F the network of their arrays, on data in [0, 1]."""
    trained = ncsnpp[1]
    c, score = from_json(trained.experiment.config), trained.score
    assert (c.sde.name, c.sde.sigma_min, c.sde.sigma_max, c.data.centered) == ("ve", 0.01, 1348.0, False)
    assert (c.model.progressive_input, c.model.progressive, c.model.resample_filter, c.model.skip_rescale) == (
        "input_skip",
        "output_skip",
        "fir",
        True,
    )
    ours = from_diffusers(diffusers_weights(NCSNPP), 2).ours
    taken = lambda path, p: jnp.asarray(ours.pop(jax.tree_util.keystr(path, simple=True, separator="/")))  # noqa: E731
    network = dataclasses.replace(score.network, params=jax.tree_util.tree_map_with_path(taken, score.network.params))
    assert not ours
    x, t = jax.random.normal(jax.random.key(0), (8, 8, 3)), jnp.asarray(0.4)
    sigma = 0.01 * 134800.0**0.4
    found, expected = jax.jit(lambda x, t: (score(x, t), network(x[None], jnp.log(jnp.asarray([sigma])))[0] / sigma))(
        x, t
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * float(jnp.abs(expected).max()))


def test_a_converted_run_draws_without_records_and_takes_those_of_others(ncsnpp, tmp_path):
    run, _ = ncsnpp
    result = call("sample", f"--workdir={run}", "--num=2", "--sampler=ddim", "--steps=2", f"--out={tmp_path / 'drawn'}")
    assert result.code == 0, result.err
    with np.load(tmp_path / "drawn" / "samples.npz", allow_pickle=False) as drawn:
        assert drawn["samples"].shape == (2, 8, 8, 3) and drawn["samples"].dtype == np.uint8
    flags = (f"--workdir={run}", "--num=2", "--config.likelihood.method=elbo", "--config.likelihood.samples=2")
    result = call("likelihood", *flags)
    assert result.code == 3 and "--config.data.source" in result.err, result.err
    records = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "records.npz", x_train=records, x_test=records)
    result = call("likelihood", *flags, f"--config.data.source=npz:{tmp_path / 'records.npz'}")
    assert result.code == 0, result.err


def test_what_does_not_fit_is_refused_and_named(tmp_path):
    weights, out = diffusers_weights(NCSNPP), tmp_path / "run"
    del weights["mid_block.resnets.1.conv2.bias"]
    refused(
        diffusers_folder(tmp_path / "missing", NCSNPP, weights=weights),
        out,
        "mid_block.resnets.1.conv2.bias is missing",
    )
    weights = diffusers_weights(NCSNPP) | {"mid_block.resnets.2.conv2.bias": np.zeros(128, np.float32)}
    refused(
        diffusers_folder(tmp_path / "more", NCSNPP, weights=weights), out, "mid_block.resnets.2.conv2.bias was not used"
    )
    refused(diffusers_folder(tmp_path / "other", NCSNPP | {"act_fn": "gelu"}), out, "act_fn = 'gelu'")
    for name, value in (
        ("beta_schedule", "scaled_linear"),
        ("prediction_type", "sample"),
        ("rescale_betas_zero_snr", True),
    ):
        refused(
            diffusers_folder(tmp_path / name, DDPM, {name: value}, diffusers_weights(NCSNPP)),
            out,
            f"{name} = {value!r}",
        )
    refused(tmp_path, out, "config.json")


SMALL = ("model.channels=8", "model.multipliers=(1,2)", "model.blocks=1", "model.attention=(4,)", "data.image_size=8")


def score_sde_modules() -> list[tuple[str, dict]]:
    """NCSN++ for CIFAR-10 at `SMALL`: the class of each module in the order of the calls, and its arrays as in
    PyTorch."""
    a, b, modules = 8, 16, []

    def add(kind, draw):
        w = Writer(len(modules))
        draw(w)
        modules.append((kind, w.arrays))

    def block(n, m, skip=False):
        def draw(w):
            w.norm("GroupNorm_0", n)
            w.conv("Conv_0", n, m)
            w.dense("Dense_0", 4 * a, m)
            w.norm("GroupNorm_1", m)
            w.conv("Conv_1", m, m)
            if n != m or skip:
                w.conv("Conv_2", n, m, 1)

        add("ResnetBlockBigGANpp", draw)

    def attention(n):
        def draw(w):
            w.norm("GroupNorm_0", n)
            for j in range(4):
                w.draw(f"NIN_{j}.W", n, n)
                w.draw(f"NIN_{j}.b", n)

        add("AttnBlockpp", draw)

    add("GaussianFourierProjection", lambda w: w.draw("W", a))
    add("Dense", lambda w: w.dense("", 2 * a, 4 * a))
    add("Dense", lambda w: w.dense("", 4 * a, 4 * a))
    add("Conv", lambda w: w.conv("", 3, a))
    block(a, a)
    block(a, a, skip=True)
    add("Downsample", lambda w: w.conv("Conv2d_0", 3, a))
    block(a, b)
    attention(b)
    block(b, b)
    attention(b)
    block(b, b)
    block(b + b, b)
    block(b + a, b)
    attention(b)
    block(b, b, skip=True)
    block(b + a, a)
    block(a + a, a)
    add("GroupNorm", lambda w: w.norm("", a))
    add("Conv", lambda w: w.conv("", a, 3))
    return modules


def as_torch() -> dict:
    return {
        f"all_modules.{i}.{n.removeprefix('.')}": a
        for i, (_, arrays) in enumerate(score_sde_modules())
        for n, a in arrays.items()
    }


def as_flax(early: bool) -> dict:
    """A tree of their names; early versions count all modules of the network together, and have [1, 1, 1, C] for a
    norm."""
    tree, seen = {}, Counter()
    for i, (kind, arrays) in enumerate(score_sde_modules()):
        module = tree.setdefault(f"{kind}_{i if early else seen[kind]}", {})
        seen[kind] += 1
        for name, array in arrays.items():
            *inner, last = name.removeprefix(".").split(".")
            place, norm = module, "GroupNorm" in (inner or [kind])[0]
            for part in inner:
                place = place.setdefault(part, {})
            if norm:
                place["scale" if last == "weight" else "bias"] = array.reshape(1, 1, 1, -1) if early else array
            elif last == "weight":
                place["kernel"] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
            else:
                place[last] = array
    return tree


def named(params) -> dict:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def test_score_sde_of_flax_and_of_torch_are_the_same_network(tmp_path):
    """The average is taken, not the parameters; the two layouts give the same arrays, and what is exported comes
    back."""
    file, run = tmp_path / "checkpoint_26", tmp_path / "run"
    early = as_flax(early=True)
    zeros = jax.tree.map(np.zeros_like, early)
    file.write_bytes(serialization.msgpack_serialize({"step": 3, "optimizer": {"target": zeros}, "params_ema": early}))
    flags = [f"--config.{text}" for text in SMALL]
    assert call("convert", file, f"--out={run}", *flags).code == 2  # no --network
    result = call("convert", file, f"--out={run}", "--network=ncsnpp_cifar10", *flags)
    assert result.code == 0, result.err
    file = tmp_path / "model.safetensors"
    result = call("convert", run, f"--export={file}")
    assert result.code == 0, result.err
    config = configuration(recipes.fields("ncsnpp_cifar10"), list(SMALL))
    assert (config.process_name, config.sde.sigma_max, config.data.centered, config.model.center_input) == (
        "ve",
        50.0,
        False,
        True,
    )
    ours = from_score_sde(as_torch(), config.model, 8, in_a_list())
    assert ours.used == set(as_torch())
    exported = load_file(file)
    assert set(exported) == set(ours.ours)
    for name, array in exported.items():
        np.testing.assert_array_equal(array, ours.ours[name], err_msg=name)
    theirs = as_torch()
    np.testing.assert_array_equal(
        exported["encoder/0/pyramid/down/conv/kernel"], theirs["all_modules.6.Conv2d_0.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(exported["decoder/0/attention/value/kernel"], theirs["all_modules.14.NIN_2.W"])
    refused(
        tmp_path / "checkpoint_26",
        tmp_path / "other",
        "GaussianFourierProjection_0.W was not used",
        flags=("--network=ddpmpp_cifar10", *flags),
    )
    linen = from_score_sde(average_of_flax({"params_ema": as_flax(early=False)}), config.model, 8, by_class())
    assert set(linen.ours) == set(exported) and all(
        (linen.ours[name] == array).all() for name, array in exported.items()
    )
    result = call("convert", file, f"--out={tmp_path / 'again'}")
    assert result.code == 0, result.err
    again = named(load_run(tmp_path / "again").score.network.params)
    assert all((again[name] == array).all() for name, array in exported.items())


def test_the_average_of_torch_is_a_list_in_the_order_of_the_parameters():
    model = {"module.sigmas": np.zeros(3)} | {
        f"module.{name}": np.zeros_like(array) for name, array in as_torch().items()
    }
    shadow = [array for name, array in as_torch().items() if name != "all_modules.0.W"]  # not trained
    found = average_of_torch({"model": model, "ema": {"shadow_params": shadow}}, dict)
    expected = as_torch() | {"all_modules.0.W": np.zeros(8)}
    assert set(found) == set(expected) and all((found[name] == expected[name]).all() for name in expected)


def test_a_pth_of_score_sde(tmp_path):
    """Written by torch, with the optimizer beside the model as they have it."""
    torch = pytest.importorskip("torch")
    tensors = {f"module.{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in as_torch().items()}
    shadow = [tensor for name, tensor in tensors.items() if name != "module.all_modules.0.W"]
    ema = {"decay": 0.999, "num_updates": 5, "shadow_params": shadow}
    model = {"module.sigmas": torch.zeros(3)} | {
        name: tensor if name.endswith("_modules.0.W") else 0 * tensor for name, tensor in tensors.items()
    }
    torch.save(
        {"optimizer": {"state": {0: {"step": 5}}}, "model": model, "ema": ema, "step": 5}, tmp_path / "checkpoint_8.pth"
    )
    flags = ("--network=ncsnpp_cifar10", *(f"--config.{text}" for text in SMALL))
    result = call("convert", tmp_path / "checkpoint_8.pth", f"--out={tmp_path / 'run'}", *flags)
    assert result.code == 0, result.err
    assert call("convert", tmp_path / "run", f"--export={tmp_path / 'run.safetensors'}").code == 0
    ours = from_score_sde(
        as_torch(), configuration(recipes.fields("ncsnpp_cifar10"), list(SMALL)).model, 8, in_a_list()
    ).ours
    exported = load_file(tmp_path / "run.safetensors")
    assert set(exported) == set(ours) and all((exported[name] == ours[name]).all() for name in ours)


def test_adm():
    """Every array of its state dict has its place; heads of query, key and value are told apart."""
    small = (
        "model.channels=64",
        "model.multipliers=(1,2)",
        "model.blocks=1",
        "model.attention=(4,)",
        "model.num_classes=5",
        "data.image_size=8",
    )
    config = configuration(recipes.fields("adm_imagenet64"), list(small))
    empty = config.network
    w, a, b, t = Writer(), 64, 128, 256

    def block(name, n, m):
        w.norm(f"{name}.in_layers.0", n)
        w.conv(f"{name}.in_layers.2", n, m)
        w.dense(f"{name}.emb_layers.1", t, 2 * m)
        w.norm(f"{name}.out_layers.0", m)
        w.conv(f"{name}.out_layers.3", m, m)
        if n != m:
            w.conv(f"{name}.skip_connection", n, m, 1)

    def attention(name):
        w.norm(f"{name}.norm", b)
        for layer, m in (("qkv", 3 * b), ("proj_out", b)):
            w.draw(f"{name}.{layer}.weight", m, b, 1)
            w.draw(f"{name}.{layer}.bias", m)

    w.dense("time_embed.0", a, t)
    w.dense("time_embed.2", t, t)
    w.draw("label_emb.weight", 5, t)
    w.conv("input_blocks.0.0", 3, a)
    for name, n, m in (
        ("input_blocks.1.0", a, a), ("input_blocks.2.0", a, a), ("input_blocks.3.0", a, b), ("middle_block.0", b, b),
        ("middle_block.2", b, b),
        ("output_blocks.0.0", b + b, b), ("output_blocks.1.0", b + a, b), ("output_blocks.1.2", b, b),
        ("output_blocks.2.0", b + a, a),
        ("output_blocks.3.0", a + a, a),
    ):  # fmt: skip
        block(name, n, m)
    for name in ("input_blocks.3.1", "middle_block.1", "output_blocks.0.1", "output_blocks.1.1"):
        attention(name)
    w.norm("out.0", a)
    w.conv("out.2", a, 6)
    for kinds_first in (True, False):
        copy = from_guided(w.arrays, config.model, (8, 8, 3), kinds_first)
        params = named(load_into(empty, copy.ours, "adm", set(copy.theirs) - copy.used).params)
        np.testing.assert_array_equal(params["conv_out/kernel"], w.arrays["out.2.weight"][:3].transpose(2, 3, 1, 0))
        rows = w.arrays["middle_block.1.qkv.weight"][..., 0]
        # Two heads of 64: the key of head 1.
        key = rows[128 + 64 : 256] if kinds_first else rows[192 + 64 : 192 + 128]
        np.testing.assert_array_equal(params["middle_attention/key/kernel"][:, 64:], key.T)
        assert not params["conditioning/classes/embedding"][5].any()


class Canary:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("name", ["edm.pkl", "checkpoint_26", "model.safetensors", "model.pt"])
def test_pickles_are_refused_and_not_executed(name, tmp_path):
    if name.endswith(".pt"):
        pytest.importorskip("torch")
    canary = tmp_path / "executed"
    (tmp_path / name).write_bytes(pickle.dumps(Canary(canary), protocol=2))
    refused(tmp_path / name, tmp_path / "run", "refused", "executes code", flags=("--network=ncsnpp_cifar10",))
    assert not canary.exists()
    pickle.loads((tmp_path / name).read_bytes())
    assert canary.exists()  # it would have been
