"""`python -m scoresde.data inspect SOURCE`: description of a data set, and a suggested configuration."""

import json
import math
import pathlib

from scoresde.cli.parser import Parser
from scoresde.errors import ConfigError
from scoresde.runtime.files import write_text

_SHAPE = ("image_size", "channels", "levels")
_ALL = 2**62  # all damaged files are listed; none stops the inspection


def main(arguments: list[str]) -> None:
    parser = Parser(
        "data", "What is in a data set: OUT/inspection.json, OUT/grid.png, and the lines for a configuration."
    )
    parser.add_argument("action", choices=("inspect",), help="inspect: look at every record")
    parser.add_argument("source", metavar="SOURCE", help="as data.source, such as folder:PATH")
    parser.add_path("--config", help="experiment file whose data section to use; default: found out from the data")
    parser.add_path("--out", default="inspection", help="output folder; default: inspection")
    found = parser.parse(arguments)
    from scoresde.data.inspection import SHOWN, inspect, sample, text
    from scoresde.data.picture import save_picture
    from scoresde.experiment.records import read_dataset

    config = _config(found.config, found.source, found.overrides)
    dataset = read_dataset(config)
    report = inspect(dataset)
    out = pathlib.Path(found.out)
    out.mkdir(parents=True, exist_ok=True)
    lines = suggestions(report, config.arrays)
    write_text(out / "inspection.json", json.dumps(report | {"configuration": lines}, indent=1) + "\n")
    drawn = save_picture(dataset, dataset.encode(dataset.train.rows(sample(dataset.train, SHOWN))[0]), out / "grid.png")
    print(text(report, lines).encode("utf-8", "backslashreplace").decode())  # file names may be any bytes
    print(f"wrote {out / 'inspection.json'}" + (f" and {out / 'grid.png'}" if drawn else ""))


def suggestions(report: dict, arrays: tuple[str, ...]) -> list[str]:
    """Return suggested lines for get_config()."""
    shape = tuple(report["shape"])
    size = 0 if len(shape) == 1 else shape[0] if len(shape) == 3 and shape[0] == shape[1] else shape[:-1]
    lines = [
        f"    c.data.source, c.data.image_size, c.data.channels, c.data.levels = {report['source']!r}, {size}, "
        f"{shape[-1]}, {report['levels']}",
    ]
    if report["sigma_data"]:
        lines.append(f"    c.preconditioning.sigma_data = {report['sigma_data']:.3g}")
    else:
        lines.append(
            "    # no c.preconditioning.sigma_data: all training values are the same, and there is nothing to learn"
        )
    if arrays:
        lines.insert(1, f"    c.data.arrays = {arrays}")
    if len(shape) in (3, 4):
        halvings = min(3, *(_twos(n) for n in shape[:-1]))
        lines.append(
            f"    c.model.name, c.model.multipliers = 'unet', {(1, 2, 2, 2)[: halvings + 1]}  # {halvings} halvings of "
            f"{' x '.join(map(str, shape[:-1]))}"
        )
    else:
        lines.append(f"    c.model.name = '{'fno' if len(shape) == 2 else 'mlp'}'")
    if report["sigma_max"]:
        lines.append(f"    # c.sde.sigma_max = {_two_digits_up(report['sigma_max'])}, if c.sde.name is ve or karras")
    if report["classes"]:
        kind = {"name": "class", "num_classes": report["classes"]}
        lines.append(f"    c.conditions['class'] = {kind}  # to train with labels")
    return lines


def _config(path: str | None, source: str, overrides: list[str]):
    """Return the data section that describes how `source` is read; fields that are not declared are derived from the
    source."""
    from scoresde.data.declared import declared
    from scoresde.experiment.config import default, load_config, override
    from scoresde.experiment.settings import Data

    if path:
        config = load_config(path, [*overrides, f"data.source={source}"])
    else:
        if other := [text for text in overrides if not text.startswith("data.")]:
            raise ConfigError(*(f"--config.{text}: only the fields of data are used" for text in other))
        config = default()
        override(config, overrides)
        given = {text.partition("=")[0].removeprefix("data.") for text in overrides}
        config.data.source = source
        if not given.issuperset(_SHAPE):
            shape, levels = declared(source, tuple(config.data.arrays), config.data.data_dir or None)
            values = {"image_size": shape[:-1] or 0, "channels": shape[-1], "levels": levels}
            config.data.update({name: value for name, value in values.items() if name not in given})
    found = Data(**(config.data.to_dict() | {"max_bad": _ALL}))
    if problems := found.problems():
        raise ConfigError(*problems)
    return found


def _twos(number: int) -> int:
    """Return how often a number can be halved."""
    return (number & -number).bit_length() - 1


def _two_digits_up(value: float) -> float:
    """Round up to two digits, because the sample's largest distance is a lower estimate."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return float(f"{math.ceil(value / unit) * unit:.6g}")
