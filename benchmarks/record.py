"""A benchmark's figures as one JSON file with machine, versions and commit: benchmarks/results/NAME.json."""

import json
import os
import pathlib
import platform
import time

import jax

from scoresde.runtime.versions import commit, versions

FOLDER = pathlib.Path(__file__).parent / "results"


def record(name: str, figures: dict) -> None:
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
        "versions": versions(),
        "commit": commit(),
        "time": time.strftime("%Y-%m-%d"),
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps({**about, **figures}, indent=1) + "\n")
    print(f"wrote {path}")
