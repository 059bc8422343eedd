"""A benchmark's figures as one JSON file with machine, versions and commit: benchmarks/results/NAME.json."""

import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import time

import jax

FOLDER = pathlib.Path(__file__).parent / "results"


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=FOLDER.parent)
    return found.stdout.strip() or "unknown"


def record(name: str, figures: dict) -> None:
    versions = {p: importlib.metadata.version(p) for p in ("jax", "jaxlib", "diffrax", "flax", "numpy")}
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit(),
        "time": time.strftime("%Y-%m-%d"),
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps({**about, **figures}, indent=1) + "\n")
    print(f"wrote {path}")
