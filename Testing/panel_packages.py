"""Skip the tests that need the extra `panel`, file by file and with a reason, where it is not installed."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

# Before anything imports Qt or numpy: nothing may ask for a screen, nor take all cores.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def missing() -> list[str]:
    """Return which packages cannot be imported, each with the reason."""
    found = []
    for name in ("slicer", "PySide6.QtWidgets"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            found.append(f"{name} ({error})")
    return found


MISSING = missing()


class SkippedModule(pytest.File):
    """A test file that is not even imported."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip(f"no {' and '.join(MISSING)}: pip install '.[panel]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The hook, for conftest.py files; None leaves the file to pytest."""
    return SkippedModule.from_parent(parent, path=module_path) if MISSING else None
