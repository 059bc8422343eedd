"""FD-DINOv2 (Stein et al. 2023): the weights of DINOv2 by their names in files, and its feature space.

Files have one of two families of names: those of Hugging Face (`encoder.layer.0.attention.attention.query.weight`) and
the published ones (`blocks.0.attn.qkv.weight`, with query, key and value stacked). The latter are converted to the
former.

Images are prepared as in dgm-eval, the code of Stein et al.: Pillow's bicubic resize of uint8 to 224 x 224, which
rounds to uint8 again, then (v/255 - mean)/deviation with the constants of ImageNet.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image

from scoresde.errors import DataError
from scoresde.metrics.features import in_batches
from scoresde.nets import dinov2, inception
from scoresde.runtime.sharding import local_copy

# (width, depth) -> name of the space. FD-DINOv2 is defined on ViT-L/14; the names of the others contain their size.
SPACES = {(1024, 24): "dinov2", (768, 12): "dinov2_vitb14", (384, 12): "dinov2_vits14"}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_PUBLISHED = (  # pattern -> name of Hugging Face
    (r"^blocks\.", "encoder.layer."), (r"\.attn\.proj\.", ".attention.output.dense."), (r"\.ls([12])\.gamma$",
    r".layer_scale\1.lambda1"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."), (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"), (r"^norm\.", "layernorm."), (r"^register_tokens$",
    "embeddings.register_tokens"),
)  # fmt: skip
_LAYERS = {
    "norm_1": "norm1", "query": "attention.attention.query", "key": "attention.attention.key",
    "value": "attention.attention.value",
    "out": "attention.output.dense", "scale_1": "layer_scale1.lambda1", "norm_2": "norm2", "dense_1": "mlp.fc1",
    "dense_2": "mlp.fc2",
    "scale_2": "layer_scale2.lambda1",
}  # fmt: skip
_OUTER = {
    "patches": "embeddings.patch_embeddings.projection", "token": "embeddings.cls_token",
    "positions": "embeddings.position_embeddings",
    "norm": "layernorm",
}  # fmt: skip


def is_published(arrays: Mapping[str, np.ndarray]) -> bool:
    """Return whether these are the names of the published state dict."""
    return "pos_embed" in arrays and "cls_token" in arrays


def weights(arrays: Mapping[str, np.ndarray], what: str) -> tuple[int, int, dict]:
    """Return width, depth and parameters in the form of `nets.dinov2.features`.

    Args:
        arrays: arrays of the file by name.
        what: the file, for messages.

    Raises:
        DataError: the network is the giant, has registers or a size that was not published; a name is missing, a shape
            differs, or a value is not finite.
    """
    if is_published(arrays):
        arrays = _renamed(arrays)
    arrays = {name.removeprefix("dinov2."): array for name, array in arrays.items()}
    width, depth = _size(arrays, what)
    leaves, structure = jax.tree_util.tree_flatten_with_path(dinov2.described(width, depth)[1])
    named = [(*_name_of([key.key for key in path]), leaf.shape) for path, leaf in leaves]
    if missing := [name for name, _, _ in named if name not in arrays]:
        raise DataError(
            f"{what}: expected the weights of DINOv2 under the names of Hugging Face or of its authors, but "
            f"{len(missing)} of {len(named)} "
            f"are missing, the first '{missing[0]}'; see docs/evaluation.md for the files"
        )
    found = []
    for name, kind, shape in named:
        array = _as(kind, np.asarray(arrays[name]))
        if array.shape != shape or not np.isfinite(array).all():
            raise DataError(
                f"{what}: {name}: does not fit a width of {width}, or is not finite: shape {np.shape(arrays[name])}; "
                "copy the file again"
            )
        found.append(array)
    return width, depth, jax.tree.unflatten(structure, found)


def _renamed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert published names to those of Hugging Face."""
    found = {}
    for name, array in arrays.items():
        for pattern, other in _PUBLISHED:
            name = re.sub(pattern, other, name)
        if ".attn.qkv." in name and len(array) % 3 == 0:
            thirds = zip(("query", "key", "value"), np.split(array, 3), strict=True)
            found |= {name.replace("attn.qkv", f"attention.attention.{part}"): third for part, third in thirds}
        else:
            found[name] = array
    return found


def _size(arrays: Mapping[str, np.ndarray], what: str) -> tuple[int, int]:
    """Return width and depth of a supported network.

    Raises:
        DataError: the network is not supported.
    """
    if any(".mlp.w" in name for name in arrays):  # weights_in, or w12
        raise DataError(
            f"{what}: the giant DINOv2, which has SwiGLU layers, is not read here; give ViT-L/14, on which FD-DINOv2 "
            "is defined"
        )
    if "embeddings.register_tokens" in arrays:
        raise DataError(
            f"{what}: a DINOv2 with registers, whose features are others; give the one without, on which FD-DINOv2 is "
            "defined"
        )
    token = arrays.get("embeddings.cls_token")
    blocks = {match[1] for name in arrays if (match := re.match(r"encoder\.layer\.(\d+)\.", name))}
    if token is None or not blocks:
        raise DataError(
            f"{what}: expected the weights of DINOv2, with 'embeddings.cls_token' and 'encoder.layer.0', or "
            "'cls_token' and 'blocks.0'; "
            f"found {', '.join(sorted(arrays)[:3]) or 'nothing'}; see docs/evaluation.md for the files"
        )
    size = (np.shape(token)[-1] if np.ndim(token) else 0, len(blocks))
    if size not in SPACES:
        raise DataError(
            f"{what}: expected DINOv2 of width and depth {', '.join(f'{w} and {d}' for w, d in SPACES)}, got {size[0]} "
            f"and {size[1]}; give ViT-L/14"
        )
    return size


def _name_of(path: list) -> tuple[str, str]:
    """Return the name in the file of the array at a path of the tree of parameters, and the kind of the array."""
    if path[0] == "blocks":
        base, rest = f"encoder.layer.{path[1]}.{_LAYERS[path[2]]}", path[3:]
    else:
        base, rest = _OUTER[path[0]], path[1:]
    return (f"{base}.{'bias' if rest[0] == 'bias' else 'weight'}", rest[0]) if rest else (base, path[-1])


def _as(kind: str, array: np.ndarray) -> np.ndarray:
    """Convert an array of the file to float32 in the layout of the network; other arrays keep their shape."""
    if kind == "kernel":  # [O, I] or [O, I, H, W]
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    elif kind == "token":
        array = array.reshape(-1)
    elif kind == "positions" and array.ndim == 3 and round((array.shape[1] - 1) ** 0.5) ** 2 == array.shape[1] - 1:
        array = dinov2.positions(array[0])
    return np.ascontiguousarray(array, np.float32)


class DINOv2Features:
    """Feature space of the normalized class token of DINOv2.

    Args:
        arrays: arrays of the file by name.
        file: name of the file, for messages.
        sha256: checksum of the file.
        shape: shape of an image, [H, W, 1 or 3].

    Raises:
        DataError: another shape, or as for `weights`.
    """

    resize = (
        "Pillow's bicubic to 224 x 224 (antialiased, of uint8 to uint8), then (v / 255 - mean) / deviation of "
        "ImageNet; "
        "positions sampled with the offset 0.1 of the published code"
    )
    classes = 0

    def __init__(self, arrays: Mapping[str, np.ndarray], file: str, *, sha256: str, shape: tuple[int, ...]):
        if len(shape) != 3 or shape[-1] not in (1, 3):
            raise DataError(
                f"DINOv2 features: expected images [H, W, 1 or 3], got records of shape {shape}; use --network pixels "
                "with fd"
            )
        self.sha256, self.channels = sha256, "one, three times" if shape[-1] == 1 else "three"
        self.dimensions, self._depth, params = weights(arrays, file)
        self.name, self._params = SPACES[self.dimensions, self._depth], local_copy(params)

    def __call__(self, images: Num[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n width"]:
        if images.dtype != np.uint8:
            raise DataError(
                f"DINOv2 features: expected images of integers 0..255, got {images.dtype}; use --network pixels with fd"
            )
        return in_batches(
            images, lambda part: resized(inception.to_rgb(part)), lambda part: self._rows(self._params, part)
        )

    @functools.cached_property
    def _rows(self) -> Any:
        def rows(params, images):
            x = (images.astype(jnp.float32) / 255 - jnp.asarray(MEAN)) / jnp.asarray(DEVIATION)
            return dinov2.features(self.dimensions, self._depth, params, x)

        return jax.jit(rows)


def resized(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n 224 224 3"]:
    """Resize images by Pillow on the host, as dgm-eval does; it takes about 1 ms per image."""
    size = (dinov2.SIZE, dinov2.SIZE)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images])
