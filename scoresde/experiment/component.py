"""Components of a configuration: the name of a constructor and its arguments.

    c.sde = component("vp", beta_max=15.0)
    c.sde = component("my_package.processes:Mine", rate=3.0)

In JSON a component is {"name": "vp", "beta_min": 0.1, ...}. The constructor's signature gives the fields of a component
with their types and defaults, its docstring states what they mean, and the constructor itself checks their values. An
argument may be a component as well (`Kind.nested`); the builder supplies some others, such as the shape of a record
(`Kind.given`).

A configuration may come from an untrusted source. The object that a name refers to is therefore checked before it is
called: it must be a class of the expected kind, a function or class marked by `constructor`, or a function of a package
that the kind trusts.
"""

import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import pathlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from scoresde.errors import ConfigError
from scoresde.experiment.values import EMPTY, Like, is_plain, spelled

GROUP = "scoresde.components"  # group of entry points
_MARK = "__scoresde_constructor__"
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def component(name: str, **arguments) -> ConfigDict:
    """Return a component for a configuration.

    Args:
      name: short name of the section, or "module:attribute", which Python must be able to import.
      **arguments: arguments of the constructor: numbers, strings, tuples of them, or components.

    Raises:
      ConfigError: an argument has a type that JSON does not support, such as an array.
    """
    arguments = {key: value.item() if isinstance(value, np.generic) else value for key, value in arguments.items()}
    for argument, value in arguments.items():
        try:
            json.dumps(value.to_dict() if isinstance(value, ConfigDict) else value, allow_nan=False)
        except (TypeError, ValueError):
            raise ConfigError(
                f"component({name!r}): {argument} is a {type(value).__name__}, which JSON does not hold; expected a "
                "number, a text, a tuple of them, or a component, such as the path of a file with the array"
            ) from None
    return ConfigDict({"name": name, **arguments}, type_safe=False, convert_dict=True)


def constructor(function: Callable) -> Callable:
    """Mark a function, or a class for which the section requires no base class, as callable by configurations."""
    setattr(function, _MARK, True)
    return function


@dataclass(frozen=True)
class Kind:
    """Kind of object that a component of a section may construct.

    Attributes:
      word: noun for the constructed object in messages.
      base: "module:attribute" of the class of the constructed object; "" for functions.
      names: short names, each mapped to "module:attribute".
      given: arguments that the builder supplies, which are not fields.
      nested: kinds of the arguments that are components, by their names.
      trusted: packages whose functions may be called without a mark.
      partial: whether a function whose first argument is the first one of `given` is itself the constructed object,
        with its other arguments bound to it.
      texts: words at the beginning of strings that are not names, such as "npz" in npz:PATH in `data.source`; () for
        none.
      number: short name and argument of the component that a number denotes; 0 denotes no component.
      key: first part of the names of entry points; "" for the word.
      also: other classes that an adapter accepts, in the form of `base`.
      returns: additional classes that a marked function may return, in the form of `base`.
    """

    word: str
    base: str
    names: dict[str, str]
    given: tuple[str, ...] = ()
    nested: dict[str, "Kind"] = field(default_factory=dict)
    trusted: tuple[str, ...] = ()
    partial: bool = False
    texts: tuple[str, ...] = ()
    number: tuple[str, str] | None = None
    key: str = ""
    also: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()

    @property
    def called(self) -> str:
        return f"{'an' if self.word[0] in 'aeiou' else 'a'} {self.word}"

    def choices(self) -> dict[str, str]:
        """Return all short names: those of scoresde, and those of entry points, which are called KEY.NAME there."""
        return _entry_points(self.key or self.word) | self.names

    def is_text(self, value: str) -> bool:
        """Return whether a string is not the name of a component."""
        known = value.partition(":")[0] in self.texts or not _PATH.fullmatch(value)
        return bool(self.texts) and known


class Argument(NamedTuple):
    """Argument of a constructor that a configuration sets."""

    default: Any  # in the types of JSON, or `EMPTY`
    like: Like
    kind: Kind | None  # kind of a component, or None
    each: Kind | None = None  # kind of the entries of a tuple, which are names or components, or None


@functools.cache
def _entry_points(word: str) -> dict[str, str]:
    found = importlib.metadata.entry_points(group=GROUP)
    return {point.name.partition(".")[2]: point.value for point in found if point.name.startswith(f"{word}.")}


def resolve(kind: Kind, name: Any, where: str, others: tuple[str, ...] = ()) -> Callable:
    """Return the constructor that a name refers to, without calling it.

    Args:
      kind: kind of the component.
      name: short name or "module:attribute"; anything else, which config.json may hold, is refused.
      where: field that contains the name, for messages.
      others: additional names that the field may contain, for messages.

    Raises:
      ConfigError: no such name, module or attribute exists, or the object is not of this kind.
    """
    choices = kind.choices()
    path = choices.get(name, name) if isinstance(name, str) else name
    if not isinstance(name, str) or (name not in choices and ":" not in name):
        known = (*choices, *(others if kind.partial else ()))
        near = difflib.get_close_matches(str(name), known, 1, cutoff=0.0)
        names, hint = (f"one of {', '.join(known)}, or ", f"; did you mean {near[0]}?") if near else ("", "")
        raise ConfigError(f"{where} = {name!r}: expected {names}module:attribute{hint}")
    if not _PATH.fullmatch(path):
        raise ConfigError(f"{where} = {name!r}: expected module:attribute, such as my_package.parts:Mine, not a path")
    module, _, attribute = path.partition(":")
    found = _imported(module, where, name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{where} = {name!r}: {module} has no {attribute}{hint}")
        found = getattr(found, part)
    if name not in kind.names:
        _check(kind, found, where, name)
    return found


def _imported(module: str, where: str, name: str):
    try:
        for folder in _folders(module):
            if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir():
                raise ConfigError(
                    f"{where} = {name!r}: its module lies in the run folder {folder}, and code that comes with a run "
                    "is not executed; install the package, or run from another directory"
                )
        return importlib.import_module(module)
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise ConfigError(
            f"{where} = {name!r}: Python finds no module {missing}; install the package that has it"
        ) from None
    except Exception as error:  # any exception of the user's module
        text = " ".join(str(error).split())
        raise ConfigError(f"{where} = {name!r}: {module} cannot be imported: {type(error).__name__}: {text}") from error


def _folders(module: str) -> list[pathlib.Path]:
    """Return all folders in which a module lies, from the innermost one on, without executing anything of it."""
    package = module.partition(".")[0]
    spec = None if package in sys.modules else importlib.util.find_spec(package)  # imported code has been executed
    if spec is None:
        return []
    places = spec.submodule_search_locations or ([spec.origin] if spec.has_location else [])
    resolved = [pathlib.Path(place).resolve() for place in places]
    return [folder for place in resolved for folder in (place, *place.parents)]


def _check(kind: Kind, found, where: str, name: str) -> None:
    """Raise a ConfigError unless an object may be called as a constructor of this kind."""
    bases = tuple(_attribute(path) for path in (kind.base, *kind.also) if path)
    if inspect.isclass(found) and bases and issubclass(found, bases):
        return
    callable_kind = inspect.isfunction(found) or inspect.isclass(found) and not bases
    if callable_kind and (vars(found).get(_MARK, False) or inspect.isfunction(found) and _is_trusted(found, kind)):
        return
    what = f"a class of {found.__module__}" if inspect.isclass(found) else f"a {type(found).__name__}"
    of_class = f"a subclass of {kind.base.replace(':', '.')}, or " if kind.base else ""
    trusted = f", or of {' or '.join(kind.trusted)}" if kind.trusted else ""
    raise ConfigError(
        f"{where} = {name!r}: expected {kind.called}: {of_class}a function marked by scoresde.config.constructor"
        f"{trusted}; got {what}, which was not called"
    )


def _is_trusted(found: Callable, kind: Kind) -> bool:
    return (found.__module__ or "").partition(".")[0] in kind.trusted


@functools.cache
def _attribute(path: str):
    module, _, attribute = path.partition(":")
    return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))


def arguments(kind: Kind, constructor: Callable) -> dict[str, Argument]:
    """Return the arguments of a constructor that a configuration sets, by name."""
    found = {}
    signature = inspect.signature(constructor.__init__ if _of_nnx(constructor) else constructor)
    for name, parameter in signature.parameters.items():
        if name in (*kind.given, "self", "rngs", "key") or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        default, nested = parameter.default, kind.nested.get(name)
        if default is inspect.Parameter.empty:
            found[name] = Argument(EMPTY, Like(EMPTY, parameter.annotation), nested)
        elif nested is not None:
            found[name] = Argument(_name_of(nested, default), Like(""), nested)
        elif is_plain(value := spelled(default)):  # other types, such as functions, can be set only from Python
            found[name] = Argument(value, Like(default, parameter.annotation), None)
    return found


def _of_nnx(constructor) -> bool:
    """Return whether the signature of the class is hidden by that of a metaclass, as for the classes of Flax."""
    return inspect.isclass(constructor) and "args" in inspect.signature(constructor).parameters


def _name_of(kind: Kind, default) -> str | None:
    """Return the short name of the default if the argument is a component."""
    if default is None or isinstance(default, str):
        return default
    wanted = default if inspect.isfunction(default) or inspect.isclass(default) else type(default)
    for name, path in kind.names.items():
        if _attribute(path) is wanted:
            return name
    return f"{wanted.__module__}:{wanted.__qualname__}"


def build(kind: Kind, spec: dict | None, where: str, given: dict):
    """Construct a part from its complete component.

    Args:
      kind: kind of the component.
      spec: component in the form that `complete` returns; None builds None.
      where: field of the component, for messages.
      given: arguments that the builder supplies; a constructor receives those that it names.

    Raises:
      ConfigError: the constructor refuses its arguments, or returns an object of another kind.
    """
    if spec is None:
        return None
    made = resolve(kind, spec["name"], f"{where}.name")
    own, values = arguments(kind, made), {name: value for name, value in spec.items() if name != "name"}
    plain = {name: own[name].like.built(value) for name, value in values.items() if own[name].kind is None}
    context, parts = {**plain, **given}, {}
    for name, value in values.items():
        if own[name].kind is not None:
            context[name] = parts[name] = build(own[name].kind, value, f"{where}.{name}", context)
    if kind.partial and next(iter(inspect.signature(made).parameters), "") == kind.given[0]:
        return functools.partial(made, **plain, **parts) if plain or parts else made
    names = inspect.signature(made.__init__ if _of_nnx(made) else made).parameters
    supplied = {name: value for name, value in given.items() if name in names and name not in values}
    try:
        part = made(**supplied, **plain, **parts)
    except ConfigError as error:
        raise ConfigError(*(f"{where}: {problem}" for problem in error.problems)) from error
    except Exception as error:
        if spec["name"] in kind.names:
            raise
        text = " ".join(str(error).split())
        raise ConfigError(f"{where}: {spec['name']} raised {type(error).__name__}: {text}") from error
    bases = tuple(_attribute(path) for path in (kind.base, *kind.also, *kind.returns) if path)
    if bases and part is not None and not isinstance(part, bases):
        raise ConfigError(f"{where}: {spec['name']} returned a {type(part).__name__}, expected {kind.called}")
    return part
