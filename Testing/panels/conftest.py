"""The panels' tests: one application a process, a fresh scene a test, and a user who clicks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from reading import make, reader, studies
from spectral_scan import reference, spectral_files, spectral_panel, spectral_result

from panel_packages import pytest_pycollect_makemodule

__all__ = [
    "make",
    "pytest_pycollect_makemodule",
    "reader",
    "reference",
    "spectral_files",
    "spectral_panel",
    "spectral_result",
    "studies",
]

REPOSITORY = Path(__file__).resolve().parents[2]
TINY_MODEL = """
import sys
import torch
from pathlib import Path
from ctenhance.enhancement.networks import build
from ctenhance.runtime import weights

torch.manual_seed(0)
arguments = {"features": [8, 8, 8, 8, 8, 8]}
entry = weights.WeightsEntry("tiny", "", "", "Apache-2.0", "nothing", "twin", arguments, "1", "")
weights.save(Path(sys.argv[1]), build("twin", arguments).state_dict(), entry)
"""


class User:
    """Waits, as a user does, while the event loop runs; keeps how long it was ever kept from running.

    Only turns after which `watches()` count.
    """

    def __init__(self) -> None:
        self.longest, self.longestBusy = 0.0, 0.0
        self.watches: Callable[[], bool] = lambda: True

    def turn(self) -> None:
        import slicer

        start, busy = time.perf_counter(), time.thread_time()
        slicer.app.processEvents()
        if self.watches():
            self.longest = max(self.longest, time.perf_counter() - start)
            self.longestBusy = max(self.longestBusy, time.thread_time() - busy)

    def waits(self, until: Callable[[], Any], seconds: float = 900) -> None:
        """Let events happen until it is so; fails after some time."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, "waited in vain"
            self.turn()
            time.sleep(0.005)

    def rests(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.waits(lambda: time.monotonic() > end)


@pytest.fixture(scope="session")
def app() -> Any:
    import slicerhost

    return slicerhost.start()


@pytest.fixture
def user(app: Any) -> User:
    return User()


@pytest.fixture(autouse=True)
def _clean(app: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty scene and no leftovers; an exception in a slot, which Qt only prints, fails the test."""
    import slicer

    import slicerhost

    failures: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _trace: failures.append(error))
    monkeypatch.setenv("CTENHANCE_HOME", str(tmp_path / "home"))
    slicer.mrmlScene.Clear(False)
    slicer.app.userSettings().clear()
    slicer.app.userSettings().setValue("CTEnhance/noTrial", True)  # no process that a test did not ask for
    slicer.app.userSettings().setValue("CTEnhance/nothingAhead", True)  # each view slows all that follow
    slicerhost.messages.clear()
    slicerhost.answers.clear()
    yield
    slicer.mrmlScene.Clear(False)
    for _ in range(5):
        app.processEvents()
    if failures:
        raise failures[0]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network with random weights, as a user's own weights file."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    # In a process of its own: PySide6 reads the source of every module that is imported beside it.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "CTEnhance")}
    subprocess.run([sys.executable, "-c", TINY_MODEL, str(path)], env=environment, check=True)
    return path


@pytest.fixture
def panel(app: Any, model: Path) -> Any:
    """The panel CT Enhance, opened, with the tiny model chosen by its button."""
    import qt

    from panel_run import close_panel, open_panel

    panel = open_panel("CTEnhance")
    qt.QFileDialog.chosen = str(model)
    panel.ui.modelBrowseButton.click()
    yield panel
    panel.runSection.kill()
    close_panel(panel)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real CTs beside a developer's checkout; tests skip where it is absent."""
    for folder in (
        REPOSITORY.parent / "shared" / "data",
        *([Path(os.environ["CT_DATA"])] if "CT_DATA" in os.environ else []),
    ):
        if folder.is_dir():
            return folder
    pytest.skip("the real CT data (../shared/data) is not on this machine")


@pytest.fixture
def children() -> Callable[[], list[Any]]:
    """Say which processes this one has started that still run."""

    def running() -> list[Any]:
        found = psutil.Process().children(recursive=True)
        return [one for one in found if one.status() != psutil.STATUS_ZOMBIE]

    return running
