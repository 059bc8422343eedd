"""The report: what stands on the pages, that names cannot become markup, and that no run fails of it."""

import dataclasses
import html.parser
import json
import re
import shutil
import xml.etree.ElementTree

import numpy as np
import pytest
from commands import DIGITS, MIXTURE, call

from scoresde.experiment.config import default, override, to_json
from scoresde.experiment.sections import flatten
from scoresde.report import compare, write_report
from scoresde.report.chart import LARGE, Axis, Bars, Chart, Line
from scoresde.report.facts import changed_fields, differing_fields, read_facts
from scoresde.report.page import _commands, _tiles, _value

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WATCH = "--config.training.watch=sliced_wasserstein,moments,nearest,loss"
EVIL = "<script>alert(1)<b>&\"'"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A few steps on the digits, with pictures, metrics and likelihoods. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("reports") / "digits"
    flags = [
        "--config.training.steps=4",
        "--config.training.sample_every=2",
        "--config.evaluate.num=6",
        "--config.sampling.steps=4",
    ]
    flags += [WATCH, "--config.model.name=mlp", "--config.model.width=8", "--config.model.depth=1"]
    flags += ["--config.likelihood.method=elbo", "--config.likelihood.samples=4"]
    result = call("train", *DIGITS, "--workdir", folder, *flags)
    assert result.code == 0 and "warning" not in result.out, result.err
    return folder


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """A few steps on points in the plane."""
    folder = tmp_path_factory.mktemp("reports") / "plane"
    result = call("train", *MIXTURE, "--workdir", folder, "--config.training.steps=2", WATCH)
    assert result.code == 0 and "warning" not in result.out, result.err
    return folder


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """A few steps on curves."""
    folder = tmp_path_factory.mktemp("reports") / "curves"
    flags = [
        "--config=configs/curves_coloured.py", "--config.data.source=gp_mixture", "--config.data.arrays=()",
        "--config.data.image_size=16,",
        "--config.model.width=8", "--config.model.depth=1", "--config.model.modes=4", "--config.training.batch_size=16",
        "--config.training.steps=2", "--config.sampling.num=8", "--config.sampling.steps=4", "--config.evaluate.num=0",
    ]  # fmt: skip
    result = call("train", *flags, "--workdir", folder)
    assert result.code == 0 and "warning" not in result.out, result.err
    return folder


class Page(html.parser.HTMLParser):
    """The tags, attributes and headings of a page; a tag that is not closed fails the test."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text, self.titles, self._open = [], [], [], [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self._open and self._open[-1] in ("h1", "h2", "title"):
            self.titles.append(data)


def page(path) -> Page:
    """A page that loads nothing and runs nothing."""
    found = Page(path.read_text())
    assert not {"script", "iframe", "link", "object", "embed"} & set(found.tags)
    for tag, name, value in found.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "data", "srcset"):
            assert tag == "img" and value.startswith("data:image/png;base64,")
    assert "url(" not in path.read_text() and "@import" not in path.read_text()
    return found


SECTIONS = [
    "Training",
    "Samples",
    "Denoising",
    "Nearest training records",
    "Metrics",
    "Speed and goodput",
    "Configuration",
    "Commands",
]


def test_the_page_of_images(digits):
    found = page(digits / "report.html")
    assert found.titles[0] == "digits" and found.titles[2:] == [*SECTIONS[:4], "Likelihood", *SECTIONS[4:]]
    assert found.tags.count("svg") == 4 + 3 + 2 + 1  # training, figures, nearest, likelihood
    assert found.tags.count("img") == 3 + 1 + 1  # grids of steps 0, 2 and 4, trajectory, pairs
    text = " ".join(found.text)
    report = json.loads((digits / "evaluation" / "evaluation.json").read_text())
    # As many decimals as two digits of its error, 0.68, have.
    assert f"{report['bits_per_dim']:.2f} ± {report['bits_per_dim_error']:.2f}" in text and "bits/dim" in text
    assert "--config.training.steps=4" in text and "training.sample_every" in text  # the command; a changed field
    ledger = json.loads((digits / "ledger.json").read_text())
    for name in ("step", "watch", "compile", "evaluation"):
        assert ledger["seconds"][name] > 0 and f"{ledger['seconds'][name]:.1f}" in text
    written = (digits / "report.md").read_text()
    pictures = re.findall(r"\]\(([^)]+)\)", written)
    assert len(pictures) == 15 and all((digits / path).is_file() for path in pictures)
    for path in (digits / "report").glob("*.svg"):
        xml.etree.ElementTree.parse(path)


def test_the_pages_of_points_and_curves(plane, curves):
    points, functions = page(plane / "report.html"), page(curves / "report.html")
    assert [title for title in points.titles[2:]] == SECTIONS == functions.titles[2:]
    assert points.tags.count("img") == 3 and "pairs.png" not in (plane / "report.md").read_text()
    # Curves are drawn as charts: eight times of a trajectory, six pairs.
    assert functions.tags.count("svg") == 4 + 3 + 2 + 8 + 6 and functions.tags.count("img") == 2


def test_names_cannot_become_markup(digits, tmp_path):
    folder = tmp_path / EVIL
    shutil.copytree(digits, folder)
    config = json.loads((folder / "config.json").read_text())
    config["data"]["source"] = f"npz:{EVIL}"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evaluation" / "records.jsonl").write_text(
        json.dumps({"metric": EVIL, "value": 1.0, "split": EVIL, "sampler": "| a | b"})
    )
    ledger = json.loads((folder / "ledger.json").read_text())
    ledger["sessions"].append({"command": f"train {EVIL}", "devices": EVIL})
    (folder / "ledger.json").write_text(json.dumps(ledger))
    write_report(folder)
    found = page(folder / "report.html")
    text = "".join(found.text)
    assert found.titles[1] == EVIL and f"npz:{EVIL}" in text and f"train {EVIL}" in text
    assert "<script" not in (folder / "report.md").read_text() and "<b>" not in (folder / "report.md").read_text()
    (row,) = [
        line for line in (folder / "report.md").read_text().splitlines() if "alert(1)" in line and "a \\| b" in line
    ]
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"\|", row.replace("\\|", "")))

    other = tmp_path / "other"
    shutil.copytree(digits, other)
    compare([folder, other], tmp_path / "both.html")
    assert EVIL in "".join(page(tmp_path / "both.html").text)


def test_a_comparison_lays_runs_beside_each_other(digits, plane, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("report", digits, plane)
    assert result.code == 0 and "comparison.html" in result.out
    found = page(tmp_path / "comparison.html")
    text = " ".join(found.text)
    assert "Comparison of digits, plane" in text and found.tags.count("img") == 2
    assert "data.source" in text and "gaussian_mixture" in text  # differs
    assert "model.skip_rescale" not in text  # does not
    loss = re.search(r"Loss of batches</h3>(.*?)</svg>", (tmp_path / "comparison.html").read_text(), re.DOTALL)[1]
    assert loss.count('fill="none" stroke="#') >= 2 and "digits</text>" in loss and "plane</text>" in loss


def test_what_training_left_out_is_drawn_from_the_checkpoint(plane, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(plane, folder)
    for name in ("watch", "samples", "report"):
        shutil.rmtree(folder / name)
    assert call("report", folder, "--out", tmp_path / "deep" / "page.html").code == 0
    assert page(tmp_path / "deep" / "page.html").tags.count("img") == 2 and (folder / "samples" / "000002.png").exists()
    shutil.rmtree(folder / "checkpoints")
    shutil.rmtree(folder / "watch")
    result = call("report", folder)
    assert result.code == 0 and "no pictures" in result.err and (folder / "report.html").exists()


def test_damaged_files_are_left_out(digits, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(digits, folder)
    lines = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(lines + '[1]\n{"loss": 1}\n{"step": 5, "lo')
    for name in (
        "ledger.json",
        "watch/newest.npz",
        "evaluation/evaluation.json",
        "evaluation/evaluation.npz",
        "samples/000002.png",
    ):
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (folder / "best.json").write_text("3")
    write_report(folder)
    found = page(folder / "report.html")
    assert found.tags.count("img") == 2 + 2 and "Likelihood" not in found.titles
    refused = call("report", tmp_path / "none")
    assert refused.code == 2 and "config.json" in refused.err


DAMAGED = {
    "metrics.jsonl": [
        '{"step": 1, "loss": "x"}', '{"step": 1, "loss": [1]}\n{"step": 2, "loss": 0.5}',
        '{"step": 1, "watch/sliced_wasserstein": "x"}',
        '{"step": 1, "loss": 1, "steps_per_second": "x", "learning_rate": {}}', '{"step": -1, "loss": 1e308}\n{"step": '
                                                                                '1e30, "loss": -1e308}',
    ],
    "ledger.json": [
        '{"seconds": 3}', '{"seconds": {"step": "x"}}', '{"seconds": {"step": null}}', '{"goodput": "x"}',
        '{"goodput": null}',
        '{"sessions": 3}', '{"sessions": [3]}', '{"sessions": [{"command": 5}]}',
    ],
    "best.json": ['{"metric": "a"}', '{"metric": "a", "value": null, "step": 1}', '{"metric": "a", "value": 1, "step": '
                                                                                  '"x"}'],
    "evaluation/records.jsonl": ['{"metric": "a", "value": 1, "standard_error": Infinity}', '{"metric": {}, "value": '
                                                                                            '[1], "nfe": [1], "split": '
                                                                                            '["x"]}'],
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_json_of_another_kind_is_left_out(digits, name, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(digits, folder)
    (folder / "evaluation").mkdir(exist_ok=True)
    for content in DAMAGED[name]:
        (folder / name).write_text(content + "\n")
        write_report(folder)
    (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | {"training": {"steps": "x"}})
    )
    refused = call("report", folder)
    assert refused.code == 2 and "expected training.steps" in refused.err


def test_a_report_that_fails_does_not_stop_a_run(tmp_path, monkeypatch):
    def broken(folder):
        raise ValueError("no page")

    monkeypatch.setattr("scoresde.workflows.train_run.write_report", broken)
    result = call("train", *MIXTURE, "--workdir", tmp_path, "--config.training.steps=2")
    assert result.code == 0 and result.out.count("warning: the report was not written (ValueError: no page)") == 3
    assert "Traceback" not in result.err + result.out


# The parts


def test_the_fields_that_changed():
    config = default()
    config.sde.beta_max, config.data.image_size = 19.0, (8, 4)
    override(config, [])
    flat = flatten(to_json(config))
    assert changed_fields(flat) == [("data.image_size", 32, [8, 4]), ("sde.beta_max", 20.0, 19.0)]
    assert changed_fields(flat | {"old.field": 1})[1] == ("old.field", "absent", 1)
    assert differing_fields([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}]) == [("b", [2, 3]), ("c", ["absent", 4])]


@pytest.mark.parametrize(
    "value, error, text",
    [
        (1.90312, 0.0152, "1.903 ± 0.015"),
        (11.84, 0.3, "11.84 ± 0.30"),
        (170.4, 25.0, "170 ± 25"),
        (0.5, None, "0.5"),
        (2.0, 0.0, "2"),
    ],
)
def test_a_number_has_the_digits_of_its_error(value, error, text):
    assert _value({"value": value, "standard_error": error}) == text


@pytest.mark.parametrize("low, high", [(0, 1300), (-2.3, 6.3), (0.38, 0.41), (1e-6, 3e-6), (-1e7, 5e7)])
def test_ticks_are_round_and_lie_where_their_values_are(low, high):
    axis = Axis.of(np.array([low, high]), 50.0, 600.0)
    ticks = axis.ticks()
    assert 3 <= len(ticks) <= 9 and len({text for _, text in ticks}) == len(ticks)
    for place, text in ticks:
        exact = 50 + (float(text) - axis.low) / (axis.high - axis.low) * 550
        assert abs(place - exact) < 0.006 * 550 and 50 <= place <= 600
    steps = np.diff([float(text) for _, text in ticks])
    np.testing.assert_allclose(steps, steps[0], rtol=0.02)


def test_a_line_goes_through_its_points_and_leaves_out_what_is_not_finite():
    x, y = np.array([0, 1, 2, 3.0]), np.array([1, np.nan, 3, 2.0])
    layout = Chart("", "", "", (Line("a", x, y),), start=0).layout()
    places = [tuple(map(float, pair.split(","))) for pair in layout["lines"][0]["path"][1:].split(" L")]
    assert len(places) == 3
    (x0, y0), (x2, y2), (x3, y3) = places
    assert x0 == layout["left"] and x3 == layout["right"] and (x2 - x0) / (x3 - x0) == pytest.approx(2 / 3, abs=1e-3)
    assert (y0 - y3) / (y0 - y2) == pytest.approx(0.5, abs=1e-3) and y2 < y3 < y0 and layout["top"] < y2
    assert Chart("", "", "", (Line("a", x, x * np.nan),)).layout() is None


def test_values_over_decades_have_a_logarithmic_axis_and_many_points_are_averaged():
    y = np.logspace(0, -3, 1001)
    layout = Chart("", "", "loss", (Line("a", np.arange(1001.0), y),)).layout()
    assert layout["y_label"] == "loss (log)" and [text for _, text in layout["y_ticks"]] == [
        "0.001",
        "0.01",
        "0.1",
        "1",
    ]
    line = layout["lines"][0]
    assert line["path"].count("L") == 399 and line["band"]
    places = [float(pair.split(",")[1]) for pair in line["path"][1:].split(" L")]
    np.testing.assert_allclose(np.diff(places), np.mean(np.diff(places)), rtol=0.6, atol=0.4)  # straight
    assert Chart("", "", "loss", (Line("a", np.arange(3.0), np.array([0, 1, 1e6])),)).layout()["y_label"] == "loss"


def test_a_histogram_shows_shares():
    values = np.array([0, 0, 0, 1, 2, 2, 3, np.inf])
    layout = Chart("", "", "", bars=(Bars("a", values), Bars("b", values[:3]))).layout()
    height = layout["bottom"] - layout["top"]
    heights = sorted(rect["height"] / height * 1.08 for rect in layout["rects"])
    # Of seven finite values three are 0, two are 2; all of b is 0, and the axis ends at 1.08.
    np.testing.assert_allclose(heights, [1 / 7, 1 / 7, 2 / 7, 3 / 7, 1], atol=2e-3)
    assert layout["legend"] and LARGE == (layout["width"], layout["height"])


def test_facts_of_a_run(digits):
    facts = read_facts(digits)
    steps, losses = facts.series("loss")
    assert steps.tolist() == [1, 2, 3, 4] and np.isfinite(losses).all()
    assert facts.series("test_loss", facts.watched)[0].tolist() == [0, 2, 4]
    assert [step for step, _ in facts.grids] == [0, 2, 4] and facts.step == 4
    assert facts.likelihoods[0][:2] == ("test", "bits/dim") and facts.likelihoods[0][2].shape == (6,)
    twice = dataclasses.replace(
        facts, ledger={"sessions": [{"command": "train a"}, {"command": "train b"}, {"command": "train a"}, {}]}
    )
    assert _commands(twice)[:3] == ["train a", "train b", f"python -m scoresde.sample --workdir {digits}"]
    assert [line["step"] for line in facts.log] == [1, 2, 3, 4] and "loss" in dict(_tiles(facts))


def test_the_newest_numbers_are_shown_and_equal_names_told_apart(digits, tmp_path):
    folders = [tmp_path / part / "run" for part in "ab"]
    for folder in folders:
        shutil.copytree(digits, folder)
        (folder / "evaluation").mkdir(exist_ok=True)
        lines = [json.dumps({"metric": "fd_pixels", "value": value}) + "\n" for value in range(1000, 1100)]
        (folder / "evaluation" / "records.jsonl").write_text("".join(lines))
    values = [row["value"] for row in read_facts(folders[0]).metrics]
    assert values == list(range(1040, 1100)), "the 60 newest"
    text = " ".join(page(compare(folders, tmp_path / "both.html")).text)
    assert "1099" in text and "1098" not in text and all(str(folder) in text for folder in folders)
    assert f"Comparison of {folders[0]}, {folders[1]}" in text


def test_a_likelihood_in_a_report_and_in_a_record_is_one_row(tmp_path):
    from scoresde.report.facts import _metrics

    place = tmp_path / "evaluation"
    place.mkdir()
    (place / "evaluation.json").write_text(json.dumps({"nats": 5.0, "bits_per_dim": 1.9, "num": 3, "step": 7}))
    lines = [
        {"metric": "bpd", "value": 1.9, "step": 7},
        {"metric": "bpd", "value": 1.8, "step": 9},
        {"metric": "fid@10", "value": 3.0},
    ]
    (place / "records.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [(row["metric"], row["value"]) for row in _metrics(tmp_path)] == [
        ("bits/dim", 1.9),
        ("bits/dim", 1.8),
        ("fid@10", 3.0),
    ]
