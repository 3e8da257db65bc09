"""Folders of small CTs for the tests of `ctenhance batch`, and a stand-in for the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_dicom import dataset, hounsfield, save
from typer.testing import CliRunner

import ctenhance
from ctenhance.cli import app
from ctenhance.core.report import ReportBuilder, Result
from ctenhance.core.volume import CTVolume
from ctenhance.runtime.progress import check

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"


def write_ct(path: Path, seed: int = 0, **grid: Any) -> Path:
    noise = np.random.default_rng(seed).normal(0, 12, (3, 16, 16))
    noise[:, :4] -= 1000
    path.parent.mkdir(parents=True, exist_ok=True)
    CTVolume(np.round(noise).astype(np.float32), **grid).write(path)
    return path


def write_index(path: Path) -> Path:
    """A DICOMDIR, which discs of some makers have under another name."""
    index = dataset(hounsfield()[0], (0, 0, 0), SOPClassUID=MEDIA_STORAGE_DIRECTORY, Modality=None)
    return save(index, path)


def batch(*arguments: object, code: int = 0) -> Any:
    """`ctenhance batch` in this process, where a stand-in can take a verb's place."""
    here = [] if "--workers" in arguments or "--scheduler" in arguments else ["--workers", "0"]
    done = CliRunner().invoke(app, ["batch", *(str(argument) for argument in arguments), *here])
    assert done.exit_code == code, done.output
    return done


def names(folder: Path) -> list[str]:
    """The files in a folder, but for the lock of the batch and what it says of itself."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    own = ("ctenhance-batch", "README.md")
    return sorted(
        path.as_posix() for path in files if path.parts[0] not in own and not path.name.endswith(".lock")
    )


class StandIn:
    """In place of `enhance`: adds 1 HU, with the report that the real one would give; keeps its calls."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.before = lambda volume, given: None

    def __call__(self, volume: CTVolume, **given: Any) -> Result:
        from ctenhance.enhancement.inference import decide

        self.calls.append(given)
        self.before(volume, given)
        check(given["cancel"])
        given["progress"]("tiles", 1, 1)
        model, options = decide(given["options"])
        report = ReportBuilder("enhance", options.settings(), seed=options.seed)
        report.model(model.entry)
        report.input = volume.input_report()
        return Result({"enhanced": volume.with_array(volume.array + 1)}, {}, report.finish())


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(ctenhance, "enhance", stand_in, raising=False)
    return stand_in
