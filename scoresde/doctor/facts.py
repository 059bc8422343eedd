"""Components of an installation: versions, devices, memory, disk, optional packages, environment variables."""

import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import shutil

import jax

from scoresde.runtime.versions import commit, version, versions

# Packages beside those that a number may depend on.
MORE_PACKAGES = (
    "jaxtyping", "ml-collections", "grain", "tensorflow-datasets", "pillow", "jinja2", "safetensors", "tensorboardX",
    "tqdm",
)  # fmt: skip
# Extras of pyproject.toml, each with a module that it installs.
EXTRAS = {
    "tfds": "tensorflow",
    "pde": "exponax",
    "torch": "torch",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
    "test": "pytest",
    "docs": "matplotlib",
}
# Variables that change results, speed or locations; variables that contain API keys are not included.
VARIABLES = (
    "XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_COMPILATION_CACHE_DIR",
    "JAX_DEBUG_NANS",
    "JAX_DISABLE_JIT", "JAX_THREEFRY_PARTITIONABLE", "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "TFDS_DATA_DIR", "WANDB_MODE", "MLFLOW_TRACKING_URI",
    "TRACKIO_SPACE_ID",
)  # fmt: skip
_GIB = 2**30


def facts(folder: pathlib.Path = pathlib.Path("runs")) -> dict[str, dict[str, str]]:
    """Return {section: {name: value}}, all as text; `folder` is the folder in which runs would be written."""
    return {
        "system": _system(),
        "versions": versions(*MORE_PACKAGES),
        "devices": _devices(),
        "memory and disk": {"host memory": _memory(), f"disk at {folder}": _disk(folder)},
        "extras": {name: _version_of_module(module) for name, module in EXTRAS.items()},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _system() -> dict[str, str]:
    return {
        "platform": platform.platform(),
        "cpu cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "commit": commit() or "no checkout",
    }


def _version_of_module(module: str) -> str:
    """Return the version of a module without importing it: some imports take seconds or use the network."""
    if importlib.util.find_spec(module) is None:
        return "absent"
    names = importlib.metadata.packages_distributions().get(module, [module])
    return version(names[0])


def _devices() -> dict[str, str]:
    found = {"backend": jax.default_backend()}
    for device in jax.devices():
        stats = device.memory_stats() or {} if device.platform != "cpu" else {}
        memory = (
            f", {stats['bytes_limit'] / _GIB:.1f} GiB, {stats.get('bytes_in_use', 0) / _GIB:.1f} in use"
            if "bytes_limit" in stats
            else ""
        )
        found[str(device)] = f"{device.device_kind}{memory}"
    return found


def _memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return (
            f"{os.sysconf('SC_PHYS_PAGES') * page / _GIB:.1f} GiB, "
            f"{os.sysconf('SC_AVPHYS_PAGES') * page / _GIB:.1f} free"
        )
    except (ValueError, OSError, AttributeError):  # another system
        return "unknown"


def _disk(folder: pathlib.Path) -> str:
    folder = folder.resolve()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(place)
    writable = "" if os.access(place, os.W_OK) else ", not writable"
    return f"{usage.free / _GIB:.1f} GiB free of {usage.total / _GIB:.1f}{writable}"
