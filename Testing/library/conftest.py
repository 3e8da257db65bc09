"""What all library tests share."""

from __future__ import annotations

import os

# Several test processes share the cores: without this each torch would take them all and wait for the others.
# Set before anything imports numpy or torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test may draw to a screen.
os.environ.setdefault("MPLBACKEND", "Agg")

from pathlib import Path

import pytest
from hypothesis import settings

# The first example pays for imports and caches, so a time limit on single examples fails at random.
settings.register_profile("ctenhance", deadline=None, max_examples=40, print_blob=True)
settings.load_profile("ctenhance")

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the weights that a developer has added out of the tests, and the tests out of them."""
    monkeypatch.setenv("CTENHANCE_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real CTs that lies beside a developer's checkout; tests skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real CT data (../shared/data) is not on this machine")
    return folder
