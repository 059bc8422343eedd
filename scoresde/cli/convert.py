"""`python -m scoresde.convert`: conversion of published weights to a run folder, and of a run to safetensors."""

import pathlib

from scoresde.cli.parser import Parser
from scoresde.convert.recipes import NETWORKS
from scoresde.errors import ConfigError


def main(arguments: list[str]) -> None:
    parser = Parser(
        "convert",
        "Published weights to a run folder that sample, likelihood and evaluate read: a folder of diffusers, a "
        "checkpoint of score_sde\n"
        "(.pth, or Flax) or of guided-diffusion (.pt). Or, with --export, a run folder to a safetensors file.",
    )
    parser.add_path("source", metavar="SOURCE", help="the file or folder")
    parser.add_path("--out", help="the run folder to write")
    parser.add_argument("--network", choices=NETWORKS, help="what a checkpoint holds; see docs/networks.md")
    parser.add_path("--export", metavar="FILE", help="the safetensors file to write; SOURCE is a run folder then")
    parser.add_argument(
        "--ema",
        help="with --export: decay, half-life or power:WIDTH of the averaged parameters; default: the first of "
        "training.ema",
    )
    found = parser.parse(arguments)
    if (found.out is None) == (found.export is None):
        raise ConfigError("expected one of --out, to convert, and --export, to export")
    source = pathlib.Path(found.source)
    if found.export:
        if found.network:
            raise ConfigError("--network: a run says its network itself; leave it out")
        from scoresde.convert.exporting import export
        from scoresde.experiment.load import load_run

        file = pathlib.Path(found.export)
        number = export(load_run(source, ema=found.ema, overrides=found.overrides), file)
        return print(f"{number:,} parameters in {file}")
    if found.ema is not None:
        raise ConfigError("--ema: it is for --export; leave it out")
    _convert(source, pathlib.Path(found.out), found.network, found.overrides)


def _convert(source: pathlib.Path, out: pathlib.Path, network: str | None, overrides: list[str]) -> None:
    from scoresde.convert.folder import check_free, configuration, load_into, write_run
    from scoresde.convert.sources import read

    check_free(out)
    if not source.exists():
        raise ConfigError(f"SOURCE: no file or folder {source}; download the weights first")
    fields, collect = read(source, network)
    experiment = configuration(fields, overrides)
    copy = collect(experiment)
    filled = load_into(experiment.network, copy.ours, str(source), set(copy.theirs) - copy.used)
    write_run(out, experiment, filled)
    print(
        f"{filled.num_params:,} parameters, {experiment.config['preconditioning']['name']} of a "
        f"{experiment.process_name} process, in {out}"
    )
