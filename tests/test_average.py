"""Averages: the three laws against their formulas; averages of other widths from snapshots against those computed on
the way."""

import json
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import MIXTURE, ROOT, call, finish, run, same_bits, start, wait_until
from commands import stored as stored_state
from scipy.integrate import quad
from scipy.linalg import null_space

from scoresde.errors import ConfigError
from scoresde.experiment import Experiment
from scoresde.experiment.config import default, from_json, load_config, override, to_json
from scoresde.train import average_name
from scoresde.train.average import WIDEST, exponent, rate, relative_width, update
from scoresde.workflows.posthoc import reconstruct
from scoresde.workflows.posthoc.profiles import fit, inner

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",  # what Orbax leaves behind after reading a damaged file
)

TRACKED = (0.05, 0.1)


def profile(tau, t, gamma):
    return np.where(tau <= t, (gamma + 1) * tau**gamma / t ** (gamma + 1), 0.0)


# Three laws


@pytest.mark.parametrize("batch_size", [8, 512])
def test_a_half_life_counts_images(batch_size):
    """Half-life H, long after the start: H / B steps halve the distance, for every batch B."""
    half_life, average = 4096.0, {"4096.0": jnp.zeros(())}
    for _ in range(int(half_life) // batch_size):
        average = update(average, jnp.ones(()), jnp.asarray(10**8), batch_size)
    np.testing.assert_allclose(average["4096.0"], 0.5, rtol=1e-5)


def test_a_half_life_starts_short():
    """2^(-B / min(H, 0.05 n B)): the first step takes the parameters; at step 40, a half-life of 2 batches; later H."""
    for n, kept in ((0, 0.0), (40, 2**-0.5), (1999, 2 ** (-1 / 99.95)), (10**6, 2 ** (-1 / 100))):
        np.testing.assert_allclose(1 - rate("51200.0", jnp.asarray(n), 512), kept, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("width", [0.02, 0.05, 0.1, 0.25])
def test_a_power_function_weighs_every_step(width, x64):
    """Step i of t has the weight (i^(gamma + 1) - (i - 1)^(gamma + 1)) / t^(gamma + 1), and the start none."""
    steps, gamma = 200, exponent(width)
    params = np.random.default_rng(0).normal(size=(steps, 3))
    average = {f"power:{width}": jnp.full(3, 1e6)}
    for n in range(steps):
        average = update(average, jnp.asarray(params[n]), jnp.asarray(n), 64)
    edges = (np.arange(steps + 1) / steps) ** (gamma + 1)
    np.testing.assert_allclose(average[f"power:{width}"], np.diff(edges) @ params, rtol=1e-10, atol=1e-10)


def test_a_power_function_in_float32_after_a_million_steps():
    name, n = "power:0.05", 10**6
    exact = -np.expm1((exponent(0.05) + 1) * np.log1p(-1 / (n + 1)))
    np.testing.assert_allclose(rate(name, jnp.asarray(n), 64), exact, rtol=1e-6)


@pytest.mark.parametrize("width, gamma", [(0.05, 16.97), (0.1, 6.94), (0.01, None), (0.2, None), (0.288, None)])
def test_the_width_is_the_standard_deviation_of_the_weights(width, gamma):
    """Karras et al. 2024, section 3.1, say 16.97 and 6.94."""
    found = exponent(width)
    assert gamma is None or round(found, 2) == gamma
    mean = quad(lambda tau: tau * profile(tau, 1.0, found), 0, 1, epsabs=1e-13)[0]
    variance = quad(lambda tau: (tau - mean) ** 2 * profile(tau, 1.0, found), 0, 1, epsabs=1e-13)[0]
    np.testing.assert_allclose([relative_width(found), variance**0.5], width, rtol=1e-9)


def test_names_say_the_law_and_the_first_one_comes_from_the_configuration():
    assert [average_name(m) for m in (0.999, 500_000, "5e5", "power:.05", "power:0.050")] == [
        "0.999",
        *["500000.0"] * 2,
        *["power:0.05"] * 2,
    ]
    config = default()
    override(config, ["training.ema=0.9,0.1", "training.power_ema=0.1,0.05"])
    assert Experiment.from_config(config).averages == ("0.9", "0.1", "power:0.1", "power:0.05")
    override(config, ["training.ema=()"])
    back = from_json(to_json(config))
    assert Experiment.from_config(back).averages == ("power:0.1", "power:0.05")
    override(back, ["training.ema=0.5"])  # an empty tuple keeps its type
    assert back.training.ema == (0.5,)
    with pytest.raises(ConfigError, match="power:0.05, got 'power:wide'"):
        average_name("power:wide")


@pytest.mark.parametrize(
    "texts, words",
    [
        ("training.power_ema=0.3", f"power_ema = (0.3,): expected a relative width above 0 and below {WIDEST:.4f}"),
        ("training.power_ema=0", "above 0"),
        ("training.power_ema=0.1,0.1", "each once"),
        ("training.power_ema=wide", "a tuple"),
        ("training.snapshot_every=0", "at least 1"),
        ("training.power_ema=0.1 training.snapshot_every=33 training.steps_per_dispatch=50", "nearest: 50"),
    ],
)
def test_a_wrong_field_is_one_line(texts, words):
    with pytest.raises(ConfigError) as caught:
        Experiment.from_config(load_config(str(ROOT / "configs" / "mixture_2d.py"), texts.split()))
    assert len(caught.value.problems) == 1 and words in str(caught.value)


# Profiles


@pytest.mark.parametrize(
    "a, b",
    [
        ((40.0, 16.97), (40.0, 6.94)),
        ((10.0, 6.94), (40.0, 16.97)),
        ((40.0, 1.8), (25.0, 17.0)),
        ((3.0, 0.5), (3.0, 0.5)),
    ],
)
def test_inner_products_are_the_integrals(a, b):
    integral = quad(lambda tau: profile(tau, *a) * profile(tau, *b), 0, min(a[0], b[0]), epsabs=1e-13)[0]
    np.testing.assert_allclose(inner(*a, *b), integral, rtol=1e-8)


@pytest.mark.parametrize("wanted", [(1.0, 0.075), (0.6, 0.15), (1.0, 0.2)])
def test_the_fit_is_the_least_squares_under_its_sum(wanted):
    """Against lstsq over a fine grid of tau, in coordinates that keep the sum; the residual too."""
    t, gamma = np.repeat([0.25, 0.5, 0.75, 1.0], 2), np.tile([exponent(w) for w in TRACKED], 4)
    nodes, weights = np.polynomial.legendre.leggauss(40)  # exact to rounding between the ends of profiles
    ends = np.linspace(0, 1, 21)
    tau, root = (ends[:-1, None] + (nodes + 1) / 40).ravel(), np.sqrt(np.tile(weights / 40, 20))
    columns = root[:, None] * profile(tau[:, None], t, gamma)
    goal = root * profile(tau, wanted[0], exponent(wanted[1]))
    start, free = np.full(8, 1 / 8), null_space(np.ones((1, 8)))
    best = start + free @ np.linalg.lstsq(columns @ free, goal - columns @ start)[0]
    found = fit(t, gamma, wanted[0], exponent(wanted[1]))
    np.testing.assert_allclose(found.coefficients, best, atol=1e-5)
    np.testing.assert_allclose(found.coefficients.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(found.residual, np.linalg.norm(goal - columns @ best) / np.linalg.norm(goal), rtol=1e-5)


def test_snapshots_that_are_nearly_alike_or_many_keep_the_coefficients_small():
    t = np.array([1e6, 1e6, 1e6 + 1, 1e6 + 1])
    assert np.abs(fit(t, np.tile([exponent(w) for w in TRACKED], 2), 1e6, exponent(0.06)).coefficients).sum() < 5
    t, gamma = np.repeat(np.arange(1.0, 301), 2), np.tile([exponent(w) for w in TRACKED], 300)
    found = fit(t, gamma, 300.0, exponent(0.15))
    assert np.abs(found.coefficients).sum() < 2 and found.residual < 5e-5


@pytest.mark.parametrize(
    "width, t, share",
    [(0.06, 1024, 0.03), (0.075, 1024, 0.03), (0.15, 1024, 0.03), (0.09, 704, 0.03), (0.09, 700, 0.2)],
)
def test_snapshots_of_a_trajectory_give_the_average_computed_on_the_way(width, t, share):
    """Of a random walk around 1, averaged in float32. The error is at most |p - sum x p_i| |theta - 1|, by Cauchy and
    Schwarz.

    The last one ends between two snapshots, where no profile ends.
    """
    walk = 1 + np.cumsum(np.random.default_rng(1).normal(size=(1024, 8)) / 32, axis=0).astype(np.float32)
    names = [f"power:{w}" for w in (*TRACKED, width)]

    def step(averages, now):
        averages = update(averages, now[1], now[0], 1)
        return averages, averages

    start = dict.fromkeys(names, jnp.zeros(8))
    _, found = jax.lax.scan(step, start, (jnp.arange(1024), jnp.asarray(walk)))
    found, every = {name: np.asarray(value, np.float64) for name, value in found.items()}, np.arange(64, 1025, 64)
    fitted = fit(
        np.repeat(every.astype(float), 2), np.tile([exponent(w) for w in TRACKED], 16), float(t), exponent(width)
    )
    made = sum(x * found[names[i % 2]][every[i // 2] - 1] for i, x in enumerate(fitted.coefficients))
    direct = found[names[2]][t - 1]
    bound = fitted.residual * inner(t, exponent(width), t, exponent(width)) ** 0.5 * np.linalg.norm(walk - 1, axis=0)
    assert (np.abs(made - direct) <= bound + 1e-5).all()
    spread = min(np.abs(found[name][t - 1] - direct).max() for name in names[:2])
    assert np.abs(made - direct).max() < share * spread  # of the distance to the nearest one tracked


def test_parameters_that_do_not_move_come_out_as_they_are():
    """Even from one snapshot, where free least squares would take a fifth off every weight."""
    one = fit(np.array([8.0, 8.0]), np.array([exponent(w) for w in TRACKED]), 8.0, exponent(0.15))
    assert one.residual > 0.1 and abs(one.coefficients.sum() - 1) < 1e-12


# Runs

RUN = [
    *MIXTURE, "--config.training.ema=0.6", "--config.training.power_ema=0.1,0.05", "--config.training.snapshot_every=5",
    "--config.training.steps=40", "--config.model.width=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("average")
    result = call("train", *RUN, "--workdir", workdir)
    assert result.code == 0, result.err
    return workdir


@pytest.fixture
def workdir(straight, tmp_path):
    shutil.copytree(straight, tmp_path / "run")
    return tmp_path / "run"


def snapshots(workdir) -> dict[int, dict]:
    """Every leaf of every snapshot, read by Orbax alone."""
    return {
        int(path.name): stored_state(workdir, int(path.name), "averages")
        for path in (workdir / "averages").iterdir()
        if path.name.isdigit()
    }


def damage(step):
    for path in (step / "state").rglob("d/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_snapshot_holds_the_averages_of_its_step(straight):
    """All are kept, where three checkpoints are; and nothing but the averages by power functions is in them."""
    found = snapshots(straight)
    assert sorted(found) == [5, 10, 15, 20, 25, 30, 35, 40]
    state = {
        name.removeprefix("ema/"): leaf
        for name, leaf in stored_state(straight, 30).items()
        if name.startswith("ema/power")
    }
    assert {name.split("/")[0] for name in state} == {"power:0.05", "power:0.1"} and same_bits(found[30], state)
    assert not same_bits(found[30], found[35])


def test_a_run_that_was_killed_ends_with_the_same_snapshots(workdir, straight):
    """It goes on from step 20: snapshots after that are of steps that are done again, and one was never finished."""
    for step in (30, 40):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    shutil.rmtree(workdir / "averages" / "35")
    shutil.copytree(workdir / "averages" / "5", workdir / "averages" / "33")  # not due
    (workdir / "averages" / "40" / "state").rename(workdir / "averages" / "40" / "unfinished")
    again = call("train", *RUN, "--workdir", workdir)
    assert again.code == 0 and "resumed at step 20" in again.out
    found, whole = snapshots(workdir), snapshots(straight)
    assert sorted(found) == sorted(whole) and all(same_bits(found[step], whole[step]) for step in whole)


def test_an_average_of_a_run_is_a_run(workdir, tmp_path):
    """The command, and what it wrote against the sum of the snapshots in numpy; then sample."""
    made = call("average", "--workdir", workdir, "--sigma-rel", 0.075, "--out", tmp_path / "out")
    assert made.code == 0 and not made.err, made.err
    assert "residual 0.012, from 8 snapshot(s) of widths 0.05, 0.1 at steps 5, 10, 15, 20, 25, 30, 35, 40" in made.out
    found, record = snapshots(workdir), json.loads((tmp_path / "out" / "average.json").read_text())
    leaves = {name.partition("/")[2] for name in found[5]}
    made = stored_state(tmp_path / "out", 40)
    for leaf in leaves:
        total = sum(
            s["coefficient"] * found[s["step"]][f"power:{s['sigma_rel']}/{leaf}"].astype(np.float64)
            for s in record["snapshots"]
        )
        np.testing.assert_array_equal(made[f"ema/power:0.075/{leaf}"], total.astype(np.float32))
    sampled = call("sample", "--workdir", tmp_path / "out", "--num", 2)
    assert sampled.code == 0 and "at step 40 (ema power:0.075)" in sampled.out
    again = call("average", "--workdir", workdir, "--sigma-rel", 0.075, "--out", tmp_path / "out")
    assert again.code == 2 and "holds a run already" in again.err


def test_a_width_that_was_tracked_comes_back(straight):
    average = reconstruct(straight, 0.05, 30)
    assert average.residual < 1e-7 and list(average.used) == [30] and list(average.used[30]) == [0.05]
    whole = snapshots(straight)[30]
    for path, leaf in jax.tree_util.tree_leaves_with_path(average.params):
        np.testing.assert_allclose(
            leaf, whole[f"power:0.05/{jax.tree_util.keystr(path, simple=True, separator='/')}"], rtol=3e-7
        )


def test_damaged_snapshots_are_told_and_left_out(workdir):
    damage(workdir / "averages" / "40")
    shutil.rmtree(workdir / "averages" / "20" / "meta")
    made = call("average", "--workdir", workdir, "--sigma-rel", 0.2)
    assert (
        made.code == 0
        and "averages: checkpoint at step 40 is damaged" in made.out
        and "averages: checkpoint at step 20" in made.out
    )
    assert "at step 35: " in made.out and "at steps 5, 10, 15, 25, 30, 35" in made.out
    assert (
        made.err.startswith("warning: residual") and "training.snapshot_every" in made.err
    )  # 0.2 is far from what was tracked
    refused = call("average", "--workdir", workdir, "--sigma-rel", 0.2, "--step", 40, "--out", workdir / "other")
    assert (
        refused.code == 2
        and "expected 1 to 35, the last good snapshot" in refused.err
        and not (workdir / "other").exists()
    )
    for step in (5, 10, 15, 25, 30, 35):
        damage(workdir / "averages" / str(step))
    refused = call("average", "--workdir", workdir, "--sigma-rel", 0.075)
    assert refused.code == 4 and "are damaged" in refused.err and not (workdir / "average_0.075").exists()


@pytest.mark.parametrize(
    "flags, code, words",
    [
        (["--sigma-rel", "0.29"], 2, "--sigma-rel: expected a relative width above 0 and below 0.2887"),
        (["--sigma-rel", "0"], 2, "got 0"),
        (["--sigma-rel", "nan"], 2, "got nan"),
        (["--sigma-rel", "0.1", "--step", "41"], 2, "--step: expected 1 to 40"),
        (["--sigma-rel", "0.1", "--step", "0"], 2, "--step: expected 1 to 40"),
        (["--sigma-rel", "0.1", "--config.seed=1"], 2, "leave it out"),
        (["--workdir", "nowhere", "--sigma-rel", "0.1"], 2, "config.json"),
        ([], 2, "--sigma-rel"),
    ],
)
def test_wrong_flags_are_one_line(flags, code, words, straight):
    refused = call("average", "--workdir", straight, *flags)
    assert refused.code == code and words in refused.err and len(refused.err.splitlines()) == 1


def test_runs_without_snapshots_say_so(workdir):
    shutil.rmtree(workdir / "averages")
    refused = call("average", "--workdir", workdir, "--sigma-rel", 0.075)
    assert refused.code == 4 and "no good snapshot" in refused.err and "the first one is taken at step 5" in refused.err
    config = json.loads((workdir / "config.json").read_text())
    config["training"]["power_ema"] = []
    (workdir / "config.json").write_text(json.dumps(config))
    refused = call("average", "--workdir", workdir, "--sigma-rel", 0.075)
    assert refused.code == 2 and "train with --config.training.power_ema" in refused.err


def test_snapshots_of_another_experiment_are_refused(workdir):
    config = json.loads((workdir / "config.json").read_text())
    config["sde"]["beta_max"] = 19.0
    (workdir / "config.json").write_text(json.dumps(config))
    refused = call("average", "--workdir", workdir, "--sigma-rel", 0.075)
    assert refused.code == 4 and "sde.beta_max" in refused.err


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_same_snapshots(tmp_path):
    """SIGKILL twice, with a snapshot at every step, then the rest; against a run in one go. In processes of their
    own."""
    command = ["train", *RUN, "--config.training.snapshot_every=1"]
    assert run(*command, "--workdir", tmp_path / "straight").code == 0
    workdir, killed = tmp_path / "killed", 0
    for seen in (3, 19):
        process = start(*command, "--workdir", workdir)
        wait_until(lambda: (workdir / "averages").is_dir() and any((workdir / "averages").glob(f"{seen}*")), process)
        process.kill()
        killed += finish(process).code == -signal.SIGKILL
    assert killed == 2 and run(*command, "--workdir", workdir).code == 0
    found, whole = snapshots(workdir), snapshots(tmp_path / "straight")
    assert sorted(found) == list(range(1, 41)) and all(same_bits(found[step], whole[step]) for step in whole)
    assert {path.name for path in (workdir / "averages").iterdir()} == set(map(str, range(1, 41)))
    assert reconstruct(workdir, 0.075).residual < 1e-2
