"""What every test runs under. The environment is set before jax is imported.

- XLA does not optimise and compiled programs are kept on disk: the tests spend their time compiling.
- Garbage is collected seldom: tracing makes many objects, and few of them die in cycles.
- jaxtyping and beartype check the annotations of the package on every call, with int allowed where float is asked (PEP
484).
"""

import gc
import os
from importlib.metadata import version
from pathlib import Path

FLAGS = ["--xla_backend_optimization_level=0"]
if version("jaxlib").startswith("0.10."):  # 0.12 compiles as fast without it, and ends on a flag that it does not know
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
given = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join([*(flag for flag in FLAGS if flag.split("=")[0] not in given), given]).strip()
gc.set_threshold(200_000, 50, 1000)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import beartype  # noqa: E402
import jaxtyping  # noqa: E402

typechecker = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
jaxtyping.install_import_hook("scoresde", "conftest.typechecker")

import jax  # noqa: E402
import pytest  # noqa: E402
from twins import FAST  # noqa: E402


@pytest.hookimpl(tryfirst=True)  # before those that are not asked for are left out
def pytest_collection_modifyitems(items):
    """Mark the slow twins."""
    for item in items:
        name, _, rest = item.nodeid.partition("[")
        kept = FAST.get(name.removeprefix("tests/"))
        if kept is not None and rest.removesuffix("]") not in kept:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def x64():
    """float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module", autouse=True)
def _programs_of_a_module():
    """Compiled programs go with the module that made them: some thousands exhaust the memory mappings of a process."""
    yield
    jax.clear_caches()
