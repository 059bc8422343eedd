"""The plan of the house: what may import what, how long a file may grow, and that what is announced exists."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "scoresde"
FILES = sorted(ROOT.rglob("*.py"))

# From the ground up. A room imports from its own folder and from lower rungs; the folders of a rung do not import each
# other.
LADDER = [
    {"types", "errors"},
    {"runtime"},
    {"sde", "nets", "data"},
    {"score", "metrics"},
    {"sample"},
    {"likelihood", "guide"},
    {"train"},
    {"runs"},
    {"scoresde"},  # the public nouns
    {"experiment"},
    {"config"},  # what experiment files import
    {"report", "convert", "doctor"},
    {"workflows"},
    {"cli"},
]
# `python -m scoresde.NAME` runs these files. Each calls the command of its name in `cli` and does nothing else.
STUBS = {"evaluate.py", "average.py"}

THIRD_PARTIES = {
    "diffrax": {"sample", "likelihood", "experiment/parts/samplers.py"},  # which names its solvers
    "lineax": {"sample", "likelihood"},
    "flax": {"nets", "convert/reading.py"},
    "safetensors": {"runtime/reading.py", "convert/exporting.py"},
    "torch": {"runtime/reading.py"},
    "optax": {"train", "experiment", "doctor", "metrics/classifier.py"},  # which trains a perceptron
    "orbax": {"runs/checkpoint.py"},
    "ml_collections": {"experiment", "convert", "workflows", "cli"},
    "tensorflow_datasets": {"data"},
    "tensorflow": {"data"},
    "grain": {"data"},
    "exponax": {"data"},
    "datasets": {"data"},
    "array_record": {"data"},
    "jinja2": {"report"},
    "wandb": {"runs/trackers.py"},
    "mlflow": {"runs/trackers.py"},
    "trackio": {"runs/trackers.py"},
}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def is_stub(path: Path) -> bool:
    return path.name == "__main__.py" or path.relative_to(ROOT).as_posix() in STUBS


def room(parts: tuple[str, ...]) -> str:
    """The room of a module from its dotted path below scoresde: its folder, or its own name at the top."""
    return parts[0] if parts else "scoresde"


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return room(parts[:-1] if parts[-1] == "__init__" else parts)


def rung(name: str) -> int:
    levels = [level for level, rooms in enumerate(LADDER) if name in rooms]
    assert levels, f"{name} is not in the plan: give it a rung"
    return levels[0]


def imports(path: Path):
    """Dotted names of all imports of a file, those within functions and on first use too; `from a import b` gives a.b as
    well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ("scoresde", *path.relative_to(ROOT).parts[:-1])
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (above, node.module) if part)
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "exports":  # on first use: scoresde.runtime.lazy
            package = ".".join(("scoresde", *path.relative_to(ROOT).parts[:-1]))
            yield from (f"{package}.{module}" for module in ast.literal_eval(node.args[1]))


def allowed(importer: str, imported: str) -> bool:
    return importer == imported or rung(importer) > rung(imported)


@each_file
def test_imports_go_down_the_ladder(path):
    if is_stub(path):
        assert len(path.read_text().splitlines()) <= 7, "a stub calls its command and does nothing else"
        return
    importer = room_of(path)
    for name in imports(path):
        parts = tuple(name.split("."))
        if parts[0] != "scoresde" or len(parts) == 1:
            continue
        imported = room(parts[1:])
        if any(imported in rooms for rooms in LADDER):
            assert allowed(importer, imported), f"{importer} imports {name}, which is above or beside it"
        else:
            # `from scoresde import VP`: the public nouns stand above the rooms they come from.
            assert rung(importer) > rung("scoresde"), f"{importer} imports {name} from the top; name its room"


# Classes that `isinstance` may name: errors, what users hand in, and the other side of an equality.
ASKED_FOR = {
    "ScoreSDEError", "Interrupted", "_InterruptedAlone", "Dataset", "ArraySource", "Header", "ModeCovariance",
    "_Static", "_Stationary",
}  # fmt: skip
OWN_CLASSES = {
    node.name for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
}


@each_file
def test_facts_are_methods(path):
    """No question about the type of an object of ours: a method is missing there. (Tables by name are in kinds.py.)"""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            named = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node.args[1])}
            wrong = named & OWN_CLASSES - ASKED_FOR
            assert not wrong, f"{path.name}:{node.lineno} asks for {', '.join(wrong)}"


@each_file
def test_third_parties_stay_in_their_rooms(path):
    place = path.relative_to(ROOT)
    homes = {place.as_posix(), place.parts[0]}
    for name in imports(path):
        party = name.split(".")[0]
        assert party not in THIRD_PARTIES or homes & THIRD_PARTIES[party], f"{place} imports {party}"


# What reads a file, and where it may stand: each format has one reader, which looks at regular files only and bounds
# what it reads.
READERS = {
    ".read_text": set(),
    ".read_bytes": set(),
    "json.load": set(),
    "json.loads": {"runtime/reading.py"},
    "np.load": set(),
    "torch.load": {"runtime/reading.py"},
    "pickle.load": set(),
    "safe_open": {"runtime/reading.py"},
    "load_file": set(),
    "Image.open": {"data/images.py"},
    "zipfile.ZipFile": {"runtime/arrays.py", "data/files.py", "runs/sample_store.py"},  # the last one writes
}


@each_file
def test_files_are_read_by_the_reader_of_their_format(path):
    place = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name == "json.loads" and ast.unparse(node.args[0]).startswith("json.dumps("):
            continue  # of its own text
        if isinstance(node.func, ast.Attribute) and f".{node.func.attr}" in READERS:
            name = f".{node.func.attr}"  # of whatever path
        assert name not in READERS or place in READERS[name], (
            f"{place}: {name}: use scoresde.runtime, or the reader of images"
        )


# Facilities of which there is one for all rooms, and the file that has it.
SINGLE = {
    "os.replace": "runtime/files.py",
    "os.rename": "runtime/files.py",
    "os.link": "runtime/files.py",
    "fcntl.flock": "runtime/locks.py",
    "fcntl.lockf": "runtime/locks.py",
    "importlib.metadata.version": "runtime/versions.py",
}


@each_file
def test_there_is_one_atomic_write_one_lock_and_one_table_of_versions(path):
    place = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text())):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        assert SINGLE.get(name, place) == place, f"{name}: use {SINGLE[name]}"


@each_file
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300, "one idea per file: split it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


@each_file
def test_lines_are_short(path):
    """The formatter breaks code; this is for texts. Rows of tables in docstrings may be wider."""
    wide = [n for n, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 120]
    lines = path.read_text().splitlines()
    assert not [n for n in wide if not lines[n - 1].lstrip().startswith("|")], "over 120 columns"


@each_file
def test_files_say_what_they_are_for(path):
    vague = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    assert not vague & set(path.relative_to(ROOT).with_suffix("").parts)
    if path.read_text().strip():
        assert ast.get_docstring(ast.parse(path.read_text())), "the module docstring states the idea"


# What makes a key or a generator of a number, and where it may stand.
ROOTS = {
    "jax.random.key": set(),
    "jax.random.PRNGKey": set(),
    "jax.random.wrap_key_data": {"types.py"},
    "stored_key": {"runtime/streams.py", "train/step.py"},  # which reads the key of a state
    "np.random.default_rng": {"runtime/streams.py"},
}


@each_file
def test_keys_come_from_named_streams(path):
    """`jax.random.key` makes keys of whatever JAX_DEFAULT_PRNG_IMPL says, and a bare number may be the root of
    something else."""
    place = path.relative_to(ROOT).as_posix()
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    for call in calls:
        name = ast.unparse(call.func)
        assert place in ROOTS.get(name, {place}), f"{name}: take a stream of scoresde.runtime.streams"
        if name.endswith("fold_in") and place != "runtime/streams.py":
            number = ast.unparse(call.args[1])
            assert not isinstance(call.args[1], ast.Constant) and not number.strip("_").isupper(), (
                f"fold_in(..., {number}): take a branch of scoresde.runtime.streams"
            )


PACKAGES = [path for path in FILES if path.name == "__init__.py"]


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: room_of(path))
def test_announced_names_exist(path):
    module = importlib.import_module(".".join(("scoresde", *path.relative_to(ROOT).parts[:-1])))
    announced = getattr(module, "__all__", [])
    assert len(announced) == len(set(announced))
    for name in announced:
        assert hasattr(module, name), f"{module.__name__}.__all__ names {name}"
    # The import of a submodule sets an attribute of its name, in whatever order the two are asked for.
    modules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    assert modules.isdisjoint(announced), "a submodule has the name of something that the package exports"


def test_the_ladder_itself_holds():
    """The rules bite: the steps that the plan forbids are forbidden."""
    for importer, imported in [
        ("sde", "score"), ("nets", "score"), ("sample", "likelihood"), ("guide", "likelihood"), ("data", "train"),
        ("train", "runs"), ("likelihood", "train"), ("experiment", "cli"),
    ]:  # fmt: skip
        assert not allowed(importer, imported)
    for importer, imported in [
        ("likelihood", "sample"),
        ("metrics", "data"),
        ("cli", "experiment"),
        ("experiment", "data"),
    ]:
        assert allowed(importer, imported)


def test_the_twins_of_the_fast_suite_exist(request):
    """A name that no test has would leave a test without a twin in the fast suite."""
    from twins import FAST

    for place, ids in FAST.items():
        file, test = place.split("::")
        text = (Path(__file__).parent / file).read_text()
        assert f"def {test}(" in text, place
        found = {
            item.nodeid.partition("[")[2].removesuffix("]")
            for item in request.session.items
            if f"{place}[" in item.nodeid
        }
        assert not found or found >= set(ids), f"{place}: no {set(ids) - found}"
