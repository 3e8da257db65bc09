"""Folders of small CTs for the tests of `ctenhance batch`, and a stand-in for the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_dicom import dataset, hounsfield, save
from typer.testing import CliRunner

import ctenhance
from ctenhance.batch.case import Case
from ctenhance.cli import app
from ctenhance.commands.batch_cases import CaseSearch
from ctenhance.commands.batch_search import LeftOut
from ctenhance.commands.options import Choice
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


@dataclass
class Found:
    """What a search gave, all of it."""

    cases: list[Case] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    withdrawn: dict[str, str] = field(default_factory=dict)


def find_cases(source: Path, target: Path, choice: Choice | None = None) -> Found:
    """The cases of a folder by their names, as `ctenhance batch` finds them."""
    found = Found()
    for one in CaseSearch(source, target, choice):
        if isinstance(one, Case):
            found.cases.append(one)
        elif isinstance(one, LeftOut):
            found.left_out[one.name] = one.reason
        else:
            found.withdrawn[one.name] = one.reason
    found.cases = sorted(
        (one for one in found.cases if one.name not in found.withdrawn), key=lambda one: one.name
    )
    return found


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
