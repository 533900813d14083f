import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def load_script(name: str) -> ModuleType:
    """Import a script of benchmarks/, which are no package."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def registration() -> ModuleType:
    """benchmarks/registration.py."""
    return load_script("registration")


@pytest.fixture(scope="session")
def scale() -> ModuleType:
    """benchmarks/scale.py."""
    return load_script("scale")


@pytest.fixture(scope="session")
def gpu() -> ModuleType:
    """benchmarks/gpu.py, which imports from the scripts beside it."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return load_script("gpu")
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="session")
def few_labels() -> ModuleType:
    """benchmarks/few_labels.py, which imports from the scripts beside it."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return load_script("few_labels")
    finally:
        sys.path.remove(str(SCRIPTS))
