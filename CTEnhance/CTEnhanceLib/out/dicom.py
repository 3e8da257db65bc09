"""A volume as a derived DICOM series: into a folder, or into Slicer's DICOM database."""

from __future__ import annotations

import abc
import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from CTEnhanceLib.out import patient
from CTEnhanceLib.process import transfer
from CTEnhanceLib.process.run import Job
from CTEnhanceLib.scene import placing


@dataclass
class SeriesJob(Job):
    """Writes a volume as a DICOM series; what volume, a panel's own job says.

    `result`: a node with the report of what made it. `folder` is made and must hold nothing yet; None: the
    series goes into Slicer's DICOM database. `study`: which one it joins; None: one of its own.
    """

    result: Any
    folder: Path | None = None
    study: patient.Study | None = None

    stages = {"read": 10, "write": 90}  # noqa: RUF012

    @abc.abstractmethod
    def name(self) -> str:
        """Return what is written, for people."""

    @abc.abstractmethod
    def quantity(self) -> list[str]:
        """Return what the command line says of the values, so that no viewer misunderstands them."""

    def volume(self) -> Generator[float, None, Any]:
        """Return the node with the voxels, in short steps."""
        yield 1.0
        return self.result

    def report(self) -> Mapping[str, Any]:
        """Return the report of what made the volume."""
        return placing.reportOf(self.result) or {}

    def problem(self) -> str:
        """Say what is wrong with the study, the folder or the database, if anything."""
        sentence = self.study.problem() if self.study is not None else ""
        if sentence:
            return sentence
        folder = self.folder
        if folder is None:
            return "" if patient.openDatabase() is not None else patient.noDatabase()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            return _("'{folder}' holds files already: choose an empty folder or a new one.").format(
                folder=folder
            )
        return ""

    def prepare(self, folder: Path) -> Iterator[float]:
        """Write the volume and the report of what made it."""
        report = dict(self.report())
        if (
            self.study is not None and self.study.series
        ):  # known, whatever Slicer has read outside of the image
            report["input"] = {**(report.get("input") or {}), "series": self.study.series}
        (folder / "made.json").write_text(json.dumps(report), encoding="utf-8")
        self._like = [] if self.study is None else (yield from self.study.prepare(folder))
        node = yield from self.volume()
        yield from transfer.writeMetaImage(node, folder / "input.mha")

    def arguments(self, folder: Path) -> list[str]:
        """Ask for the series."""
        target = self.folder or folder / "series"
        # Slicer itself reads no parametric maps.
        origin = ["--made-by", str(folder / "made.json"), "--storage", "ct"]
        return ["dicom", str(folder / "input.mha"), str(target), *origin, *self._like, *self.quantity()]

    def load(self, outputs: Mapping[str, Path]) -> Iterator[float]:
        """Hand the series to the database, if it is meant for that."""
        if self.folder is None:
            yield from patient.insert(outputs["series"])
        yield 1.0

    def place(self, report: dict[str, Any]) -> Any:
        """Change nothing in the scene."""
        return self.result

    def readable(self, sentence: str, folder: Path) -> str:
        """The worker knows the volume by its temporary file only."""
        return sentence.replace(str(folder / "input.mha"), self.name())

    def written(self) -> str:
        """Return where it is now."""
        if self.folder is None:
            return _("It is in Slicer's DICOM database.")
        return _("Written to {folder}.").format(folder=self.folder)


@dataclass
class ResultJob(SeriesJob):
    """A result in Hounsfield units, as it is in the scene."""

    def name(self) -> str:
        """Return its name."""
        return self.result.GetName()

    def quantity(self) -> list[str]:
        """They are HU."""
        return ["--quantity", "hu"]
