"""Request of `python -m scoresde.evaluate`: its flags as data, their validation, and the flags that repeat it."""

import dataclasses
import os
import pathlib

from scoresde.errors import ConfigError
from scoresde.metrics.record import OF_FEATURES

OF_RUN = ("bpd", "nats", "functions")
METRICS = (*OF_FEATURES, *OF_RUN)
COLLECTIONS = ("folder", "zip", "array_record", "hf")  # kinds of image files, written before a colon as in data.source
_PATHS = ("workdir", "samples", "reference", "features", "network")
# Flags that have no effect together, which is an error.
_IDLE = {
    "samples": ("features",), "reference": ("features",), "network": ("features",), "num": ("features",),
    "split": ("reference", "features"),
    "seeds": ("samples", "features"), "repeats": ("samples", "features"), "sampler": ("samples", "features"),
    "steps": ("samples", "features"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Request:
    """Flags of the command, which docs/commands.md explains."""

    metrics: tuple[str, ...]
    out: pathlib.Path
    stats: pathlib.Path
    workdir: str | None = None
    samples: str | None = None
    reference: str | None = None
    features: str | None = None
    network: str | None = None
    split: str | None = None
    num: int | None = None
    seeds: str | None = None
    repeats: int | None = None
    ema: str | None = None
    checkpoint: str | None = None
    sampler: str | None = None
    steps: int | None = None
    keep_going: bool = False
    overrides: tuple[str, ...] = ()

    @property
    def of_features(self) -> tuple[str, ...]:
        return tuple(name for name in self.metrics if name in OF_FEATURES)

    @property
    def of_run(self) -> tuple[str, ...]:
        return tuple(name for name in self.metrics if name in OF_RUN)

    def arguments(self) -> list[str]:
        """Return flags that repeat the request from any folder."""
        flags = [
            "--metrics",
            ",".join(self.metrics),
            "--out",
            _absolute(str(self.out)),
            "--stats",
            _absolute(str(self.stats)),
        ]
        for name in (*_PATHS, "split", "num", "seeds", "repeats", "ema", "checkpoint", "sampler", "steps"):
            if (value := getattr(self, name)) is not None:
                flags += [f"--{name}", _absolute(value) if name in _PATHS and value != "pixels" else str(value)]
        return flags + ["--keep-going"] * self.keep_going + [f"--config.{text}" for text in self.overrides]


def _absolute(path: str) -> str:
    kind, colon, rest = path.partition(":")
    if colon and kind in COLLECTIONS:
        return path if kind == "hf" and not os.path.exists(os.path.expanduser(rest)) else f"{kind}:{_absolute(rest)}"
    return os.path.abspath(os.path.expanduser(path))


def validate(request: Request) -> None:
    """Check everything that can be checked before files are read.

    Raises:
        ConfigError: all problems, one line each.
    """
    problems = [
        f"--metrics: no metric '{name}'; there are: {', '.join(METRICS)}"
        for name in request.metrics
        if name not in METRICS
    ]
    if len(set(request.metrics)) < len(request.metrics):
        problems.append(f"--metrics: expected each once, got {','.join(request.metrics)}")
    if request.of_features and not (request.network or request.features):
        problems.append(
            f"{request.of_features[0]}: needs a feature space: --network FILE (the 2015 Inception or DINOv2, see "
            "docs/evaluation.md), --network pixels, or --features FILE"
        )
    if request.of_run and not request.workdir:
        problems.append(f"{request.of_run[0]}: is a number of a run; give --workdir DIR")
    elif not (request.workdir or request.features or request.samples and request.reference):
        problems.append("expected --workdir DIR, or --samples PATH and --reference PATH, or --features FILE")
    for name, others in _IDLE.items():
        if getattr(request, name) is not None:
            problems += [
                f"--{name}: does nothing beside --{other}; leave one out"
                for other in others
                if getattr(request, other) is not None
            ]
    if not request.of_features:
        named = [
            name
            for name in ("network", "samples", "reference", "features", "split", "repeats")
            if getattr(request, name) is not None
        ]
        problems += [
            f"--{name}: no metric that takes it is asked for; add --metrics fid, or leave it out" for name in named
        ]
    if not request.workdir and (request.ema is not None or request.checkpoint is not None or request.overrides):
        problems.append("--ema, --checkpoint, --config: belong to a run; give --workdir DIR, or leave them out")
    for name in ("num", "repeats", "steps"):
        if (value := getattr(request, name)) is not None and value < 1:
            problems.append(f"--{name}: expected at least 1, got {value}; leave it out for the default")
    if request.seeds is not None and request.num is not None:
        problems.append("--num: --seeds says it already; leave one out")
    if problems:
        raise ConfigError(*problems)
