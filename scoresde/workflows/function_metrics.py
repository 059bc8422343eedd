"""Metrics of distributions of functions for a run, `--metrics functions`, which compare its samples with the true
distribution or with the test records.

If the source can generate any number of functions (`gaussian_process`, `gp_mixture`, `quadratic`), both sets have NUM
functions; measured functions are compared with the test records. `scoresde.metrics.functions` contains the definitions.
"""

import pathlib

import numpy as np

from scoresde.data import functions
from scoresde.errors import ConfigError, DataError, NumericError
from scoresde.experiment.load import TrainedModel
from scoresde.metrics.functions import mmd2, permutation_test, power, sliced_wasserstein, spectrum_error
from scoresde.metrics.measure import Measured
from scoresde.runs.sample_store import parse_seeds
from scoresde.workflows import image_sets as images

NUM, _MOST = 1000, 5000  # numbers of functions; the tests store a matrix of all pairs
TRUTH = 1  # seed of the functions from the true distribution
_SIZES = (10, 100)  # numbers of functions in a test


def function_metrics(
    trained: TrainedModel, num: int | None, seeds: str | None, out: pathlib.Path
) -> tuple[dict, list[Measured]]:
    """Return the description for result lines and the metrics.

    Raises:
        ConfigError: there are too many samples.
        DataError: the records are not functions.
        NumericError: the solver failed.
    """
    dataset = trained.dataset
    if dataset.levels or len(dataset.shape) < 2 or trained.score.sde.needs_data:
        raise DataError(
            f"functions: {dataset.name} holds no functions on a grid that a run draws from noise; ask for fd with "
            "--network pixels"
        )
    text = seeds or f"0-{(num or NUM) - 1}"
    if len(parse_seeds(text)) > _MOST:
        raise ConfigError(
            f"functions: takes at most {_MOST} samples, got {len(parse_seeds(text))}; give a smaller --num"
        )
    drawn = images.draw_images(trained, parse_seeds(text), out / "samples")
    if drawn.failed:
        raise NumericError(
            f"functions: the solver failed for {drawn.failed} samples; raise --steps, or loosen sampling.tolerance"
        )
    x = drawn.images.read(0, drawn.images.num)
    experiment = trained.experiment
    source = experiment.data.source
    fresh = isinstance(source, str) and source in functions.FAMILIES
    y = (
        functions.draw(source, len(x), dataset.shape, TRUTH)
        if fresh
        else dataset.test.rows(np.arange(len(dataset.test)))[0]
    )
    about = {
        "seeds": text, "num_fake": len(x), "num_real": len(y), "split": None if fresh else "test", "nfe": drawn.nfe,
        "failed": 0,
        "sampler": experiment.sampler_name, "sampling": experiment.config["sampling"], "samples": drawn.images.identity,
        "reference": f"{source}, seed {TRUTH}" if fresh else f"{dataset.fingerprint} test",
    }  # fmt: skip
    test = permutation_test(x, y)
    found = [
        Measured("mmd2", mmd2(x, y), None, "functions", {"kernel": "Gaussian, bandwidth the median distance"}),
        Measured("mmd_p_value", test.p_value, None, "functions", {"permutations": 1000}),
        Measured("sliced_wasserstein", sliced_wasserstein(x, y), None, "functions", {"order": 2, "directions": 256}),
        Measured("spectrum_error", spectrum_error(x, y).all, None, "functions", {"unit": "decades"}),
    ]
    for size in (size for size in _SIZES if size <= min(len(x), len(y))):
        p = power(y, x, size)
        found.append(
            Measured(
                f"test_power_{size}",
                p.rate,
                p.standard_error,
                "functions",
                {"tests": p.tests, "independent": p.independent, "level": 0.05},
            )
        )
    return about, found
