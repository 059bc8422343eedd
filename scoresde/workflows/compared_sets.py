"""The two sets that a metric of features compares: fakes (samples or files) and reals (data or files)."""

import hashlib
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from scoresde.data import npz
from scoresde.errors import ConfigError, DataError, NumericError
from scoresde.experiment.load import TrainedModel
from scoresde.metrics.features import Features, Given, extract
from scoresde.metrics.frechet import Moments, moments
from scoresde.metrics.measure import FID_NUM, Reals, needs_features, stored_moments
from scoresde.runs.sample_store import parse_seeds
from scoresde.workflows import image_sets as images
from scoresde.workflows.request import Request


class Side(NamedTuple):
    """One of the two sets before any work is done, with its description in result lines, the shape of one record (None
    for features alone), and the functions that produce the set."""

    about: dict
    shape: tuple[int, ...] | None
    get: Callable
    span: tuple[float, float] | None = None  # range of continuous values, as in `Images`


def fakes_of(request: Request, trained: TrainedModel | None) -> Side:
    folder = request.out / "features"
    if request.samples:
        found = images.of_path(request.samples, trained.codec if trained else None, request.num)

        def one(space: Features) -> Iterator:
            yield extract(space, found, folder), {"num_fake": found.num, "nfe": None, "failed": 0}

        return Side({"samples": found.identity}, found.shape, one, found.span)
    repeats, text = request.repeats or 1, request.seeds or f"0-{(request.num or FID_NUM) * (request.repeats or 1) - 1}"
    seeds = parse_seeds(text)
    if len(seeds) % repeats:
        raise ConfigError(
            f"--repeats {repeats}: expected a number of seeds that it divides, got {len(seeds)}; give more"
        )
    experiment = trained.experiment

    def several(space: Features) -> Iterator:
        for own in np.split(seeds, repeats):
            drawn = images.draw_images(trained, own, request.out / "samples")
            if drawn.failed and not request.keep_going:
                raise NumericError(
                    f"the solver failed for {drawn.failed} of {len(own)} samples; raise --steps, loosen "
                    "sampling.tolerance, or pass --keep-going to leave them out, which the record then says"
                )
            yield (
                extract(space, drawn.images, folder),
                {"num_fake": drawn.images.num, "nfe": drawn.nfe, "failed": drawn.failed},
            )

    about = {"seeds": text, "sampler": experiment.sampler_name, "sampling": experiment.config["sampling"]}
    # The values of samples are in the units of the data, and may lie far outside the range of the data.
    span = None if trained.codec.levels else images.span_of(trained.dataset, "train")
    return Side(about, trained.shape, several, span)


def reals_of(request: Request, trained: TrainedModel | None) -> Side:
    published = images.statistics(request.reference) if request.reference else None
    known = Moments(published.mean, published.covariance, 0) if published else None
    about = {"reference": f"mu and sigma, sha256 {published.sha256}"} if published else {}
    if published and not published.images:
        return Side(about, None, lambda space: Reals(known, None))
    split = None if request.reference else request.split or "train"
    if request.reference:
        found = images.of_path(request.reference, trained.codec if trained else None)
    else:
        found = images.of_split(trained.dataset, split)
    about = {"reference": found.identity, "num_real": found.num, "split": split} | about

    def get(space: Features) -> Reals:
        # Published statistics belong to one network. If their number of features differs, the images are used.
        given = known if known and len(known.mean) == space.dimensions else None
        if given and not needs_features(request.of_features):
            return Reals(given, None)
        features = extract(space, found, request.stats)
        return Reals(given or stored_moments(features, space.dimensions), features[:, : space.dimensions])

    return Side(about, found.shape, get, found.span)


def given_features(request: Request) -> tuple[Features, Side, Side]:
    """Read features that were computed elsewhere: arrays `fake`, `real` [N, D], optional `fake_logits` [N, classes]."""
    file = pathlib.Path(request.features).expanduser()
    with npz.opened(file) as archive:
        arrays = {
            name: npz.member(archive, name, file)
            for name in ("fake", "real", "fake_logits")
            if name != "fake_logits" or name in archive
        }
    for name, array in arrays.items():
        if array.ndim != 2 or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise DataError(
                f"{file}: {name}: expected finite floats [N, D], got {array.dtype} {list(array.shape)}; save features "
                "as float32"
            )
    fake, real, logits = (
        arrays["fake"],
        arrays["real"],
        arrays.get("fake_logits", np.zeros((len(arrays["fake"]), 0), np.float32)),
    )
    if fake.shape[1] != real.shape[1] or len(logits) != len(fake):
        raise DataError(
            f"{file}: expected fake and real of one width, logits for each fake, got "
            f"{[list(a.shape) for a in arrays.values()]}"
        )
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays.values())).hexdigest()
    space = Given(file.stem, fake.shape[1], logits.shape[1])
    rows = np.concatenate([fake, logits], axis=1)
    fakes = Side(
        {"samples": f"sha256 {digest}"},
        None,
        lambda _: iter([(rows, {"num_fake": len(fake), "nfe": None, "failed": 0})]),
    )
    reals = Side({"reference": f"sha256 {digest}", "num_real": len(real)}, None, lambda _: Reals(moments(real), real))
    return space, fakes, reals
