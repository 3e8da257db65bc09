"""One case of a batch, and what became of it: small enough to be sent to another machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ctenhance.files.finished import report_of

#: In the folder of the results: all that a batch tells of itself, and its record in there.
OWN_FOLDER, MANIFEST = "ctenhance-batch", "manifest.sqlite"
WAITING = "waiting"
INDEX = "index"  # beside a case: the DICOMDIR of its disc
DONE, BEFORE, FAILED, LEFT_OUT = "done", "finished before", "failed", "left out"


@dataclass(frozen=True)
class Case:
    """One input and where its result goes; `name` is the path inside the input folder.

    `files` are one file, or the DICOM files of one series, of which `where` chooses images as in
    `CTVolume.read`; `slices` says which. `problem` is a sentence where it is known already that it cannot be
    read. `beside` are the files that go with it, by what they are: 'after', 'reference', 'labels',
    'index'.
    """

    name: str
    files: tuple[Path, ...]
    output: Path
    problem: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    slices: str = "all"
    beside: Mapping[str, Path] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        """The report beside the result."""
        return report_of(self.output)

    def absolute(self) -> Case:
        """The same for a process that works in another folder."""
        return replace(
            self,
            files=tuple(file.absolute() for file in self.files),
            output=self.output.absolute(),
            beside={name: path.absolute() for name, path in self.beside.items()},
        )

    def to_text(self) -> str:
        """As a line of JSON in ASCII, which holds names of any encoding."""
        folder = os.path.commonpath([file.parent for file in self.files]) if self.files else ""
        return json.dumps(
            {
                "name": self.name,
                "folder": folder,
                "files": [os.path.relpath(file, folder) for file in self.files],
                "output": os.fspath(self.output),
                "problem": self.problem,
                "where": dict(self.where),
                "slices": self.slices,
                "beside": {name: os.fspath(path) for name, path in self.beside.items()},
            }
        )

    @classmethod
    def from_text(cls, text: str) -> Case:
        """The case of `to_text`."""
        known = json.loads(text)
        folder = Path(known.pop("folder"))
        known["files"] = tuple(folder / name for name in known["files"])
        known["output"] = Path(known["output"])
        known["beside"] = {name: Path(path) for name, path in known["beside"].items()}
        return cls(**known)


@dataclass
class Outcome:
    """What became of a case: one of the four states, and `why` where it is not finished.

    `log` are notes and warnings as (text, level). `disk_full` says that no further case can be written.
    `figures` are measures of quality, `thumbnail` a picture (PNG); of a case that was finished before, those
    of then are elsewhere.
    """

    state: str
    why: str = ""
    log: list[tuple[str, str]] = field(default_factory=list)
    disk_full: bool = False
    seconds: float = 0.0
    worker: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    thumbnail: bytes = b""

    @property
    def finished(self) -> bool:
        """Whether the result is there."""
        return self.state in (DONE, BEFORE)
