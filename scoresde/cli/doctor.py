"""`python -m scoresde.doctor`: description and self-test of the installation."""

import json
import pathlib

from scoresde.cli.parser import Parser
from scoresde.errors import ConfigError, NumericError


def main(arguments: list[str]) -> None:
    parser = Parser(
        "doctor", "Versions, devices, memory, disk, optional packages, and a self-test of less than a minute."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, to paste into a bug report")
    found = parser.parse(arguments)
    if found.overrides:
        raise ConfigError("--config: the doctor has no configuration; leave it out")
    from scoresde.doctor.facts import facts
    from scoresde.doctor.selftest import checks

    known, results = facts(pathlib.Path("runs")), checks()
    if found.json:
        print(json.dumps(known | {"self-test": [check._asdict() for check in results]}, indent=1))
    else:
        for section, rows in known.items():
            print(section)
            print("\n".join(f"  {what:<28} {value}" for what, value in rows.items()) or "  none")
        print("self-test")
        for check in results:
            print(f"  {'ok' if check.ok else 'FAILED':<7} {check.name:<26} {check.detail}  [{check.seconds:.1f} s]")
    if failed := [check.name for check in results if not check.ok]:
        raise NumericError(
            f"self-test failed: {', '.join(failed)}; report it with the output of python -m scoresde.doctor --json"
        )
