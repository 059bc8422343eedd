"""DINOv2 from a file to features, against the network written out in NumPy; parity with transformers is in
benchmarks/dinov2_parity.py."""

import math

import numpy as np
import pytest
from commands import call
from PIL import Image
from safetensors.numpy import save_file

from scoresde.errors import DataError
from scoresde.metrics import dinov2 as space
from scoresde.metrics import record
from scoresde.nets import dinov2
from scoresde.workflows.feature_extractors import feature_network

WIDTH, DEPTH = 128, 2  # two heads


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A size for tests beside the published ones."""
    monkeypatch.setitem(space.SPACES, (WIDTH, DEPTH), "dinov2_tiny")
    monkeypatch.setattr("scoresde.metrics.features._BATCH_CPU", 2)


def published_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights by the names of the authors."""
    random, d = np.random.default_rng(seed), WIDTH
    shapes = {
        "cls_token": (1, 1, d),
        "pos_embed": (1, 1 + 37 * 37, d),
        "mask_token": (1, d),
        "norm.weight": (d,),
        "norm.bias": (d,),
    }
    shapes |= {"patch_embed.proj.weight": (d, 3, 14, 14), "patch_embed.proj.bias": (d,)}
    for k in range(DEPTH):
        parts = {
            "attn.qkv": (3 * d, d),
            "attn.proj": (d, d),
            "mlp.fc1": (4 * d, d),
            "mlp.fc2": (d, 4 * d),
            "norm1": (d,),
            "norm2": (d,),
        }
        for name, shape in parts.items():
            shapes |= {f"blocks.{k}.{name}.weight": shape, f"blocks.{k}.{name}.bias": shape[:1]}
        shapes |= {f"blocks.{k}.ls{n}.gamma": (d,) for n in (1, 2)}
    scale = {name: 1 / math.sqrt(np.prod(shape[1:])) if len(shape) in (2, 4) else 0.5 for name, shape in shapes.items()}
    return {name: (random.standard_normal(shape) * scale[name]).astype(np.float32) for name, shape in shapes.items()}


def hugging_face(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same by the names of Hugging Face, written out."""
    e = "embeddings."
    found = {f"{e}cls_token": "cls_token", f"{e}position_embeddings": "pos_embed", f"{e}mask_token": "mask_token"}
    for part in ("weight", "bias"):
        found |= {
            f"{e}patch_embeddings.projection.{part}": f"patch_embed.proj.{part}",
            f"layernorm.{part}": f"norm.{part}",
        }
        for k in range(DEPTH):
            names = {
                "attention.output.dense": "attn.proj",
                "norm1": "norm1",
                "norm2": "norm2",
                "mlp.fc1": "mlp.fc1",
                "mlp.fc2": "mlp.fc2",
            }
            found |= {
                f"encoder.layer.{k}.{ours}.{part}": f"blocks.{k}.{theirs}.{part}" for ours, theirs in names.items()
            }
    found |= {
        f"encoder.layer.{k}.layer_scale{n}.lambda1": f"blocks.{k}.ls{n}.gamma" for k in range(DEPTH) for n in (1, 2)
    }
    found = {ours: arrays[theirs] for ours, theirs in found.items()}
    for k in range(DEPTH):
        for part in ("weight", "bias"):
            q, key, v = arrays[f"blocks.{k}.attn.qkv.{part}"].reshape(3, WIDTH, *[WIDTH] * (part == "weight"))
            for name, array in (("query", q), ("key", key), ("value", v)):
                found[f"encoder.layer.{k}.attention.attention.{name}.{part}"] = array.copy()
    return found


def written_out(arrays: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Class tokens by the authors' names, float64, one token and one head after the other."""
    w = {name: array.astype(np.float64) for name, array in arrays.items()}

    def dense(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(axis=-1, keepdims=True)
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]

    matrix = np.array([bicubic_row((i + 0.5) * 37 / 16.1 - 0.5, 37) for i in range(16)])
    table = w["pos_embed"][0]
    positions = np.einsum("ih,hwc,jw->ijc", matrix, table[1:].reshape(37, 37, -1), matrix, optimize=True).reshape(
        256, -1
    )
    rows = []
    for image in images:
        big = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)) / 255
        x = (big - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        kernel = w["patch_embed.proj.weight"]
        tokens = [
            np.tensordot(kernel, x[i : i + 14, j : j + 14], ((2, 3, 1), (0, 1, 2)))
            for i in range(0, 224, 14)
            for j in range(0, 224, 14)
        ]
        h = np.concatenate([w["cls_token"][0] + table[:1], np.array(tokens) + w["patch_embed.proj.bias"] + positions])
        for k in range(DEPTH):
            q, key, v = np.split(dense(norm(h, f"blocks.{k}.norm1"), f"blocks.{k}.attn.qkv"), 3, axis=-1)
            heads = []
            for part in (slice(0, 64), slice(64, 128)):
                a = np.exp(q[:, part] @ key[:, part].T / 8)
                heads.append(a / a.sum(axis=1, keepdims=True) @ v[:, part])
            h = h + w[f"blocks.{k}.ls1.gamma"] * dense(np.concatenate(heads, axis=1), f"blocks.{k}.attn.proj")
            y = dense(norm(h, f"blocks.{k}.norm2"), f"blocks.{k}.mlp.fc1")
            y = y * (1 + np.vectorize(math.erf)(y / math.sqrt(2))) / 2
            h = h + w[f"blocks.{k}.ls2.gamma"] * dense(y, f"blocks.{k}.mlp.fc2")
        rows.append(norm(h[0], "norm"))
    return np.array(rows)


def bicubic_row(place: float, size: int) -> list[float]:
    """The cubic through f(-1)..f(2) with slopes -a (f(1) - f(-1)) at 0 and likewise at 1, a = -3/4, in Hermite's
    form."""
    low, row = math.floor(place), [0.0] * size
    t = place - low
    value_0, value_1 = 2 * t**3 - 3 * t**2 + 1, -2 * t**3 + 3 * t**2
    slope_0, slope_1 = 0.75 * (t**3 - 2 * t**2 + t), 0.75 * (t**3 - t**2)
    for tap, weight in ((-1, -slope_0), (0, value_0 - slope_1), (1, value_1 + slope_0), (2, slope_1)):
        row[min(max(low + tap, 0), size - 1)] += weight
    return row


def test_features_of_a_file_are_those_of_the_network_written_out(tmp_path):
    """Both families of names, one channel and three, a last batch that is not full."""
    arrays = published_arrays()
    save_file(hugging_face(arrays), tmp_path / "model.safetensors")
    np.savez(tmp_path / "model.npz", **arrays)
    images = np.random.default_rng(1).integers(0, [[[[256]]], [[[128]]], [[[40]]]], (3, 20, 30, 3)).astype(np.uint8)
    network = feature_network(str(tmp_path / "model.safetensors"), (20, 30, 3))
    found, exact = network(images), written_out(arrays, images)
    assert (network.name, network.dimensions, network.classes, network.channels) == ("dinov2_tiny", WIDTH, 0, "three")
    np.testing.assert_allclose(found, exact, atol=2e-5)
    assert np.ptp(exact, axis=0).max() > 0.1, "images differ"
    other = feature_network(str(tmp_path / "model.npz"), (20, 30, 1))
    np.testing.assert_allclose(other(images[..., :1]), network(np.repeat(images[..., :1], 3, axis=-1)), atol=1e-6)
    assert other.sha256 != network.sha256 and other.channels == "one, three times"
    with pytest.raises(DataError, match="integers 0..255"):
        network(images.astype(np.float32))


def test_positions_are_sampled_as_published():
    """Half way between points with a = -3/4 the weights are -3/32, 19/32, 19/32, -3/32; at points the points; 16 x 16
    stay."""
    np.testing.assert_allclose(dinov2.position_matrix(8, 4, offset=0)[1, 1:5], np.array([-3, 19, 19, -3]) / 32)
    np.testing.assert_allclose(dinov2.position_matrix(5, 5, offset=0), np.eye(5), atol=1e-15)
    np.testing.assert_allclose(
        dinov2.position_matrix(37), [bicubic_row((i + 0.5) * 37 / 16.1 - 0.5, 37) for i in range(16)], atol=1e-14
    )
    table = np.random.default_rng(0).standard_normal((257, 4)).astype(np.float32)
    np.testing.assert_array_equal(dinov2.positions(table), table)


def _without(name):
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


def _with(name, array):
    return lambda arrays: arrays | {name: array}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: {"unet.weight": np.ones(3, np.float32)}, "expected the weights of DINOv2.*found unet.weight"),
        (_without("encoder.layer.1.mlp.fc2.bias"), "1 of 42 are missing, the first 'encoder.layer.1.mlp.fc2.bias'"),
        (_with("encoder.layer.1.mlp.fc2.bias", np.ones(7, np.float32)), r"encoder.layer.1.mlp.fc2.bias: does not fit a "
                                                                        r"width of 128.*\(7,\)"),
        (_with("layernorm.bias", np.full(WIDTH, np.nan, np.float32)), "layernorm.bias: .*not finite"),
        (_with("embeddings.position_embeddings", np.ones((1, 300, WIDTH), np.float32)), r"position_embeddings: .*\(1, "
                                                                                        r"300, 128\)"),
        (_with("encoder.layer.2.norm1.weight", np.ones(WIDTH, np.float32)), "expected DINOv2 of width and depth 1024 "
                                                                            "and 24, .*got 128 and 3"),
        (_with("encoder.layer.0.mlp.weights_in.weight", np.ones((8, 8), np.float32)), "the giant"),
        (_with("embeddings.register_tokens", np.ones((1, 4, WIDTH), np.float32)), "registers"),
    ],
)  # fmt: skip
def test_another_network_is_refused_in_one_line(tmp_path, change, said):
    file = tmp_path / "model.safetensors"
    save_file(change(hugging_face(published_arrays())), file)
    with pytest.raises(DataError, match=said) as refused:
        feature_network(str(file), (8, 8, 3))
    assert "\n" not in str(refused.value)


def test_a_damaged_file_and_other_records_are_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(hugging_face(published_arrays()), file)
    for shape in ((8, 8, 4), (2,), (64, 1)):
        with pytest.raises(DataError, match="expected images"):
            feature_network(str(file), shape)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="not a good safetensors file"):
        feature_network(str(file), (8, 8, 3))
    with pytest.raises(DataError, match="no such file"):
        feature_network(str(tmp_path / "none.safetensors"), (8, 8, 3))


def test_the_command_names_the_space(tmp_path):
    """fd of a set with itself is 0, of two sets it is not; `fid` is refused."""
    save_file(hugging_face(published_arrays()), tmp_path / "model.safetensors")
    a, b = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 1)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", a=a, b=b)
    flags = ["--samples", f"{tmp_path / 'x.npz'}:a", "--network", tmp_path / "model.safetensors", "--stats", tmp_path]
    for name in "ab":
        done = call(
            "evaluate",
            *flags,
            "--reference",
            f"{tmp_path / 'x.npz'}:{name}",
            "--metrics",
            "fd",
            "--out",
            tmp_path / "out",
        )
        assert done.code == 0, done.err
    same, other = record.read_results(tmp_path / "out" / "records.jsonl").values()
    assert same["metric"] == other["metric"] == "fd_dinov2_tiny" and same["value"] < 1e-6 < 1e-3 < other["value"]
    assert "Pillow's bicubic to 224 x 224" in same["resize"] and len(same["network_sha256"]) == 64
    refused = call(
        "evaluate", *flags, "--reference", f"{tmp_path / 'x.npz'}:b", "--metrics", "fid", "--out", tmp_path / "out"
    )
    assert (
        refused.code == 2
        and "fid: is defined on the features of the 2015 Inception, got those of dinov2_tiny" in refused.err
    )
