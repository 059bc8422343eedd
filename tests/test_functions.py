"""Functions as data, and the metrics of their laws against closed forms."""

import math
import subprocess
import sys

import numpy as np
import pytest

from scoresde.data import ArraySource, Dataset, load
from scoresde.data import functions as families
from scoresde.data.navier_stokes import solver as navier_stokes
from scoresde.data.picture import picture
from scoresde.data.plot import curves, paths
from scoresde.errors import ConfigError, DataError
from scoresde.metrics import functions as metrics

SHAPES = {"gaussian_process": (32, 1), "gp_mixture": (64, 1), "quadratic": (100, 1)}
each_family = pytest.mark.parametrize("name", families.FAMILIES)


def generator(seed=0):
    return np.random.default_rng(seed)


def one_line(caught):
    assert "\n" not in str(caught.value)


# Generated families


@each_family
def test_family_has_the_law_it_states(name):
    num, shape = 20_000, SHAPES[name]
    x = families.draw(name, num, shape, 0)[..., 0]
    mean, covariance = families.moments(name, shape)
    std = np.sqrt(np.diag(covariance))
    assert np.abs((x.mean(axis=0) - mean) / std).max() < 5 / math.sqrt(num)
    # 6 standard errors of a covariance, at most (1 + kurtosis/2)^(1/2) sd sd' / sqrt(n): many entries, far from
    # independent.
    assert np.abs((np.cov(x.T) - covariance) / np.outer(std, std)).max() < 6 * math.sqrt(2 / num)
    means, _, weights = families.law(name, shape)
    assert weights.sum() == 1 and means.shape == (len(weights), shape[0])


@each_family
def test_family_draws_the_same_functions_on_every_grid(name):
    coarse, fine = (families.draw(name, 7, (points, 1), 3) for points in (20, 60))
    np.testing.assert_allclose(fine[:, 1::3], coarse, atol=1e-12)  # the cell centres of 20 points are among those of 60
    assert np.abs(families.draw(name, 7, (20, 1), 4) - coarse).max() > 0.01


@each_family
def test_source_of_functions_is_reproducible_and_apart_from_fresh_draws(name):
    data, again = (load(name, shape=(16, 1), levels=0, centered=True) for _ in range(2))
    np.testing.assert_array_equal(data.train.values, again.train.values)
    assert data.fingerprint == again.fingerprint != load(name, shape=(17, 1), levels=0, centered=True).fingerprint
    assert (data.train.values.dtype, len(data.train), len(data.test)) == (
        np.float32,
        families.FAMILIES[name].train,
        1000,
    )
    assert 0.8 < data.train.values.std() < 1.1
    fresh = families.draw(name, 10, (16, 1), families.SEED)
    assert np.abs(fresh - data.train.values[:10]).max() > 0.01
    assert data.log_jacobian() == 0 and data.classes == (0 if name == "gaussian_process" else 2)


def test_kernel_of_the_mixture_is_the_one_stated():
    x = families.centres(64)
    _, covariances, _ = families.law("gp_mixture", (64, 1))
    np.testing.assert_allclose(9 * covariances[0], 0.4 * np.exp(-((x[:, None] - x) ** 2) / (2 * 0.1**2)), atol=1e-15)
    # And it is that of the series the functions are drawn from.
    wave = 2 * np.pi * np.arange(families.WAVES) / families.PERIOD
    weight = np.exp(-0.5 * (families.RBF_LENGTH * wave) ** 2) * np.where(wave == 0, 1, 2)
    series = np.cos((x[:, None] - x)[..., None] * wave) @ weight * 0.4 * 0.1 * math.sqrt(2 * math.pi) / families.PERIOD
    np.testing.assert_allclose(series, 9 * covariances[0], atol=1e-14)


@pytest.mark.parametrize("shape", [(12, 1), (5, 7, 2)])
def test_cosine_coefficients_of_the_gaussian_process_are_independent(shape):
    _, covariance = families.moments("gaussian_process", shape)
    size = math.prod(shape)
    modes = metrics.cosine_coefficients(np.eye(size).reshape(size, *shape)).reshape(size, size).T
    rotated = modes @ covariance @ modes.T
    np.testing.assert_allclose(rotated, np.diag(np.diag(rotated)), atol=1e-15)
    # Modes fold back on those of the grid: only the variance at odd multiples of n is lost, where every cosine is 0.
    assert 0.95 < np.trace(covariance) / size < 1


def test_fields_have_their_law():
    x = families.draw("gaussian_process", 300, (6, 4, 2), 0).reshape(300, -1)
    _, covariance = families.moments("gaussian_process", (6, 4, 2))
    std = np.sqrt(np.diag(covariance))
    assert np.abs((np.cov(x.T) - covariance) / np.outer(std, std)).max() < 5.5 * math.sqrt(2 / 300)
    # In chunks as at once: the draws do not depend on how many are made together, but for the order of the sums of a
    # matrix product.
    np.testing.assert_allclose(
        families.draw("gaussian_process", 260, (6, 4, 2), 0).reshape(260, -1), x[:260], atol=1e-13
    )


@pytest.mark.parametrize(
    "name, shape",
    [("quadratic", (8, 8, 1)), ("gp_mixture", (16, 2)), ("quadratic", (16,)), ("gaussian_process", (1, 1))],
)
def test_family_refuses_shapes(name, shape):
    with pytest.raises(DataError, match=r"expected shape \(points, .*got .*declare") as caught:
        load(name, shape=shape, levels=0, centered=True)
    one_line(caught)


def test_family_refuses_the_rest():
    with pytest.raises(DataError, match="levels 0; declare those"):
        load("quadratic", shape=(16, 1), levels=256, centered=True)
    with pytest.raises(ConfigError, match="there are: gaussian_process"):
        families.draw("cubic", 1, (16, 1), 0)
    with pytest.raises(ConfigError, match="num >= 1"):
        families.draw("quadratic", 0, (16, 1), 0)


# Measured functions


def measured(path, shape, name="f"):
    return load(f"functions:{path}", shape=shape, levels=0, centered=True, keys=(name,))


def test_measured_functions_are_split_and_standardised(tmp_path):
    stored = 5 + 3 * generator().standard_normal((47, 12, 2)) * [1, 10]
    np.savez(tmp_path / "a.npz", f=stored)
    data = measured(tmp_path / "a.npz", (12, 2))
    assert (len(data.train), len(data.test), data.shape, data.levels) == (43, 4, (12, 2), 0)
    x = data.train.values.astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=(0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=(0, 1)), 1, atol=1e-6)
    back = data.units(np.concatenate([data.train.values, data.test.values]))
    order = np.argsort([np.abs(stored - record).max(axis=(1, 2)).argmin() for record in back])
    np.testing.assert_allclose(back[order], stored, atol=1e-4)  # every record once, in the units it was stored in
    assert not np.array_equal(order, np.arange(47))
    assert measured(tmp_path / "a.npz", (12, 2)).fingerprint == data.fingerprint


def test_measured_functions_on_coarser_grids(tmp_path):
    stored = generator().standard_normal((20, 8, 6)).astype(np.float32)
    np.savez(tmp_path / "a.npz", f=stored, mask=stored > 0, line=stored[:, 0])
    whole, half = (measured(tmp_path / "a.npz", shape) for shape in ((8, 6, 1), (4, 2, 1)))
    blocks = whole.units(whole.test.values).reshape(-1, 4, 2, 2, 3, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(half.units(half.test.values), blocks, atol=1e-6)
    assert measured(tmp_path / "a.npz", (8, 6)).shape == (8, 6)  # the same array as 8 points of 6 channels
    assert measured(tmp_path / "a.npz", (8, 6, 1), "mask").train.values.std() == pytest.approx(1, abs=1e-6)
    assert measured(tmp_path / "a.npz", (6, 1), "line").shape == (6, 1)


MISFITS = {
    "multiple": ({"f": np.eye(8)}, (5, 1), r"\(5,\), but the data have \(8,\).*declare \(8,\) or \(4,\)"),
    "finer": ({"f": np.eye(8)}, (16, 1), "no multiple of it"),
    "channels": ({"f": np.zeros((4, 8, 3))}, (8, 2), r"expected \[N, points, 2\] .*got \[4, 8, 3\]"),
    "rank": ({"f": np.zeros(8)}, (8, 1), r"or \[N, points\].*got \[8\]"),
    "one record": ({"f": np.eye(8)[:1]}, (8, 1), "at least 2 records.*got 1"),
    "constant": ({"f": np.ones((4, 8))}, (8, 1), "values that vary.*channel 0"),
    "NaN": ({"f": np.diag([1.0, np.nan])}, (2, 1), "1 of 2 records, the first in record 1"),
    "text": ({"f": np.array([["a", "b"]])}, (2, 1), "expected real numbers"),
    "name": ({"g": np.eye(8)}, (8, 1), r"array 'f', the file has g; name one with data.arrays=\('NAME',\)"),
}


@pytest.mark.parametrize("arrays, shape, message", MISFITS.values(), ids=MISFITS.keys())
def test_measured_functions_that_do_not_fit(tmp_path, arrays, shape, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        measured(tmp_path / "a.npz", shape)
    one_line(caught)


def test_measured_functions_need_a_name_and_a_file(tmp_path):
    with pytest.raises(ConfigError, match=r"data.arrays=\('NAME',\)"):
        load(f"functions:{tmp_path}", shape=(8, 1), levels=0, centered=True)
    with pytest.raises(ConfigError, match="expected 'functions:PATH'"):
        load("functions", shape=(8, 1), levels=0, centered=True, keys=("f",))
    with pytest.raises(DataError, match="check the path"):
        measured(tmp_path / "none.npz", (8, 1))
    with pytest.raises(ConfigError, match="expected shape"):
        measured(tmp_path / "none.npz", (8,))


# Pictures


def test_curves_and_fields_have_pictures():
    data = load("quadratic", shape=(32, 1), levels=0, centered=True)
    x = data.train.values[:5].copy()
    whole = np.asarray(picture(data, x))
    assert whole.shape[2] == 3 and 0.001 < np.mean(np.all(whole == 255, axis=-1)) < 0.999
    x[0, 3] = np.nan
    np.testing.assert_array_equal(np.asarray(picture(data, x)), np.asarray(curves(x[1:])))  # such a curve is left out
    plane = load("gaussian_process", shape=(32, 2), levels=0, centered=True)
    assert picture(plane, plane.train.values[:9]).size == paths(plane.train.values[:9]).size == (3 * 102 + 6,) * 2
    gap = plane.train.values[:4].copy()
    gap[1, 5] = np.inf
    assert np.all(np.asarray(paths(gap))[6:102, 108:204] == 255)  # the others keep their cells
    assert curves(np.full((2, 8, 3), np.nan)).size[1] > 2 * curves(np.zeros((2, 8, 1))).size[1]
    fields = ArraySource(families.draw("gaussian_process", 3, (8, 8, 2), 0))
    field = Dataset("fields", fields, fields, 0, True, "fields", span=3.0)
    assert picture(field, fields.values).size == (4 * 44 + 4, 2 * 44 + 4)  # six images of 40 x 40 with gaps
    assert field.images(np.array([-4.0, -3.0, 0.0, 3.0])).tolist() == [0, 0, 128, 255]  # +-3 standard deviations


# Two samples


def test_mmd_of_gaussians_in_closed_form():
    # For N(m, s^2 I) and N(m', t^2 I) in D dimensions, with distances |.|^2/D and w = h^2 + (s^2 + t^2)/D:
    # E k = (h^2/w)^{D/2} exp(-(|m - m'|^2/D)/(2 w)).
    def kernel(s, t, shift, size=4, h=0.7):
        spread = h**2 + (s**2 + t**2) / size
        return (h**2 / spread) ** (size / 2) * math.exp(-(shift**2) / (2 * spread))

    exact = kernel(1, 1, 0) + kernel(1.5, 1.5, 0) - 2 * kernel(1, 1.5, 0.8)
    random, found = generator(), []
    for _ in range(40):
        x, y = random.standard_normal((300, 2, 2, 1)), 0.8 + 1.5 * random.standard_normal((250, 2, 2, 1))
        found.append(metrics.mmd2(x, y, 0.7))
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / math.sqrt(len(found)) < 0.08 * exact
    same = [metrics.mmd2(*random.standard_normal((2, 50, 4, 1)), 0.7) for _ in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / math.sqrt(200) and min(same) < 0  # unbiased


def test_permutation_statistic_is_mmd2():
    x, y = generator().standard_normal((12, 9, 1)), 1 + generator(1).standard_normal((7, 9, 1))
    found = metrics.permutation_test(x, y, permutations=400)
    assert found.statistic == pytest.approx(metrics.mmd2(x, y), rel=1e-10)
    assert found.p_value == pytest.approx(1 / 401)
    assert metrics.permutation_test(x, x + 1e-3).p_value > 0.5
    assert found == metrics.permutation_test(x, y, permutations=400)


def test_median_bandwidth_is_that_of_the_pairs():
    x, y = np.array([0.0, 1.0]).reshape(2, 1, 1), np.array([3.0]).reshape(1, 1, 1)
    assert metrics.median_bandwidth(x, y) == 2.0  # of 1, 2, 3


def test_level_of_the_test_is_five_per_cent():
    truth, fresh = (families.draw("quadratic", 20_000, (20, 1), seed) for seed in (1, 2))
    found = metrics.power(truth, fresh, 10, repeats=2000, permutations=99)
    assert found.independent and abs(found.rate - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 2000)


# case: power in per cent at sizes 10 and 100, measured with 4000 and 400 independent tests.
CALIBRATION = {
    "fresh truth": (5, 5), "moment-matched Gaussian process": (11, 92), "70/30 branch weights": (14, 83),
    "one branch missing": (75, 100), "offset std x5": (5, 5), "white pixel noise": (5, 4),
}  # fmt: skip


def check_calibration(repeats, seed):
    pools = {}
    for size, count in repeats.items():
        pools = families.calibration(size * count, (100, 1), seed)
        assert set(pools) == set(CALIBRATION)
        truth = families.draw("quadratic", size * count, (100, 1), seed)
        row = metrics.calibration(truth, pools, (size,), repeats=count, permutations=200, seed=seed)
        for case, expected in CALIBRATION.items():
            rate = expected[size == 100] / 100
            # 4 binomial standard errors, 1 % for those of the expectation itself.
            tolerance = 4 * math.sqrt(max(rate * (1 - rate), 0.01) / count) + 0.01
            assert abs(row[case][size].rate - rate) < tolerance, (case, size, row[case][size])


def test_calibration_row():
    check_calibration({10: 400, 100: 30}, seed=0)


@pytest.mark.slow
def test_calibration_row_with_many_tests():
    check_calibration({10: 4000, 100: 400}, seed=5)


def test_power_from_small_pools():
    x = generator().standard_normal((30, 8, 1))
    found = metrics.power(x, x + 3, 10, repeats=7, permutations=99)
    assert found == (1.0, 0.0, 7, False)


def test_sliced_wasserstein_of_gaussians():
    x = generator().standard_normal((500, 16, 1))
    shift = np.linspace(0, 2, 16)[:, None]
    # Shifts of the same functions: <d, w> in every direction, |d|/sqrt(D) in the mean square over them.
    found = metrics.sliced_wasserstein(x, x + shift, directions=20_000)
    assert found == pytest.approx(math.sqrt(np.mean(shift**2)), rel=0.03)
    # N(0, 1) and N(0, 4) are 1 apart in every direction; sorting leaves a bias of order 1/n.
    y = 2 * generator(1).standard_normal((20_000, 4, 1))
    assert metrics.sliced_wasserstein(generator(2).standard_normal((10_000, 4, 1)), y) == pytest.approx(1, abs=0.03)
    assert metrics.sliced_wasserstein(y, y, order=1) == 0


# Spectra and points


def test_cosine_coefficients_are_those_of_the_dct(x64):
    import jax

    x = generator().standard_normal((3, 8, 6, 2))
    reference = jax.scipy.fft.dctn(x, axes=(1, 2), norm="ortho") / math.sqrt(48)
    np.testing.assert_allclose(metrics.cosine_coefficients(x), reference, atol=1e-13)
    np.testing.assert_allclose(metrics.from_cosine_coefficients(metrics.cosine_coefficients(x)), x, atol=1e-13)
    np.testing.assert_allclose(np.sum(metrics.cosine_coefficients(x) ** 2, axis=(1, 2)), np.mean(x**2, axis=(1, 2)))


def test_projection_keeps_a_band_limited_function():
    def wave(n):
        x = families.centres(n)
        return (1 + np.cos(3 * np.pi * x) - 2 * np.cos(7 * np.pi * x))[None, :, None]

    np.testing.assert_allclose(metrics.project(wave(8), (40,)), wave(40), atol=1e-12)
    np.testing.assert_allclose(metrics.project(wave(40), (8,)), wave(8), atol=1e-12)
    field = generator().standard_normal((2, 4, 6, 3))
    np.testing.assert_allclose(metrics.project(metrics.project(field, (9, 6)), (4, 6)), field, atol=1e-12)


def test_spectrum_of_a_known_process():
    points, num = 64, 4000
    energy = metrics.energy_spectrum(families.draw("gaussian_process", num, (points, 1), 0))
    _, covariance = families.moments("gaussian_process", (points, 1))
    modes = metrics.cosine_coefficients(np.eye(points)[..., None])[..., 0].T
    # Relative error of a mean of squares of Gaussians: sqrt(2/n); the greatest of 64.
    np.testing.assert_allclose(energy, np.diag(modes @ covariance @ modes.T), rtol=5 * math.sqrt(2 / num))


def test_shells_of_a_field_hold_its_energy():
    x = generator().standard_normal((50, 16, 12, 2))
    energy = metrics.energy_spectrum(x)
    c = metrics.cosine_coefficients(x)
    assert energy.shape == (12,) and energy[0] == pytest.approx(np.sum(c[:, 0, 0] ** 2) / 50)
    ring = np.sum(c[:, [0, 1, 1], [1, 0, 1]] ** 2) / 50  # |k| = 1, 1, sqrt(2)
    assert energy[1] == pytest.approx(ring)


def test_spectrum_error_tells_where():
    x = families.draw("gaussian_process", 2000, (64, 1), 0)
    c = metrics.cosine_coefficients(x)
    c[:, 16:] *= 10  # two decades of energy from wavenumber 16 on
    found = metrics.spectrum_error(metrics.from_cosine_coefficients(c), x, 16)
    assert found.above == pytest.approx(2, abs=1e-9) and found.below < 1e-9
    assert found.all == pytest.approx(2 * math.sqrt(48 / 64), abs=1e-9)
    assert math.isnan(metrics.spectrum_error(x, x).above) and metrics.spectrum_error(x, x).all == 0
    smooth = families.draw("gp_mixture", 50, (64, 1), 0)
    assert metrics.spectrum_error(smooth.astype(np.float32), smooth).all < 0.2  # rounding is no error
    smooth = metrics.project(smooth[:, ::8], (64,))  # nothing from wavenumber 8 on
    noisy = smooth + 1e-4 * generator().standard_normal(smooth.shape)
    high, low = (metrics.spectrum_error(noisy, smooth, floor=floor).all for floor in (1e-12, 1e-6))
    assert high > 1 and low < 0.01


def test_moments_of_known_laws():
    x = generator().exponential(size=(200_000, 2, 1))  # mean 1, variance 1, skewness 2, kurtosis 9
    found = metrics.moments(x)
    for value, exact, tolerance in zip(found, (1, 1, 2, 9), (0.01, 0.03, 0.15, 2.0), strict=True):
        np.testing.assert_allclose(value, exact, atol=tolerance)
    errors = metrics.moment_errors(x, 2 * x + 3)
    assert errors["mean"] == pytest.approx(16, rel=0.02) and errors["variance"] == pytest.approx(9, rel=0.1)
    assert errors["skewness"] < 1e-12 and errors["kurtosis"] < 1e-12
    assert metrics.moments(np.ones((3, 4, 1))).kurtosis.tolist() == [[0.0]] * 4


def test_autocorrelation_of_known_processes():
    # Ornstein-Uhlenbeck with independent channels of two rates: A(h) = rho^h.
    num, points, rho = 4000, 40, np.array([0.5, 0.9])
    random = generator()
    x = [random.standard_normal((num, 2))]
    for _ in range(points - 1):
        x.append(rho * x[-1] + np.sqrt(1 - rho**2) * random.standard_normal((num, 2)))
    x = np.stack(x, axis=1)
    exact = rho ** np.arange(points // 2 + 1)[:, None]
    np.testing.assert_allclose(metrics.autocorrelation(x), exact, atol=0.04)
    y = np.moveaxis(x.reshape(num // 4, 4, points, 2), 1, 2)  # a field whose second axis is independent rows
    np.testing.assert_allclose(metrics.autocorrelation(y), exact, atol=0.04)
    np.testing.assert_allclose(metrics.autocorrelation(y, axis=1)[1:], 0, atol=0.04)
    assert metrics.autocorrelation_error(x, x) == 0
    expected = np.mean((exact - np.eye(len(exact), 1)) ** 2)
    assert metrics.autocorrelation_error(x, random.standard_normal(x.shape)) == pytest.approx(expected, rel=0.1)


def test_what_the_test_of_curves_does_not_see_shows_elsewhere():
    truth = families.draw("quadratic", 1000, (100, 1), 0)
    cases = families.calibration(1000, (100, 1), 1)
    found = {
        case: (metrics.spectrum_error(x, truth).all, metrics.moment_errors(x, truth)["kurtosis"])
        for case, x in cases.items()
    }
    assert max(found["fresh truth"]) < 0.03
    assert found["offset std x5"][1] > 0.1 and found["white pixel noise"][0] > 3
    assert found["moment-matched Gaussian process"][1] > 1


# Finer grids


def test_transfer_curve_of_the_truth_and_of_white_noise():
    truth = {n: families.draw("gaussian_process", 400, (n, 1), 0) for n in (16, 32, 64)}
    good = {n: families.draw("gaussian_process", 400, (n, 1), 1) for n in (16, 32, 64)}
    # Right on the training grid; on finer ones nothing but white noise above its waves.
    bad = {n: metrics.project(good[16], (n,)) + 0.1 * generator().standard_normal((400, n, 1)) for n in (16, 32, 64)}
    rows = metrics.transfer_curve(good, truth, (16,))
    assert [(row["points"], row["at"]) for row in rows] == [
        (n, at) for n in (16, 32, 64) for at in ("training", "native")
    ]
    assert all(row["spectrum_above"] < 0.1 or math.isnan(row["spectrum_above"]) for row in rows)
    assert max(abs(row["mmd2"]) for row in rows) < 0.01
    last = metrics.transfer_curve(bad, truth, (16,))[-1]
    assert last["spectrum_above"] > 1 > 0.2 > last["spectrum_below"]
    mine = metrics.transfer_curve(good, truth, (16,), metrics=lambda x, y, nyquist: {"points_seen": x.shape[1]})
    assert [row["points_seen"] for row in mine] == [16, 16, 16, 32, 16, 64]


def test_commutation_of_exact_denoisers():
    # Data with variances v_k under noise q_k at alpha, sigma: D(y)_k = alpha v/(alpha^2 v + sigma^2 q) y_k.
    angle = lambda t: (t + 0.008) / 1.008 * math.pi / 2  # noqa: E731
    alpha = math.cos(angle(0.6)) / math.cos(angle(0))  # of the cosine schedule at t = 0.6

    def denoiser(points, white):
        square = (np.pi * np.arange(points)) ** 2
        v, q = 30 * (square + 9) ** -2.0, np.full(points, 1 / points) if white else 10 * (square + 9) ** -1.5
        gain = alpha * v / (alpha**2 * v + (1 - alpha**2) * q)
        return lambda y: metrics.from_cosine_coefficients(gain[:, None] * metrics.cosine_coefficients(y))

    square = (np.pi * np.arange(64)) ** 2
    c = generator().standard_normal((1, 64, 1)) * np.sqrt(30 * (square + 9) ** -2.0)[:, None]
    u = metrics.project(metrics.from_cosine_coefficients(c), (256,))
    found = {white: metrics.commutation(denoiser(256, white), denoiser(64, white), u, (64,)) for white in (False, True)}
    assert found[False] < 1e-12 and found[True] == pytest.approx(0.3209, abs=1e-4)  # an independent program's number
    # Any projection will do, such as means over blocks.
    means = lambda x, grid: x.reshape(len(x), grid[0], -1, x.shape[-1]).mean(axis=2)  # noqa: E731
    assert metrics.commutation(lambda y: 2 * y, lambda y: 2 * y, u, (64,), project=means) < 1e-12


# Given some values


def posterior():
    mean, covariance = generator(2).standard_normal(20), families.moments("gaussian_process", (20, 1))[1]
    index, values = np.array([17, 2, 9]), np.array([[1.0, -0.5, 0.3], [0.0, 0.1, 2.0]])
    return mean, covariance, index, values


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_posterior_of_a_gaussian_process(noise):
    mean, covariance, index, values = posterior()
    found, spread = metrics.gaussian_posterior(mean, covariance, index, values, noise)
    # The other way round: precision form with the observations as a likelihood.
    pick, weight = np.eye(20)[index], 1 / max(noise, 1e-5) ** 2
    precision = np.linalg.inv(covariance) + weight * pick.T @ pick
    direct = np.linalg.solve(precision, np.linalg.solve(covariance, mean)[:, None] + weight * pick.T @ values.T).T
    np.testing.assert_allclose(found, direct, atol=1e-5)
    np.testing.assert_allclose(spread, np.linalg.inv(precision), atol=1e-5)
    if not noise:
        np.testing.assert_allclose(found[:, index], values, atol=1e-12)
        np.testing.assert_allclose(spread[index], 0, atol=1e-12)
    # log p(u) = log p(values) + log p(u | values): conditioning on all but agrees with the joint density.
    rest = np.setdiff1d(np.arange(20), index)
    u = generator(3).multivariate_normal(mean, covariance)
    centre, part = metrics.gaussian_posterior(mean, covariance, index, u[index])
    chain = metrics.gaussian_nll(u[index], mean[index], covariance[np.ix_(index, index)])
    chain = chain + metrics.gaussian_nll(u[rest], centre[rest], part[np.ix_(rest, rest)])
    assert chain == pytest.approx(metrics.gaussian_nll(u, mean, covariance), rel=1e-8)


def test_nll_of_a_gaussian():
    y, std = np.array([[0.5, -1.0, 2.0]]), np.array([1.0, 2.0, 0.5])
    exact = np.sum(0.5 * (y / std) ** 2 + np.log(std) + 0.5 * math.log(2 * math.pi))
    for covariance in (std**2, np.diag(std**2)):
        np.testing.assert_allclose(metrics.gaussian_nll(y, np.zeros(3), covariance), [exact])


def test_crps_is_the_integral_it_stands_for():
    # CRPS = integral of (F(z) - 1{z >= y})^2.
    z, y, m, s = np.linspace(-40, 40, 400_001), 1.3, 0.4, 2.0
    distribution = 0.5 * (1 + np.vectorize(math.erf)((z[::50] - m) / (s * math.sqrt(2))))
    integral = np.trapezoid((distribution - (z[::50] >= y)) ** 2, z[::50])
    assert metrics.crps_gaussian(y, m, s) == pytest.approx(integral, abs=5e-3)
    assert metrics.crps_gaussian(0.0, 0.0, 1.0) == pytest.approx(
        2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi), rel=1e-12
    )


def test_crps_of_samples_has_no_bias():
    random, y = generator(), np.array([0.0, 1.3])
    found = np.stack([metrics.crps_samples(y, random.standard_normal((3, 2))) for _ in range(20_000)])
    error = found.std(axis=0) / math.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - metrics.crps_gaussian(y, 0, 1)) < 4 * error).all()
    assert metrics.crps_samples(1.0, np.array([0.0, 4.0])) == pytest.approx(
        2 - 2
    )  # E|X - 1| = 2, E|X - X'| = 4 of pairs


def test_coverage_of_samples():
    mean, covariance, index, values = posterior()
    mean, covariance = metrics.gaussian_posterior(mean, covariance, index, values[0])
    std = np.sqrt(np.maximum(np.diag(covariance), 0))
    std[index] = 0
    z = generator().standard_normal((2000, 20))
    assert metrics.coverage(mean + std * z, mean, std, 0.9) == pytest.approx(0.9, abs=0.01)
    half = math.erf(0.5 * 1.6448536269514722 / math.sqrt(2))  # the 90 % interval of half the width
    assert metrics.coverage(mean + 0.5 * std * z, mean, std, 0.9) == pytest.approx(half, abs=0.01)
    few = [metrics.coverage(mean + std * z[9 * i :][:9], mean, std, 0.8) for i in range(200)]
    assert np.mean(few) == pytest.approx(0.8, abs=0.02)  # for nine samples too


# Bad input

X, SQUARE = np.zeros((4, 8, 1)) + np.arange(8)[:, None] + np.arange(4)[:, None, None], np.eye(3)
BAD = {
    "rank": (
        DataError,
        lambda: metrics.mmd2(X[..., 0], X[..., 0]),
        r"x: expected real numbers \[N, \*grid, channels\]",
    ),
    "grids": (DataError, lambda: metrics.mmd2(X, X[:, :4]), r"one grid.*\(8, 1\) and \(4, 1\)"),
    "one function": (DataError, lambda: metrics.mmd2(X, X[:1]), "y: expected at least 2 functions, got 1"),
    "NaN": (DataError, lambda: metrics.moments(np.where(X > 9, np.nan, X)), "1 of 4 functions, the first in number 3"),
    "bandwidth": (ConfigError, lambda: metrics.mmd2(X, X, 0.0), "bandwidth: .*None takes the median"),
    "collapse": (DataError, lambda: metrics.mmd2(0 * X, 0 * X), "collapsed"),
    "small pool": (DataError, lambda: metrics.power(X, X, 10), "at least 10 functions, got 4 and 4"),
    "permutations": (ConfigError, lambda: metrics.power(X, X, 2, permutations=3), "permutations: expected at least 19"),
    "seed": (ConfigError, lambda: metrics.permutation_test(X, X, seed=-1), "seed"),
    "order": (ConfigError, lambda: metrics.sliced_wasserstein(X, X, order=0.5), "order"),
    "grid": (ConfigError, lambda: metrics.project(X, (4, 4)), r"expected 1 numbers of points above 0, got \(4, 4\)"),
    "nyquist": (ConfigError, lambda: metrics.spectrum_error(X, X, 0), "nyquist"),
    "floor": (ConfigError, lambda: metrics.spectrum_error(X, X, floor=0.0), "floor"),
    "zero": (DataError, lambda: metrics.spectrum_error(X, 0 * X), "not 0 everywhere"),
    "axis": (ConfigError, lambda: metrics.autocorrelation(X, 1), "axis: expected a grid axis from 0 to 0"),
    "no variation": (DataError, lambda: metrics.autocorrelation(0 * X), "functions that vary"),
    "no truth": (DataError, lambda: metrics.transfer_curve({8: X}, {4: X}, (8,)), "truth: expected draws on 8 points"),
    "zero denoiser": (
        DataError,
        lambda: metrics.commutation(lambda u: u, lambda u: 0 * u, X, (4,)),
        "denoiser that is not 0",
    ),
    "law": (DataError, lambda: metrics.gaussian_nll(np.zeros(2), np.zeros(2), SQUARE), r"\[2\] and \[3, 3\]"),
    "symmetry": (
        DataError,
        lambda: metrics.gaussian_nll(np.zeros(3), np.zeros(3), np.triu(np.ones((3, 3)))),
        "symmetric",
    ),
    "singular": (DataError, lambda: metrics.gaussian_nll(np.zeros(3), np.zeros(3), 0 * SQUARE), "positive definite"),
    "twice": (
        DataError,
        lambda: metrics.gaussian_posterior(np.zeros(3), SQUARE, [0, 0], [1.0, 1.0]),
        "different integers",
    ),
    "outside": (DataError, lambda: metrics.gaussian_posterior(np.zeros(3), SQUARE, [3], [1.0]), "index from 0 to 2"),
    "noise": (ConfigError, lambda: metrics.gaussian_posterior(np.zeros(3), SQUARE, [0], [1.0], -1.0), "noise"),
    "std": (DataError, lambda: metrics.crps_gaussian(0.0, 0.0, 0.0), "std: expected numbers above 0"),
    "samples": (
        DataError,
        lambda: metrics.crps_samples(np.zeros(3), np.zeros((5, 2))),
        r"expected \[N, 3\], got \[5, 2\]",
    ),
    "level": (
        ConfigError,
        lambda: metrics.coverage(np.zeros((5, 3)), np.zeros(3), np.ones(3), 0.9),
        "0.667 for 5 samples",
    ),
}


@pytest.mark.parametrize("kind, call, message", BAD.values(), ids=BAD.keys())
def test_metrics_refuse(kind, call, message):
    with pytest.raises(kind, match=message) as caught:
        call()
    one_line(caught)


# Navier-Stokes


def test_initial_vorticity_has_its_spectrum():
    fields = np.stack([navier_stokes.initial(16, 0, i) for i in range(2000)])
    power = np.mean(np.abs(np.fft.fft2(fields) / 256) ** 2, axis=0)
    exact = navier_stokes.spectrum(16) / navier_stokes.spectrum(16).sum()
    np.testing.assert_allclose(power, exact, rtol=0.2, atol=1e-12)  # 6 standard errors of a mean of 2000 squares
    assert fields.var() == pytest.approx(1, rel=0.05)
    np.testing.assert_array_equal(fields[5], navier_stokes.initial(16, 0, 5))


def test_navier_stokes_solves_a_decaying_vortex(tmp_path):
    pytest.importorskip("exponax")
    place = np.arange(32) / 32
    vortex = (np.sin(2 * np.pi * place)[:, None] * np.sin(2 * np.pi * place)).astype(
        np.float32
    )  # Taylor-Green: no transport
    found = navier_stokes._advance(32, 1e-2, 0.01, 100, 0.0)(vortex[None])[0]
    np.testing.assert_allclose(found, vortex * math.exp(-8 * math.pi**2 * 1e-2), atol=2e-5)
    fields = navier_stokes.solve(num=3, size=16, time=0.1, dt=0.02, batch_size=2)
    again = navier_stokes.solve(num=3, size=16, time=0.1, dt=0.02, batch_size=3)
    np.testing.assert_allclose(fields, again, atol=1e-5)
    np.savez(tmp_path / "ns.npz", vorticity=fields)
    assert measured(tmp_path / "ns.npz", (16, 16, 1), "vorticity").shape == (16, 16, 1)


def test_navier_stokes_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "exponax", None)
    with pytest.raises(ConfigError, match=r"pip install 'scoresde\[pde\]'"):
        navier_stokes.solve(num=1, size=16)
    for name, value in (
        ("num", 0),
        ("size", 4),
        ("viscosity", 0.0),
        ("dt", -1.0),
        ("time", math.inf),
        ("initial_std", -1.0),
    ):
        with pytest.raises(ConfigError, match=name):
            navier_stokes.solve(**{"num": 1, "size": 16} | {name: value})


def test_navier_stokes_command_reports_in_one_line():
    asked = subprocess.run(
        [sys.executable, "-m", "scoresde.data.navier_stokes", "--out", "x.npz", "--time", "-1"],
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 2 and asked.stderr == "error: time: expected a finite number above 0, got -1.0\n"
