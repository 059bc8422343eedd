"""Public names of a package that are imported on first use (PEP 562), so that a package costs nothing until then."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any


def exports(package: str, names: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package.

    A submodule must not have the name of an exported object, because its import would set the attribute to the module.

    Args:
        package: `__name__` of the package.
        names: names that each module of the package defines, separated by spaces, by the name of the module.

    Raises:
        ValueError: a name occurs twice, or is also the name of a module.
    """
    homes: dict[str, str] = {}
    for module, text in names.items():
        for name in text.split():
            if name in homes or name in names:
                raise ValueError(f"{package}: {name} has two meanings")
            homes[name] = module

    def __getattr__(name: str) -> Any:
        if name in homes:
            value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
            setattr(sys.modules[package], name, value)  # later accesses do not call this function
            return value
        if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}") is not None:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, *names})

    return __getattr__, __dir__, list(homes)
